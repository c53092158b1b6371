"""The loop of rows that are one nest apart (staggered.py says which rows are, and why)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llvmlite import ir

from kcompile.codegen.llvm_types import I64, Index
from kcompile.codegen.loops.expr import Scope
from kcompile.codegen.loops.reductions import along_rows
from kcompile.codegen.loops.staggered import TOGETHER, in_order, late, only_axis
from kcompile.codegen.loops.vectors import pattern_of
from kcompile.forms.records import Buffer

if TYPE_CHECKING:  # nest.py calls this module
    from kcompile.codegen.loops.nest import Emitter


def staggered_rows(emitter: Emitter, scope: Scope, begin: Index, end: Index) -> None:
    """Each nest for the row behind that of the nest before it, all in one loop; tasks [begin, end)."""
    _Staggered(emitter).run(scope, begin, end)


class _Staggered:
    """At time t, nest k is at row t - gap * k. Numbers of a row lie in slot `row mod slots` until the row is done."""

    def __init__(self, emitter: Emitter):
        self.emitter, self.b, self.schedule, self.part = emitter, emitter.b, emitter.schedule, emitter.part
        *self.rest, self.axis = self.schedule.rows
        self.stages = self.schedule.stages
        self.gap = self.schedule.gap
        self.last = self.gap * (len(self.stages) - 1)
        self.waiting = late(self.part, self.stages)

    def run(self, scope: Scope, begin: Index, end: Index) -> None:
        self.emitter.stretches(scope, (*self.rest, self.axis), begin, end, self.rows)

    def rows(self, outer: Scope, first: Index, behind: Index) -> None:
        """A stretch of rows: all nests at once, except at its ends."""
        b, last = self.b, self.last
        with b.loop("time", first, b.add(behind, last), vectorise=False, unroll=False) as time:
            full = b.ll.and_(self.holds("<=", b.add(first, last), time), self.holds("<", time, behind))
            with b.if_else(full) as (then, otherwise):
                with then:
                    self.at_once([self.place(outer, time, k) for k in range(len(self.stages))])
                with otherwise:
                    for k in range(len(self.stages)):
                        row = b.sub(time, self.gap * k)
                        with b.if_(b.ll.and_(self.holds("<=", first, row), self.holds("<", row, behind))):
                            self.alone(self.place(outer, time, k), k)
            if self.waiting:
                done = b.sub(time, last)
                position = b.ll.and_(done, I64(TOGETHER - 1))
                enough = b.ll.or_(self.holds("==", position, TOGETHER - 1), self.holds("==", done, b.sub(behind, 1)))
                with b.if_(b.ll.and_(self.holds("<=", first, done), enough)):
                    self.together(outer, b.max(first, b.sub(done, position)), b.add(done, 1))

    def holds(self, op: str, x: Index, y: Index) -> ir.Value:
        return self.b.condition(self.b.compare(op, x, y))

    def slot(self, row: ir.Value, buffer: Buffer) -> ir.Value:
        return self.b.ll.and_(row, I64(self.schedule.slots(buffer) - 1))

    def place(self, outer: Scope, time: ir.Value, k: int) -> Scope:
        """Nest k's row at a time."""
        row = self.b.sub(time, self.gap * k)
        inner = self.emitter.row_of(outer, self.axis, row, lambda buffer: self.slot(row, buffer))
        if k == 0:
            self.emitter.start_locals(inner)
        return inner

    def at_once(self, places: list[Scope]) -> None:
        """Every nest at its row, then what follows each."""
        nests = []
        for place, numbers in zip(places, self.stages):
            for n in in_order(numbers)[0]:
                self.emitter.group(place.inner(), self.part.groups[n])
            body = self.part.groups[numbers[0]].body
            pattern = pattern_of(self.part, body, only_axis(self.part.groups[numbers[0]]), self.b.target)
            pattern = self.emitter.as_scheduled(pattern, self.emitter.ahead.get(numbers[0], ()))
            nests.append((pattern, place.inner(), body))
        along_rows(self.part, nests)
        for place, numbers in zip(places, self.stages):
            for n in in_order(numbers)[1]:
                if n not in self.waiting:
                    self.emitter.group(place.inner(), self.part.groups[n])

    def alone(self, place: Scope, k: int) -> None:
        """Nest k and what follows it."""
        for n in sorted(self.stages[k]):
            if n not in self.waiting:
                self.emitter.group(place.inner(), self.part.groups[n], self.emitter.ahead.get(n, ()))

    def together(self, outer: Scope, low: ir.Value, high: ir.Value) -> None:
        """The groups that waited, for rows whose numbers lie side by side."""
        b = self.b
        start = b.ll.and_(low, I64(2 * TOGETHER - 1))
        for n in self.waiting:
            with b.loop("row", 0, b.sub(high, low), unroll=False, independent=True) as i:
                here = self.emitter.row_of(outer, self.axis, b.add(low, i), lambda _, i=i: b.add(start, i))
                self.emitter.group(here, self.part.groups[n])
