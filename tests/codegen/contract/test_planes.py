"""Images read along their pixels, where channels of the result would leave lanes empty."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile.codegen.contract import folded
from kcompile.codegen.contract.emitter import plan_of
from kcompile.ir.dim import symbol
from kcompile.target import WASM32_SIMD, X86_64_V3, X86_64_V4
from tests.codegen.contract.check import check, operands
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

IMAGES = "b,y+r,x+s,c;r,s,c,n->b,y,x,n"
BATCH = symbol("batch")


@pytest.fixture(autouse=True)
def _without_folding(monkeypatch):
    """Columns left over may be folded instead (test_folded.py); here that is no choice."""
    monkeypatch.setattr(folded, "LEAST_GAIN", 1e9)


def sizes(n: int, c: int = 24, b=2, x: int = 31) -> dict:
    return {"b": b, "y": 9, "x": x, "r": 5, "s": 3, "c": c, "n": n}


def plan(spec: str, given: dict, target=X86_64_V4):
    return plan_of(contract_form(spec, given), target)


@pytest.mark.parametrize("n", [5, 17, 18, 20, 33])
def test_channels_that_leave_lanes_empty_are_not_what_vectors_run_along(n):
    found = plan(IMAGES, sizes(n))
    assert found.planes and not found.packed and found.vector.extent == 31
    assert found == plan(IMAGES, sizes(n))


@pytest.mark.parametrize(
    "spec, given",
    [
        (IMAGES, sizes(16)),  # its channels fill vectors
        (IMAGES, sizes(31)),
        (IMAGES, sizes(17, x=5)),  # a row of the image fills none
        ("b,x*2+s,c;s,c,n->b,x,n", {"b": 2, "x": 40, "s": 3, "c": 24, "n": 17}),  # pixels a step apart
        ("m,k;k,n->m,n", {"m": 400, "k": 300, "n": 17}),  # nothing is read twice
    ],
)
def test_others_are_read_where_they_lie(spec, given):
    assert not plan(spec, given).planes


@pytest.mark.parametrize(
    "spec, given, kind",
    [
        (IMAGES, sizes(17, 17), "f32"),
        (IMAGES, sizes(3, 20, x=50), "f32"),
        (IMAGES, sizes(5, 7, x=19), "f32"),  # fewer channels than lanes
        (IMAGES, sizes(9, 18, x=40), "f64"),
        (IMAGES, sizes(18, 16), "i32"),
        ("b,x+s*2,c;s,c,n->b,x,n", {"b": 3, "x": 46, "s": 4, "c": 19, "n": 17}, "f32"),  # one axis, spread taps
        ("z+q,y,x+s,c;q,s,c,n->z,y,x,n", {"z": 5, "y": 3, "x": 30, "q": 3, "s": 3, "c": 5, "n": 17}, "f32"),
        (IMAGES, {**sizes(49, 96, 1, 32), "y": 2}, "f32"),  # blocks of k
        ("b,y+r,x+s,c;r,s,n,c->b,y,x,n", sizes(17, 21), "f32"),  # a filter the other way round: a data gradient
    ],
)
def test_results(spec, given, kind):
    assert plan_of(contract_form(spec, given, kind), X86_64_V4).planes
    check(spec, given, kind=kind)


@pytest.mark.parametrize("target", [X86_64_V3, WASM32_SIMD])
def test_targets_of_other_widths_have_a_plan(target):
    found = plan(IMAGES, sizes(9, 3), target)
    assert not found.planes or found.planes.width % found.lanes == 0


def test_an_image_has_the_same_bits_in_any_batch():
    form = contract_form(IMAGES, sizes(17, b=BATCH))
    assert plan_of(form, X86_64_V4).planes
    x0, x1 = operands(form, {"batch": 5}, "f32")
    whole = run_form(form, {"x0": x0, "x1": x1}, {"batch": 5})["y"]
    part = run_form(form, {"x0": x0[:2].copy(), "x1": x1}, {"batch": 2})["y"]
    np.testing.assert_array_equal(part, whole[:2])


def test_nan_stays_in_its_window():
    form = contract_form(IMAGES, sizes(17))
    x0, x1 = operands(form, {}, "f32")
    x0[1, 12, 32, 23] = np.nan  # the last pixel of the last row: of one window only
    got = np.isnan(run_form(form, {"x0": x0, "x1": x1})["y"])
    assert got[1, 8, 30].all() and got.sum() == 17
