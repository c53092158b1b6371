"""The second plan for few rows: when there is one, and that a row has the same bits in any batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kcompile.codegen.contract import emit
from kcompile.codegen.contract.dot import DotPlan
from kcompile.codegen.contract.emitter import plan_of, thin_of
from kcompile.codegen.host import host_target
from kcompile.ir import dim
from kcompile.ir.dim import symbol
from kcompile.target import AARCH64_NEON, X86_64_V3, X86_64_V4
from tests.codegen.contract.check import check, operands
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

BATCH, TIME = symbol("batch"), symbol("time")
DENSE = "m,k;k,n->m,n"


def thin(spec: str, sizes: dict, target=X86_64_V4):
    form = contract_form(spec, sizes)
    return thin_of(form, plan_of(form, target), target)


@pytest.mark.parametrize("target", [X86_64_V4, X86_64_V3, AARCH64_NEON])
def test_named_rows_get_a_second_plan(target):
    found = thin(DENSE, {"m": BATCH, "n": 512, "k": 784}, target)
    assert found.limit >= 1 and found.plan.rows.sizes[0] <= 2
    assert not found.plan.packed and found.plan.vector.extent == 512


def test_weights_that_stay_are_kept_in_panels_for_many_rows_and_read_in_place_by_few():
    form = replace(contract_form(DENSE, {"m": BATCH, "n": 512, "k": 784}), steady=("x1",))
    main = plan_of(form, X86_64_V4)
    few = thin_of(form, main, X86_64_V4)
    assert main.keeps and few.limit >= 1 and not few.plan.packed
    large = replace(contract_form(DENSE, {"m": BATCH, "n": 4096, "k": 4096}), steady=("x1",))
    assert not plan_of(large, X86_64_V4).packed  # too large to keep twice


def test_rows_have_the_same_bits_beside_kept_panels():
    form = replace(contract_form(DENSE, {"m": BATCH, "n": 330, "k": 300}), steady=("x1",))
    target = replace(host_target(), l2_bytes=64 * 1024)
    assert plan_of(form, target).keeps and thin_of(form, plan_of(form, target), target).plan
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((20, 300), "float32"), rng.standard_normal((300, 330), "float32")
    whole = run_form(form, {"x0": x, "x1": w}, {"batch": 20}, target=target)["y"]
    np.testing.assert_allclose(whole, x @ w, rtol=1e-4, atol=1e-4)
    for rows in (1, 3, 7):
        part = run_form(form, {"x0": x[:rows], "x1": w}, {"batch": rows}, target=target)["y"]
        np.testing.assert_array_equal(part, whole[:rows])


@pytest.mark.parametrize(
    "sizes",
    [
        {"m": 1, "n": 512, "k": 784},  # known: the first plan is made for it
        {"m": BATCH, "n": 10, "k": 64},  # too small
        {"m": BATCH * 128, "n": 512, "k": 784},  # never few
        {"m": BATCH, "n": 512, "k": TIME},
    ],
)
def test_no_second_plan_where_it_gains_nothing(sizes):
    assert thin(DENSE, sizes) is None


def test_rows_of_a_long_rhs_are_read_along():
    """Nothing is copied for few rows, and one task serves all of them."""
    sizes = {"m": BATCH, "n": 4096, "k": 4096}
    found = thin(DENSE, sizes)
    assert not found.plan.packed and found.plan.blocked
    assert found.plan.units_per_task * found.plan.rows.sizes[0] >= found.limit
    transposed = thin("m,k;n,k->m,n", {"m": BATCH, "n": 1000, "k": 2048})
    assert isinstance(transposed.plan, DotPlan)


def test_one_of_the_two_plans_has_tasks():
    sizes = {"m": BATCH, "n": 512, "k": 784}
    form = contract_form(DENSE, sizes)
    limit = thin_of(form, plan_of(form, X86_64_V4), X86_64_V4).limit
    kernel = emit(form, X86_64_V4, "kern")
    for rows in (0, 1, limit, limit + 1, 1000):
        tasks = {p.function: dim.evaluate(p.tasks, {"batch": rows}) for p in kernel.phases}
        assert set(tasks) == {"kern", "kern_few"}
        assert (tasks["kern_few"] > 0) == (0 < rows <= limit) and (tasks["kern"] > 0) == (rows > limit)


def test_shares_of_k_are_those_of_the_main_plan():
    form = contract_form(DENSE, {"m": BATCH, "n": 64, "k": 12000})
    main = plan_of(form, X86_64_V4)
    few = thin_of(form, main, X86_64_V4).plan
    assert main.shares > 1 and few.shares == main.shares
    assert few.k_steps * few.blocks_per_share == main.k_steps * main.blocks_per_share


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 7, 13, 17])
@pytest.mark.parametrize("spec", [DENSE, "m,k;n,k->m,n", "k,m;k,n->m,n", "m,k;k,n->n,m", "k,n;m,k->m,n"])
def test_results(spec, rows):
    for n, k in ((150, 200), (1030, 70)):
        check(spec, {"m": BATCH, "n": n, "k": k}, {"batch": rows})


@pytest.mark.parametrize(("n", "k"), [(512, 300), (130, 577), (64, 576), (1100, 1300), (64, 12000), (2100, 2300)])
def test_a_row_has_the_same_bits_in_any_batch(n, k):
    sizes = {"m": BATCH, "n": n, "k": k}
    form, target = contract_form(DENSE, sizes), host_target()
    assert thin(DENSE, sizes, target) is not None
    x0, x1 = operands(form, {"batch": 40}, "f32")
    whole = run_form(form, {"x0": x0, "x1": x1}, {"batch": 40})["y"]
    for rows in (1, 2, 3, 9):
        for workers in (1, 3):
            part = run_form(form, {"x0": x0[:rows], "x1": x1}, {"batch": rows}, workers=workers)["y"]
            np.testing.assert_array_equal(part, whole[:rows])
