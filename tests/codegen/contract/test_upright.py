"""Columns left over whose sums run along the rows of a tile: their plans and results, for few and many rows."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile.codegen.contract import upright
from kcompile.codegen.contract.emitter import plan_of
from kcompile.ir.dim import symbol
from kcompile.target import X86_64_V3, X86_64_V4
from tests.codegen.contract.check import check, operands
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

ACROSS = "k,m;k,n->m,n"
FILTER = "b,y+r,x+s,c;b,y,x,n->r,s,c,n"
BATCH = symbol("batch")


def plan(spec: str, sizes: dict, target=X86_64_V4):
    return plan_of(contract_form(spec, sizes), target)


def images(c: int, n: int, b=1) -> dict:
    return {"b": b, "y": 31, "x": 29, "r": 5, "s": 3, "c": c, "n": n}


@pytest.mark.parametrize("c, n", [(17, 17), (33, 33), (17, 33), (24, 24), (3, 33)])
def test_filter_gradients_with_few_columns_more_than_whole_vectors(c, n):
    assert plan(FILTER, images(c, n)).columns.upright


@pytest.mark.parametrize(
    "spec, sizes",
    [
        (FILTER, images(16, 16)),  # whole vectors
        (FILTER, images(20, 16)),  # whole vectors along the channels
        (FILTER, images(64, 17)),  # likewise
        ("m,k;k,n->m,n", {"m": 200, "n": 33, "k": 300}),  # neighbouring rows lie apart
        (ACROSS, {"m": BATCH, "n": 33, "k": 300}),  # rows may be one
    ],
)
def test_others_are_not(spec, sizes):
    assert not plan(spec, sizes).columns.upright


@pytest.mark.parametrize(
    "spec, sizes, kind, expected",
    [
        (ACROSS, {"m": 50, "n": 17, "k": 70}, "f32", (True, True)),
        (ACROSS, {"m": 40, "n": 35, "k": 70}, "f32", (True, True)),
        (ACROSS, {"m": 31, "n": 40, "k": 33}, "f32", (False, True)),
        (ACROSS, {"m": 21, "n": 9, "k": 33}, "f64", (True, True)),
        (ACROSS, {"m": 31, "n": 21, "k": 33}, "i32", (False, True)),
        (ACROSS, {"m": 64, "n": 33, "k": 1500}, "f32", (True, True)),  # blocks of k
        (FILTER, {"b": 4, "y": 20, "x": 18, "r": 3, "s": 3, "c": 17, "n": 17}, "f32", (True, True)),
        ("g,k,m;g,n,k->g,m,n", {"g": 3, "m": 33, "n": 20, "k": 40}, "f32", (True, True)),  # in panels
    ],
)
@pytest.mark.parametrize("target", [X86_64_V3, X86_64_V4])
def test_results(spec, sizes, kind, expected, target, monkeypatch):
    """expected: of each target; False where columns fill more than half of the vector, or another path is cheaper."""
    monkeypatch.setattr(upright, "LEAST_GAIN", 0.3)
    assert plan(spec, sizes, target).columns.upright == expected[target is X86_64_V4]
    check(spec, sizes, kind=kind, target=target)


def test_any_batch():
    form = contract_form(FILTER, images(3, 33, BATCH) | {"y": 6, "x": 7})
    assert plan_of(form, X86_64_V4).columns.upright
    for batch in (1, 5):
        check(FILTER, images(3, 33, BATCH) | {"y": 6, "x": 7}, {"batch": batch})


def test_nan_stays_in_its_row_and_column():
    form = contract_form(ACROSS, {"m": 70, "n": 33, "k": 210})
    assert plan_of(form, X86_64_V4).columns.upright
    x0, x1 = operands(form, {}, "f32")
    x0[20, 68], x1[7, 32] = np.nan, np.inf
    got = run_form(form, {"x0": x0, "x1": x1})["y"]
    assert np.isnan(got[68]).all() and not np.isfinite(got[:, 32]).any()
    assert np.isfinite(np.delete(got[:, :32], 68, axis=0)).all()
