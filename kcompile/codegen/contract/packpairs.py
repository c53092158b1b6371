"""Copy rhs into panels of pairs: [outer][column block][pair of k][columns of a block], 32 bits each.

The same three ways as in pack.py: two rows of vectors put together where the columns are contiguous; squares of
pairs, which lie as such in memory, transposed where k is; else one pair at a time. A half pair at the end of k is
filled up with zero.
"""

from __future__ import annotations

import contextlib

from kcompile.codegen.contract import pairs
from kcompile.codegen.contract.frame import ROLLED, Frame
from kcompile.codegen.contract.pack import ROWS_AHEAD
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.contract.transpose import copy_square, line_table, set_lines
from kcompile.codegen.llvm_types import Index
from kcompile.ir.dim import Axis


def fill(frame: Frame, plan: Plan, panel) -> None:
    """Write the loops that fill one panel."""
    _PairPacker(frame, plan, panel).emit()


class _PairPacker:
    def __init__(self, frame: Frame, plan: Plan, panel):
        self.frame, self.plan, self.panel, self.b = frame, plan, panel, frame.b
        self.source = plan.problem.rhs.memory
        self.base = frame.pointers[self.source.buffer]
        self.pair = plan.problem.pair
        self.partner = frame.index(self.pair.rhs)
        self.columns = frame.index(plan.vector.extent)
        self.valid = self.b.sub(self.columns, frame.places[plan.vector])

    def emit(self) -> None:
        b, elements = self.b, self.frame.index(self.pair.elements)
        whole, rest = b.div_nonneg(elements, 2), b.mod_nonneg(elements, 2)
        with self.around() as (places, row):
            if self.source.stride(self.plan.vector) == 1:
                one_pair = self.rows_of_vectors
            elif self.source.unit == 2:
                self.squares(places, row, whole)
                one_pair = None
            else:
                one_pair = self.elements
            if one_pair:
                with b.loop("p", 0, whole, **ROLLED) as p:
                    one_pair(places, p, b.add(row, p), False)
            if not (isinstance(rest, int) and rest == 0):
                with b.if_(b.compare("!=", rest, 0)):
                    (one_pair or self.elements)(places, whole, b.add(row, whole), True)

    @contextlib.contextmanager
    def around(self):
        """Loops over the k axes around that of pairs; yields their places and the first row of the panel."""
        b = self.b
        with contextlib.ExitStack() as stack:
            places, row = {}, 0
            for axis in self.plan.k[:-1]:
                size = self.frame.index(axis.extent)
                places[axis] = stack.enter_context(b.loop(axis.name, 0, size, **ROLLED))
                row = b.add(b.mul(row, size), places[axis])
            yield places, b.mul(row, self.frame.index(self.pair.axis.extent))

    def address(self, places: dict[Axis, Index]) -> Index:
        b = self.b
        total = self.frame.index(self.source.at.offset)
        for axis, place in {**self.frame.places, **places}.items():
            total = b.add(total, b.mul(place, self.frame.index(self.source.stride(axis))))
        return total

    def rows_of_vectors(self, places: dict[Axis, Index], p: Index, row: Index, is_half: bool) -> None:
        b, plan, lanes, base = self.b, self.plan, self.plan.lanes, self.base
        start, to = self.address({**places, self.pair.axis: p}), b.mul(row, plan.block_lanes)
        starts = [start] if is_half else [start, b.add(start, self.partner)]
        if not is_half:
            ahead = b.mul(self.frame.index(self.source.stride(self.pair.axis)), ROWS_AHEAD // 2)
            line = b.target.cache_line_bytes // self.source.dtype.size_bytes
            for s in starts:
                for j in range(0, plan.block_lanes, line):
                    b.prefetch(base, pairs.HALF, b.add(s, b.add(ahead, j)), locality=2)
        with b.if_else(b.compare(">=", self.valid, plan.block_lanes)) as branches:
            for branch, is_whole in zip(branches, (True, False)):
                with branch:
                    for j in range(0, plan.block_lanes, lanes):
                        if is_whole:
                            read = [b.load_vector(base, pairs.HALF, b.add(s, j), lanes) for s in starts]
                        else:
                            mask = b.tail_mask(lanes, b.sub(self.valid, j))
                            read = [b.load_masked(base, pairs.HALF, b.add(s, j), mask) for s in starts]
                        value = pairs.half(b, *read) if is_half else pairs.joined(b, *read)
                        b.store_vector(value, self.panel, pairs.WHOLE, b.add(to, j), align_bytes=plan.vector_bytes)

    def squares(self, places: dict[Axis, Index], row: Index, whole: Index) -> None:
        """Pairs lie along k: read vectors of them, write them along the columns; the last square may overlap."""
        b, lanes = self.b, self.plan.lanes
        if isinstance(whole, int):
            (self.squares_of_row if whole >= lanes else self.pairs_of_row)(places, row, whole)
            return
        with b.if_else(b.compare(">=", whole, lanes)) as (then, otherwise):
            with then:
                self.squares_of_row(places, row, whole)
            with otherwise:
                self.pairs_of_row(places, row, whole)

    def squares_of_row(self, places: dict[Axis, Index], row: Index, whole: Index) -> None:
        b, plan, lanes = self.b, self.plan, self.plan.lanes
        table = line_table(b, lanes)
        first, last = self.frame.places[plan.vector], b.sub(self.columns, 1)
        with b.loop("column", 0, plan.block_lanes, lanes, **ROLLED) as column:
            columns = [b.min(b.add(first, b.add(column, i)), last) for i in range(lanes)]
            starts = [self.address({**places, plan.vector: place}) for place in columns]
            set_lines(b, table, [b.at(self.base, self.source.dtype, start) for start in starts])
            with b.loop("p", 0, whole, lanes, **ROLLED) as p:
                p = b.min(p, b.sub(whole, lanes))
                to = b.at(self.panel, pairs.WHOLE, b.add(b.mul(b.add(row, p), plan.block_lanes), column))
                copy_square(
                    b, table, p, pairs.WHOLE, to, plan.block_lanes, pairs.WHOLE, lanes, self.source.dtype.size_bytes
                )

    def pairs_of_row(self, places: dict[Axis, Index], row: Index, whole: Index) -> None:
        with self.b.loop("p", 0, whole, **ROLLED) as p:
            self.elements(places, p, self.b.add(row, p), False)

    def elements(self, places: dict[Axis, Index], p: Index, row: Index, is_half: bool) -> None:
        """One row of a panel, pair by pair."""
        b, plan = self.b, self.plan
        first, last = self.frame.places[plan.vector], b.sub(self.columns, 1)
        with b.loop("column", 0, plan.block_lanes, **ROLLED) as column:
            here = {**places, self.pair.axis: p, plan.vector: b.min(b.add(first, column), last)}
            start = self.address(here)
            low = b.load(self.base, pairs.HALF, start)
            if is_half:
                value = pairs.half(b, low)
            else:
                value = pairs.joined(b, low, b.load(self.base, pairs.HALF, b.add(start, self.partner)))
            b.store(value, self.panel, pairs.WHOLE, b.add(b.mul(row, plan.block_lanes), column))
