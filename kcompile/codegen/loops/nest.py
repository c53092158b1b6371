"""Schedule -> loops: the code of one part, from its range of tasks to its statements.

Local numbers are memory on the stack (LLVM keeps single ones in registers); in a COLUMN they are
blocks of lanes. A sum over many points is built in levels: every block of a loop adds up in memory
of its own, which is then added to the level above. That bounds the rounding error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import Index
from kcompile.codegen.loops import in_order, streaming
from kcompile.codegen.loops.ahead import Place, rows_ahead
from kcompile.codegen.loops.bounded import bounded
from kcompile.codegen.loops.columns import down_columns, fits_registers
from kcompile.codegen.loops.expr import Memory, Scope, plain
from kcompile.codegen.loops.flat import Group, Span, dims_of
from kcompile.codegen.loops.jammed import jammed_rows
from kcompile.codegen.loops.overlaps_code import overlapping_windows
from kcompile.codegen.loops.plan import (
    COLUMN,
    COLUMN_BLOCK,
    COLUMN_LANES,
    MAP,
    OUTER_BLOCK,
    ROW,
    ROW_BLOCK,
    Schedule,
    fills_registers,
)
from kcompile.codegen.loops.reduce import accumulations, combine, is_scan, start_value, stores_only
from kcompile.codegen.loops.reductions import (
    MOST_IN_FLIGHT,
    along_row,
    ends_in_part,
    goes_beside,
    in_flight,
    pays_from,
)
from kcompile.codegen.loops.segments import cuts
from kcompile.codegen.loops.shifts import shifts
from kcompile.codegen.loops.skewed import LEAST_REGISTERS
from kcompile.codegen.loops.staggered import rows_asked_for
from kcompile.codegen.loops.staggered_blocks import staggered_blocks
from kcompile.codegen.loops.staggered_code import staggered_rows
from kcompile.codegen.loops.vectors import Pattern, pattern_of
from kcompile.codegen.loops.versions import Choice, versions
from kcompile.forms.records import LOCAL, OUT, Accumulate, Buffer, Store, assignments
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike

STACK_BYTES = 8192  # larger or unknown local buffers lie in the worker's workspace
ROWS_STACK_BYTES = 32768  # the same of all rows that are kept at once
JAM = 4  # rows a column reduction takes in one pass over its lanes

Body = Callable[[Scope], None]


def emit_schedule(schedule: Schedule, scope: Scope, begin: Index, end: Index, workspace: ir.Value | None) -> None:
    """Write the code that runs tasks [begin, end) of a schedule."""
    Emitter(schedule, scope.b, workspace).run(scope, begin, end)


def lanes_per_block(schedule: Schedule) -> int:
    """Lanes a local number has: 1 unless lanes go through together."""
    if schedule.kind != COLUMN:
        return 1
    extent = schedule.lane.extent
    return schedule.block or (extent if dim.is_static(extent) else COLUMN_LANES)


def workspace_locals(schedule: Schedule) -> dict[str, DimLike]:
    """Local buffers that need the worker's workspace, and their bytes."""
    found = {}
    for name, buffer in _locals(schedule).items():
        nbytes = buffer.type.nbytes * lanes_per_block(schedule)
        kept = schedule.slots(buffer) * schedule.stride(buffer) * buffer.type.dtype.size_bytes
        kept = kept if schedule.stages else nbytes
        if not dim.is_static(nbytes) or nbytes > STACK_BYTES or (schedule.stages and kept > ROWS_STACK_BYTES):
            found[name] = kept
    return found


def workspace_bytes(schedule: Schedule) -> DimLike:
    """Bytes of workspace one worker needs."""
    needed = workspace_locals(schedule)
    total: DimLike = 0
    for nbytes in needed.values():
        total = total + _whole_lines(nbytes)
    return total + 64 if needed else 0  # a line between workers


def _whole_lines(nbytes: DimLike) -> DimLike:
    return dim.floordiv(nbytes + 63, 64) * 64


def _locals(schedule: Schedule) -> dict[str, Buffer]:
    part = schedule.part
    used = {s.buffer for g in part.groups for s in g.body}
    used -= {r.name for r in schedule.in_results if not r.may_stream}
    return {n: b for n, b in part.buffers.items() if b.role == LOCAL and n in used}


class Emitter:
    """Writes one schedule; `width` is the number of lanes of a local number."""

    def __init__(self, schedule: Schedule, b: KernelBuilder, workspace: ir.Value | None):
        self.schedule, self.part, self.b, self.workspace = schedule, schedule.part, b, workspace
        self.width = lanes_per_block(schedule)
        self.lane = schedule.lane if schedule.kind == COLUMN else None
        self.hows = accumulations([s for g in self.part.groups for s in g.body])
        self.shifts = shifts(self.part) if schedule.kind == ROW else frozenset()
        whole = schedule.kind == MAP and schedule.block is None and schedule.overlap is None
        self.shares = in_order.shares(self.part, schedule.rows, schedule.lane, b.target) if whole else ()
        self.bounded = bounded(self.part) if schedule.kind == ROW else frozenset()
        bodies = [self.part.groups[numbers[0]].body for numbers in schedule.stages]
        # the same for a row that goes alone, or its bits would depend on which rows do
        self.most_in_flight = min((in_flight(self.part, body, b.target) for body in bodies), default=MOST_IN_FLIGHT)
        step = schedule.jam
        if schedule.stages:
            step = rows_asked_for(self.part, schedule.stages, schedule.gap, b.target)
        self.ahead = rows_ahead(self.part, step, b.target) if schedule.kind == ROW else {}
        self.apart: frozenset[str] = frozenset()  # numbers of the nest at hand that are folded with those of other rows

    def run(self, scope: Scope, begin: Index, end: Index) -> None:
        self.place_locals(scope)
        schedule = self.schedule
        if schedule.stages and schedule.jam > 1:
            staggered_blocks(self, scope, begin, end)
        elif schedule.stages:
            staggered_rows(self, scope, begin, end)
        elif schedule.overlap is not None:
            overlapping_windows(self, scope, begin, end)
        elif schedule.jam > 1:
            jammed_rows(self, scope, begin, end)
        elif schedule.lane is not None and schedule.block is not None:
            blocks = Axis("block", dim.floordiv(schedule.lane.extent + schedule.block - 1, schedule.block))
            self.points(scope, (*schedule.rows, blocks), begin, end, lambda s: self.block_of(s, blocks))
        else:
            self.points(scope, schedule.rows, begin, end, lambda s: self.body(s, 0, None))

    def place_locals(self, scope: Scope) -> None:
        offset: Index = 0
        elsewhere = workspace_locals(self.schedule)
        for name, buffer in _locals(self.schedule).items():
            if name in elsewhere:
                base = self.b.at_byte(self.workspace, offset)
                offset = self.b.add(offset, scope.value(_whole_lines(elsewhere[name])))
            else:
                many = self.width * self.schedule.slots(buffer)
                count = max(1, self.schedule.stride(buffer) * many)
                base = self.b.alloca(buffer.type.dtype, count, align_bytes=64)
            scope.memory[name] = self.local(base, buffer)

    def place_in_results(self, scope: Scope) -> None:
        """Say, at one row, where the local rows lie that have their place in a result."""
        for row in self.schedule.in_results:
            result = scope.memory[row.result]
            base = self.b.at(result.base, result.dtype, result.place(scope, row.start))
            if row.may_stream:
                base = self.b.ll.select(streaming.are_large(self.part, scope), scope.memory[row.name].base, base)
            scope.memory[row.name] = plain(base, result.dtype)

    def local(self, base: ir.Value, buffer: Buffer) -> Memory:
        if self.lane is None:
            return plain(base, buffer.type.dtype)

        def place(scope: Scope, offset: DimLike) -> Index:
            return self.b.add(self.b.mul(scope.value(offset), self.width), scope.lane)

        return Memory(base, buffer.type.dtype, place)

    # points of `outer` ........................................................................

    def points(self, scope: Scope, rows: tuple[Axis, ...], low: Index, high: Index, body: Body) -> None:
        """Run body at the points low <= flat index < high of rows, the last axis fastest.

        LLVM must not vectorise these loops: where a short inner loop is written out it would gather.
        Nor copy their bodies: that doubles the time to compile and gains nothing that can be measured.
        """
        b = self.b
        if not rows:
            with b.if_(b.compare("<", low, high)):
                body(scope.inner())
            return
        self._points(scope, rows, low, high, lambda s, _: body(s))

    def _points(self, scope: Scope, rows, low: Index, high: Index, body) -> None:
        b, axis = self.b, rows[-1]
        if len(rows) == 1:
            with b.loop(_name(axis), low, high, vectorise=False, unroll=False) as i:
                inner = scope.inner()
                inner.bind(axis, i)
                body(inner, i)
            return
        size = scope.value(axis.extent)
        divisor = b.max(size, 1)  # an empty axis: then there are no points either

        def along(outer: Scope, flat: Index) -> None:
            first = b.mul(flat, size)
            start, stop = b.max(b.sub(low, first), 0), b.min(b.sub(high, first), size)
            with b.loop(_name(axis), start, stop, vectorise=False, unroll=False) as i:
                inner = outer.inner()
                inner.bind(axis, i)
                body(inner, b.add(first, i))

        self._points(scope, rows[:-1], b.div_nonneg(low, divisor), b.ceildiv(high, divisor), along)

    # several rows at the same time ............................................................

    def row_of(self, outer: Scope, axis: Axis, row: Index, slot: Callable[[Buffer], Index]) -> Scope:
        """A place at one of several rows whose local buffers lie side by side."""
        inner = outer.inner()
        inner.bind(axis, row)
        for name, buffer in _locals(self.schedule).items():
            memory = outer.memory[name]
            base = self.b.at(memory.base, memory.dtype, self.b.mul(slot(buffer), self.schedule.stride(buffer)))
            inner.memory[name] = plain(base, memory.dtype)
        self.place_in_results(inner)
        return inner

    def stretches(self, scope: Scope, axes: tuple[Axis, ...], low: Index, high: Index, body) -> None:
        """Run body(scope, first, behind) for the stretches of the last axis that low <= flat index < high holds."""
        b, (*rest, axis) = self.b, axes
        if not rest:
            body(scope, low, high)
            return
        size = scope.value(axis.extent)
        divisor = b.max(size, 1)

        def along(outer: Scope, flat: Index) -> None:
            first = b.mul(flat, size)
            body(outer, b.max(b.sub(low, first), 0), b.min(b.sub(high, first), size))

        self._points(scope, tuple(rest), b.div_nonneg(low, divisor), b.ceildiv(high, divisor), along)

    def block_of(self, scope: Scope, blocks: Axis) -> None:
        block = self.schedule.block
        low = self.b.mul(scope.axes[blocks], block)
        self.body(scope, low, self.b.min(self.b.add(low, block), scope.value(self.schedule.lane.extent)))

    def body(self, scope: Scope, low: Index, high: Index | None) -> None:
        """One task: lanes [low, high) of the lane axis, if there is one."""
        lane = self.schedule.lane
        if lane is not None and high is None:
            high = scope.value(lane.extent)
        if self.schedule.kind == MAP:
            self.map_body(scope, low, high)
            return
        if self.lane is not None:
            self.low, self.count = low, self.lane_count(low, high)
        self.place_in_results(scope)
        self.start_locals(scope)
        for n, group in enumerate(self.part.groups):
            self.group(scope, group, self.ahead.get(n, ()))

    def as_scheduled(self, pattern: Pattern, ahead: tuple[Place, ...]) -> Pattern:
        """A nest's pattern with what the schedule says of it."""
        skewed = bool(self.schedule.stages) and self.b.target.vector_registers >= LEAST_REGISTERS
        return replace(
            pattern,
            ahead=ahead,
            shifts=self.shifts,
            bounded=self.bounded,
            apart=self.apart,
            most_in_flight=self.most_in_flight,
            skewed=skewed,
        )

    def start_locals(self, scope: Scope, names: Iterable[str] | None = None) -> None:
        """Write the start values of accumulations, all or those named."""
        for name in self.hows if names is None else [n for n in names if n in self.hows]:
            if self.part.buffers[name].role == LOCAL:
                self.fill(scope, scope.memory[name], self.part.buffers[name], self.hows[name])

    def map_body(self, scope: Scope, low: Index, high: Index | None) -> None:
        (group,) = self.part.groups
        lane = self.schedule.lane
        if lane is None:
            self.statements(scope, group.body)
            return
        in_order.ask(self.shares, self.part, scope)
        self.map_versions(scope, group, versions(group.body, lane), low, high)

    def map_versions(self, scope: Scope, group: Group, tree: Choice | tuple, low: Index, high: Index) -> None:
        """Branch to the lanes of the version that is right for this row."""
        if not isinstance(tree, Choice):
            self.map_lanes(scope, replace(group, body=tree), low, high)
            return
        with self.b.if_else(scope.compute(tree.condition)) as (then, otherwise):
            for branch, versions_left in ((then, tree.then), (otherwise, tree.otherwise)):
                with branch:
                    self.map_versions(scope.inner(), group, versions_left, low, high)

    def map_lanes(self, scope: Scope, group: Group, low: Index, high: Index) -> None:
        """The lanes of a row."""
        lane = self.schedule.lane
        # several steps at once of what already fills the registers would only spill
        fills = fills_registers(group.body, self.b.target)
        at = cuts(group.body, lane)
        # LLVM's vectorisers take seconds for what is a whole tile's transform, and do not see what goes beside
        beside = goes_beside(group.body, self.b.target) or ends_in_part(lane, low, high, self.b.target)
        if fills or (not at and beside):
            pattern = pattern_of(self.part, group.body, lane, self.b.target, independent=True)
            if pattern is not None:
                along_row(self.part, pattern, scope, low, high, group.body)
                return
        scope.prepare(dims_of(group.body))
        names = frozenset() if at or fills else streaming.streamed(self.part, group.body, lane, self.b.target)
        pattern = pattern_of(self.part, group.body, lane, self.b.target, independent=True) if names else None
        if pattern is None:
            self.map_loops(scope, group, at, low, high, fills)
            return
        with self.b.if_else(pays_from(self.part, names, group.body, scope, lane, low)) as (then, otherwise):
            with then:
                along_row(self.part, replace(pattern, streamed=names), scope.inner(), low, high, group.body)
            with otherwise:
                self.map_loops(scope.inner(), group, at, low, high, fills)

    def map_loops(self, scope: Scope, group: Group, at, low: Index, high: Index, fills: bool) -> None:
        """The loops over lanes of a MAP, cut where conditions change."""
        lane = self.schedule.lane
        for start, stop, decided in self.segments(scope, at, low, high):
            if isinstance(start, int) and isinstance(stop, int) and start >= stop:
                continue
            hints = self.unrolling(start, stop)
            if fills:
                hints = {**hints, "unroll": False, "interleave": 1}
            with self.b.loop(_name(lane), start, stop, independent=True, **hints) as i:
                inner = scope.inner()
                inner.decided = decided
                inner.bind(lane, i)
                self.statements(inner, group.body)

    def segments(self, scope: Scope, at, low: Index, high: Index):
        """Yield (start, stop, conditions known in between) for a range cut at ascending thresholds."""
        below = {c: value for _, conditions in at for c, value in conditions.items()}
        start = low
        for threshold, conditions in at:
            stop = self.b.max(start, self.b.min(high, scope.value(threshold)))
            yield start, stop, dict(below)
            below.update({c: not value for c, value in conditions.items()})
            start = stop
        yield start, high, below

    # statements ...............................................................................

    def statements(self, scope: Scope, body, reorder: bool = False) -> None:
        for together in assignments(body, self.part.buffers.values()):
            values = [scope.compute(s.value) for s in together]
            for s, value in zip(together, values):
                if isinstance(s, Store):
                    scope.store(s.buffer, s.index[0], value)
                else:
                    self.accumulate(scope, s, value, reorder)

    def accumulate(self, scope: Scope, s: Accumulate, value: ir.Value, reorder: bool) -> None:
        dtype = self.part.buffers[s.buffer].type.dtype
        so_far = scope.load(s.buffer, s.index[0])
        total = combine(self.b, s.how, dtype, so_far, value, reorder=reorder)
        scope.store(s.buffer, s.index[0], total)

    def over_lanes(self, scope: Scope, body: Body) -> None:
        """Run body for every lane of the block; once if there are no lanes."""
        if self.lane is None:
            body(scope)
            return
        hints = self.unrolling(0, self.count)
        with self.b.loop(_name(self.lane), 0, self.count, independent=True, **hints) as i:
            body(self.in_lane(scope, i))

    def in_lane(self, scope: Scope, i: Index) -> Scope:
        """A place inside the loop over a block's lanes."""
        inner = scope.inner()
        inner.bind(self.lane, self.b.add(self.low, i))
        inner.lane = i
        return inner

    def lane_count(self, low: Index, high: Index) -> Index:
        """Lanes in this block: a known number if all blocks are full."""
        block, extent = self.schedule.block, self.schedule.lane.extent
        if block is not None and dim.is_static(extent) and extent % block == 0:
            return block
        return self.b.sub(high, low)

    def unrolling(self, low: Index, high: Index) -> dict:
        """Hints for a loop to vectorise: one of known length must not be written out before that.

        Otherwise LLVM unrolls it first and then vectorises the loop around it, across memory. A long one it
        interleaves when it vectorises; copies of that are code and no speed.
        """
        if not isinstance(low, int) or not isinstance(high, int):
            return {"unroll": False}
        vectors = (high - low) // self.b.target.lanes(4)
        return {"unroll": False, "interleave": min(4, vectors)} if vectors else {}

    # groups ...................................................................................

    def group(self, scope: Scope, group: Group, ahead: tuple[Place, ...] = ()) -> None:
        if not group.spans:
            if self.lane is not None:
                scope.prepare(dims_of(group.body))
            self.over_lanes(scope, lambda s: self.statements(s, group.body))
            return
        in_order = is_scan(group.body)
        sums = (
            {}
            if in_order
            else {
                s.buffer: s.how
                for s in group.body
                if isinstance(s, Accumulate) and s.how == "sum" and s.index[0] == 0 and self._is_float_number(s.buffer)
            }
        )
        self.spans(scope.inner(), group.spans, group.body, sums, in_order, ahead)

    def _is_float_number(self, name: str) -> bool:
        buffer = self.part.buffers[name]
        return buffer.role == LOCAL and buffer.type.size == 1 and buffer.type.dtype.is_float

    def spans(
        self, scope: Scope, spans: tuple[Span, ...], body, sums: dict[str, str], in_order: bool, ahead=()
    ) -> None:
        """Loops over spans; sums of long loops are made block by block."""
        scope.prepare(dims_of(body))
        b, span = self.b, spans[0]
        low, high = scope.value(span.low), scope.value(span.highs[0])
        for other in span.highs[1:]:
            high = b.min(high, scope.value(other))
        last = len(spans) == 1
        block = (COLUMN_BLOCK if self.lane is not None else ROW_BLOCK) if last else OUTER_BLOCK

        def run(inner: Scope, start: Index, stop: Index) -> None:
            if last:
                self.innermost(inner, span.axis, start, stop, body, in_order, ahead)
            else:
                with b.loop(_name(span.axis), start, stop) as i:
                    deeper = inner.inner()
                    deeper.bind(span.axis, i)
                    self.spans(deeper, spans[1:], body, sums, in_order, ahead)

        if not sums or (span.most is not None and span.most <= 2 * block):
            run(scope, low, high)
            return
        with b.loop(f"{_name(span.axis)}.block", low, high, block) as start:
            inner = scope.inner()
            for name, how in sums.items():
                buffer = self.part.buffers[name]
                inner.memory[name] = self.local(b.alloca(buffer.type.dtype, self.width, align_bytes=64), buffer)
                self.fill(inner, inner.memory[name], buffer, how)
            run(inner, start, b.min(b.add(start, block), high))

            def add_up(lanes: Scope) -> None:
                for name, how in sums.items():
                    dtype = self.part.buffers[name].type.dtype
                    parts = lanes.load(name, 0)
                    memory = scope.memory[name]
                    place = memory.place(lanes, 0)
                    total = combine(b, how, dtype, b.load(memory.base, dtype, place), parts, reorder=False)
                    b.store(total, memory.base, dtype, place)

            self.over_lanes(inner, add_up)

    def innermost(self, scope: Scope, axis: Axis, low: Index, high: Index, body, in_order: bool, ahead=()) -> None:
        b = self.b
        along = axis if self.lane is None else self.lane
        pattern = None if in_order else pattern_of(self.part, body, along, b.target, blocked=self.lane is not None)
        if pattern is not None and self.lane is None:
            along_row(self.part, self.as_scheduled(pattern, ahead), scope, low, high, body)
            return
        if pattern is not None and fits_registers(self.part, pattern, body, self.count, b.target):
            down_columns(self.part, pattern, scope, (axis, low, high), (self.low, self.count), body)
            return
        if self.lane is None:
            with b.loop(_name(axis), low, high, independent=stores_only(body), **self.unrolling(low, high)) as i:
                inner = scope.inner()
                inner.bind(axis, i)
                self.statements(inner, body, reorder=not in_order)
            return
        jam = 1 if in_order else JAM
        part = b.div_nonneg(b.sub(high, low), jam)
        full = b.add(low, b.mul(part, jam)) if jam > 1 else low
        if jam > 1:  # each from a part of its own: memory sends what comes from several places sooner
            with b.loop(_name(axis), low, b.add(low, part), vectorise=False) as i:
                self.jammed(scope, axis, [b.add(i, b.mul(part, n)) for n in range(jam)], body)
        with b.loop(_name(axis), full, high, vectorise=False) as i:
            self.jammed(scope, axis, [i], body)

    def jammed(self, scope: Scope, axis: Axis, places: list[Index], body) -> None:
        """Several points of a nest in one pass over the lanes: accumulators are touched once."""
        dims = dims_of(body)
        frames = []
        for place in places:
            frame = scope.inner()
            frame.bind(axis, place)
            frame.prepare(dims)
            frames.append(frame)

        hints = self.unrolling(0, self.count)
        with self.b.loop(_name(self.lane), 0, self.count, independent=True, **hints) as i:
            terms: dict[int, list[ir.Value]] = {}
            deepest: list[Scope] = []
            for frame in frames:
                inner = self.in_lane(frame, i)
                deepest.append(inner)
                for n, s in enumerate(body):
                    value = inner.compute(s.value)
                    if isinstance(s, Store):
                        inner.store(s.buffer, s.index[0], value)
                    elif s.index[0] == 0:
                        terms.setdefault(n, []).append(value)
                    else:
                        self.accumulate(inner, s, value, False)
            for n, values in terms.items():
                s = body[n]
                dtype = self.part.buffers[s.buffer].type.dtype
                self.accumulate(deepest[0], s, self.tree(s.how, dtype, values), False)

    def tree(self, how: str, dtype, values: list[ir.Value]) -> ir.Value:
        while len(values) > 1:
            pairs = [combine(self.b, how, dtype, a, c, reorder=False) for a, c in zip(values[::2], values[1::2])]
            values = pairs + ([values[-1]] if len(values) % 2 else [])
        return values[0]

    def fill(self, scope: Scope, memory: Memory, buffer: Buffer, how: str) -> None:
        """Write an accumulation's start value to every element of a local buffer (of this block's lanes)."""
        b = self.b
        value = start_value(b, how, buffer.type.dtype)
        if buffer.type.size == 1:
            self.over_lanes(scope, lambda s: b.store(value, memory.base, memory.dtype, memory.place(s, 0)))
            return
        count = b.mul(scope.value(buffer.type.size), self.width)
        with b.loop("fill", 0, count, independent=True) as i:
            b.store(value, memory.base, memory.dtype, i)


def fill_outputs(schedule: Schedule, scope: Scope, low: Index | None = None, high: Index | None = None) -> None:
    """Write the start values of sums into output elements [low, high) (all) that no store initialises."""
    b, part = scope.b, schedule.part
    first: dict[str, Store | Accumulate] = {}
    for g in part.groups:
        for s in g.body:
            first.setdefault(s.buffer, s)
    for name, s in first.items():
        buffer = part.buffers[name]
        if isinstance(s, Accumulate) and buffer.role == OUT:
            value = start_value(b, s.how, buffer.type.dtype)
            stop = scope.value(buffer.type.size) if high is None else high
            with b.loop("fill", 0 if low is None else low, stop, independent=True) as i:
                b.store(value, scope.memory[name].base, buffer.type.dtype, i)


def _name(axis: Axis) -> str:
    return "".join(c if c.isalnum() else "_" for c in axis.name)
