"""Columns that leave most lanes of their last vector empty: several steps of k side by side in that vector.

17 columns are a vector and a column more, and a vector for that one would do a sixteenth of its work. Where lhs is
contiguous along k, the vector takes `fold` steps of k at once instead, for each of the columns left:

    panel[lane]   = rhs[p + lane % fold, column + lane // fold]       made when rhs is packed
    factor[lane]  = lhs[row, p + lane % fold]                         `fold` neighbours, loaded once and repeated
    acc          += factor * panel                                    once for `fold` steps of k

so that an eighth, a quarter or half of the lanes cost an eighth, a quarter or half of a vector. The `fold` partial
sums of a result are added at the end of a block of k, in a fixed order, for `fold` rows at once.

Nine to twelve columns are half of a vector and a few more: the half takes two steps, the others take `fold`, in a
vector of their own. So ten columns cost five eighths of a vector.

The panel keeps its shape: a folded vector lies where the first of its steps has its last vector; the second part's,
where the second step has, which the first part leaves free.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.contract.classify import Problem
from kcompile.codegen.contract.frame import ROLLED, Frame
from kcompile.codegen.llvm_types import I1, Index
from kcompile.ir import dim
from kcompile.ir.dim import Axis
from kcompile.ir.types import DType
from kcompile.target import Target

if TYPE_CHECKING:
    from kcompile.codegen.contract.plan import Plan

FEWEST_GROUPS = 2  # along the last axis of k: fewer have more remainder than groups
LEAST_GAIN = 1.03  # panels must be made before the tasks start, and the code is twice as long
FOLD_STEP = 2  # cycles per step of k to fold a panel


def folds_of(columns: int, lanes: int, steps: int) -> tuple[int, ...]:
    """How many of `steps` the last vector of so many columns takes, or each of its two parts; none if it is full."""
    left = columns % lanes
    fold = _fold_of(left, lanes, steps)
    if fold > 1:
        return (fold,)
    second = _fold_of(left - lanes // 2, lanes, steps) if 2 * left > lanes else 1
    return (2, second) if second >= 4 else ()


def _fold_of(left: int, lanes: int, steps: int) -> int:
    fold = 1
    while left and 2 * fold * left <= lanes and 2 * fold * FEWEST_GROUPS <= steps:
        fold *= 2
    return fold


def row_of(part: int, is_single: bool) -> int:
    """Where a part lies, counted from its first step: the second one before it in a group of a single step."""
    return 0 if part == 0 else -1 if is_single else 1


def serves(problem: Problem, vector: Axis, target: Target) -> bool:
    """True if the last vector has room for more steps of k, and neighbours along k lie side by side in lhs."""
    a, k, dtype = problem.lhs.memory, problem.k, problem.dtype
    if a is None or not k or problem.pair or a.dtype is not dtype or dtype.category == "bool":
        return False
    if not dim.is_static(vector.extent) or not dim.is_static(k[-1].extent) or a.stride(k[-1]) != 1:
        return False
    return bool(folds_of(vector.extent, target.lanes(dtype.size_bytes), k[-1].extent))


# the panel -------------------------------------------------------------------------------------


def fold_panel(frame: Frame, plan: Plan, panel: ir.Value) -> None:
    """Fold the last vectors of a panel that holds the last columns, group by group; the panel has been filled."""
    b, folds, lanes = frame.b, plan.columns.folds, plan.lanes
    fold = max(folds)
    first = (plan.columns.tail_vectors - 1) * lanes
    size = plan.k[-1].extent
    whole = size // fold * fold
    with contextlib.ExitStack() as loops:
        left = b.sub(frame.index(plan.vector.extent), frame.places[plan.vector])
        loops.enter_context(b.if_(b.compare("<", left, plan.block_lanes)))
        row: Index = 0
        for axis in plan.k[:-1]:
            place = loops.enter_context(b.loop(axis.name, 0, frame.index(axis.extent), **ROLLED))
            row = b.add(b.mul(row, frame.index(axis.extent)), place)
        row = b.mul(row, size)

        def group(p: Index, steps: int) -> None:
            start = b.add(b.mul(b.add(row, p), plan.block_lanes), first)
            at = [b.add(start, i * plan.block_lanes) for i in range(steps)]
            rows = [b.load_vector(panel, plan.problem.dtype, i, lanes) for i in at]
            rows += [b.zero(plan.problem.dtype, lanes)] * (fold - steps)
            for part, fold_here in enumerate(folds):
                if part:
                    rows = [b.shuffle(row, None, [(j + lanes // 2) % lanes for j in range(lanes)]) for row in rows]
                to = b.add(start, row_of(part, steps == 1) * plan.block_lanes)
                for first_step in range(0, steps, fold_here):
                    value = _side_by_side(b, rows[first_step : first_step + fold_here], lanes)
                    place = b.add(to, first_step * plan.block_lanes)
                    b.store_vector(value, panel, plan.problem.dtype, place)

        with b.loop("group", 0, whole, fold, **ROLLED) as p:
            group(p, fold)
        if whole < size:
            group(whole, size - whole)


def _side_by_side(b: KernelBuilder, rows: Sequence[ir.Value], lanes: int) -> ir.Value:
    """Lane j * len(rows) + i is lane j of row i."""
    if len(rows) == 1:
        return rows[0]
    wide = len(rows) // 2
    x, y = (_side_by_side(b, half, lanes) for half in (rows[:wide], rows[wide:]))
    chosen = [(j // (2 * wide) * wide + j % wide) + (lanes if j & wide else 0) for j in range(lanes)]
    return b.shuffle(x, y, chosen)


# the tile --------------------------------------------------------------------------------------


def factors(b: KernelBuilder, place: ir.Value, dtype: DType, fold: int, lanes: int, steps: int) -> ir.Value:
    """`fold` neighbours of a row of lhs, repeated over the lanes; zeros for those beyond `steps`."""
    if steps >= fold:
        value = b.load_vector(place, dtype, 0, fold)
    else:
        mask = ir.Constant(ir.VectorType(I1, fold), [I1(int(i < steps)) for i in range(fold)])
        value = b.load_masked(place, dtype, 0, mask)
    return b.shuffle(value, None, [i % fold for i in range(lanes)])


def added_up(
    b: KernelBuilder, dtype: DType, rows: Sequence[Sequence[ir.Value]], folds: Sequence[int], lanes: int
) -> list[ir.Value]:
    """The sums of the columns left, of one or two parts, one after the other in the first lanes of a vector per row."""
    parts = [_part_added_up(b, dtype, [row[part] for row in rows], fold, lanes) for part, fold in enumerate(folds)]
    if len(parts) == 1:
        return parts[0]
    half = lanes // 2
    return [b.shuffle(x, y, [i if i < half else lanes + i - half for i in range(lanes)]) for x, y in zip(*parts)]


def _part_added_up(b: KernelBuilder, dtype: DType, rows: Sequence[ir.Value], fold: int, lanes: int) -> list[ir.Value]:
    nothing = ir.Constant(rows[0].type, ir.Undefined)
    found: list[ir.Value] = []
    for start in range(0, len(rows), fold):
        mine = list(rows[start : start + fold])
        together = _added(b, dtype, [*mine, *[nothing] * (fold - len(mine))], fold, lanes)
        columns = [min(j, lanes // fold - 1) * fold for j in range(lanes)]
        found += [b.shuffle(together, None, [c + _place(i, fold) for c in columns]) for i in range(len(mine))]
    return found


def _added(b: KernelBuilder, dtype: DType, rows: Sequence[ir.Value], width: int, lanes: int) -> ir.Value:
    """Halves of all groups of `width` lanes added, pair after pair of rows, until one vector is left."""
    if width == 1:
        return rows[0]
    half = width // 2
    low = [j if not j & half else lanes + j - half for j in range(lanes)]
    pairs = []
    for x, y in zip(rows[::2], rows[1::2]):
        parts = b.shuffle(x, y, low), b.shuffle(x, y, [j + half for j in low])
        pairs.append(b.fadd(*parts) if dtype.is_float else b.ll.add(*parts))
    return _added(b, dtype, pairs, half, lanes)


def _place(row: int, fold: int) -> int:
    """The lane of a group that holds row `row` of `fold`: its number with the bits reversed."""
    place = 0
    while fold > 1:
        row, bit = divmod(row, 2)
        fold //= 2
        place += bit * fold
    return place
