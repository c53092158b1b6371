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
from kcompile.codegen.loops.overlaps import Run, lanes_of, open_only, parted, runs, together, vectors_at_once
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
    kept = open_only(together(group.body, schedule.overlap))
    tree = versions(kept, schedule.lane, along=schedule.overlap.axis)

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
        b, body = scope.b, parted(kept)[0]
        scope.prepare(dims_of(body))
        cut = runs(kept, self.lane)
        names = streaming.streamed(self.part, body, self.lane, b.target)
        if len(cut) > 1 or not names or not self.keeps_alignment(body, names):
            for run in cut:
                self.lanes(scope.inner(), settled(kept, run.decided), frozenset(), run)
            return
        place = scope.inner()
        place.bind(self.axis, self.first)
        place.bind(self.lane, 0)
        with b.if_else(streaming.pays(self.part, names, body, place)) as (then, otherwise):
            for branch, streamed in ((then, names), (otherwise, frozenset())):
                with branch:
                    self.lanes(scope.inner(), kept, streamed, *cut)

    def keeps_alignment(self, body, names: frozenset[str]) -> bool:
        """True if the next window's results lie whole vectors further, like every vector of lanes."""
        lanes = self.emitter.b.target.lanes(4)
        steps = [stride(s.index[0], self.axis) for s in body if s.buffer in names]
        return all(dim.is_static(n) and n % lanes == 0 for n in (*steps, self.lane.extent))

    def lanes(self, scope: Scope, kept: tuple, streamed: frozenset[str], run: Run) -> None:
        """The lanes of a run, some vectors after others."""
        b, body = scope.b, parted(kept)[0]
        pattern = pattern_of(self.part, body, self.lane, b.target, independent=True)
        if pattern is None:  # no window of this version has an element
            self.borders(scope, body, run)
            return
        lanes = lanes_of(run.length, pattern.lanes)
        many = vectors_at_once(self.overlap, b.target) * lanes
        full = run.low + run.length // many * many

        def windows(inner: Scope, starts: Starts) -> None:
            self.windows(inner, kept, replace(pattern, lanes=lanes, streamed=streamed), starts)

        if full - run.low > many:
            with b.loop("lanes", run.low, full, many, vectorise=False, unroll=False) as low:
                windows(scope.inner(), [(b.add(low, n), None) for n in range(0, many, lanes)])
        elif full > run.low:
            windows(scope.inner(), [(n, None) for n in range(run.low, full, lanes)])
        if full < run.high:
            rest = [(n, run.high - n if n + lanes > run.high else None) for n in range(full, run.high, lanes)]
            if rest[-1][1] is not None and run.length > lanes and not streamed and _may_repeat(body):
                rest[-1] = (run.high - lanes, None)  # the last vector ends with the run, some lanes are computed twice
            windows(scope.inner(), rest)

    def borders(self, scope: Scope, body, run: Run) -> None:
        (group,) = self.part.groups
        with scope.b.loop("windows", self.first, self.behind, vectorise=False, unroll=False) as i:
            inner = scope.inner()
            inner.bind(self.axis, i)
            self.emitter.map_lanes(inner, replace(group, body=body), run.low, run.high)

    def windows(self, scope: Scope, kept: tuple, pattern: Pattern, starts: Starts) -> None:
        """The windows of a row, for the vectors of lanes at `starts`."""
        first = self.places(scope, kept, pattern, starts, self.first)
        values = [here.compute(column) for here in first for column, _ in parted(kept)[1]]
        for start, stop, decided in self.emitter.segments(scope, cuts(kept, self.axis), self.first, self.behind):
            if isinstance(start, int) and isinstance(stop, int) and start >= stop:
                continue
            here = settled(kept, decided)
            found = pattern_of(self.part, parted(here)[0], self.lane, scope.b.target, independent=True)
            if found is None:
                here, found = kept, pattern  # nothing is left to load: what is asked for is not there
            found = replace(found, lanes=pattern.lanes, streamed=pattern.streamed)
            values = self.segment(scope.inner(), here, found, starts, (start, stop), values)

    def segment(
        self, scope: Scope, kept: tuple, pattern: Pattern, starts: Starts, span: tuple[Index, Index], values
    ) -> list[ir.Value]:
        """Windows whose borders are known, from what the first one is handed to what the last one hands on."""
        body, pairs = parted(kept)
        with scope.b.carried_loop("windows", *span, values, vectorise=False, unroll=False) as loop:
            carried, following = iter(loop.carried), []
            for here in self.places(scope, kept, pattern, starts, loop.index):
                handed = zip((column for column, _ in pairs), carried)
                here.values.update((column, value) for column, value in handed if not isinstance(column, Const))
                Nest(self.part, pattern, here.around, body).terms(here)
                following += [here.compute(later) for _, later in pairs]
            loop.next(*following)
        return list(loop.results)

    def places(self, scope: Scope, kept: tuple, pattern: Pattern, starts: Starts, point: Index) -> list[Lanes]:
        """The vectors of lanes of one window."""
        b = scope.b
        window = scope.inner()
        window.bind(self.axis, point)
        window.prepare(dims_of(parted(kept)[0]))
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
