"""Rows that crowd each other or lie scattered are copied first, and results stay what they are."""

from dataclasses import replace

import numpy as np
import pytest

from kcompile.codegen.contract.emitter import plan_of
from kcompile.codegen.host import host_target
from kcompile.ir.dim import symbol
from kcompile.target import X86_64_V4
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

BATCH = symbol("batch")
SHORTCUT = "b,i*2,j*2,c;c,n->b,i,j,n"


def shortcut():
    form = contract_form(SHORTCUT, {"b": BATCH, "i": 7, "j": 7, "c": 1024, "n": 2048})
    return plan_of(replace(form, steady=("x1",)), X86_64_V4)


def test_a_strided_shortcut_runs_over_all_rows_of_an_image():
    plan = shortcut()
    assert plan.problem.lhs.rows is not None and plan.rows.along.extent == 7 * 7
    assert not plan.turned and plan.finish == "direct"


def test_copied_rows_fall_into_different_sets():
    plan = shortcut()
    assert (plan.a.stride(plan.rows.along) * 4 // 64) % 2 == 1


def test_overlapping_windows_stay_where_they_lie():
    sizes = {"b": BATCH, "i": 7, "j": 7, "r": 3, "s": 3, "c": 512, "n": 512}
    plan = plan_of(contract_form("b,i+r,j+s,c;r,s,c,n->b,i,j,n", sizes), X86_64_V4)
    assert plan.problem.lhs.rows is None


@pytest.mark.parametrize("c", [1024, 1000])
def test_results(c):
    form = replace(contract_form(SHORTCUT, {"b": BATCH, "i": 7, "j": 7, "c": c, "n": 2048}), steady=("x1",))
    plan = plan_of(form, host_target())
    assert plan.keeps
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype("float32") for s in ((1, 13, 13, c), (c, 2048)))
    for workers in (1, 3):
        found = run_form(form, {"x0": x, "x1": w}, {"batch": 1}, workers=workers)["y"]
        np.testing.assert_allclose(found, x[:, ::2, ::2] @ w, rtol=1e-3, atol=1e-3)


def test_weights_that_are_few_or_may_meet_one_row_are_read_in_place():
    few = contract_form("b,i,j,c;c,n->b,i,j,n", {"b": BATCH, "i": 7, "j": 7, "c": 32, "n": 32})
    dense = contract_form("b,c;c,n->b,n", {"b": BATCH, "c": 1024, "n": 1024})
    assert not any(plan_of(replace(f, steady=("x1",)), X86_64_V4).keeps for f in (few, dense))
