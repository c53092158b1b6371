"""The loops of a register tile over one block of k: what its rows x vectors accumulators take up.

    acc[i][j] += lhs[i, p] * rhs[p, j]      i in rows, j in vectors, p in the block of k

A Python `for` unrolls while writing, `b.carried_loop` runs. Elements of lhs are read where they lie,
each broadcast to a vector; vectors of rhs likewise. Row offsets are constants wherever strides are.
"""

from __future__ import annotations

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.contract import ask, folded, lines, pairs, upright
from kcompile.codegen.contract.affine import Memory
from kcompile.codegen.contract.border import Window, cuts, segments
from kcompile.codegen.contract.frame import Frame
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.contract.tiles import unroll_steps
from kcompile.codegen.contract.widen import widened
from kcompile.codegen.llvm_types import Index, memory_type
from kcompile.ir.dim import Axis
from kcompile.ir.types import DType

FOLDED_FMAS = 24  # the same where factors are loaded apart: LLVM loads all of a loop body first, and spills

Tile = "list[list[ir.Value]]"  # accumulators by row and vector
Places = "tuple[ir.Value, ...]"  # pointers that walk along k


def multiply_add(b: KernelBuilder, dtype: DType, x: ir.Value, y: ir.Value, acc: ir.Value) -> ir.Value:
    """x * y + acc in the dtype of the sum."""
    if dtype.is_float:
        return b.fma(x, y, acc)
    if dtype.category == "bool":
        return b.ll.or_(b.ll.and_(x, y), acc)
    return b.ll.add(b.ll.mul(x, y), acc)


def add(b: KernelBuilder, dtype: DType, x: ir.Value, y: ir.Value) -> ir.Value:
    """The sum of two partial sums."""
    return b.fadd(x, y) if dtype.is_float else b.ll.or_(x, y) if dtype.category == "bool" else b.ll.add(x, y)


class TileLoops:
    """Writes the loops of one tile. `memories`: what pointers walk along k: lhs, rhs, and what a panel is made from."""

    def __init__(self, frame: Frame, plan: Plan, rows: list[dict[Axis, int]], vectors: int, masks, makes, copies):
        self.frame, self.plan, self.rows, self.vectors, self.masks = frame, plan, rows, vectors, masks
        self.makes, self.copies = makes, copies
        self.memories = (plan.a, plan.b, *([plan.problem.rhs.memory] if makes else []))
        self.b, self.dtype, self.lanes = frame.b, plan.problem.dtype, plan.lanes
        self.row_offsets = [self._row_offset(r) for r in rows]
        self.windows = {w.tap: w for w in plan.windows}
        self.folds = plan.columns.folds if masks[-1] is not None else ()
        self.upright = plan.columns.tail_lanes if plan.columns.upright and masks[-1] is not None else 0
        self.plain = vectors - 1 if self.folds or self.upright else vectors

    def _row_offset(self, row: dict[Axis, int]) -> Index:
        if self.plan.lined:
            return row[self.plan.rows.along] * self.lanes
        total: Index = 0
        for axis, place in row.items():
            total = self.b.add(total, self.b.mul(self.frame.index(self.plan.a.stride(axis)), place))
        return total

    def start(self, scratch: ir.Value, first: ir.Value) -> Tile:
        """Zeros, or what earlier blocks of k have left in the scratch."""
        b = self.b
        zero = b.zero(self.dtype, self.lanes)
        if not self.plan.blocked:
            return [[zero] * self.vectors for _ in self.rows]
        entry = b.ll.block
        with b.if_(b.ll.not_(first)):
            parked = [
                [
                    b.load_vector(scratch, self.dtype, self._slot(i, j), self.lanes, align_bytes=self.plan.vector_bytes)
                    for j in range(self.vectors)
                ]
                for i in range(len(self.rows))
            ]
            block = b.ll.block
        acc = []
        for row in parked:
            acc.append([])
            for value in row:
                phi = b.ll.phi(value.type)
                phi.add_incoming(zero, entry)
                phi.add_incoming(value, block)
                acc[-1].append(phi)
        return acc

    def _slot(self, i: int, j: int) -> int:
        return i * self.plan.block_lanes + j * self.lanes

    def park(self, acc: Tile, scratch: ir.Value) -> None:
        """Put the tile into the scratch."""
        for i, row in enumerate(acc):
            for j, value in enumerate(row):
                self.b.store_vector(value, scratch, self.dtype, self._slot(i, j), align_bytes=self.plan.vector_bytes)

    # loops over k ---------------------------------------------------------------------------

    def sum(self, acc: Tile) -> Tile:
        """Add the products of one block of k.

        Columns left have their own sums: behind those of their row; or upright, an entry of the tile behind its rows.
        """
        b, rows, chains = self.b, len(self.rows), self.plan.chains
        zero = b.zero(self.dtype, self.lanes)
        before = [row[-1] for row in acc]
        acc = [[*row[: self.plain], *[zero] * len(self.folds)] for row in acc]
        own = [[zero] * (-(-rows // self.lanes) * self.upright)] if self.upright else []
        nothing = [[zero] * len(row) for row in acc]
        parts = self._loops([*acc, *own, *[*nothing, *own] * (chains - 1)])
        height = rows + len(own)
        total = parts[:height]
        for start in range(height, len(parts), height):
            part = parts[start : start + height]
            total = [[add(b, self.dtype, x, y) for x, y in zip(*pair)] for pair in zip(total, part)]
        if self.plain == self.vectors:
            return total
        if own:
            *total, last = total
            sums = upright.turned(b, last, self.lanes, rows)
        else:
            sums = folded.added_up(b, self.dtype, [row[self.plain :] for row in total], self.folds, self.lanes)
        if self.plan.blocked:
            sums = [add(b, self.dtype, *pair) for pair in zip(before, sums)]
        return [[*row[: self.plain], value] for row, value in zip(total, sums)]

    def _loops(self, acc: Tile) -> Tile:
        """All loops over a block of k."""
        axes = (*(a for a in self.plan.k[: self.plan.cut] if a in self.windows), *self.plan.k[self.plan.cut :])
        return self._nest(axes, acc, tuple(self.b[name] for name in ("a", "b", *(["source"] if self.makes else []))))

    def _nest(self, axes, acc: Tile, at: Places) -> Tile:
        if not axes:
            return self._step(acc, at, 0, 0)
        axis, inner = axes[0], axes[1:]
        if axis in self.windows:
            return self._in_window(self.windows[axis], inner, acc, at)
        return self._all_steps(axis, inner, acc, at, *self._steps(axis))

    def _in_window(self, window: Window, inner, acc: Tile, at: Places) -> Tile:
        """Loops over the steps of a window's axis that some rows need, each over these rows."""
        b, plan, axis = self.b, self.plan, window.tap
        strides = self._strides(axis)
        begun, end = self._block_of(axis)
        in_tile = window.out in (plan.rows.along, *plan.rows.inside)
        rows = [row[window.out] if in_tile else 0 for row in self.rows]
        first, count = min(rows), max(rows) + 1 - min(rows)
        place = first if plan.is_whole(window.out) else b.add(self.frame.places[window.out], first)
        for part in segments(b, window, place, count, cuts(window, count, plan.windows_in_tile), begun, end):
            if isinstance(part.begin, int) and isinstance(part.end, int) and part.begin == part.end:
                continue
            low, high = first + part.cut_low, first + count - part.cut_high
            kept = [i for i, row in enumerate(rows) if low <= row < high]
            some = self if len(kept) == len(self.rows) else self._of_rows(kept)
            kept = kept if some is not self else list(range(len(acc)))  # sums that stand upright too
            here = self._along(strides, at, b.sub(part.begin, begun))
            summed = some._all_steps(axis, inner, [acc[i] for i in kept], here, b.sub(part.end, part.begin), 0)
            acc = list(acc)
            for i, row in zip(kept, summed):
                acc[i] = row
        return acc

    def _of_rows(self, kept: list[int]) -> TileLoops:
        """The writer for some of the rows."""
        rows = [self.rows[i] for i in kept]
        return TileLoops(self.frame, self.plan, rows, self.vectors, self.masks, self.makes, self.copies)

    def _block_of(self, axis: Axis) -> tuple[Index, Index]:
        """The steps of an axis that this block of k has."""
        b, plan = self.b, self.plan
        if axis not in plan.windows_begun:
            return 0, axis.extent
        begun = b[f"begun{plan.windows_begun.index(axis)}"]
        return begun, b.add(begun, b["steps"] if axis == plan.k[plan.cut] else 1)

    def _all_steps(self, axis: Axis, inner, acc: Tile, at: Places, steps: Index, half: Index) -> Tile:
        body = 1
        for other in inner:
            body = body * other.extent if isinstance(other.extent, int) else 10**9
        if not inner and self.folds:
            return self._folded(axis, acc, at, steps)
        if not inner:
            unroll = unroll_steps(steps if isinstance(steps, int) else None, len(self.rows), self.vectors)
        elif isinstance(steps, int) and steps * body <= unroll_steps(steps * body, len(self.rows), self.vectors):
            unroll = steps
        else:
            unroll = 1
        return self._unrolled(axis, inner, acc, at, steps, unroll, half)

    def _steps(self, axis: Axis) -> tuple[Index, Index]:
        """Steps along an axis in this block; 0 or 1 half pairs behind them."""
        b, pair = self.b, self.plan.problem.pair
        is_cut = self.plan.blocked and axis == self.plan.k[self.plan.cut]
        steps = b["steps"] if is_cut else self.frame.index(axis.extent)
        if pair is None or axis != pair.axis or pair.is_even:
            return steps, 0
        elements = steps if is_cut else self.frame.index(pair.elements)
        return b.div_nonneg(elements, 2), b.mod_nonneg(elements, 2)

    def _unrolled(self, axis: Axis, inner, acc: Tile, at: Places, steps: Index, unroll: int, half: Index) -> Tile:
        """A loop over `axis`, `unroll` steps per turn, then the steps that are left, then half a pair if any."""
        b = self.b
        strides = self._strides(axis)

        def straight(acc: Tile, at: Places, count: int, place: Index = 0) -> Tile:
            for u in range(count):
                here = self._along(strides, at, u)
                acc = self._nest(inner, acc, here) if inner else self._step(acc, here, b.add(place, u), u)
            return acc

        if isinstance(steps, int) and steps <= unroll:
            return self._half_pair(straight(acc, at, steps), self._along(strides, at, steps), half)
        turns = b.div_nonneg(steps, unroll)
        if ask.RESULT in self.plan.asked:
            acc, at = self._asking_loops(strides, turns, unroll, acc, at, straight)
        else:
            acc, at = self._loop(strides, turns, unroll, acc, at, straight)
        done = b.mul(turns, unroll)
        rest = b.sub(steps, done)
        if isinstance(rest, int):
            return self._half_pair(straight(acc, at, rest, done), self._along(strides, at, rest), half)
        if unroll > 1:
            acc, at = self._loop(strides, rest, 1, acc, at, straight, done)
        return self._half_pair(acc, at, half)

    def _folded(self, axis: Axis, acc: Tile, at: Places, steps: Index) -> Tile:
        """The same where the last vector takes several steps at once; fewer at the end of the axis.

        The others' steps are a loop within, unless they are few: of a long body LLVM loads too much too early.
        """
        b, strides, group_steps = self.b, self._strides(axis), max(self.folds)
        within = unroll_steps(group_steps, len(self.rows), self.plain)

        def group(acc: Tile, at: Places, count: int, turn: int = 0) -> Tile:
            acc = self._unrolled(axis, (), acc, at, count, within, 0) if self.plain else acc
            # behind the loop, so that nothing waits beside it
            for part in range(len(self.folds)):
                acc = self._fold_steps(strides, acc, at, count, turn, part)
            return acc

        def straight(acc: Tile, at: Places, count: int, place: Index = 0) -> Tile:
            for u in range(0, count, group_steps):
                acc = group(acc, self._along(strides, at, u), min(group_steps, count - u), u // group_steps)
            return acc

        products = self.plain * group_steps + sum(group_steps // fold for fold in self.folds)
        unroll = group_steps * max(1, FOLDED_FMAS // (len(self.rows) * products))
        if isinstance(steps, int) and steps <= unroll:
            return straight(acc, at, steps)
        turns = b.div_nonneg(steps, unroll)
        acc, at = self._loop(strides, turns, unroll, acc, at, straight)
        rest = b.sub(steps, b.mul(turns, unroll))
        if isinstance(rest, int):
            return straight(acc, at, rest)
        if unroll > group_steps:
            turns = b.div_nonneg(rest, group_steps)
            acc, at = self._loop(strides, turns, group_steps, acc, at, straight)
            rest = b.sub(rest, b.mul(turns, group_steps))
        left = axis.extent % group_steps  # in the last block; all others are whole groups

        def last(acc: Tile, at: Places, count: int, place: Index = 0) -> Tile:
            return group(acc, at, left)

        return self._loop([], b.min(rest, 1), 1, acc, at, last)[0] if left else acc

    def _fold_steps(self, strides: list[Index], acc: Tile, at: Places, count: int, turn: int, part: int) -> Tile:
        """What a group of `count` steps contributes to a part of the last columns; a loop, so that nothing spills."""
        fold, row = self.folds[part], folded.row_of(part, count == 1)

        def one(acc: Tile, at: Places, turns: int, place: Index = 0, steps: int = fold) -> Tile:
            return self._fold_step(acc, at[0], self._along(strides, at, row)[1], steps, turn, part)

        whole = count // fold
        if whole > 1:
            acc, at = self._loop([s * fold for s in strides], whole, 1, acc, at, one)
        elif whole:
            acc, at = one(acc, at, 1), self._along(strides, at, fold)
        return one(acc, at, 1, steps=count % fold) if count % fold else acc

    def _fold_step(self, acc: Tile, a: ir.Value, bp: ir.Value, steps: int, turn: int, part: int) -> Tile:
        """Add what `steps` steps of k, at most those of its fold, contribute to a part of the last columns."""
        plan, new, fold, place = self.plan, list(acc), self.folds[part], self.plain + part
        rhs = self._vector(bp, plan.b, self.plain * self.lanes, None)
        for i, offset in enumerate(self.row_offsets, turn % plan.chains * len(self.rows)):
            x = folded.factors(self.b, self._advance(a, plan.a, offset), plan.a.dtype, fold, self.lanes, steps)
            product = self._multiply_add(x, rhs, acc[i][place])
            new[i] = [*acc[i][:place], product, *acc[i][place + 1 :]]
        return new

    def _half_pair(self, acc: Tile, at: Places, half: Index) -> Tile:
        """Add what an odd step at the end contributes."""
        if isinstance(half, int):
            return self._step(acc, at, 0, 0, True) if half else acc

        def straight(acc: Tile, at: Places, count: int, place: Index) -> Tile:
            return self._step(acc, at, 0, 0, True)

        return self._loop([], half, 1, acc, at, straight)[0]

    def _asking_loops(self, strides: list[Index], turns: Index, unroll: int, acc: Tile, at: Places, straight):
        """The loop over k, in two runs of the same code: before the second the tile asks for lines of the result."""
        b = self.b
        late = b.min(turns, -(-ask.RESULT_STEPS // unroll))
        flat = [v for row in acc for v in row]
        with b.carried_loop("run", 0, 2, [*flat, *at], unroll=False) as runs:
            values, here = self._shaped(runs.carried[: len(flat)], acc), tuple(runs.carried[len(flat) :])
            is_second = b.compare("==", runs.index, 1)
            with b.if_(is_second):
                ask.result(self.frame, self.plan, len(self.rows), self.vectors)
            count, begin = (
                b.select(is_second, *pair) for pair in ((late, b.sub(turns, late)), (b.sub(turns, late), 0))
            )
            values, here = self._loop(strides, count, unroll, values, here, straight, begin)
            runs.next(*(v for row in values for v in row), *here)
        return self._shaped(runs.results[: len(flat)], acc), tuple(runs.results[len(flat) :])

    def _loop(self, strides: list[Index], turns: Index, unroll: int, acc: Tile, at: Places, straight, begin: Index = 0):
        """`turns` turns of the loop, of which `begin` have been run."""
        b = self.b
        flat = [v for row in acc for v in row]
        with b.carried_loop("k", 0, turns, [*flat, *at], unroll=False) as loop:
            values, here = loop.carried[: len(flat)], tuple(loop.carried[len(flat) :])
            values = straight(self._shaped(values, acc), here, unroll, b.mul(b.add(begin, loop.index), unroll))
            here = self._along(strides, here, unroll) if strides else here
            loop.next(*(v for row in values for v in row), *here)
        return self._shaped(loop.results[: len(flat)], acc), tuple(loop.results[len(flat) :])

    def _strides(self, axis: Axis) -> list[Index]:
        """Elements from step to step of an axis; 0 through lines: their way depends on the step, see `_step`."""
        strides = [self.frame.index(memory.stride(axis)) for memory in self.memories]
        return [0, *strides[1:]] if self.plan.lined else strides

    def _along(self, strides: list[Index], at: Places, steps: Index) -> Places:
        """The same places so many steps of an axis on."""
        return tuple(self._advance(p, m, self.b.mul(s, steps)) for p, m, s in zip(at, self.memories, strides))

    def _shaped(self, flat: list[ir.Value], like: Tile) -> Tile:
        values = iter(flat)
        return [[next(values) for _ in row] for row in like]

    def _advance(self, place: ir.Value, memory: Memory, elements: Index) -> ir.Value:
        if isinstance(elements, int) and elements == 0:
            return place
        return self.b.ll.gep(place, [self.b.index(elements)], source_etype=memory_type(memory.dtype))

    # one step -------------------------------------------------------------------------------

    def _step(self, acc: Tile, at: Places, step: Index, turn: int, is_half: bool = False) -> Tile:
        """Add the products of one step of the innermost axis, the `turn`th of its loop body."""
        b, plan = self.b, self.plan
        a, bp = at[:2]
        if plan.lined:
            a = self._advance(a, plan.a, lines.step_offset(self.frame, plan, step))
        rhs = self._rhs(at)
        if plan.prefetched:
            for j in range(self.vectors):
                b.prefetch(bp, plan.b.dtype, plan.block_lanes + j * self.lanes)
        if plan.asks_after != 0:
            for j in range(self.vectors):
                b.prefetch(bp, plan.b.dtype, plan.asks_after + j * self.lanes, locality=2)
        if plan.ahead:
            self._ask_ahead(a, bp)
        if ask.RHS in plan.asked and not self.makes:
            ask.panel(self.frame, plan, bp, self.vectors)
        if self.copies:
            lines.copy_step(self.frame, plan, step)
        elif ask.LHS in plan.asked:
            ask.next_rows(self.frame, plan, a, step)
        new = list(acc)
        first = turn % plan.chains * (len(self.rows) + (1 if self.upright else 0))
        for i, offset in enumerate(self.row_offsets, first):
            place = self._advance(a, plan.a, offset)
            if plan.lhs_is_vector:
                factors = [self._vector(place, plan.a, j * self.lanes, self.masks[j]) for j in range(self.vectors)]
            elif plan.problem.pair:
                factors = [b.splat(pairs.load_pair(b, place, plan.a, is_half), self.lanes)] * self.vectors
            else:
                factors = [b.splat(self._converted(b.load(place, plan.a.dtype), plan.a), self.lanes)] * self.vectors
            products = [self._multiply_add(f, c, acc[i][j]) for j, (f, c) in enumerate(zip(factors, rhs))]
            new[i] = [*products, *acc[i][self.plain :]]
        if self.upright:
            own = first + len(self.rows)
            new[own] = self._upright(acc[own], a, bp)
        return new

    def _upright(self, acc: list[ir.Value], a: ir.Value, bp: ir.Value) -> list[ir.Value]:
        """Add a step's products of the last columns, vectors along the rows."""
        b, plan = self.b, self.plan
        first = self._advance(a, plan.a, self.row_offsets[0])
        masks = upright.masks(len(self.rows), self.lanes)
        lhs = [self._vector(first, plan.a, strip * self.lanes, mask) for strip, mask in enumerate(masks)]
        values = iter(acc)
        new = []
        for column in range(self.upright):
            place = self._advance(bp, plan.b, self.plain * self.lanes + column)
            factor = b.splat(self._converted(b.load(place, plan.b.dtype), plan.b), self.lanes)
            new += [self._multiply_add(x, factor, next(values)) for x in lhs]
        return new

    def _rhs(self, at: Places) -> list[ir.Value]:
        """The vectors of rhs; those of a panel that is being made come from its source and go into it."""
        plan = self.plan
        if self.makes:
            source = plan.problem.rhs.memory
            ask.rows_of_source(self.frame, plan, at[2], self.vectors)
            rhs = [self._vector(at[2], source, j * self.lanes, None) for j in range(self.vectors)]
            for j, value in enumerate(rhs):
                self.b.store_vector(value, at[1], self.dtype, j * self.lanes, align_bytes=plan.vector_bytes)
            return rhs
        masks = [None] * self.vectors if plan.packed else self.masks
        return [self._vector(at[1], plan.b, j * self.lanes, masks[j]) for j in range(self.plain)]

    def _multiply_add(self, x: ir.Value, y: ir.Value, acc: ir.Value) -> ir.Value:
        if self.plan.problem.pair:
            return pairs.multiply_add(self.b, x, y, acc)
        return multiply_add(self.b, self.dtype, x, y, acc)

    def _ask_ahead(self, a: ir.Value, bp: ir.Value) -> None:
        """Ask for what the next block of k reads in this place; rows of lhs that share no line are left out."""
        plan, b, frame = self.plan, self.b, self.frame
        cut = plan.k[plan.cut]
        places = [(bp, plan.b, j * self.lanes) for j in range(self.vectors)]
        if plan.a.stride((*plan.rows.inside, plan.rows.along)[-1]) == 1:
            places.append((a, plan.a, 0))
        for place, memory, offset in places:
            ahead = b.mul(frame.index(memory.stride(cut)), frame.index(plan.k_steps))
            b.prefetch(place, memory.dtype, b.add(ahead, offset), locality=2)

    def _vector(self, place: ir.Value, memory: Memory, offset: int, mask) -> ir.Value:
        b = self.b
        if mask is not None:
            value = b.load_masked(place, memory.dtype, offset, mask)
        else:
            value = b.load_vector(place, memory.dtype, offset, self.lanes)
        return self._converted(value, memory)

    def _converted(self, value: ir.Value, memory: Memory) -> ir.Value:
        """Widen an operand to the dtype of the sum (f16 and bf16 come out of a load as f32)."""
        return widened(self.b, value, memory.dtype, self.dtype)
