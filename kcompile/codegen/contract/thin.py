"""Few rows: a second plan of a kernel whose number of rows is known only at run time.

A plan is made for NOMINAL_SIZE rows. With one row its wide tile of many rows has next to nothing to do: two chains
of dependent additions, and short pieces of rows of rhs that lie far apart; or rhs is copied for a single use. So
where rows are a named size the kernel holds a second plan, made for FEW rows. Which one runs is decided by the
number of tasks its phases have at run time: none, for the one that is not wanted.

    limit rows or fewer:  phases of `thin`      more:  phases of the main plan

Both add the products of one result in the same order, over the same blocks and shares of k, so a row has the same
bits in any batch. The exception is a rhs that would have to be copied to be read along its columns: it is read
along k instead, by the dot path. Kernels that multiply pairs (pairs.py) have one plan: no other adds as they do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kcompile.codegen.contract import dot, tiles
from kcompile.codegen.contract.affine import extent
from kcompile.codegen.contract.classify import Problem
from kcompile.codegen.contract.paths import PACK_ROWS, make_plan, pack_cost, tiled_plan, with_chunks
from kcompile.codegen.contract.plan import DIRECT, SCRATCH, Plan
from kcompile.codegen.kernel import Phase
from kcompile.ir import dim
from kcompile.ir.dim import DimLike, nominal
from kcompile.target import Target

FEW = 2  # the thin plan is made for this many rows; one more, one less: its tiles of one row
MOST = 16  # rows it may serve
WORTH_CYCLES = 1_000  # what one row must gain: a second plan takes time to compile


@dataclass(frozen=True)
class Thin:
    """The plan for `limit` rows or fewer."""

    plan: Plan | dot.DotPlan
    rows: DimLike
    limit: int

    @property
    def is_used(self) -> DimLike:
        """1 if the thin plan runs, else 0."""
        return dim.floordiv(1, dim.floordiv(self.rows, self.limit + 1) + 1)

    def describe(self) -> str:
        return f"{self.limit} rows or fewer: {self.plan.describe()}"


def thin_plan(problem: Problem, main: Plan | dot.DotPlan, target: Target) -> Thin | None:
    """The plan for few rows; None where it would gain nothing."""
    rows = _rows(problem)
    if rows is None or (isinstance(main, Plan) and main.keeps and nominal(rows) <= MOST):
        return None
    if (
        not isinstance(main, Plan)
        or problem.sums
        or main.crosswise
        or main.problem.pair
        or main.columns.fold > 1
        or main.columns.upright
    ):
        return None
    with dim.assuming(FEW):
        plan = _plan(_read_in_place(problem), main, target)
    if plan is None:
        return None
    limit = 0
    for count in range(1, MOST + 1):
        with dim.assuming(count):
            few, many = cycles(plan, target), cycles(main, target)
        if few > many or (count == 1 and many - few < WORTH_CYCLES):
            break
        limit = count
    return Thin(_all_rows(plan, limit), rows, limit) if limit else None


def _read_in_place(problem: Problem) -> Problem:
    """The same problem with no operand whose panels are kept: those of the main plan are made for many rows."""
    lhs, rhs = (replace(o, is_steady=False) for o in (problem.lhs, problem.rhs))
    return replace(problem, lhs=lhs, rhs=rhs)


def _all_rows(plan: Plan | dot.DotPlan, limit: int) -> Plan | dot.DotPlan:
    """Let one task run over all rows there may be, so that each block of rhs is fetched once."""
    if isinstance(plan, dot.DotPlan):
        return plan
    return replace(plan, units_per_task=-(-limit // plan.rows.sizes[0]))


def _rows(problem: Problem) -> DimLike | None:
    """The number of rows, if that and nothing else is known only at run time and may be small."""
    sides = [extent(axes) for axes in (problem.m, problem.n)]
    open_sides = [s for s in sides if not dim.is_static(s)]
    if len(open_sides) != 1 or not all(dim.is_static(extent(axes)) for axes in (problem.batch, problem.k)):
        return None
    (rows,) = open_sides
    with dim.assuming(1):
        return rows if nominal(rows) == 1 else None


def _plan(problem: Problem, main: Plan, target: Target) -> Plan | dot.DotPlan | None:
    """The best plan that copies nothing; with the main plan's blocks of k if those are summed apart."""
    plan = tiled_plan(problem, target)
    copies = plan.packed or plan.turned or plan.problem.lhs.memory is None
    if copies or plan.crosswise or not dim.is_static(plan.vector.extent):
        best = make_plan(problem, target)
        return best if isinstance(best, dot.DotPlan) else None
    if main.blocks_per_share != 0:
        return _with_shares_of(plan, main)
    return with_chunks(replace(plan, blocks_per_share=0), target) if plan.blocks_per_share != 0 else plan


def _with_shares_of(plan: Plan, main: Plan) -> Plan:
    """The same plan with the main plan's shares of k; its own blocks of k are kept where they fit into equal shares."""
    cut, k_steps, blocks = main.cut, main.k_steps, main.blocks_per_share
    share = k_steps * blocks
    if len(plan.k) == 1 and plan.blocked and plan.k[0].extent % share == 0:
        k_steps = max(d for d in range(1, min(plan.k_steps, share) + 1) if share % d == 0)
        blocks = share // k_steps
    finish = SCRATCH if plan.finish == DIRECT else plan.finish
    return replace(plan, k=main.k, cut=cut, k_steps=k_steps, blocked=True, blocks_per_share=blocks, finish=finish)


def cycles(plan: Plan | dot.DotPlan, target: Target) -> float:
    """What a plan costs at the sizes assumed now."""
    if isinstance(plan, dot.DotPlan):
        return dot.plan(plan.problem, target).cycles
    steps = max(1, nominal(extent(plan.k)))
    wide, size = plan.columns.vectors, plan.vector.extent
    total = tiles.tile_cost(plan.rows, wide, size, steps, plan.lanes, plan.lhs_is_vector)
    total *= max(1, nominal(extent(plan.outer)))
    if plan.packed and not plan.keeps:
        panels = plan.outer, plan.k, plan.vector, plan.block_lanes, plan.blocks
        total += pack_cost(plan.problem, *panels, target)
    if plan.turned:
        total += PACK_ROWS * nominal(extent((*plan.problem.m, *plan.k)))
    return total


def only_if(phases: tuple[Phase, ...], wanted: DimLike) -> tuple[Phase, ...]:
    """The same phases, with tasks only where `wanted` is 1 and not 0."""
    return tuple(replace(p, tasks=p.tasks * wanted) for p in phases)
