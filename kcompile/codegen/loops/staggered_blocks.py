"""Blocks of short rows that go through the nests of a row one nest apart: one row of each in every step.

    for block t:  for row i:  nest 1 of row (t, i), nest 2 of (t-1, i), nest 3 of (t-2, i)
                  fold the sums of every nest's block, and compute what follows them for all its rows

As in staggered.py memory and arithmetic happen side by side; and as where short rows take turns, sums are folded in
common and logarithms and roots are made of as many rows as fill a vector.

Measured, one thread, beside rows that take turns and fold by themselves: softmax of 3072 rows of 128 numbers 58 and
46 us, of 4096 of 64 44 and 32, of 8192 of 32 57 and 39; cross-entropy of these 51 and 41, 43 and 32, 66 and 42.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llvmlite import ir

from kcompile.codegen.llvm_types import I64, Index
from kcompile.codegen.loops.expr import Scope
from kcompile.codegen.loops.jammed import common_folds, fold, place_apart
from kcompile.codegen.loops.reductions import along_rows
from kcompile.codegen.loops.staggered import in_order, only_axis
from kcompile.codegen.loops.vectors import pattern_of

if TYPE_CHECKING:  # nest.py calls this module
    from kcompile.codegen.loops.nest import Emitter


def staggered_blocks(emitter: Emitter, scope: Scope, begin: Index, end: Index) -> None:
    """Each nest for the block behind that of the nest before it; tasks [begin, end)."""
    _Blocks(emitter).run(scope, begin, end)


class _Blocks:
    """At time t (a row), nest k is at the block of rows that begins with t - size * k."""

    def __init__(self, emitter: Emitter):
        self.emitter, self.b, self.schedule, self.part = emitter, emitter.b, emitter.schedule, emitter.part
        *self.rest, self.axis = self.schedule.rows
        self.size, self.stages = self.schedule.jam, self.schedule.stages
        self.last = self.size * (len(self.stages) - 1)
        self.kept = 1 << (len(self.stages) - 1).bit_length()  # blocks that have numbers at the same time
        self.common = [common_folds(emitter, g) for g in self.part.groups]  # by number of the group

    def run(self, scope: Scope, begin: Index, end: Index) -> None:
        self.emitter.stretches(scope, (*self.rest, self.axis), begin, end, self.rows)

    def rows(self, outer: Scope, first: Index, behind: Index) -> None:
        """A stretch of rows: all nests at once, except at its ends."""
        b, size = self.b, self.size
        with b.loop("time", first, b.add(behind, self.last), size, vectorise=False, unroll=False) as time:
            full = b.ll.and_(
                self.holds("<=", b.add(first, self.last), time), self.holds("<=", b.add(time, size), behind)
            )
            starts = [b.sub(time, size * k) for k in range(len(self.stages))]
            counts = [b.select(b.compare("<=", first, s), b.min(b.sub(behind, s), size), 0) for s in starts]
            blocks = [self.block(s, first) for s in starts]
            for n in in_order(self.stages[0])[0]:
                self.each(outer, n, starts[0], counts[0], blocks[0])
            with b.if_else(full) as (then, otherwise):
                with then, b.loop("row", 0, size, vectorise=False, unroll=False) as i:
                    self.at_once([self.place(outer, k, s, m, i) for k, (s, m) in enumerate(zip(starts, blocks))])
                with otherwise:
                    for k, (start, count, block) in enumerate(zip(starts, counts, blocks)):
                        with b.loop("row", 0, count, vectorise=False, unroll=False) as i:
                            self.at_once([self.place(outer, k, start, block, i)], k)
            for k, (start, count, block) in enumerate(zip(starts, counts, blocks)):
                self.finish(outer, k, start, count, block)

    def holds(self, op: str, x: Index, y: Index) -> ir.Value:
        return self.b.condition(self.b.compare(op, x, y))

    def block(self, start: ir.Value, first: Index) -> ir.Value:
        """Where a block's numbers lie, in rows."""
        b = self.b
        return b.ll.and_(b.sub(start, first), I64(self.kept * self.size - 1))

    def place(self, outer: Scope, k: int, start: ir.Value, block: ir.Value, i: ir.Value) -> Scope:
        """Nest k's row of a block."""
        b = self.b
        inner = self.emitter.row_of(outer, self.axis, b.add(start, i), lambda _: b.add(block, i))
        place_apart(self.emitter, inner, self.common[self.stages[k][0]], i)
        return inner

    def at_once(self, places: list[Scope], first: int = 0) -> None:
        """A row of every nest from the first on."""
        nests = []
        for k, place in enumerate(places, first):
            n = self.stages[k][0]
            group = self.part.groups[n]
            self.emitter.apart = frozenset(self.common[n])
            pattern = pattern_of(self.part, group.body, only_axis(group), self.b.target)
            ahead = self.emitter.ahead.get(n, ())
            nests.append((self.emitter.as_scheduled(pattern, ahead), place.inner(), group.body))
        self.emitter.apart = frozenset()
        along_rows(self.part, nests)

    def finish(self, outer: Scope, k: int, start: ir.Value, count: Index, block: ir.Value) -> None:
        """The numbers of a nest's block, and what is made of them."""
        self.fold(outer, self.stages[k][0], count, block)
        for n in in_order(self.stages[k])[1]:
            self.each(outer, n, start, count, block)

    def each(self, outer: Scope, n: int, start: ir.Value, count: Index, block: ir.Value) -> None:
        """A group of every row of a block."""
        b, group, common = self.b, self.part.groups[n], self.common[n]
        hints = {"vectorise": False} if group.spans else {"independent": True}
        with b.loop("each", 0, count, unroll=False, **hints) as i:
            here = self.emitter.row_of(outer, self.axis, b.add(start, i), lambda _: b.add(block, i))
            self.emitter.start_locals(here, [s.buffer for s in group.body if s.buffer not in common])
            place_apart(self.emitter, here, common, i)
            self.emitter.apart = frozenset(common)
            self.emitter.group(here, group)
            self.emitter.apart = frozenset()
        self.fold(outer, n, count, block)

    def fold(self, outer: Scope, n: int, count: Index, block: ir.Value) -> None:
        """The numbers of a group's block."""
        for name, (base, lanes) in self.common[n].items():
            fold(self.emitter, outer.memory[name], name, base, lanes, count, block)
