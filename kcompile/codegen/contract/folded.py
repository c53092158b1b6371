"""Columns that leave most lanes of their last vector empty: several steps of k side by side in that vector.

17 columns are a vector and a column more, and a vector for that one would do a sixteenth of its work. Where lhs is
contiguous along k, the vector takes `fold` steps of k at once instead, for each of the columns left:

    panel[lane]   = rhs[p + lane % fold, column + lane // fold]       made when rhs is packed
    factor[lane]  = lhs[row, p + lane % fold]                         `fold` neighbours, loaded once and repeated
    acc          += factor * panel                                    once for `fold` steps of k

so that an eighth, a quarter or half of the lanes cost an eighth, a quarter or half of a vector. The `fold` partial
sums of a result are added at the end of a block of k, in a fixed order, for `fold` rows at once.

The panel keeps its shape: a folded vector lies where the first of its steps has its last vector.
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


def fold_of(columns: int, lanes: int, steps: int) -> int:
    """How many of `steps` fit into the last vector of so many columns; 1 if it is full enough."""
    left = columns % lanes
    fold = 1
    while left and 2 * fold * left <= lanes and 2 * fold * FEWEST_GROUPS <= steps:
        fold *= 2
    return fold


def part_of(steps: int, fold: int) -> float:
    """Vectors per step along an axis of so many."""
    return -(-steps // fold) / steps


def serves(problem: Problem, vector: Axis, target: Target) -> bool:
    """True if the last vector has room for more steps of k, and neighbours along k lie side by side in lhs."""
    a, k, dtype = problem.lhs.memory, problem.k, problem.dtype
    if a is None or not k or problem.pair or a.dtype is not dtype or dtype.category == "bool":
        return False
    if not dim.is_static(vector.extent) or not dim.is_static(k[-1].extent) or a.stride(k[-1]) != 1:
        return False
    return fold_of(vector.extent, target.lanes(dtype.size_bytes), k[-1].extent) > 1


# the panel -------------------------------------------------------------------------------------


def fold_panel(frame: Frame, plan: Plan, panel: ir.Value) -> None:
    """Fold the last vectors of a panel that holds the last columns, group by group; the panel has been filled."""
    b, fold, lanes = frame.b, plan.columns.fold, plan.lanes
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
            b.store_vector(_side_by_side(b, rows, lanes), panel, plan.problem.dtype, start)

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


def factors(b: KernelBuilder, place: ir.Value, dtype: DType, fold: int, lanes: int, steps: Index) -> ir.Value:
    """`fold` neighbours of a row of lhs, repeated over the lanes; zeros for those beyond `steps`."""
    if isinstance(steps, int) and steps >= fold:
        value = b.load_vector(place, dtype, 0, fold)
    else:
        mask = b.tail_mask(fold, steps)
        if isinstance(steps, int):
            mask = ir.Constant(ir.VectorType(I1, fold), [I1(int(i < steps)) for i in range(fold)])
        value = b.load_masked(place, dtype, 0, mask)
    return b.shuffle(value, None, [i % fold for i in range(lanes)])


def added_up(b: KernelBuilder, dtype: DType, rows: Sequence[ir.Value], fold: int, lanes: int) -> list[ir.Value]:
    """The sums of the columns left, one after the other in the first lanes of a vector per row."""
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
