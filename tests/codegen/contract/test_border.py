"""Products with a border of zeros are left out: results are those of NumPy, and what lies in the border is not read.

Where a tile leaves out all it could, numbers in the border that would show (NaN) change nothing.
"""

from dataclasses import replace

import numpy as np
import pytest

from kcompile.codegen.contract import border, border_cost, describe
from kcompile.codegen.contract.classify import classify
from kcompile.codegen.contract.emitter import plan_of
from kcompile.codegen.host import host_target
from kcompile.forms.digest import digest
from kcompile.forms.records import Border
from kcompile.ir import dim
from kcompile.ir.dim import Axis, symbol
from tests.codegen.contract.check import TOLERANCE, operands, reference
from tests.codegen.contract.forms import contract_form
from tests.codegen.contract.native import run_form

BATCH = symbol("batch")
FORWARD = "b,i+r,j+s,c;r,s,c,n->b,i,j,n"
FILTER = "b,i+r,j+s,c;b,i,j,n->r,s,c,n"
DATA = "b,i+r,j+s,n;r,s,c,n->b,i,j,c"


@pytest.fixture(autouse=True)
def loops_cost_nothing(monkeypatch):
    """Small sizes: leave out all that can be, whether it pays or not."""
    for name in ("ENTRY_CYCLES", "SEGMENT_CYCLES", "SMALLER_TILE"):
        monkeypatch.setattr(border_cost, name, 0)


def bordered(spec: str, sizes: dict, widths: tuple[tuple[int, int], ...]):
    """The form with x0's dimensions 1, 2, ... said to have borders of these widths."""
    form = contract_form(spec, sizes)
    shape = form.buffers[0].type.shape
    widths = ((0, 0), *widths, *((0, 0) for _ in shape[1 + len(widths) :]))
    inside = tuple((low, size - high) for (low, high), size in zip(widths, shape))
    return replace(form, borders=(Border("x0", inside),))


def check(spec: str, sizes: dict, widths, actual: dict | None = None, is_exact: bool = True) -> None:
    """Compare with NumPy, then bit by bit: tasks split, other numbers in the border."""
    actual = actual or {}
    form = bordered(spec, sizes, widths)
    assert "left out" in describe(form, host_target())
    x0, x1 = operands(form, actual, "f32")
    inside = tuple(slice(*(dim.evaluate(n, actual) for n in side)) for side in form.borders[0].inside)
    zeros = np.zeros_like(x0)
    zeros[inside] = x0[inside]
    known = {c: dim.evaluate(s, actual) for c, s in sizes.items()}
    expected, scale = (reference(spec, f(zeros).astype("f8"), f(x1).astype("f8"), known) for f in (np.array, np.abs))
    got = run_form(form, {"x0": zeros, "x1": x1}, actual)["y"]
    assert np.all(np.abs(got - expected) <= TOLERANCE["f32"] * scale)
    np.testing.assert_array_equal(got, run_form(form, {"x0": zeros, "x1": x1}, actual, workers=3)["y"])
    if is_exact:
        other = np.full_like(x0, np.nan)
        other[inside] = x0[inside]
        np.testing.assert_array_equal(got, run_form(form, {"x0": other, "x1": x1}, actual)["y"])


@pytest.mark.parametrize("side", [2, 7, 14, 28])
@pytest.mark.parametrize("spec", [FORWARD, FILTER, DATA])
def test_three_by_three(spec, side):
    sizes = {"b": BATCH, "i": side, "j": side, "r": 3, "s": 3, "c": 48, "n": 40}
    check(spec, sizes, ((1, 1), (1, 1)), {"batch": 2})


def test_no_tile_that_leaves_steps_out_makes_the_panel_it_reads():
    small = replace(host_target(), l1d_bytes=32 * 1024, l2_bytes=16 * 1024)
    form = bordered(FORWARD, {"b": 16, "i": 6, "j": 6, "r": 3, "s": 3, "c": 32, "n": 256}, ((1, 1), (1, 1)))
    plan = plan_of(form, small)
    assert plan.windows and plan.packs_late
    assert not plan.makes_panels and not plan.lined and replace(plan, windows=()).makes_panels
    x0, x1 = operands(form, {}, "f32")
    x0 = np.pad(x0[:, 1:-1, 1:-1], ((0, 0), (1, 1), (1, 1), (0, 0)))
    x1[0, 0, 3, 5] = np.inf  # a product with the border, of places in the first row or column, would be NaN
    one, three = (run_form(form, {"x0": x0, "x1": x1}, workers=n, target=small)["y"] for n in (1, 3))
    np.testing.assert_array_equal(one, three)
    np.testing.assert_allclose(one[..., :5], _sums(x0, x1[..., :5]), rtol=1e-3, atol=1e-3)
    assert np.all(np.isfinite(one[..., 6:])) and np.all(np.isinf(one[:, 1:, 1:, 5]))


def _sums(x, w):
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[:2], (1, 2))
    return np.einsum("bijcrs,rscn->bijn", windows, w, optimize=True)


@pytest.mark.parametrize("spec", [FORWARD, FILTER])
def test_blocks_of_the_sum_cut_the_window(spec):
    sizes = {"b": 9, "i": 7, "j": 7, "r": 3, "s": 3, "c": 384, "n": 64}
    check(spec, sizes, ((1, 1), (1, 1)))


def test_larger_windows_leave_out_what_fits_their_loops():
    sizes = {"b": BATCH, "i": 6, "j": 6, "r": 5, "s": 7, "c": 32, "n": 32}
    check(FORWARD, sizes, ((2, 2), (3, 3)), {"batch": 3}, is_exact=False)
    sizes = {"b": BATCH, "i": 14, "j": 14, "r": 5, "s": 5, "c": 32, "n": 32}
    check(FORWARD, sizes, ((2, 2), (2, 2)), {"batch": 3})


def test_strides_dilation_and_uneven_borders():
    sizes = {"b": BATCH, "i": 7, "j": 7, "r": 3, "s": 3, "c": 32, "n": 32}
    check("b,i*2+r,j*2+s,c;r,s,c,n->b,i,j,n", sizes, ((0, 1), (1, 1)), {"batch": 2})
    check("b,i+r*3,j+s*2,c;r,s,c,n->b,i,j,n", sizes, ((3, 3), (2, 2)), {"batch": 2})
    check("b,i+r,j+s,c;r,s,c,n->b,i,j,n", sizes, ((2, 0), (0, 2)), {"batch": 2})


def test_a_border_wider_than_the_image():
    sizes = {"b": BATCH, "i": 5, "j": 5, "r": 4, "s": 4, "c": 32, "n": 32}
    check("b,i+r,j+s,c;r,s,c,n->b,i,j,n", sizes, ((3, 3), (3, 3)), {"batch": 2}, is_exact=False)


def test_one_and_three_dimensions():
    check("b,i+r,c;r,c,n->b,i,n", {"b": BATCH, "i": 9, "n": 32, "r": 3, "c": 32}, ((2, 0),), {"batch": 2})
    sizes = {"b": BATCH, "i": 3, "j": 4, "k": 4, "n": 32, "r": 3, "s": 3, "t": 3, "c": 32}
    check("b,i+r,j+s,k+t,c;r,s,t,c,n->b,i,j,k,n", sizes, ((1, 1),) * 3, {"batch": 2})


class _Ints(border.IndexArithmetic):
    pass


@pytest.mark.parametrize("seed", range(40))
def test_segments_cover_what_is_needed_once(seed):
    rng = np.random.default_rng(seed)
    out, tap = Axis("i", int(rng.integers(1, 12))), Axis("r", int(rng.integers(1, 8)))
    steps = rng.integers(1, 4, 2).tolist()
    low = int(rng.integers(0, 6))
    window = border.Window(out, tap, *steps, low, low + int(rng.integers(1, 20)))
    needed = np.array([
        [low <= i * steps[0] + r * steps[1] < window.high for r in range(tap.extent)] for i in range(out.extent)
    ])  # fmt: skip
    assert border.live(window) == needed.sum()
    count = int(rng.integers(1, out.extent + 1))
    place = int(rng.integers(0, out.extent - count + 1))
    begin = int(rng.integers(0, tap.extent))
    end = int(rng.integers(begin, tap.extent + 1))
    done = np.zeros_like(needed, int)
    cuts = border.cuts(window, count, [(window, count)])
    for part in border.segments(_Ints(), window, place, count, cuts, begin, end):
        done[place + part.cut_low : place + count - part.cut_high, part.begin : part.end] += 1
    tile = (slice(place, place + count), slice(begin, end))
    assert done.max(initial=0) <= 1 and done.sum() == done[tile].sum()
    assert (done[tile] >= needed[tile]).all()


def test_windows_are_those_of_the_border():
    sizes = {"b": BATCH, "i": 7, "j": 7, "r": 3, "s": 3, "c": 8, "n": 32}
    form = bordered(FORWARD, sizes, ((1, 1), (0, 0)))
    (window,) = border.windows(form)
    assert (window.out.name, window.tap.name, window.low, window.high) == ("i", "r", 1, 8)
    assert border.live(window) == 19
    assert classify(form).windows == (window,)
    both = bordered(FORWARD, sizes, ((1, 1), (1, 1)))
    assert len(classify(both).windows) == 1  # s is one axis with c
    assert len(classify(both, apart=form.over).windows) == 2
    assert digest(both) != digest(form) != digest(contract_form(FORWARD, sizes))


def test_more_loops_than_products_are_not_worth_it(monkeypatch):
    monkeypatch.undo()
    few = bordered(FORWARD, {"b": 1, "i": 56, "j": 56, "r": 3, "s": 3, "c": 1, "n": 32}, ((1, 1), (1, 1)))
    many = bordered(FORWARD, {"b": 1, "i": 7, "j": 7, "r": 3, "s": 3, "c": 64, "n": 32}, ((1, 1), (1, 1)))
    assert "border of r and s" not in describe(few, host_target())
    assert "border of r and s" in describe(many, host_target())


def test_images_read_in_planes():
    sizes = {"b": BATCH, "i": 12, "j": 40, "r": 5, "s": 3, "c": 9, "n": 3}
    form = bordered(FORWARD, sizes, ((2, 2), (1, 1)))
    assert "planes, border of r left out" in describe(form, host_target())
    check(FORWARD, sizes, ((2, 2), (1, 1)), {"batch": 2}, is_exact=False)
