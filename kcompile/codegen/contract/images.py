"""Rows that are a named size times a known one: the tiles of one image, where these serve one image better.

The pixels of a batch of images are one axis of a 1x1 convolution. How many they are is known when the kernel runs, so
the last tiles are what a few smaller sizes make up: 49 pixels take tiles of 14, 14, 14, 4, 2 and 1 rows, the small ones
as long as if they had 8. Apart from the batch, 49 is cut into tiles of 13, 13, 13 and 10. Many images then have tiles a
little smaller than they could be.
"""

from __future__ import annotations

from kcompile.codegen.contract.dot import DotPlan
from kcompile.codegen.contract.paths import best_plan
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.contract.thin import cycles
from kcompile.forms.records import Contract
from kcompile.ir import dim
from kcompile.target import Target

MANY_LOSE = 1.02  # at most, where images are many
ONE_GAINS = 1.05  # at least, where there is one


def plan(form: Contract, target: Target) -> Plan | DotPlan:
    """The best plan of a form, with named sizes as axes of their own where that is better."""
    merged = best_plan(form, target)
    named = [a for a in form.out_axes if not dim.is_static(a.extent)]
    rows = merged.rows.along if isinstance(merged, Plan) else None
    if rows is None or dim.is_static(rows.extent) or rows in named:
        return merged
    apart = best_plan(form, target, named)
    if not isinstance(apart, Plan) or apart.problem.m == merged.problem.m or apart.cycles > MANY_LOSE * merged.cycles:
        return merged
    with dim.assuming(1):
        gain = cycles(merged, target) / cycles(apart, target)
    return apart if gain >= ONE_GAINS else merged
