"""Columns left over after whole vectors: their plans and results, for every number of steps a vector may take."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile.codegen.contract import folded
from kcompile.codegen.contract.emitter import plan_of
from kcompile.ir.dim import symbol
from kcompile.target import X86_64_V3, X86_64_V4
from tests.codegen.contract.check import check, operands
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

DENSE, TRANSPOSED = "m,k;k,n->m,n", "m,k;n,k->m,n"
CONV = "b,i+r,j+s,c;r,s,c,n->b,i,j,n"
BATCH = symbol("batch")


def plan(spec: str, sizes: dict, target=X86_64_V4):
    return plan_of(contract_form(spec, sizes), target)


def image(c: int, n: int, b=1) -> dict:
    return {"b": b, "i": 31, "j": 29, "r": 5, "s": 3, "c": c, "n": n}


def test_steps_follow_from_the_columns_left():
    for columns, folds in {1: (16,), 17: (16,), 18: (8,), 20: (4,), 21: (2,), 24: (2,), 32: ()}.items():
        assert folded.folds_of(columns, 16, 99) == folds
    assert folded.folds_of(9, 8, 99) == (8,) and folded.folds_of(17, 16, 9) == (4,)


def test_nine_to_twelve_columns_are_half_of_a_vector_and_a_few():
    for columns, folds in {9: (2, 16), 26: (2, 8), 11: (2, 4), 28: (2, 4), 13: (), 16: ()}.items():
        assert folded.folds_of(columns, 16, 99) == folds
    assert folded.folds_of(12, 16, 7) == () and folded.folds_of(5, 8, 99) == (2, 8)
    assert plan(DENSE, {"m": 1000, "n": 10, "k": 500}).columns.folds == (2, 8)


@pytest.mark.parametrize("n, fold", [(17, 16), (18, 8), (33, 16), (36, 4), (40, 2)])
def test_a_window_to_few_channels_more_than_whole_vectors_is_folded(n, fold):
    assert plan(CONV, image(n, n)).columns.fold == fold


@pytest.mark.parametrize(
    "spec, sizes",
    [
        (DENSE, {"m": 200, "n": 64, "k": 300}),  # whole vectors
        (DENSE, {"m": 200, "n": 60, "k": 300}),  # the last one is nearly full
        (DENSE, {"m": 2, "n": 65, "k": 300}),  # two rows do not pay for panels
        ("k,m;k,n->m,n", {"m": 200, "n": 33, "k": 300}),  # k runs across lines of lhs
        (DENSE, {"m": BATCH, "n": 33, "k": 300}),  # rows may be one, and have the same bits in any batch
    ],
)
def test_others_are_not(spec, sizes):
    assert plan(spec, sizes).columns.fold == 1


@pytest.mark.parametrize(
    "spec, sizes, kind, folds",
    [
        (DENSE, {"m": 37, "n": 53, "k": 911}, "f32", (8, 2)),
        (DENSE, {"m": 70, "n": 17, "k": 55}, "f32", (8, 16)),
        (TRANSPOSED, {"m": 45, "n": 34, "k": 64}, "f32", (4, 8)),
        (DENSE, {"m": 40, "n": 35, "k": 50}, "f32", (2, 4)),
        (DENSE, {"m": 61, "n": 9, "k": 70}, "f64", (8, 16)),
        (DENSE, {"m": 50, "n": 40, "k": 33}, "i32", (1, 2)),
        (DENSE, {"m": 30, "n": 113, "k": 1500}, "f32", (1, 16)),  # blocks of k
        (CONV, {"b": 2, "i": 9, "j": 8, "r": 3, "s": 3, "c": 7, "n": 17}, "f32", (8, 8)),
        ("b,i*2+r,c;r,c,n->b,i,n", {"b": 2, "i": 40, "r": 3, "c": 16, "n": 19}, "f32", (2, 4)),
        ("g,m,k;g,k,n->g,m,n", {"g": 3, "m": 33, "n": 20, "k": 40}, "f32", (2, 4)),
        (DENSE, {"m": 50, "n": 10, "k": 65}, "f32", (4, 8)),  # a single step left
        (DENSE, {"m": 21, "n": 5, "k": 33}, "f64", (8, 2)),
        (DENSE, {"m": 100, "n": 75, "k": 1501}, "f32", (1, 4)),
    ],
)
@pytest.mark.parametrize("target", [X86_64_V3, X86_64_V4])
def test_results(spec, sizes, kind, folds, target, monkeypatch):
    """folds: what is expected of each target; 1 where columns fill the vector, or another path is cheaper."""
    monkeypatch.setattr(folded, "LEAST_GAIN", 0.5)
    assert plan(spec, sizes, target).columns.fold == folds[target is X86_64_V4]
    check(spec, sizes, kind=kind, target=target)


def test_a_row_has_the_same_bits_in_any_batch():
    form = contract_form(CONV, image(7, 17, BATCH) | {"i": 6, "j": 7})
    assert plan_of(form, X86_64_V4).columns.fold == 8
    x0, x1 = operands(form, {"batch": 5}, "f32")
    whole = run_form(form, {"x0": x0, "x1": x1}, {"batch": 5})["y"]
    part = run_form(form, {"x0": x0[:1].copy(), "x1": x1}, {"batch": 1})["y"]
    np.testing.assert_array_equal(part, whole[:1])


def test_nan_stays_in_its_row():
    form = contract_form(DENSE, {"m": 70, "n": 33, "k": 21})
    assert plan_of(form, X86_64_V4).columns.fold > 1
    x0, x1 = operands(form, {}, "f32")
    x0[68, 20], x0[3, 0] = np.nan, np.inf
    got = run_form(form, {"x0": x0, "x1": x1})["y"]
    bad = np.isin(np.arange(70), [3, 68])
    assert np.isnan(got[68]).all() and np.isfinite(got[~bad]).all()
