"""Sums over the columns of what a contraction makes: bias gradients, batch statistics.

Each task keeps a row of partial sums per sum, as wide as its column blocks, in the shared workspace; the row
tiles add to it while they are in registers (or in the scratch). A last phase adds the rows of all tasks, in the
order of the tasks, so the result does not depend on who ran them.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from kcompile.codegen.contract.affine import extent, linear_address
from kcompile.codegen.contract.epilogue import Along, vector_value
from kcompile.codegen.contract.frame import ROLLED, SHARED_SPACE, Frame, Signature
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.kernel import Phase
from kcompile.codegen.llvm_types import Index, lanes_of
from kcompile.codegen.module import Param, pointer
from kcompile.ir.dim import DimLike


def elements(plan: Plan) -> DimLike:
    """Elements of the shared workspace for the partial sums of all tasks."""
    return plan.tiles_tasks * _per_task(plan)


def params(plan: Plan) -> list[Param]:
    """What functions that finish tiles take besides: the task's partial sums."""
    return [pointer("sums", align_bytes=plan.vector_bytes)] if plan.problem.sums else []


def _per_block(plan: Plan) -> int:
    return len(plan.problem.sums) * plan.block_lanes


def _per_task(plan: Plan) -> int:
    return plan.blocks_per_task * _per_block(plan)


def of_block(frame: Frame, plan: Plan, task_sums: list[ir.Value], number: Index) -> list[ir.Value]:
    """The argument for `params`, given that of the task and which of its column blocks is meant."""
    b = frame.b
    return [b.at(row, plan.problem.dtype, b.mul(number, _per_block(plan))) for row in task_sums]


def begin_task(frame: Frame, plan: Plan, start: DimLike, task: Index) -> list[ir.Value]:
    """Zero the partial sums of a task; returns where they are. They start at `start`, in elements."""
    if not plan.problem.sums:
        return []
    b, dtype = frame.b, plan.problem.dtype
    row = b.at(frame.pointers[SHARED_SPACE], dtype, b.add(frame.index(start), b.mul(task, _per_task(plan))))
    with b.loop("column", 0, _per_task(plan), plan.lanes, **ROLLED) as place:
        b.store_vector(b.zero(dtype, plan.lanes), row, dtype, place, align_bytes=plan.vector_bytes)
    return [row]


def add(plan: Plan, points: Sequence[Along], column: Index) -> None:
    """Add vectors of one column, at several rows, to the task's partial sums; `column` is the place in its block."""
    for number, total in enumerate(plan.problem.sums):
        values = [vector_value(at, total.value) for at in points]
        b, dtype = points[0].b, plan.problem.dtype
        values = [v if lanes_of(v) else b.splat(v, plan.lanes) for v in values]
        while len(values) > 1:  # halves onto halves
            half = (len(values) + 1) // 2
            values = [b.fadd(values[i], values[half + i]) if half + i < len(values) else values[i] for i in range(half)]
        place = b.add(column, number * plan.block_lanes)
        before = b.load_vector(b["sums"], dtype, place, plan.lanes, align_bytes=plan.vector_bytes)
        b.store_vector(b.fadd(before, values[0]), b["sums"], dtype, place, align_bytes=plan.vector_bytes)


def emit_phase(module, target, sig: Signature, plan: Plan, name: str, start: DimLike) -> tuple[Phase, ...]:
    """Write the phase that adds the rows of all tasks; one task per column block."""
    if not plan.problem.sums:
        return ()
    frame = Frame.exported(module, target, f"{name}_columns", sig)
    b, dtype, lanes = frame.b, plan.problem.dtype, plan.lanes
    rows = b.at(frame.pointers[SHARED_SPACE], dtype, frame.index(start))
    chunks, groups = frame.index(plan.chunks), frame.index(plan.groups)
    width = frame.index(plan.vector.extent)
    with b.loop("block", b["begin"], b["end"], **ROLLED) as block:
        first = b.mul(block, plan.block_lanes)
        group = b.div_nonneg(block, plan.blocks_per_task)
        member = b.sub(block, b.mul(group, plan.blocks_per_task))
        columns = b.min(plan.block_lanes, b.sub(width, first))
        with b.loop("column", 0, columns, lanes, **ROLLED) as column:
            for number, total in enumerate(plan.problem.sums):
                with b.carried_loop("outer", 0, frame.index(extent(plan.outer)), [b.zero(dtype, lanes)]) as outer:
                    task = b.mul(b.add(b.mul(outer.index, groups), group), chunks)
                    with b.carried_loop("chunk", 0, chunks, outer.carried) as chunk:
                        row = b.mul(b.add(task, chunk.index), _per_task(plan))
                        row = b.add(row, b.mul(member, _per_block(plan)))
                        place = b.add(row, b.add(column, number * plan.block_lanes))
                        chunk.next(b.fadd(chunk.carried[0], b.load_vector(rows, dtype, place, lanes)))
                    outer.next(chunk.results[0])
                here = frame.with_places({plan.vector: b.add(first, column)})
                place = here.index(linear_address(total.index, sig.types[total.buffer].shape))
                _store(frame, plan, outer.results[0], total.buffer, place, b.sub(columns, column))
    b.ret()
    return (Phase(f"{name}_columns", plan.blocks, plan.chunks * extent(plan.outer) * _per_task(plan)),)


def _store(frame: Frame, plan: Plan, value: ir.Value, buffer: str, place: Index, valid: Index) -> None:
    b, dtype = frame.b, plan.problem.dtype
    if plan.columns.tail_lanes == 0:
        b.store_vector(value, frame.pointers[buffer], dtype, place)
    else:
        b.store_masked(value, frame.pointers[buffer], dtype, place, b.tail_mask(plan.lanes, valid))
