"""Rows that are asked for while those before them are still computed with.

A row that several nests pass over is read from memory by the first of them, and while the others compute, memory
waits. So the nest that computes most asks for the rows that come next, line by line, into the second-level cache.
Only where the arrays of a kernel do not fit the caches, and a few rows do: the second-level cache if that nest
computes much; else the last one, whose lines the hardware fetches soon enough. Measured, one thread: softmax of 64 MiB
2.3 ms without and 1.6 with, of 2 MiB 53 and 50 us; layer norm of 64 MiB 1.41 and 1.27 ms, of 2 MiB 32 and 34 us.

Columns are read once. From the last cache they come faster if they are asked for, into the nearest one: moments of
3.2 MB 33 and 27 us, of 12.8 MB 144 and 114, in C by hand as here. What leaves that cache too is asked for earlier: of
25.7 MB 470 us without, 510 with 4 KiB, 420 with 16.
"""

from __future__ import annotations

from llvmlite import ir

from kcompile.codegen.llvm_types import Index
from kcompile.codegen.loops import streaming
from kcompile.codegen.loops.expr import Scope
from kcompile.codegen.loops.flat import Group, Part, loads_of, stride
from kcompile.forms import scalar
from kcompile.forms.records import LOCAL
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.target import Target

Place = tuple[str, DimLike]  # a buffer, and the offset of an element of it

COMPUTES = 12  # operations per point, as many as an exponential
COLUMNS_AHEAD_BYTES, FAR_COLUMNS_AHEAD_BYTES = 4096, 16384  # how far columns are asked for, near and in memory
FAR_COLUMNS = 2  # second caches that they fill
PART_OF_CACHE = 4  # the rows asked for take at most such a part of the second-level cache


def rows_ahead(part: Part, jam: int, target: Target) -> dict[int, tuple[Place, ...]]:
    """By number of the group that asks for them: elements of the rows `jam` further on, at the group's own point."""
    if not part.outer or not streaming.may_exceed(part, target.l2_bytes):
        return {}
    far = streaming.may_exceed(part, max(target.l2_bytes, target.l3_bytes))
    row = part.outer[-1]
    costs = {n: _operations(g) for n, g in enumerate(part.groups) if _axis(g) is not None}
    if len(costs) < 2:  # one pass over memory: the hardware sees where it leads
        return {}
    found: dict[int, dict[str, DimLike]] = {}
    for group in part.groups:
        axis = _axis(group)
        if axis is None:
            continue
        asking = max((n for n in costs if _axis(part.groups[n]).extent == axis.extent), key=lambda n: (costs[n], n))
        if costs[asking] < COMPUTES and not far:
            continue
        own = _axis(part.groups[asking])
        for node in loads_of(group.body):
            step = stride(node.index[0], row)
            near = part.buffers[node.buffer].role == LOCAL or stride(node.index[0], axis) != 1
            if near or step in (None, 0):
                continue
            if jam * axis.extent * node.dtype.size_bytes > target.l2_bytes // PART_OF_CACHE:
                continue
            place = dim.substitute(node.index[0] + step * jam, {axis: dim.of(own)}.get)
            found.setdefault(asking, {}).setdefault(node.buffer, place)
    return {n: tuple(places.items()) for n, places in found.items()}


def may_ask_for_columns(part: Part, target: Target) -> bool:
    """True if a nest down columns reads from beyond the second cache, or could."""
    return streaming.may_exceed(part, target.l2_bytes)


def columns_ahead_bytes(part: Part, scope: Scope) -> Index:
    """How far columns are asked for."""
    b = scope.b
    is_far = b.compare(">=", scope.value(streaming.touched_bytes(part)), b.target.l3_bytes // 2)
    return b.select(is_far, FAR_COLUMNS_AHEAD_BYTES, COLUMNS_AHEAD_BYTES)


def asks_for_columns(part: Part, scope: Scope) -> ir.Value:
    """Whether what the tasks of this call read is well above the second cache. Halves of 3.2 MB are not: asking for
    them makes two threads 5 % slower, where one gains 11 %."""
    b, (own, tasks) = scope.b, scope.share
    read = b.mul(scope.value(streaming.touched_bytes(part)), own)
    return b.condition(b.compare(">=", read, b.mul(FAR_COLUMNS * b.target.l2_bytes, tasks)))


def _operations(group: Group) -> int:
    """Per point, loads left out."""
    return scalar.cost(*(s.value for s in group.body)) - len(loads_of(group.body))


def _axis(group: Group) -> Axis | None:
    """The only axis of a group's own, if it has one of known length."""
    if len(group.spans) != 1 or not group.spans[0].is_whole:
        return None
    axis = group.spans[0].axis
    return axis if dim.is_static(axis.extent) else None
