"""Asking for cache lines before they are needed, where operands lie beyond the second-level cache.

The hardware foresees streams within a page. It does not foresee the next page of a panel, or the rows of the next
tile, each in a page of its own. A tile asks for a line or two of them in every step of k: beside a few dozen
multiply-adds that costs next to nothing. Lines of the result are asked for shortly before the sums are done: stores
that miss leave one by one, in order, and the next tile's loads wait behind them.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from kcompile.codegen.contract.affine import extent, linear_address
from kcompile.codegen.contract.frame import Frame
from kcompile.codegen.contract.plan import DIRECT, Plan
from kcompile.codegen.llvm_types import I64, Index
from kcompile.codegen.module import Param, pointer
from kcompile.ir import dim
from kcompile.ir.dim import Axis, nominal
from kcompile.target import Target

LHS, RHS, RESULT = "lhs", "rhs", "result"
RESULT_STEPS = 64  # of k between asking for the lines of a result and its store
PANEL_STEPS = 32  # of k: so long a line takes to come from the third-level cache
SOURCE_STEPS = 12  # the same where rows crowd into a few sets of the first-level cache, which hold no more
FEWEST_PRODUCTS = 12  # vectors of them in a step of k, beside which one more line is free
FEWEST_LINES = 4  # of a row of lhs
_DISTANCES = "asked_row", "asked_group"  # elements from row to row; from step to step, for steps a line apart


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
    if is_far((*problem.batch, *problem.m, *problem.n)) and _stores_lines(plan):
        found.append(RESULT)
    return tuple(found)


def _stores_lines(plan: Plan) -> bool:
    """True if a tile stores its rows in vectors after a single loop over k."""
    if plan.finish != DIRECT or plan.rows.inside or len(plan.k[plan.cut :]) != 1 or plan.problem.pair or plan.windows:
        return False
    return plan.problem.result_stride(plan.vector) == 1


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
    return [pointer("asked", align_bytes=1), *(Param(n, I64) for n in _DISTANCES)] if plan.copies_late else []


def next_rows(frame: Frame, plan: Plan, a: ir.Value, step: Index) -> None:
    """Ask for lhs of the next row tile: in each step for a line of one row, in as many steps as it has elements."""
    b = frame.b
    line = b.target.cache_line_bytes // plan.a.unit_bytes
    row = step % line if isinstance(step, int) else b.ll.and_(step, b.index(line - 1))
    if plan.copies_late:
        place = b.add(b.mul(b.sub(step, row), b["asked_group"]), b.mul(row, b["asked_row"]))
        b.prefetch(b["asked"], plan.a.dtype, place, locality=2)
    if plan.lined:
        return
    stride = frame.index(plan.a.stride(plan.rows.along))
    place = b.add(b.mul(stride, plan.rows.sizes[0]), b.mul(row, b.sub(stride, plan.a.unit)))
    b.prefetch(a, plan.a.dtype, place, locality=2)


def result(frame: Frame, plan: Plan, rows: int, vectors: int) -> None:
    """Ask for the lines a tile will store: in the result, or where sums wait for the next block of k."""
    b, problem = frame.b, plan.problem
    store = problem.stores[0]
    dtype = frame.sig.types[store.buffer].dtype
    place = b.at(
        frame.pointers[store.buffer], dtype, frame.index(linear_address(store.index, problem.shapes[store.buffer]))
    )
    row = b.index(frame.index(problem.result_stride(plan.rows.along)))
    if plan.blocked:
        place = b.ll.select(b["last"], place, b["scratch"])
        row = b.ll.select(b["last"], row, b.index(plan.block_lanes))
    for i in range(rows):
        for j in range(vectors):
            b.prefetch(place, dtype, b.add(b.mul(row, i), j * plan.lanes), write=True)


def panel(frame: Frame, plan: Plan, rhs: ir.Value, vectors: int) -> None:
    """Ask for a later row of the panel."""
    for j in range(vectors):
        frame.b.prefetch(rhs, plan.b.dtype, PANEL_STEPS * plan.block_lanes + j * plan.lanes)


def rows_of_source(frame: Frame, plan: Plan, source: ir.Value, vectors: int) -> None:
    """Ask for a later row of what a panel is made from: rows may lie pages apart."""
    memory = plan.problem.rhs.memory
    stride = frame.index(memory.stride(plan.k[-1]))
    for j in range(vectors):
        frame.b.prefetch(source, memory.dtype, frame.b.add(frame.b.mul(stride, SOURCE_STEPS), j * plan.lanes))
