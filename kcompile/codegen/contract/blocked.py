"""The tiled path: loops of tasks, blocks of k and row tiles around the register tile.

    for task in [begin, end):            group of column blocks, chunk of row tiles; neighbours share rhs
        for block of k:                  so that the group's part of rhs stays in cache
            for row tile in chunk:
                for column block in group:     the other way round if panels are kept
                    tile(...)            micro.py
        finish(...)                      epilogue.py, unless the tile did it in registers

Where nothing is kept per chunk (`Plan.is_divisible`), the pool divides tiles, and each thread's row tiles are cut into
chunks of about equal size. A tile's numbers do not depend on the chunk it is in.

Phases: `pack` (if rhs is not read in place; next to nothing if panels are made late), `main`, and `sum` if k is shared
among tasks: then the tasks of `main` leave partial tiles in the shared workspace, and `sum` adds them in order and
finishes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

from llvmlite import ir

from kcompile.codegen.contract import beside, columns, late, pack, packpairs, turn
from kcompile.codegen.contract.affine import Memory, ceildiv
from kcompile.codegen.contract.finish import finish_function, transposed_finish_function
from kcompile.codegen.contract.frame import ROLLED, SHARED_SPACE, WORKER_SPACE, Frame, Signature
from kcompile.codegen.contract.micro import tile_axes, tile_function
from kcompile.codegen.contract.plan import DIRECT, SCRATCH, TRANSPOSED, Plan
from kcompile.codegen.contract.unflatten import unflatten
from kcompile.codegen.kernel import Phase
from kcompile.codegen.llvm_types import I64, Index, memory_type
from kcompile.codegen.module import Param, pointer
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.types import DType


@dataclass(frozen=True)
class Variants:
    """The internal functions of one kernel: tiles by (steps, is_tail), finishers by is_tail, what is made late."""

    tiles: dict[tuple[int, bool], ir.Function]
    finish: dict[bool, ir.Function]
    late: late.Late | None = None


def scratch_bytes(plan: Plan) -> int:
    """Bytes of scratch per worker: the tiles of one task."""
    if not plan.is_parked:
        return 0
    return -(-plan.task_elements * plan.problem.dtype.size_bytes // 64) * 64


def emit_phases(
    module, target, sig: Signature, plan: Plan, name: str, partials: DimLike, sums: DimLike, marks: DimLike
) -> tuple[Phase, ...]:
    """Write all functions of the kernel; return its phases.

    partials, sums, marks: where partial tiles, the partial sums of columns and the marks of panels start in the shared
    workspace, in elements.
    """
    phases = [*turn.emit_phases(module, target, sig, plan, name), *beside.emit_phases(module, target, sig, plan, name)]
    variants = _variants(module, target, sig, plan, name)
    fill = packpairs.fill if plan.problem.pair else pack.fill
    if plan.packs_late:
        phases.append(late.emit_phase(module, target, sig, plan, name, marks))
        variants = replace(variants, late=late.functions(module, target, sig, plan, name, marks, fill))
    elif plan.packed:
        phases.append(pack.emit_phase(module, target, sig, plan, name, fill))
    task = _task_function(module, target, sig, plan, f"{name}.task", variants, sums)
    _emit_main(module, target, sig, plan, name, task, partials)
    phases.append(Phase(name, plan.tasks, plan.cost_per_task))
    if plan.blocks_per_share:
        finish = _finish_task_function(module, target, sig, plan, f"{name}.finish.task", variants, sums)
        _emit_sum(module, target, sig, plan, f"{name}_sum", finish, partials)
        phases.append(Phase(f"{name}_sum", plan.tiles_tasks, plan.shares * plan.task_elements))
    return (*phases, *columns.emit_phase(module, target, sig, plan, name, sums))


def _variants(module, target, sig: Signature, plan: Plan, name: str) -> Variants:
    wide = plan.columns
    tiles, finish = {}, {}
    for is_tail, vectors in ((False, wide.vectors), (True, wide.tail_vectors)):
        if not vectors or (not is_tail and _only_tail(plan)):
            continue
        masked = is_tail and wide.tail_lanes != 0
        tag = f"{vectors}v" + ("m" if masked else "")
        for steps in plan.rows.sizes:
            label = f"{name}.tile{steps * plan.rows.inner_rows}x{tag}"
            tiles[steps, is_tail] = tile_function(module, target, sig, plan, label, steps, vectors, masked)
        if plan.finish == SCRATCH:
            finish[is_tail] = finish_function(module, target, sig, plan, f"{name}.finish{tag}", vectors, masked)
    if plan.finish == TRANSPOSED:
        finish[False] = transposed_finish_function(module, target, sig, plan, f"{name}.finish")
    return Variants(tiles, finish)


def _only_tail(plan: Plan) -> bool:
    """True if the vector axis is known to be shorter than one block."""
    return dim.is_static(plan.vector.extent) and plan.vector.extent < plan.block_lanes


def _emit_main(module, target, sig: Signature, plan: Plan, name: str, task_fn, partials: DimLike) -> None:
    frame = Frame.exported(module, target, name, sig)
    b, dtype = frame.b, plan.problem.dtype
    if plan.is_divisible:
        _grouped_units(frame, plan, task_fn)
        b.ret()
        return
    with b.loop("task", b["begin"], b["end"], **ROLLED) as task:
        if plan.blocks_per_share:
            tiles = frame.index(plan.tiles_tasks)
            share, place = b.div_nonneg(task, tiles), b.mod_nonneg(task, tiles)
            start = b.add(frame.index(partials), b.mul(task, plan.task_elements))
            scratch = b.at(frame.pointers[SHARED_SPACE], dtype, start)
        else:
            share, place = 0, task
            scratch = _worker_scratch(frame, plan)
        chunks = frame.index(plan.chunks)
        first = b.mul(b.mod_nonneg(place, chunks), plan.units_per_task)
        end = b.min(b.add(first, plan.units_per_task), frame.index(plan.units))
        _call_task(frame, task_fn, scratch, share, place, b.div_nonneg(place, chunks), first, end)
    b.ret()


def _grouped_units(frame: Frame, plan: Plan, task_fn) -> None:
    """Run tiles [begin, end) in the order of groups of column blocks, at most `units_per_task` row tiles at a time."""
    b = frame.b
    units = b.max(frame.index(plan.units), 1)  # a named size may be 0
    begin, end = (_row_tile(frame, plan, units, b[name]) for name in ("begin", "end"))
    scratch = _worker_scratch(frame, plan)
    with b.loop("group", b.div_nonneg(begin, units), b.ceildiv(end, units), **ROLLED) as group:
        start = b.mul(group, units)
        low, high = b.max(b.sub(begin, start), 0), b.min(b.sub(end, start), units)
        count = b.sub(high, low)
        chunks = b.ceildiv(count, plan.units_per_task)
        with b.loop("chunk", 0, chunks, **ROLLED) as number:
            chunk = late.order(b, number, chunks) if plan.copies_late else number
            first = b.add(low, b.div_nonneg(b.mul(count, chunk), chunks))
            after = b.add(low, b.div_nonneg(b.mul(count, b.add(chunk, 1)), chunks))
            _call_task(frame, task_fn, scratch, 0, 0, group, first, after)


def _row_tile(frame: Frame, plan: Plan, units: Index, tile: Index) -> Index:
    """Which row tile of all groups tile number `tile` is in: the last group has fewer column blocks, so less work.

    A row tile of a group is never divided; it belongs to whoever has its last tile.
    """
    b, wide = frame.b, plan.blocks_per_task
    if wide == 1:
        return tile
    blocks = frame.index(plan.blocks)
    place, rest = _divided(b, tile, b.max(b.mul(units, blocks), 1))
    group, rest = _divided(b, rest, b.mul(units, wide))
    unit = b.div_nonneg(rest, b.max(b.min(wide, b.sub(blocks, b.mul(group, wide))), 1))
    return b.add(b.mul(b.add(b.mul(place, frame.index(plan.groups)), group), units), unit)


def _divided(b, number: Index, by: Index) -> tuple[Index, Index]:
    return b.div_nonneg(number, by), b.mod_nonneg(number, by)


def _call_task(frame: Frame, task_fn, scratch, *numbers: Index) -> None:
    b = frame.b
    b.call(task_fn, [*frame.leading(), scratch, *(b.index(n) for n in numbers)])


def _worker_scratch(frame: Frame, plan: Plan) -> ir.Value:
    b = frame.b
    if not plan.is_parked:
        return ir.Constant(ir.PointerType(), None)
    return b.at_byte(frame.pointers[WORKER_SPACE], b.mul(b["worker"], scratch_bytes(plan)))


def _emit_sum(module, target, sig: Signature, plan: Plan, name: str, finish_fn, partials: DimLike) -> None:
    """Add the partial tiles of each task in the order of k, then evaluate the stores."""
    frame = Frame.exported(module, target, name, sig)
    b, dtype, lanes = frame.b, plan.problem.dtype, plan.lanes
    shares, tiles = frame.index(plan.shares), frame.index(plan.tiles_tasks)
    scratch = _worker_scratch(frame, plan)
    base = b.at(frame.pointers[SHARED_SPACE], dtype, frame.index(partials))
    add = b.fadd if dtype.is_float else b.ll.or_ if dtype.category == "bool" else b.ll.add
    chunks = frame.index(plan.chunks)
    with b.loop("task", b["begin"], b["end"], **ROLLED) as task:
        with b.loop("element", 0, plan.task_elements, lanes, **ROLLED) as element:
            with b.carried_loop("share", 0, shares, [b.zero(dtype, lanes)]) as loop:
                start = b.mul(b.add(b.mul(loop.index, tiles), task), plan.task_elements)
                loop.next(add(loop.carried[0], b.load_vector(base, dtype, b.add(start, element), lanes)))
            b.store_vector(loop.results[0], scratch, dtype, element)
        first = b.mul(b.mod_nonneg(task, chunks), plan.units_per_task)
        end = b.min(b.add(first, plan.units_per_task), frame.index(plan.units))
        _call_task(frame, finish_fn, scratch, 0, task, b.div_nonneg(task, chunks), first, end)
    b.ret()


def _task_function(
    module, target, sig: Signature, plan: Plan, name: str, variants: Variants, sums: DimLike
) -> ir.Function:
    """The function that runs the tiles of one task; finishes them too, unless k is shared."""
    task = _Task(_task_frame(module, target, sig, plan, name), plan, variants)
    task.locate()
    task.keep_sums(sums)
    task.make_panels()
    task.blocks_of_k()
    if not plan.blocks_per_share:
        task.finish_units()
    task.b.ret()
    return task.b.fn


def _finish_task_function(
    module, target, sig: Signature, plan: Plan, name: str, variants: Variants, sums: DimLike
) -> ir.Function:
    task = _Task(_task_frame(module, target, sig, plan, name), plan, variants)
    task.locate()
    task.keep_sums(sums)
    task.finish_units()
    task.b.ret()
    return task.b.fn


def _task_frame(module, target, sig: Signature, plan: Plan, name: str) -> Frame:
    align = plan.vector_bytes
    numbers = ("share", "task", "column_group", "first_unit", "end_unit")
    more = [pointer("scratch", align_bytes=align), *(Param(n, I64) for n in numbers)]
    return Frame.internal(module, target, name, sig, more)


class _Task:
    """Writes the body of one task."""

    def __init__(self, frame: Frame, plan: Plan, variants: Variants):
        self.frame, self.plan, self.variants = frame, plan, variants
        self.b = frame.b
        self.begun: list[ir.Value] = []  # for `Plan.windows_begun`
        self.asked: list[ir.Value] = []  # where lhs of the next row tile is, if that depends on what has been copied

    def locate(self) -> None:
        """Where the task lies in the result."""
        b, plan, frame = self.b, self.plan, self.frame
        groups, rest = frame.index(plan.groups), b["column_group"]
        self.first_block = b.mul(b.mod_nonneg(rest, groups), plan.blocks_per_task)
        frame.places.update(unflatten(frame, plan.outer, b.div_nonneg(rest, groups)))
        self.first_unit, self.end_unit = b["first_unit"], b["end_unit"]
        self.enter_block(self.first_block)
        self.rhs = self.start_of(plan.b, [*plan.outer], b.mul(self.first_block, frame.index(plan.block_stride)))
        self.lhs = self.start_of(plan.a, [*plan.outer, plan.vector])

    def keep_sums(self, start: DimLike) -> None:
        """Begin the sums of columns."""
        self.sums = columns.begin_task(self.frame, self.plan, start, self.b["task"])

    def sums_of(self, number: Index) -> list[ir.Value]:
        """The part of the sums that belongs to one of the task's column blocks."""
        return columns.of_block(self.frame, self.plan, self.sums, number)

    def make_panels(self) -> None:
        """Make the panels of this task's column blocks, unless another task has."""
        if self.variants.late:
            with self.column_blocks() as number:
                self.variants.late.make_panel(self.frame, self.b.add(self.first_block, number))

    def enter_block(self, block: Index) -> None:
        """Go on with a column block: where it starts, and how many columns are left from there."""
        b, plan = self.b, self.plan
        self.frame.places[plan.vector] = b.mul(block, plan.block_lanes)
        self.valid = b.sub(self.frame.index(plan.vector.extent), self.frame.places[plan.vector])

    @contextlib.contextmanager
    def column_blocks(self):
        """Loop over the column blocks of this task, entering each; yields its number within the task."""
        b, plan = self.b, self.plan
        if plan.blocks_per_task == 1:
            yield 0
            return
        count = b.min(b.sub(self.frame.index(plan.blocks), self.first_block), plan.blocks_per_task)
        with b.loop("block", 0, count, **ROLLED) as number:
            self.enter_block(b.add(self.first_block, number))
            yield number
        self.enter_block(self.first_block)  # values made in the loop are unknown after it

    def start_of(self, memory: Memory, axes: list[Axis], more: Index = 0) -> ir.Value:
        """Address of an operand at this task's outer axes."""
        b = self.b
        total = b.add(self.frame.index(memory.at.offset), more)
        for axis in axes:
            total = b.add(total, b.mul(self.frame.places[axis], self.frame.index(memory.stride(axis))))
        return b.at(self.frame.pointers[memory.buffer], memory.dtype, total)

    def blocks_of_k(self) -> None:
        """Run the row tiles once per block of k."""
        b, plan, frame = self.b, self.plan, self.frame
        if not plan.blocked:
            self.row_tiles(self.lhs, self.rhs, 0, True, True, (0, 0), {})
            return
        around, cut = plan.k[: plan.cut], plan.k[plan.cut]
        size = frame.index(cut.extent)
        parts = b.max(frame.index(ceildiv(cut.extent, plan.k_steps)), 1)  # an empty sum has one empty block
        outer_count = frame.index(dim.product(a.extent for a in around))
        count = b.mul(b.max(outer_count, 1), parts)
        begin_block, end_block = 0, count
        if plan.blocks_per_share:
            shares = frame.index(plan.shares)  # at most as many as blocks: none is empty
            begin_block = b.div_nonneg(b.mul(count, b["share"]), shares)
            end_block = b.div_nonneg(b.mul(count, b.add(b["share"], 1)), shares)
        with b.loop("kblock", begin_block, end_block, **ROLLED) as number:
            places = unflatten(frame, around, b.div_nonneg(number, parts))
            begin = b.mul(b.mod_nonneg(number, parts), frame.index(plan.k_steps))
            steps = b.min(frame.index(plan.k_steps), b.sub(size, begin))
            if plan.ends_in_half:
                elements = frame.index(plan.problem.pair.elements)
                steps = b.min(b.mul(frame.index(plan.k_steps), 2), b.sub(elements, b.mul(begin, 2)))
            steps = b.select(b.compare(">", outer_count, 0), steps, 0)
            places[cut] = begin
            lhs, rhs = (self.moved(p, m, places) for p, m in ((self.lhs, plan.a), (self.rhs, plan.b)))
            first = b.compare("==", number, begin_block)
            last = b.compare("==", number, b.sub(count, 1))
            self.row_tiles(lhs, rhs, steps, first, last, (number, begin), places)

    def moved(self, base: ir.Value, memory: Memory, places: dict[Axis, Index]) -> ir.Value:
        b = self.b
        total: Index = 0
        for axis, place in places.items():
            total = b.add(total, b.mul(place, self.frame.index(memory.stride(axis))))
        return self.beyond(base, memory.dtype, total)

    def beyond(self, base: ir.Value, dtype: DType, elements: Index) -> ir.Value:
        if isinstance(elements, int) and elements == 0:
            return base
        return self.b.ll.gep(base, [self.b.index(elements)], source_etype=memory_type(dtype))

    def units(self):
        """Loop over the row tiles of this task; yields (unit, its axes' places, steps it has)."""
        return self.b.loop("unit", self.first_unit, self.end_unit, **ROLLED)

    def unit_places(self, unit: Index) -> tuple[dict[Axis, Index], Index]:
        b, plan, frame = self.b, self.plan, self.frame
        along = frame.index(plan.units_along)
        places = unflatten(frame, plan.rows.outside, b.div_nonneg(unit, along))
        start = b.mul(b.mod_nonneg(unit, along), plan.rows.sizes[0])
        places[plan.rows.along] = start
        left = b.min(b.sub(frame.index(plan.rows.along.extent), start), plan.rows.sizes[0])
        return places, left

    def row_tiles(
        self, lhs, rhs, steps: Index, first, last, block: tuple[Index, Index], begun: dict[Axis, Index]
    ) -> None:
        b, plan = self.b, self.plan
        self.begun = [b.index(begun[axis]) for axis in plan.windows_begun]
        with contextlib.ExitStack() as loops:
            # a kept panel may come from far: all row tiles meet it before the next one
            number = loops.enter_context(self.column_blocks()) if plan.keeps else None
            unit = loops.enter_context(self.units())
            places, left = self.unit_places(unit)
            corner = self.moved(lhs, plan.a, places)
            if self.variants.late:
                self.asked = self.variants.late.copy_rows(self.frame, unit, *block, steps)
            with contextlib.nullcontext(number) if plan.keeps else self.column_blocks() as number:
                here = self.beyond(rhs, plan.b.dtype, b.mul(number, self.frame.index(plan.block_stride)))
                context = (corner, here, self.slot(unit, number), self.sums_of(number), places, steps, first, last)
                self.by_columns(lambda is_tail: self.cover_steps(context, left, is_tail))

    def slot(self, unit: Index, number: Index) -> ir.Value:
        """A tile's part of the scratch: the tiles of one column block lie together."""
        b, plan = self.b, self.plan
        if not plan.is_parked:
            return b["scratch"]
        place = b.add(b.mul(number, plan.units_per_task), b.sub(unit, self.first_unit))
        return b.at(b["scratch"], plan.problem.dtype, b.mul(place, plan.unit_elements))

    def by_columns(self, emit) -> None:
        """Choose between full column blocks and the tail."""
        b, plan = self.b, self.plan
        if not plan.columns.tail_vectors:
            emit(False)
        elif _only_tail(plan):
            emit(True)
        else:
            with b.if_else(b.compare(">=", self.valid, plan.block_lanes)) as (then, otherwise):
                with then:
                    emit(False)
                with otherwise:
                    emit(True)

    def cover_steps(self, context, left: Index, is_tail: bool) -> None:
        """Call the largest tile, or the smaller ones that together cover what is left of the rows."""
        b, sizes = self.b, self.plan.rows.sizes
        if len(sizes) == 1:
            self.call_tile(context, sizes[0], 0, is_tail)
            return
        with b.if_else(b.compare("==", left, sizes[0]), likely=True) as (then, otherwise):
            with then:
                self.call_tile(context, sizes[0], 0, is_tail)
            with otherwise:
                if len(sizes) == 2 and dim.is_static(self.plan.rows.along.extent):
                    self.call_tile(context, sizes[1], 0, is_tail)
                else:
                    self.cover_rest(context, left, is_tail)

    def cover_rest(self, context, left: Index, is_tail: bool) -> None:
        """Smaller tiles, the larger of them first, each as often as it fits."""
        b = self.b
        done: Index = 0
        for size in self.plan.rows.sizes[1:]:
            count = b.div_nonneg(b.sub(left, done), size)
            with b.loop("rest", 0, count, **ROLLED) as number:
                self.call_tile(context, size, b.add(done, b.mul(number, size)), is_tail)
            done = b.add(done, b.mul(count, size))

    def call_tile(self, context, size: int, skip: Index, is_tail: bool) -> None:
        b, plan = self.b, self.plan
        corner, rhs, slot, sums, places, steps, first, last = context
        if not (isinstance(skip, int) and skip == 0):
            places = {**places, plan.rows.along: b.add(places[plan.rows.along], skip)}
            corner = self.moved(corner, plan.a, {plan.rows.along: skip})
            slot = b.at(slot, plan.problem.dtype, b.mul(skip, plan.rows.inner_rows * plan.block_lanes))
        all_places = {**self.frame.places, **places}
        arguments = [
            *self.frame.leading(),
            corner,
            rhs,
            slot,
            *self.asked,
            *sums,
            *(b.index(all_places[axis]) for axis in tile_axes(plan)),
            b.index(steps),
            b.condition(first),
            b.condition(last),
            b.index(self.valid),
            *self.begun,
        ]
        b.call(self.variants.tiles[size, is_tail], arguments)

    def finish_units(self) -> None:
        """Evaluate the stores on the tiles in the scratch."""
        plan = self.plan
        if plan.finish == DIRECT:
            return
        with self.column_blocks() as number:
            if plan.finish == TRANSPOSED:
                self.finish_transposed(number)
            else:
                self.finish_rows(number)

    def finish_transposed(self, number: Index) -> None:
        b, plan = self.b, self.plan
        places = {**self.frame.places, plan.rows.along: b.mul(self.first_unit, plan.rows.sizes[0])}
        end = b.min(b.mul(self.end_unit, plan.rows.sizes[0]), self.frame.index(plan.rows.along.extent))
        count = b.sub(end, places[plan.rows.along])
        where = [*(b.index(places[axis]) for axis in tile_axes(plan)), b.index(count), b.index(self.valid)]
        b.call(
            self.variants.finish[False],
            [*self.frame.leading(), self.slot(self.first_unit, number), *self.sums_of(number), *where],
        )

    def finish_rows(self, number: Index) -> None:
        b, plan = self.b, self.plan
        with self.units() as unit:
            places, left = self.unit_places(unit)
            all_places = {**self.frame.places, **places}

            def call(is_tail: bool) -> None:
                arguments = [
                    *self.frame.leading(),
                    self.slot(unit, number),
                    *self.sums_of(number),
                    *(b.index(all_places[axis]) for axis in tile_axes(plan)),
                    b.index(left),
                    b.index(self.valid),
                ]
                b.call(self.variants.finish[is_tail], arguments)

            self.by_columns(call)
