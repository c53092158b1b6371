"""How statements walk memory along an axis, and what they cost: what schedules are chosen by."""

from __future__ import annotations

from dataclasses import replace

from kcompile.codegen.loops.flat import Group, Span, loads_of, stride
from kcompile.codegen.loops.reduce import is_scan
from kcompile.forms import scalar
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike

NEAR = 4  # elements of a step that mostly stays within a line
SMOOTH_LANES = 8  # an axis this long is worth vectorising
UNKNOWN_SIZE = 64  # what an unknown size is taken for when costs are weighed


def unit_loads(statements, axis: Axis) -> int:
    places = [n.index[0] for n in loads_of(statements)] + [s.index[0] for s in statements]
    return sum(stride(p, axis) == 1 for p in places)


def prefers_rows(group: Group) -> bool:
    """True if some axis of the group's own walks memory in steps of one."""
    return any(unit_loads(group.body, s.axis) for s in group.spans)


def ordered(group: Group) -> Group:
    """The axis with the most unit strides last: it is the one to vectorise.

    Several numbers of a row in unit steps do not outweigh one matrix that would be gathered for it.
    """
    if len(group.spans) < 2 or is_scan(group.body):
        return group
    scores = [unit_loads(group.body, s.axis) for s in group.spans]
    smooth = [n for n, s in enumerate(group.spans) if scores[n] and is_smooth(group.body, s.axis)]
    best = max(smooth or range(len(scores)), key=lambda n: (scores[n], n))
    spans = list(group.spans)
    spans.append(spans.pop(best))
    return replace(group, spans=tuple(spans))


def unit_strides(statements, axis: Axis) -> float:
    """How well accesses walk along an axis: stores count twice, those that stay put or near a little."""
    total = 0.0
    accesses = [(s.index[0], 2.0) for s in statements] + [(n.index[0], 1.0) for n in loads_of(statements)]
    for place, weight in accesses:
        step = stride(place, axis)
        if step == 1:
            total += weight
        elif isinstance(step, int) and -NEAR <= step <= NEAR:
            total += 0.5 * weight
    return total


def is_near_along(statements, axis: Axis) -> bool:
    """True if no access moves further than NEAR elements from point to point."""
    places = [s.index[0] for s in statements] + [n.index[0] for n in loads_of(statements)]
    return all(isinstance(step := stride(p, axis), int) and -NEAR <= step <= NEAR for p in places)


def is_smooth(statements, axis: Axis) -> bool:
    """True if an axis fills a vector and every access stays put or takes unit steps along it."""
    places = [n.index[0] for n in loads_of(statements)] + [s.index[0] for s in statements]
    long = not dim.is_static(axis.extent) or axis.extent >= SMOOTH_LANES
    return long and all(stride(p, axis) in (0, 1) for p in places)


def length(span: Span) -> DimLike:
    return span.axis.extent if span.is_whole or span.most is None else span.most


def cost_of(statements) -> int:
    return scalar.cost(*(s.value for s in statements)) + len(statements)


def ceildiv(size: DimLike, by: int) -> DimLike:
    return dim.floordiv(size + (by - 1), by)
