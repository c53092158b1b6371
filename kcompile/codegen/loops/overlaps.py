"""What windows that overlap have in common is computed once and handed on from one to the next.

    y[i, c] = max(x[2i, c], x[2i+1, c], x[2i+2, c], ...)     the last column of one window is the first of the next

A window's terms are combined column by column along an axis `p` of the result. Where the column s at p + 1 is, as an
expression, the column s + k at p, a loop over p keeps it in registers: of 3 x 3 points every 2 six are loaded for each
result, every 1 three, and as many maxima less are taken. It is found by comparing expressions, so every window written
out as terms is served: pools of any rank, averages, window sums of gradients.

(Known for loops over arrays as predictive commoning: O'Brien, "Predictive commoning", 1990.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kcompile.codegen.loops.conditions import sides
from kcompile.codegen.loops.flat import Part, loads_of, mentions, statements_of, stride
from kcompile.codegen.loops.segments import conditions_of, cuts
from kcompile.codegen.loops.vectors import has_masks, pattern_of
from kcompile.codegen.loops.versions import settled
from kcompile.forms import scalar
from kcompile.forms.scalar import MANY, Call, Expr, Load, Where, rewrite
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.target import Target

Tree = Callable[[str, Sequence[Expr]], Expr]  # how, terms -> their combination
MOST_VECTORS = 4  # of lanes that go through the points of a row together
LOAD, SPLIT, GATHERED = 0.5, 1.5, 6.0  # cycles: of a vector on a line, over two lines, of elements apart
SIMPLE, DIVISION = 0.5, 5.0
PASSING = 1.0  # what a window more in the loop over them takes besides, for all vectors of the loop
FAR_WINDOWS = 1.1  # times as long
ROW, ASKING = 2.0, 1.0  # a row of lanes by itself, and every condition that it asks


def may_overlap(part: Part) -> bool:
    """True if neighbouring points of an outer axis go through common elements in a nest of known length."""
    for group in part.groups:
        places = [n.index[0] for n in loads_of(group.body)] if group.spans else []
        for span in group.spans:
            for p in part.outer:
                for place in places:
                    along, inside = stride(place, p), stride(place, span.axis)
                    if not (isinstance(along, int) and isinstance(inside, int) and inside > 0 and along > 0):
                        continue
                    if along % inside == 0 and span.most is not None and along // inside < span.most:
                        return True
    return False


@dataclass(frozen=True)
class Kept:
    """A value that is not stored: goes with statements through what is decided for them."""

    value: Expr


@dataclass(frozen=True)
class Overlap:
    """At a point p of `axis` the second expression of a pair is what the first one is at p + 1."""

    axis: Axis
    pairs: tuple[tuple[Expr, Expr], ...]


def together(statements: tuple, overlap: Overlap) -> tuple:
    """The statements, and behind them the pairs: what is decided is decided for both."""
    return (*statements, *(Kept(e) for pair in overlap.pairs for e in pair))


def open_only(statements: tuple) -> tuple:
    """The statements without conditions that hold, or do not, at every point."""
    decided = {}
    for condition in conditions_of(statements):
        difference, sense = sides(condition) or (None, None)
        low, high = dim.bounds(difference) if difference is not None else (None, None)
        if low is not None and dim.is_nonnegative(low):
            decided[condition] = not sense
        elif high is not None and dim.is_nonnegative(-1 - high):
            decided[condition] = sense
    return settled(statements, decided) if decided else statements


def parted(kept: tuple) -> tuple[tuple, tuple[tuple[Expr, Expr], ...]]:
    """(statements, pairs) of what was put together."""
    values = [s.value for s in kept if isinstance(s, Kept)]
    return tuple(s for s in kept if not isinstance(s, Kept)), tuple(zip(values[::2], values[1::2]))


class Columns:
    """Combines the terms of windows column by column, and collects what neighbours along `axis` share."""

    def __init__(self, axis: Axis, tree: Tree):
        self.axis, self.tree = axis, tree
        self.pairs: list[tuple[Expr, Expr]] = []

    def __call__(self, how: str, terms: Sequence[Expr], places: Sequence[dict[Axis, int]]) -> Expr:
        memo: dict = {}
        for along in places[0]:
            columns: dict[int, list[Expr]] = {}
            for term, place in zip(terms, places):
                columns.setdefault(place[along], []).append(term)
            combined = [self.tree(how, column) for column in columns.values()]
            shared = self.shared(combined, memo)
            if shared:
                self.pairs += shared
                return self.tree(how, combined)
        return self.tree(how, terms)

    def shared(self, columns: list[Expr], memo: dict) -> list[tuple[Expr, Expr]]:
        following = {self.axis: dim.of(self.axis) + 1}.get
        moved = [rewrite(e, on_axis=following, memo=memo) for e in columns]
        for k in range(1, len(columns)):
            if all(m is c for m, c in zip(moved, columns[k:])):
                return [(a, c) for a, c in zip(columns, columns[k:]) if a is not c]
        return []


def fits(part: Part, lane: Axis, overlap: Overlap, target: Target) -> bool:
    """True if the statements of a map go along `overlap.axis` in vectors of `lane`, once conditions split both."""
    body = tuple(statements_of(part))
    found = runs(body, lane)
    if not overlap.pairs or not found or {n.buffer for n in loads_of(body)} & {s.buffer for s in body}:
        return False
    if any(stride(s.index[0], overlap.axis) is None for s in body):
        return False
    for run in found:
        decided = settled(body, run.decided)
        pattern = pattern_of(part, decided, lane, target, independent=True)
        if pattern is None or (not has_masks(target) and run.length % lanes_of(run.length, pattern.lanes)):
            return False
        known = {c for _, below in cuts(decided, overlap.axis) for c in below}
        if any(c not in known and _depends(c, overlap.axis, lane) for c in conditions_of(decided)):
            return False
    return True


@dataclass(frozen=True)
class Run:
    """Lanes low <= lane < high, and the conditions that are known for them."""

    low: int
    high: int
    decided: dict[Expr, bool]

    @property
    def length(self) -> int:
        return self.high - self.low


def runs(statements: tuple, lane: Axis) -> list[Run]:
    """The lanes, cut where conditions change; nothing where that is not known."""
    if not dim.is_static(lane.extent):
        return []
    at = cuts(statements, lane)
    if not all(dim.is_static(threshold) for threshold, _ in at):
        return []
    known = {c: value for _, conditions in at for c, value in conditions.items()}
    found, low = [], 0
    for threshold, conditions in (*at, (lane.extent, {})):
        high = min(max(low, threshold), lane.extent)
        if low < high:
            found.append(Run(low, high, dict(known)))
        known.update({c: not value for c, value in conditions.items()})
        low = high
    return found


def _depends(condition: Expr, *axes: Axis) -> bool:
    found = sides(condition)
    return found is None or any(mentions(found[0], a) for a in axes)


def vectors_of(part: Part, lane: Axis, overlap: Overlap | None, target: Target) -> DimLike:
    """Vectors that hold the lanes."""
    lanes = target.lanes(4)
    if overlap is None:
        return dim.floordiv(lane.extent + (lanes - 1), lanes)
    return sum(-(-run.length // lanes_of(run.length, lanes)) for run in runs(tuple(statements_of(part)), lane))


def out_of_order(outer: tuple[Axis, ...], lane: Axis, overlap: Overlap) -> float:
    """How much longer windows take that do not lie side by side."""
    return 1 if outer.index(overlap.axis) + 1 == outer.index(lane) else FAR_WINDOWS


def lanes_of(extent: int, lanes: int) -> int:
    """Lanes of one vector: of a short axis the power of two that holds it, which reaches over fewer lines."""
    while lanes > 4 and extent <= lanes // 2:
        lanes //= 2
    return lanes


def vectors_at_once(overlap: Overlap, target: Target) -> int:
    """Vectors of lanes that share a pass over a row: what they keep lies in registers."""
    return max(1, min(MOST_VECTORS, target.vector_registers // (4 + 2 * len(overlap.pairs))))


def cost(part: Part, lane: Axis, overlap: Overlap | None, target: Target) -> float:
    """Cycles of one vector of points: of loads, of divisions, or of everything else, whichever are more.

    Weighed by measurements: a vector that does not begin on a line is split between two.
    """
    handed = {a for a, _ in overlap.pairs} if overlap is not None else set()
    lanes = lanes_of(lane.extent, target.lanes(4)) if overlap is not None else target.lanes(4)
    loads = simple = divisions = 0.0
    seen = set(handed)
    stack = [s.value for s in statements_of(part)]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, Load):
            loads += _load_cost(node.index[0], lane, lanes, target)
        elif isinstance(node, Where):
            stack.append(node.inside)
        elif isinstance(node, Call):
            if node.fn in ("div", "sqrt"):
                divisions += DIVISION
            elif node.fn in MANY and node.dtype.is_float:
                simple += SIMPLE * (len(node.args) - 1 + -(-len(node.args) // 2))
            else:
                simple += SIMPLE * scalar.SCALAR_OPS[node.fn].cost if node.fn in scalar.SCALAR_OPS else SIMPLE
            stack += node.args
    if overlap is not None:
        at_once = min(vectors_at_once(overlap, target), max(1, lane.extent // lanes))
        return max(loads, simple, divisions) + PASSING / at_once
    asked = sum(not _depends(c, lane) for c in conditions_of(statements_of(part)))
    vectors = lane.extent / lanes if dim.is_static(lane.extent) else ROW
    return max(loads, simple, divisions) + (ROW + ASKING * asked) / max(1, vectors)


def _load_cost(place: DimLike, lane: Axis, lanes: int, target: Target) -> float:
    step = stride(place, lane)
    if step == 0:
        return LOAD
    if step != 1:
        return GATHERED
    if not isinstance(place, dim.Dim):
        return LOAD
    others = (coefficient for monomial, coefficient in place.terms.items() if lane not in monomial)
    return LOAD if all(c % lanes == 0 for c in others) else SPLIT * lanes / target.lanes(4)
