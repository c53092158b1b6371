"""Sums much longer than their result is large: filter gradients over a batch.

Every tile of the result needs all of both operands, which no near cache holds. So blocks of k become the outermost
loop: what one block reads of the operands stays in the second-level cache for all tiles of a task, while the tiles,
few enough to stay there or nearby, are added to block by block; the register tile asks ahead for the next block.
The operands then come from memory once. A task is a part of the result as large as that cache; where these are few,
k is shared among tasks as well. The number of shares is bounded, so that partial sums do not grow with the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kcompile.codegen.contract.affine import Memory, extent
from kcompile.codegen.contract.classify import Operand, Problem
from kcompile.codegen.contract.plan import SCRATCH, TRANSPOSED, Plan
from kcompile.codegen.contract.tiles import k_block
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, nominal
from kcompile.target import Target

LONG = 2  # k is long if its square is so many times the number of results
TASKS = 8  # of one kernel at least, where k is long enough
EVEN = 4  # tasks come in multiples of this where they can, else of 2
FEWEST_STEPS = 128  # of a block of k: a tile is loaded and stored once per block
SHARE_STEPS = 2048  # of a share at least: its partial result is written and read once more
# Shares of the second-level cache. A block's part of rhs, and of both operands:
RHS_SHARE, BLOCK_SHARE = 4, 5
NEAR = 2 / 3  # of the first-level cache: what a tile reads of both in a block


def is_long(problem: Problem, target: Target) -> bool:
    """True if k is long for the result, and no operand stays near while the other passes by."""
    if not problem.k or problem.lhs.memory is None or problem.rhs.memory is None:
        return False
    results = extent((*problem.batch, *problem.m, *problem.n))
    if not dim.is_static(results):
        return False  # it may be far smaller than it is taken for, and then has too few tasks
    sides = ((problem.lhs, problem.m), (problem.rhs, problem.n))
    if min(_buffer_bytes(problem, operand.memory) for operand, _ in sides) * 2 <= target.l2_bytes:
        return False
    return nominal(extent(problem.k)) ** 2 >= LONG * results and all(_sweeps(problem, *side) for side in sides)


def _sweeps(problem: Problem, operand: Operand, own: Sequence[Axis]) -> bool:
    """True if k passes over the whole of an operand; false if it stays in a window that other axes move."""
    k = operand.k or problem.k
    elements = nominal(dim.product(problem.shapes[operand.memory.buffer]))
    if nominal(extent((*problem.batch, *own, *k))) <= elements:
        return True  # no windows
    return 2 * sum((nominal(a.extent) - 1) * nominal(operand.stride(a)) for a in k) >= elements


def along_k(plan: Plan, target: Target) -> Plan:
    """The same plan with blocks of k outermost."""
    size = plan.problem.dtype.size_bytes
    steps = max(1, nominal(extent(plan.k)))
    all_blocks, all_units = max(1, nominal(plan.blocks)), max(1, nominal(plan.units))
    block_bytes = plan.block_lanes * size
    blocks = max(1, min(all_blocks, target.l2_bytes // RHS_SHARE // (FEWEST_STEPS * block_bytes)))
    units = max(1, min(all_units, target.l2_bytes // (blocks * plan.unit_elements * size)))
    groups = max(1, nominal(extent(plan.outer))) * -(-all_blocks // blocks)
    shares = max(1, min(-(-TASKS // (groups * -(-all_units // units))), steps // SHARE_STEPS))
    chunks = -(-TASKS // (groups * shares))
    units = min(units, -(-all_units // chunks))
    if shares > 1:
        units = _evenly(units, all_units, groups * shares)
    row = min(units * plan.rows.max_rows, _buffer_bytes(plan.problem, plan.problem.lhs.memory) // size // steps)
    cached = target.l2_bytes // BLOCK_SHARE // (max(1, row) * size + blocks * block_bytes)
    line = target.cache_line_bytes  # a row of lhs begins anywhere in one
    near = int(NEAR * target.l1d_bytes) // (block_bytes + plan.rows.max_rows * size + line)
    cut, k_steps = k_block(plan.k, max(FEWEST_STEPS, min(cached, near, steps // shares)))
    plan = replace(
        plan, cut=cut, k_steps=k_steps, blocked=True, ahead=True, units_per_task=units, blocks_per_task=blocks
    )
    if shares == 1:
        return plan
    finish = plan.finish if plan.finish == TRANSPOSED else SCRATCH
    return replace(plan, blocks_per_share=_per_share(plan.k_blocks, shares), finish=finish)


def _evenly(units: int, all_units: int, others: int) -> int:
    """Row tiles of a task, at most `units`, such that a few threads get equally many of the tasks."""
    for even in (EVEN, 2):
        for fewer in range(units, (units - 1) // 2, -1):
            chunks = -(-all_units // fewer)
            if others * chunks % even == 0:
                return -(-all_units // chunks)
    return units


def _per_share(k_blocks: DimLike, shares: int) -> DimLike:
    """Blocks of the largest share, such that there are at most so many shares whatever the sizes."""
    if dim.is_static(k_blocks):
        return max(1, -(-k_blocks // shares))
    named = dim.product(dim.symbol(s) for s in sorted(dim.symbols(k_blocks)))
    some = dim.floordiv(named + 1, 2)  # 0 if there is none; in a product named sizes are taken to be at least 1
    return dim.floordiv(k_blocks + (shares - 1), shares) + dim.floordiv(1, some + 1)  # never 0: 1 if none


def _buffer_bytes(problem: Problem, memory: Memory) -> int:
    return nominal(dim.product(problem.shapes[memory.buffer])) * memory.dtype.size_bytes
