"""Maps that read across memory: a transposition in registers, tile by tile.

Where a load walks along another axis than the one being vectorised, a square tile of it is read along
its own lines, transposed in registers, and put into a small local array, from which the ordinary loop
reads. Each line of memory is touched once per tile.
"""

from __future__ import annotations

from dataclasses import replace

from kcompile.codegen.contract.transpose import transposed
from kcompile.codegen.llvm_types import Index
from kcompile.codegen.loops.expr import Memory, Scope
from kcompile.codegen.loops.flat import dims_of, moved_statements, statements_of, stride
from kcompile.codegen.loops.nest import Emitter, _name
from kcompile.codegen.loops.plan import Schedule
from kcompile.forms.scalar import Load, load
from kcompile.ir import dim


def emit_tiled(schedule: Schedule, scope: Scope, begin: Index, end: Index) -> None:
    """Write the code of a TILED map: a task is a strip of `block` points of `across`, all of `lane`."""
    b, side = scope.b, schedule.block
    across = schedule.across
    strips = replace(across, name="strip", extent=dim.floordiv(across.extent + side - 1, side))
    tiles = _Tiles(schedule, scope)

    def strip(inner: Scope) -> None:
        first = b.mul(inner.axes[strips], side)
        rows = b.min(b.sub(inner.value(across.extent), first), side)
        width = inner.value(schedule.lane.extent)
        with b.loop("tile", 0, width, side) as start:
            lanes = b.min(b.sub(width, start), side)
            whole = b.both(b.compare("==", rows, side), b.compare("==", lanes, side))
            with b.if_else(b.condition(whole), likely=True) as (then, otherwise):
                with then:
                    tiles.run(inner.inner(), first, start, side, side)
                with otherwise:
                    tiles.run(inner.inner(), first, start, rows, lanes)

    tiles.emitter.points(scope, (*schedule.rows, strips), begin, end, strip)


class _Tiles:
    """The local arrays of one map and its statements reading from them."""

    def __init__(self, schedule: Schedule, scope: Scope):
        self.schedule, self.b = schedule, scope.b
        self.emitter = Emitter(schedule, scope.b, None)
        statements = statements_of(schedule.part)
        self.loads = schedule.crossing
        names = {node: f"tile{n}" for n, node in enumerate(self.loads)}
        place = dim.of(schedule.across) * schedule.block + dim.of(schedule.lane)
        self.body = moved_statements(
            statements,
            lambda axis: None,
            lambda node: load(names[node], (place,), node.dtype) if node in names else None,
        )
        self.bases = {node: self.b.alloca(node.dtype, schedule.block**2, align_bytes=64) for node in self.loads}
        self.names = names

    def run(self, scope: Scope, first: Index, start: Index, rows: Index, lanes: Index) -> None:
        """One tile: rows [first, first + rows) of `across`, lanes [start, start + lanes)."""
        b, side = self.b, self.schedule.block
        across, lane = self.schedule.across, self.schedule.lane
        for node in self.loads:
            if isinstance(rows, int):
                self.copy_whole(scope.inner(), node, first, start)
            else:
                self.copy_part(scope, node, first, start, rows, lanes)

            def place(inner: Scope, _, first=first, start=start) -> Index:
                row, column = b.sub(inner.axes[across], first), b.sub(inner.axes[lane], start)
                return b.add(b.mul(row, side), column)

            scope.memory[self.names[node]] = Memory(self.bases[node], node.dtype, place)
        with b.loop(_name(across), 0, rows) as i:
            row = scope.inner()
            row.bind(across, b.add(first, i))
            row.prepare(dims_of(self.body))
            with b.loop(_name(lane), 0, lanes, independent=True, **self.emitter.unrolling(0, lanes)) as j:
                inner = row.inner()
                inner.bind(lane, b.add(start, j))
                self.emitter.statements(inner, self.body)

    def copy_whole(self, scope: Scope, node: Load, first: Index, start: Index) -> None:
        b, side = self.b, self.schedule.block
        scope.bind(self.schedule.across, first)
        scope.bind(self.schedule.lane, start)
        corner = scope.value(node.index[0])
        step = scope.value(stride(node.index[0], self.schedule.lane))
        base = scope.memory[node.buffer].base
        lines = [b.load_vector(base, node.dtype, b.add(corner, b.mul(step, n)), side) for n in range(side)]
        for n, column in enumerate(transposed(b, lines)):
            b.store_vector(column, self.bases[node], node.dtype, n * side)

    def copy_part(self, scope: Scope, node: Load, first: Index, start: Index, rows: Index, lanes: Index) -> None:
        b, side = self.b, self.schedule.block
        with b.loop("line", 0, lanes) as j, b.loop("element", 0, rows) as i:
            inner = scope.inner()
            inner.bind(self.schedule.lane, b.add(start, j))
            inner.bind(self.schedule.across, b.add(first, i))
            value = inner.load(node.buffer, node.index[0])
            b.store(value, self.bases[node], node.dtype, b.add(b.mul(i, side), j))
