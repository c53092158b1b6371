"""Small nests as stores without loops of their own: every point written out, locals replaced by values."""

from __future__ import annotations

from collections.abc import Sequence

from kcompile.codegen.loops.flat import Group, Part, Span, loads_of, moved_statements, simplified, statements_of
from kcompile.codegen.loops.folds import folds
from kcompile.codegen.loops.overlaps import Columns
from kcompile.codegen.loops.reduce import accumulations, is_scan
from kcompile.codegen.loops.walks import cost_of, prefers_rows
from kcompile.forms import scalar
from kcompile.forms.records import LOCAL, Store, identity
from kcompile.forms.scalar import MANY, Expr, Load, const
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.types import boolean
from kcompile.target import Target

UNROLLED_POINTS = 48  # a nest of up to so many points is written out
UNROLLED_WINDOW = 96  # ... of a window that shares most of them with the next
UNROLLED_COST = 1000  # ... if that stays a loop body LLVM handles well
MOST_ACROSS = 8  # neighbours that LLVM reads whole and takes apart


def written_out(part: Part, target: Target, columns: Columns | None = None) -> Part | None:
    """The part as stores without loops of their own: small nests unrolled, locals replaced by values.

    With `columns`, terms are combined column by column, and the axes stay as they are.
    """
    points = 0
    for group in part.groups:
        count = dim.product(s.axis.extent for s in group.spans)
        if not dim.is_static(count) or not all(s.is_whole for s in group.spans) or is_scan(group.body):
            return None
        if group.spans:
            points += count
            wide = columns is None and prefers_rows(group) and part.outer
            if wide and count > _most_written_out(part, group, target):
                return None
    if not part.outer and points > 1:
        return None  # nothing to vectorise across
    cost = sum(cost_of(g.body) * dim.product(s.axis.extent for s in g.spans) for g in part.groups)
    if points > (UNROLLED_POINTS if columns is None else UNROLLED_WINDOW) or (points > 1 and cost > UNROLLED_COST):
        return None
    local = {n for n, b in part.buffers.items() if b.role == LOCAL}
    values: dict[tuple[str, DimLike], Expr] = {}
    hows = accumulations(statements_of(part))
    stores: list[Store] = []
    writers: dict[str, int] = {}

    def on_load(node: Load) -> Expr | None:
        if node.buffer not in local:
            return None
        key = (node.buffer, node.index[0])
        if key not in values and node.buffer in hows:
            values[key] = const(identity(hows[node.buffer], node.dtype), node.dtype)
        return values.get(key)

    for group in part.groups:
        terms: dict[tuple[str, DimLike], list[Expr]] = {}
        places: dict[tuple[str, DimLike], list[dict[Axis, int]]] = {}
        for place in _points(group.spans):
            for statement in group.body:  # one by one: it may read what the one before it stored
                (s,) = moved_statements((statement,), place.get, on_load)
                key = (s.buffer, s.index[0])
                if s.buffer not in local:
                    stores.append(s)
                    writers[s.buffer] = writers.get(s.buffer, 0) + 1
                elif isinstance(s, Store):
                    values[key] = s.value
                else:
                    terms.setdefault(key, []).append(s.value)
                    places.setdefault(key, []).append(place)
        for key, new in terms.items():
            how = hows[key[0]]
            total = tree(how, new) if columns is None else columns(how, new, places[key])
            values[key] = _combined(hows[key[0]], values[key], total) if key in values else total
    if any(n.buffer in local for n in loads_of(stores)):
        return None  # a local element that is read at a place only known at run time
    buffers = {n: b for n, b in part.buffers.items() if b.role != LOCAL}
    written = Part(buffers, part.outer, (Group((), tuple(stores)),))
    return simplified(written) if columns is None else written


def _most_written_out(part: Part, group: Group, target: Target) -> int:
    """Points of a row that are read across rows; more would be gathered, where rows that are summed need not be."""
    return MOST_ACROSS if folds(part, group, target) else target.lanes(4)


def _points(spans: tuple[Span, ...]):
    """Every point of static spans, the last fastest."""
    if not spans:
        yield {}
        return
    for n in range(spans[0].axis.extent):
        for rest in _points(spans[1:]):
            yield {spans[0].axis: n, **rest}


def tree(how: str, terms: Sequence[Expr]) -> Expr:
    """Combine pairwise: short chains, small rounding error."""
    if how in MANY and terms[0].dtype is not boolean and len(terms) > 2:
        return scalar.call(how, *terms)
    while len(terms) > 1:
        pairs = [_combined(how, a, b) for a, b in zip(terms[::2], terms[1::2])]
        terms = pairs + ([terms[-1]] if len(terms) % 2 else [])
    return terms[0]


def _combined(how: str, a: Expr, b: Expr) -> Expr:
    names = {"sum": "add", "prod": "mul"}
    if a.dtype is boolean:
        names = {"max": "or", "min": "and", "sum": "or", "prod": "and"}
    return scalar.call(names.get(how, how), a, b)
