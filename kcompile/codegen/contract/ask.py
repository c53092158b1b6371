"""Asking for cache lines before they are needed, where operands lie beyond the second-level cache.

The hardware foresees streams within a page. It does not foresee the next page of a panel, or the rows of the next
tile, each in a page of its own. A tile asks for a line or two of them in every step of k: beside a few dozen
multiply-adds that costs next to nothing. (Asking for the lines of the result gained nothing.)
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from kcompile.codegen.contract.affine import extent
from kcompile.codegen.contract.frame import Frame
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.llvm_types import I64, Index
from kcompile.codegen.module import Param, pointer
from kcompile.ir import dim
from kcompile.ir.dim import Axis, nominal
from kcompile.target import Target

LHS, RHS = "lhs", "rhs"
PANEL_STEPS = 32  # of k: so long a line takes to come from the third-level cache
FEWEST_PRODUCTS = 12  # vectors of them in a step of k, beside which one more line is free
FEWEST_LINES = 4  # of a row of lhs


def asked(plan: Plan, target: Target) -> tuple[str, ...]:
    """What a plan asks for: what is larger than the second-level cache, in tiles large enough."""
    products = plan.rows.max_rows * plan.columns.vectors
    if plan.lhs_is_vector or plan.crosswise or plan.ahead or products < FEWEST_PRODUCTS:
        return ()
    problem, found = plan.problem, []
    size = problem.dtype.size_bytes

    def is_far(axes: Sequence[Axis]) -> bool:
        return nominal(extent(axes)) * size > target.l2_bytes

    if plan.k and is_far((*problem.batch, *problem.m, *plan.k)) and _in_rows(plan, target):
        found.append(LHS)
    if plan.packed and is_far((*problem.batch, *problem.n, *plan.k)):
        found.append(RHS)
    return tuple(found)


def _in_rows(plan: Plan, target: Target) -> bool:
    """True if k runs along rows of lhs that are some lines long, one for every step of the tiled axis."""
    line = target.cache_line_bytes // plan.a.dtype.size_bytes
    if (
        plan.rows.inside
        or plan.a.stride(plan.k[-1]) != plan.a.unit
        or not dim.is_static(plan.a.stride(plan.rows.along))
    ):
        return False
    return min(plan.a.stride(plan.rows.along), plan.a.unit * nominal(plan.k[-1].extent)) >= FEWEST_LINES * line


def params(plan: Plan) -> list[Param]:
    """Parameters of a tile function whose next rows may not have been copied yet: where they are, elements apart."""
    return [pointer("asked", align_bytes=1), Param("asked_row", I64)] if plan.copies_late else []


def next_rows(frame: Frame, plan: Plan, a: ir.Value, step: Index) -> None:
    """Ask for lhs of the next row tile: in each step for a line of one row, in as many steps as it has elements."""
    b = frame.b
    line = b.target.cache_line_bytes // plan.a.unit_bytes
    row = step % line if isinstance(step, int) else b.ll.and_(step, b.index(line - 1))
    if plan.copies_late:
        place = b.add(step, b.mul(row, b.sub(b["asked_row"], 1)))
        b.prefetch(b["asked"], plan.a.dtype, place, locality=2)
    stride = frame.index(plan.a.stride(plan.rows.along))
    place = b.add(b.mul(stride, plan.rows.sizes[0]), b.mul(row, b.sub(stride, plan.a.unit)))
    b.prefetch(a, plan.a.dtype, place, locality=2)


def panel(frame: Frame, plan: Plan, rhs: ir.Value, vectors: int) -> None:
    """Ask for a later row of the panel."""
    for j in range(vectors):
        frame.b.prefetch(rhs, plan.b.dtype, PANEL_STEPS * plan.block_lanes + j * plan.lanes)
