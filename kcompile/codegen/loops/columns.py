"""Nests down columns: vectors of lanes stay in registers while the rows of a block pass by.

As along rows, the shape of every sum follows from the form, the sizes and the target.
"""

from __future__ import annotations

from llvmlite import ir

from kcompile.codegen.llvm_types import Index
from kcompile.codegen.loops.ahead import asks_for_columns, columns_ahead_bytes, may_ask_for_columns
from kcompile.codegen.loops.expr import Scope
from kcompile.codegen.loops.flat import Part, dims_of, loads_of, mentions, stride
from kcompile.codegen.loops.reductions import Nest, tail_mask
from kcompile.codegen.loops.vectors import Lanes, Pattern, has_masks, is_number
from kcompile.forms import scalar
from kcompile.ir.dim import Axis
from kcompile.target import Target

JAM_LOADS = 8  # vectors of terms made before they are added to the accumulators
COLUMN_COST = 320  # operations of one step down the columns


def fits_registers(part: Part, pattern: Pattern, body, count: Index, target: Target) -> bool:
    """True if all lanes of a block stay in registers, so that rows are read whole; wider ones go line by line."""
    if not isinstance(count, int) or (count % pattern.lanes and not has_masks(target)):
        return False
    numbers = sum(is_number(part, s) for s in body)
    cost = scalar.cost(*(s.value for s in body)) + len(body)
    most = min(target.vector_registers // (2 * max(1, numbers)), COLUMN_COST // cost)
    return 0 < -(-count // pattern.lanes) <= most


def down_columns(
    part: Part, pattern: Pattern, scope: Scope, rows: tuple[Axis, Index, Index], lanes: tuple[Index, int], body
) -> None:
    """Run statements at the rows low <= axis < high, for lanes first ... first + count of a block."""
    b, count = scope.b, lanes[1]
    with b.if_(b.compare("<", rows[1], rows[2])):
        before = scope.inner()
        before.prepare(dims_of(body))
        vectors, rest = -(-count // pattern.lanes), count % pattern.lanes
        mask = tail_mask(b, pattern.lanes, rest) if rest else None

        def run(ahead: Index) -> None:
            _Columns(part, pattern, before.inner(), body, rows, lanes[0], ahead).chunk(0, vectors, mask)

        if not may_ask_for_columns(part, b.target):
            run(0)
            return
        with b.if_else(asks_for_columns(part, before)) as (then, otherwise):
            with then:
                run(columns_ahead_bytes(part, before))
            with otherwise:
                run(0)


class _Columns(Nest):
    def __init__(self, part: Part, pattern: Pattern, scope: Scope, body, rows, first: Index, ahead: Index):
        super().__init__(part, pattern, scope, body)
        self.axis, self.low, self.high = rows
        self.first = first
        self.ahead = ahead  # bytes; 0 for not asking
        self.asks = not isinstance(ahead, int) or ahead > 0

    def ask_ahead(self, here: Lanes) -> None:
        """Ask for what comes some lines behind the elements that are read here."""
        for node in loads_of(self.body):
            place = node.index[0]
            if mentions(place, self.axis) and stride(place, self.pattern.axis) == 1:
                memory = self.scope.memory[node.buffer]
                further = self.b.div_nonneg(self.ahead, memory.dtype.size_bytes)
                behind = self.b.add(memory.place(here, place), further)
                self.b.prefetch(memory.base, memory.dtype, behind, locality=3)

    def chunk(self, start: Index, vectors: int, mask: ir.Value | None) -> None:
        """All rows of some vectors of lanes; the mask is that of the last of them."""
        jam = 2  # short chains also keep sums accurate
        while 2 * jam * vectors <= JAM_LOADS:
            jam *= 2
        b = self.b
        sums = [self.start(n) for n in self.numbers for _ in range(vectors)]
        full = b.add(self.low, b.mul(b.div_nonneg(b.sub(self.high, self.low), jam), jam))
        sums = self.down(self.low, full, jam, start, vectors, mask, sums)
        sums = self.down(full, self.high, 1, start, vectors, mask, sums)
        for k in range(vectors):
            here = self.lanes(self.scope, start, k, vectors, mask)
            for n, values in zip(self.numbers, _grouped(sums, vectors)):
                s = self.body[n]
                here.store(s.buffer, s.index[0], self.combined(n, here.load(s.buffer, s.index[0]), values[k]))

    def down(self, low: Index, high: Index, jam: int, start: Index, vectors: int, mask, sums) -> list[ir.Value]:
        b = self.b
        name = "".join(c if c.isalnum() else "_" for c in self.axis.name)
        with b.carried_loop(name, low, high, sums, jam, vectorise=False, unroll=False) as loop:
            found: list[list[dict[int, ir.Value]]] = []
            for j in range(jam):
                row = self.scope.inner()
                row.bind(self.axis, b.add(loop.index, j))
                for e in self.pattern.once:
                    row.compute(e)
                places = [self.lanes(row, start, k, vectors, mask) for k in range(vectors)]
                for here in places if self.asks else ():
                    self.ask_ahead(here)
                found.append([self.terms(here) for here in places])
            totals = []
            for n, values in zip(self.numbers, _grouped(loop.carried, vectors)):
                for k in range(vectors):
                    totals.append(self.combined(n, values[k], self.tree(n, [row[k][n] for row in found])))
            loop.next(*totals)
        return list(loop.results)

    def lanes(self, scope: Scope, start: Index, k: int, vectors: int, mask) -> Lanes:
        place = self.b.add(start, k * self.pattern.lanes)
        here = Lanes(scope, self.pattern, place, mask if k == vectors - 1 else None)
        here.bind(self.pattern.axis, self.b.add(self.first, place))
        here.lane = place
        return here


def _grouped(values: list[ir.Value], size: int) -> list[list[ir.Value]]:
    return [list(values[n : n + size]) for n in range(0, len(values), size)]
