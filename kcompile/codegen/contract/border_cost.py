"""What leaving out products with a border is worth: those saved against more loops.

`with_windows` chooses the windows of a plan (border.py), `apart_if_better` between two plans.
"""

from __future__ import annotations

from dataclasses import replace

from kcompile.codegen.contract import tiles
from kcompile.codegen.contract.affine import extent
from kcompile.codegen.contract.border import cuts, share
from kcompile.codegen.contract.dot import DotPlan
from kcompile.codegen.contract.plan import Plan
from kcompile.ir.dim import nominal

ENTRY_CYCLES = 12  # to enter and leave one more loop
SEGMENT_CYCLES = 40  # the same where its steps depend on the tile's place: they are worked out, and jumps not foreseen
SMALLER_TILE = 1.05  # measured: what a plan loses in smaller tiles beside what is estimated


def apart_if_better(plan: Plan | DotPlan, apart: Plan | DotPlan) -> Plan | DotPlan:
    """One of two plans of which the second keeps axes apart, to leave out more products with a border.

    It has more loops, and often row tiles that fit the shorter axes worse.
    """
    if not isinstance(plan, Plan) or not isinstance(apart, Plan):
        return min(plan, apart, key=lambda p: p.cycles)
    more = sum(sign * _loop_cycles(replace(p, windows=())) for p, sign in ((apart, 1), (plan, -1)))
    worse = SMALLER_TILE if _tile_products(apart) < _tile_products(plan) else 1.0
    return apart if apart.cycles * worse + more < plan.cycles else plan


def _tile_products(plan: Plan) -> int:
    return plan.rows.max_rows * plan.columns.vectors


def with_windows(plan: Plan, products: float) -> Plan:
    """The plan leaving out the borders of those windows that this is worth the loops for; products: their cycles."""
    if plan.lhs_is_vector or plan.crosswise or plan.chains > 1 or plan.problem.pair:
        return plan
    none = _loop_cycles(plan)
    for window in plan.problem.windows:
        if plan.columns.fold > 1 and window.tap == plan.k[-1]:
            continue  # its steps are taken in groups that begin at fixed places
        if plan.columns.upright and window.out == plan.rows.along:
            continue  # sums along all rows of a tile
        more = replace(plan, windows=(*plan.windows, window))
        if window.out != plan.vector and _left_cycles(more, products) < _left_cycles(plan, products):
            plan = more
    return replace(plan, cycles=plan.cycles - products + _left_cycles(plan, products) - none)


def _left_cycles(plan: Plan, products: float) -> float:
    return products * left_over(plan) + _loop_cycles(plan)


def _loop_cycles(plan: Plan) -> float:
    """Cycles to begin and end the loops over k."""
    in_tile = plan.windows_in_tile
    cost = {w.tap: ENTRY_CYCLES if plan.is_whole(w.out) else SEGMENT_CYCLES for w, _ in in_tile}
    segments = {w.tap: cost[w.tap] * sum(cuts(w, rows, in_tile)) for w, rows in in_tile}
    cycles = 0
    for axis in reversed(plan.k):
        cycles = ENTRY_CYCLES + segments.get(axis, 0) + nominal(axis.extent) * cycles
    return nominal(extent(plan.outer) * plan.blocks * plan.units) * cycles


def left_over(plan: Plan) -> float:
    """The share of a plan's products that is no product with a border."""
    left, in_tile = 1.0, dict(plan.windows_in_tile)
    for window in plan.windows:
        size, counts = window.out.extent, [1] * window.out.extent
        if window.out == plan.rows.along:
            counts = [step for step, often in tiles.cover(size, plan.rows.sizes) for _ in range(often)]
        elif window in in_tile:
            counts = [size]
        left *= share(window, counts, plan.windows_in_tile)
    return left
