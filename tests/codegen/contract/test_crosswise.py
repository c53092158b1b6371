"""Tall products with few columns: their plans and results, and that the bits of a row do not depend on the batch."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile.codegen.contract import folded
from kcompile.codegen.contract.emitter import plan_of, thin_of
from kcompile.ir.dim import symbol
from kcompile.target import WASM32_SIMD, X86_64_V2, X86_64_V3, X86_64_V4
from tests.codegen.contract.check import check, operands
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

DENSE, TRANSPOSED = "m,k;k,n->m,n", "m,k;n,k->m,n"
BATCH = symbol("batch")


@pytest.fixture(autouse=True)
def _without_folding(monkeypatch):
    """Columns left over may be folded instead (test_folded.py); here that is no choice."""
    monkeypatch.setattr(folded, "LEAST_GAIN", 1e9)


def plan(spec: str, sizes: dict, target=X86_64_V4):
    return plan_of(contract_form(spec, sizes), target)


@pytest.mark.parametrize("n", [3, 4, 5, 8])
@pytest.mark.parametrize("spec", [DENSE, TRANSPOSED])
def test_few_columns_of_a_tall_lhs_run_crosswise(spec, n):
    assert plan(spec, {"m": 200, "n": n, "k": 300}).crosswise


def test_so_do_those_of_short_rows_of_pixels():
    assert plan("b,x,c;c,n->b,x,n", {"b": 9, "x": 14, "c": 64, "n": 3}).crosswise


@pytest.mark.parametrize(
    "spec, sizes",
    [
        (DENSE, {"m": 200, "n": 64, "k": 300}),  # its columns fill vectors
        (DENSE, {"m": 20, "n": 4, "k": 300}),  # few rows
        (DENSE, {"m": 200, "n": 4, "k": 9}),  # a row is less than a vector
        ("k,m;k,n->m,n", {"m": 200, "n": 4, "k": 300}),  # k runs across lines of lhs
    ],
)
def test_other_products_do_not(spec, sizes):
    assert not plan(spec, sizes).crosswise


@pytest.mark.parametrize("target", [X86_64_V2, X86_64_V3, WASM32_SIMD])
def test_every_target_has_registers_for_its_plan(target):
    found = plan(DENSE, {"m": 200, "n": 8, "k": 300}, target)
    assert not found.crosswise or found.lanes + found.vector.extent < target.vector_registers


@pytest.mark.parametrize(
    "spec, sizes, kind",
    [
        (DENSE, {"m": 67, "n": 3, "k": 37}, "f32"),
        (TRANSPOSED, {"m": 130, "n": 5, "k": 64}, "f32"),
        (DENSE, {"m": 66, "n": 7, "k": 33}, "f64"),
        (DENSE, {"m": 70, "n": 3, "k": 40}, "i32"),
        ("i,k;k,j->j,i", {"i": 70, "j": 3, "k": 40}, "f32"),  # a transposed result
        ("b,x+r,c;r,c,n->b,x,n", {"b": 2, "x": 70, "r": 3, "c": 20, "n": 3}, "f32"),  # a convolution to few channels
    ],
)
def test_results(spec, sizes, kind):
    check(spec, sizes, kind=kind)


def test_a_row_has_the_same_bits_in_any_batch():
    form = contract_form(DENSE, {"m": BATCH * 4, "n": 3, "k": 50})
    assert plan_of(form, X86_64_V4).crosswise and thin_of(form, plan_of(form, X86_64_V4), X86_64_V4) is None
    x0, x1 = operands(form, {"batch": 17}, "f32")
    whole = run_form(form, {"x0": x0, "x1": x1}, {"batch": 17})["y"]
    for batch in (1, 6):
        part = run_form(form, {"x0": x0[: 4 * batch].copy(), "x1": x1}, {"batch": batch})["y"]
        np.testing.assert_array_equal(part, whole[: 4 * batch])


def test_nan_stays_in_its_row():
    form = contract_form(DENSE, {"m": 70, "n": 3, "k": 20})
    x0, x1 = operands(form, {}, "f32")
    x0[69, 19] = np.nan
    got = run_form(form, {"x0": x0, "x1": x1})["y"]
    assert np.isnan(got[69]).all() and not np.isnan(got[:69]).any()
