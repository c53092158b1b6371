"""Windows that overlap, along a row of them: what one shares with the next stays in registers (overlaps.py).

    for every version of a row (borders above and below):
        for some vectors of lanes:
            kept = the first columns of the first window
            for every window, in a loop up to where a border begins, and one from there on:
                combine kept and new columns, store
                kept = the columns that the next one begins with

A row may be cut between tasks anywhere: whoever begins within it computes the first columns by the same operations.
"""

from __future__ import annotations

from dataclasses import replace

from llvmlite import ir

from kcompile.codegen.llvm_types import Index
from kcompile.codegen.loops import streaming
from kcompile.codegen.loops.expr import Scope
from kcompile.codegen.loops.flat import dims_of, loads_of, stride
from kcompile.codegen.loops.overlaps import lanes_of, parted, together, vectors_at_once
from kcompile.codegen.loops.reductions import Nest, tail_mask
from kcompile.codegen.loops.segments import cuts
from kcompile.codegen.loops.vectors import Lanes, Pattern, pattern_of
from kcompile.codegen.loops.versions import Choice, settled, versions
from kcompile.forms.scalar import Const
from kcompile.ir import dim

Starts = list[tuple[Index, int | None]]  # where vectors of lanes begin, and how many lanes they have if not all


def overlapping_windows(emitter, scope: Scope, begin: Index, end: Index) -> None:
    """Run tasks [begin, end) of a schedule with an overlap; `emitter` is its nest.Emitter."""
    schedule = emitter.schedule
    (group,) = schedule.part.groups
    tree = versions(together(group.body, schedule.overlap), schedule.lane, along=schedule.overlap.axis)

    def stretch(row: Scope, first: Index, behind: Index) -> None:
        with row.b.if_(row.b.compare("<", first, behind)):
            _versions(_Stretch(emitter, first, behind), row.inner(), tree)

    emitter.stretches(scope, schedule.rows, begin, end, stretch)


def _versions(stretch: _Stretch, scope: Scope, tree: Choice | tuple) -> None:
    """Branch to the version that is right for this row."""
    if not isinstance(tree, Choice):
        stretch.run(scope, tree)
        return
    with scope.b.if_else(scope.compute(tree.condition)) as (then, otherwise):
        for branch, left in ((then, tree.then), (otherwise, tree.otherwise)):
            with branch:
                _versions(stretch, scope.inner(), left)


class _Stretch:
    """Windows first <= axis < behind of one row."""

    def __init__(self, emitter, first: Index, behind: Index):
        self.emitter, self.part, self.lane = emitter, emitter.part, emitter.schedule.lane
        self.overlap, self.axis = emitter.schedule.overlap, emitter.schedule.overlap.axis
        self.first, self.behind = first, behind

    def run(self, scope: Scope, kept: tuple) -> None:
        """One version: `kept` are its statements and pairs."""
        b = scope.b
        body, _ = parted(kept)
        pattern = self.pattern(body)
        if pattern is None:  # no window of this version has an element
            self.borders(scope, body)
            return
        scope.prepare(dims_of(body))
        names = streaming.streamed(self.part, body, self.lane, b.target)
        if not names or not self.keeps_alignment(body, names, pattern):
            self.lanes(scope, kept, frozenset())
            return
        place = scope.inner()
        place.bind(self.axis, self.first)
        place.bind(self.lane, 0)
        with b.if_else(streaming.pays(self.part, names, body, place)) as (then, otherwise):
            for branch, streamed in ((then, names), (otherwise, frozenset())):
                with branch:
                    self.lanes(scope.inner(), kept, streamed)

    def pattern(self, body) -> Pattern | None:
        found = pattern_of(self.part, body, self.lane, self.emitter.b.target, independent=True)
        return found and replace(found, lanes=lanes_of(self.lane.extent, found.lanes))

    def borders(self, scope: Scope, body) -> None:
        (group,) = self.part.groups
        with scope.b.loop("windows", self.first, self.behind, vectorise=False, unroll=False) as i:
            inner = scope.inner()
            inner.bind(self.axis, i)
            self.emitter.map_lanes(inner, replace(group, body=body), 0, self.lane.extent)

    def keeps_alignment(self, body, names: frozenset[str], pattern: Pattern) -> bool:
        """True if the next window's results lie whole vectors further, like every vector of lanes."""
        steps = [stride(s.index[0], self.axis) for s in body if s.buffer in names]
        return all(dim.is_static(n) and n % pattern.lanes == 0 for n in (*steps, self.lane.extent))

    def lanes(self, scope: Scope, kept: tuple, streamed: frozenset[str]) -> None:
        """All lanes, some vectors after others."""
        b, extent, body = scope.b, self.lane.extent, parted(kept)[0]
        lanes = self.pattern(body).lanes
        many = vectors_at_once(self.overlap, b.target) * lanes
        full = extent // many * many
        if full > many:
            with b.loop("lanes", 0, full, many, vectorise=False, unroll=False) as low:
                self.windows(scope.inner(), kept, streamed, [(b.add(low, n), None) for n in range(0, many, lanes)])
        elif full:
            self.windows(scope.inner(), kept, streamed, [(n, None) for n in range(0, full, lanes)])
        if full < extent:
            rest = [(n, extent - n if n + lanes > extent else None) for n in range(full, extent, lanes)]
            if rest[-1][1] is not None and extent > lanes and not streamed and _may_repeat(body):
                rest[-1] = (extent - lanes, None)  # the last vector ends with the row, some lanes are computed twice
            self.windows(scope.inner(), kept, streamed, rest)

    def windows(self, scope: Scope, kept: tuple, streamed: frozenset[str], starts: Starts) -> None:
        """The windows of a row, for the vectors of lanes at `starts`."""
        b = scope.b
        _, pairs = parted(kept)
        at = cuts(kept, self.axis)
        values = [here.compute(first) for here in self.places(scope, kept, streamed, starts, self.first) for first, _ in pairs]
        for start, stop, decided in self.emitter.segments(scope, at, self.first, self.behind):
            if isinstance(start, int) and isinstance(stop, int) and start >= stop:
                continue
            here = settled(kept, decided)
            if self.pattern(parted(here)[0]) is None:
                here = kept  # nothing is left to load here: what is asked for is not there
            values = self.segment(scope.inner(), here, streamed, starts, (start, stop), values)

    def segment(
        self, scope: Scope, kept: tuple, streamed: frozenset[str], starts: Starts, span: tuple[Index, Index], values
    ) -> list[ir.Value]:
        """Windows whose borders are known; what the first one is handed, and what the last one hands on."""
        body, pairs = parted(kept)
        with scope.b.carried_loop("windows", *span, values, vectorise=False, unroll=False) as loop:
            carried, following = iter(loop.carried), []
            for here in self.places(scope, kept, streamed, starts, loop.index):
                here.values.update((first, value) for (first, _), value in zip(pairs, carried) if not isinstance(first, Const))
                Nest(self.part, here.pattern, here.around, body).terms(here)
                following += [here.compute(later) for _, later in pairs]
            loop.next(*following)
        return list(loop.results)

    def places(self, scope: Scope, kept: tuple, streamed: frozenset[str], starts: Starts, point: Index) -> list[Lanes]:
        """The vectors of lanes of one window."""
        b, (body, _) = scope.b, parted(kept)
        pattern = replace(self.pattern(body), streamed=streamed)
        window = scope.inner()
        window.bind(self.axis, point)
        window.prepare(dims_of(body))
        found = []
        for start, left in starts:
            mask = None if left is None else tail_mask(b, pattern.lanes, left)
            here = Lanes(window, pattern, start, mask, left)
            here.bind(self.lane, start)
            found.append(here)
        return found


def _may_repeat(body) -> bool:
    """True if no load may be of an element that was overwritten when its lane was computed before."""
    written = {s.index[0] for s in body}
    return not any(n.index[0] in written for n in loads_of(body))
