"""One task of the tiled path: blocks of k, row tiles and column blocks; which tile function each of them calls.

Most tiles only multiply. The first one of a task may make the panel it reads, and one that runs before rows that have
not been copied may copy them (late.py, lines.py); both are the largest tile over full column blocks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from kcompile.codegen.contract import columns, late
from kcompile.codegen.contract.affine import Memory, ceildiv
from kcompile.codegen.contract.frame import ROLLED, Frame, Signature
from kcompile.codegen.contract.micro import tile_axes
from kcompile.codegen.contract.plan import DIRECT, TRANSPOSED, Plan
from kcompile.codegen.contract.unflatten import unflatten
from kcompile.codegen.llvm_types import I64, Index, memory_type
from kcompile.codegen.module import Param, pointer
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.types import DType


@dataclass(frozen=True)
class Variants:
    """The internal functions of one kernel: tiles by (steps, is_tail), finishers by is_tail, what is made late.

    maker: the largest tile over full column blocks, making the panel it reads; None if tiles do not.
    copier: the same tile, copying the next one's rows; None likewise.
    """

    tiles: dict[tuple[int, bool], ir.Function]
    finish: dict[bool, ir.Function]
    late: late.Late | None = None
    maker: ir.Function | None = None
    copier: ir.Function | None = None


def only_tail(plan: Plan) -> bool:
    """True if the vector axis is known to be shorter than one block."""
    return dim.is_static(plan.vector.extent) and plan.vector.extent < plan.block_lanes


def task_function(
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


def finish_task_function(
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
        self.following: late.Following | None = None  # lhs of the next row tile, if rows are copied

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
        """Make the panels of this task's column blocks, unless another task has, or its first tile will."""
        b, variants = self.b, self.variants
        if not variants.late:
            return
        with self.column_blocks() as number:
            block = b.add(self.first_block, number)
            if variants.maker is None:
                variants.late.make_panel(self.frame, block)
            else:
                _, left = self.unit_places(self.first_unit)
                is_small = b.compare("<", left, self.plan.rows.sizes[0])
                is_tail = b.compare("<", self.valid, self.plan.block_lanes)
                with b.if_(b.ll.or_(b.condition(is_small), b.condition(is_tail))):
                    variants.late.make_panel(self.frame, block)

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
        self, lhs, rhs, steps: Index, first, last, block: tuple[Index, Index], k_places: dict[Axis, Index]
    ) -> None:
        """Run the row tiles over one block of k: `block` is its number and first step, `k_places` where it begins."""
        b, plan = self.b, self.plan
        self.begun = [b.index(k_places[axis]) for axis in plan.windows_begun]
        with contextlib.ExitStack() as loops:
            # a kept panel may come from far: all row tiles meet it before the next one
            number = loops.enter_context(self.column_blocks()) if plan.keeps else None
            unit = loops.enter_context(self.units())
            places, left = self.unit_places(unit)
            corner = self.moved(lhs, plan.a, places)
            if self.variants.late:
                self.following = self.variants.late.copy_rows(self.frame, unit, *block, steps)
            with contextlib.nullcontext(number) if plan.keeps else self.column_blocks() as number:
                here = self.beyond(rhs, plan.b.dtype, b.mul(number, self.frame.index(plan.block_stride)))
                context = (corner, here, self.slot(unit, number), self.sums_of(number), places, steps, first, last)
                self.here = (unit, number, block[0], k_places)
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
        elif only_tail(plan):
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
            self.whole_tile(context, is_tail)
            return
        with b.if_else(b.compare("==", left, sizes[0]), likely=True) as (then, otherwise):
            with then:
                self.whole_tile(context, is_tail)
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

    def whole_tile(self, context, is_tail: bool) -> None:
        """Call the largest tile, or the one of its kind that makes what is missing."""
        tile = self.variants.tiles[self.plan.rows.sizes[0], is_tail]
        if is_tail:
            self.call(tile, context)
        elif self.variants.maker:
            self.making_or(context, lambda: self.copying_or(context, tile))
        else:
            self.copying_or(context, tile)

    def making_or(self, context, otherwise: Callable[[], None]) -> None:
        """The first tile of this task makes its panel if that is missing."""
        b, plan, rhs = self.b, self.plan, self.plan.problem.rhs.memory
        unit, number, k_block, k_places = self.here
        mark = late.panel_mark(self.frame, plan, self.variants.late.marks, b.add(self.first_block, number), k_block)
        is_first = b.compare("==", unit, self.first_unit)
        missing = b.ll.and_(b.condition(is_first), late.is_missing(b, mark))
        with b.if_else(missing, likely=False) as (made, there):
            with made:
                source = self.moved(self.start_of(rhs, [*plan.outer, plan.vector]), rhs, k_places)
                self.call(self.variants.maker, context, source=[source])
                b.store_mark(mark)
            with there:
                otherwise()

    def copying_or(self, context, tile: ir.Function) -> None:
        """The first tile over some rows copies those that come next, if they are missing."""
        b, copier, following = self.b, self.variants.copier, self.following
        if copier is None:
            self.call(tile, context)
            return
        missing = b.ll.and_(b.condition(b.compare("==", self.here[1], 0)), following.missing)
        with b.if_else(missing, likely=False) as (copied, there):
            with copied:
                self.call(copier, context, copy=[following.copy, following.count])
                b.store_mark(following.mark)
            with there:
                self.call(tile, context)

    def call_tile(self, context, size: int, skip: Index, is_tail: bool) -> None:
        """Call a smaller tile `skip` steps further along."""
        b, plan = self.b, self.plan
        corner, rhs, slot, sums, places, *rest = context
        if not (isinstance(skip, int) and skip == 0):
            places = {**places, plan.rows.along: b.add(places[plan.rows.along], skip)}
            if plan.lined:
                corner = self.beyond(corner, plan.a.dtype, b.mul(skip, plan.lanes))
            else:
                corner = self.moved(corner, plan.a, {plan.rows.along: skip})
            slot = b.at(slot, plan.problem.dtype, b.mul(skip, plan.rows.inner_rows * plan.block_lanes))
        self.call(self.variants.tiles[size, is_tail], (corner, rhs, slot, sums, places, *rest))

    def call(self, tile: ir.Function, context, source: Sequence[ir.Value] = (), copy: Sequence[ir.Value] = ()) -> None:
        """Call a tile; `source` and `copy`: what those that make a panel, or copy rows, take more."""
        b, plan = self.b, self.plan
        corner, rhs, slot, sums, places, steps, first, last = context
        all_places = {**self.frame.places, **places}
        arguments = [
            *self.frame.leading(),
            corner,
            rhs,
            *source,
            slot,
            *copy,
            *(self.following.asked if self.following else []),
            *sums,
            *(b.index(all_places[axis]) for axis in tile_axes(plan)),
            b.index(steps),
            b.condition(first),
            b.condition(last),
            b.index(self.valid),
            *self.begun,
        ]
        b.call(tile, arguments)

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
