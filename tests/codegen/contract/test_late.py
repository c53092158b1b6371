"""Panels and copied rows made by the tasks that need them: where, and with the results of copies made before."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from kcompile.codegen.contract import emit, lines
from kcompile.codegen.contract.emitter import plan_of
from kcompile.codegen.host import host_target
from kcompile.ir.dim import symbol
from kcompile.target import X86_64_V4
from tests.codegen.contract.check import check
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import Native, aligned, run_form

PRODUCT, ROWS = "m,k;k,n->m,n", "m,k;n,k->m,n"
COPIED = {"m": 520, "n": 1040, "k": 1024}  # rows a page apart, many for a small cache
SMALL, SMALL_V4 = (replace(t, l1d_bytes=32 * 1024, l2_bytes=16 * 1024) for t in (host_target(), X86_64_V4))


def planned(spec, sizes, target=SMALL_V4, **changes):
    return plan_of(replace(contract_form(spec, sizes), **changes), target)


def test_panels_are_late_where_many_row_tiles_meet_them_in_some_groups():
    assert planned(ROWS, {"m": 230, "n": 300, "k": 40}).packs_late
    for few in ({"m": 20, "n": 300, "k": 40}, {"m": 230, "n": 40, "k": 40}):
        assert planned(ROWS, few).packed and not planned(ROWS, few).packs_late
    kept = planned(ROWS, {"m": 230, "n": 300, "k": 40}, steady=("x1",))
    assert kept.keeps and not kept.packs_late


def test_rows_at_few_places_of_their_pages_are_packed():
    few, many = ({"m": 768, "n": n, "k": 768} for n in (768, 760))
    assert planned(PRODUCT, few, X86_64_V4).packs_late and not planned(PRODUCT, many, X86_64_V4).packed


def test_rows_are_copied_late_where_panels_are():
    plan = planned(PRODUCT, COPIED)
    assert plan.packs_late and plan.copies_late and plan.blocked
    assert plan.lined and lines.copied_beside(plan) and plan.k_steps % plan.lanes == 0
    assert plan.describe().endswith("rows copied late, in lines")
    cut = planned(PRODUCT, {**COPIED, "k": 1026})
    assert cut.lined and not lines.copied_beside(cut)  # the last vector of a row is no whole one


def test_tiles_make_panels_whose_rows_lie_along_them():
    assert planned(PRODUCT, COPIED).makes_panels
    turned = planned(ROWS, {"m": 230, "n": 300, "k": 40})
    assert turned.packs_late and not turned.makes_panels


@pytest.mark.parametrize(
    ("spec", "sizes", "kind"),
    [
        (ROWS, {"m": 230, "n": 301, "k": 41}, "f64"),
        ("g,m,k;g,n,k->g,m,n", {"g": 3, "m": 230, "n": 150, "k": 33}, "f32"),
        ("g,m,k;g,k,n->g,m,n", {"g": 2, "m": 520, "n": 1040, "k": 256}, "f32"),
    ],
)
def test_results_of_late_panels(spec, sizes, kind):
    assert planned(spec, sizes, SMALL).packs_late
    check(spec, sizes, kind=kind, target=SMALL)


def test_a_named_size():
    for n in (1, 64, 333):
        check(ROWS, {"m": 230, "n": symbol("n"), "k": 40}, {"n": n}, target=SMALL)


@pytest.mark.parametrize("k", [1024, 1026])
def test_results_of_late_rows(k):
    sizes = {"m": 525, "n": 1041, "k": k}
    plan = planned(PRODUCT, sizes, SMALL)
    assert plan.lined and plan.makes_panels
    check("g,m,k;g,k,n->g,m,n", {"g": 2, **sizes}, target=SMALL)


def test_results_of_late_rows_of_open_number():
    sizes = {**COPIED, "m": symbol("m") * 20}
    assert planned(PRODUCT, sizes, SMALL).lined
    check(PRODUCT, sizes, {"m": 27}, target=SMALL)


def test_threads_at_once_write_the_same_bytes():
    form = contract_form(PRODUCT, COPIED)
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype("float32") for s in ((520, 1024), (1024, 1040)))
    expected = run_form(form, {"x0": x, "x1": w}, target=SMALL)["y"]
    np.testing.assert_allclose(expected, x @ w, rtol=1e-3, atol=1e-3)
    native, workers = Native(emit(form, SMALL, "late"), SMALL), 4
    together = threading.Barrier(workers)
    for _ in range(3):
        arrays = [aligned(a) for a in (x, w, np.full((520, 1040), np.nan, "float32"))]
        clear, *calls = native.calls(arrays, {}, workers)
        assert len(calls) == workers
        clear()
        threads = [threading.Thread(target=lambda call=c: (together.wait(), call())) for c in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        np.testing.assert_array_equal(arrays[2], expected)
