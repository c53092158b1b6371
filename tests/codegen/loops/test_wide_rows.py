"""Rows in wide vectors, rows that take turns, rows asked for ahead: the values and bits stay what they are."""

from dataclasses import replace

import numpy as np
import pytest

from kcompile import ops
from kcompile.codegen import loops
from kcompile.codegen.host import host_target
from kcompile.codegen.loops.ahead import rows_ahead
from kcompile.codegen.loops.flat import flatten, mentions
from kcompile.codegen.loops.in_results import rows_in_results
from kcompile.codegen.loops.plan import make_plan
from kcompile.forms import interpret
from kcompile.ir.types import Type, f32
from kcompile.target import AARCH64_NEON, X86_64_V3, X86_64_V4
from tests.codegen import harness
from tests.codegen.loops.kernels import B, draw, layer_norm, only, softmax
from tests.tolerances import assert_close

WIDTH = 150  # two wide vectors, one more, and a rest


def extremes(g):
    x = g.input("x", Type(f32, (B, WIDTH)))
    g.output("high", ops.reduce_max(x, axes=(1,), keepdims=False))
    g.output("low", ops.reduce_min(x, axes=(1,), keepdims=False))


def test_nan_is_found_wherever_it_stands_in_a_row():
    x = np.random.default_rng(0).standard_normal((WIDTH + 4, WIDTH)).astype("float32")
    x[np.arange(WIDTH), np.arange(WIDTH)] = np.nan
    x[WIDTH], x[WIDTH + 1], x[WIDTH + 2, 5] = np.inf, -np.inf, -np.inf
    form = only(extremes)
    found = harness.run_form(form, {_input(form): x}, {"batch": len(x)}, workers=(1, 3))
    outputs = [b.name for b in form.buffers if b.name in found]
    for name, expected in zip(outputs, (x.max(axis=1), x.min(axis=1))):
        np.testing.assert_array_equal(found[name], expected)
        assert np.isnan(found[name][:WIDTH]).all()


def test_exponentials_of_a_row_far_out_of_range():
    x = np.zeros((2, WIDTH), "float32")
    x[0, :10] = (3e38, -3e38, 1e9, -1e9, 89.0, -104.0, np.inf, -np.inf, np.nan, -87.5)
    x[1, :10] = (88.7, -100.0, -0.0, 1e-40, 5e6, -5e6, 120.0, -120.0, 1e20, -1e20)

    def build(g):
        y = ops.exp(g.input("x", Type(f32, (B, WIDTH))))
        g.output("y", y)
        g.output("s", ops.reduce_sum(y, axes=(1,), keepdims=False))

    form = only(build)
    found = harness.run_form(form, {_input(form): x}, {"batch": 2})
    y = next(v for v in found.values() if v.shape == x.shape)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(y, np.exp(x.astype("float64")).astype("float32"), rtol=2e-7, atol=2e-45)
    assert not np.signbit(y[~np.isnan(y)]).any()


def rows(g, width=256):
    g.output("y", softmax(g.input("x", Type(f32, (B, width)))))


@pytest.mark.parametrize("build", [lambda g: rows(g, 24), lambda g: layer_norm(g, 24)])
def test_rows_asked_for_ahead_and_rows_that_take_turns_change_no_bit(build, monkeypatch):
    form = only(build)
    arrays, found = draw(form, {"batch": 37}), []
    near = replace(host_target(), l2_bytes=1 << 40, l3_bytes=1 << 40)
    far = replace(host_target(), l2_bytes=1 << 16, l3_bytes=1 << 16)
    alone = replace(far, l1d_bytes=1 << 8)  # no row takes turns
    for target in (near, far, alone):
        monkeypatch.setattr(harness, "host_target", lambda t=target: t)
        found.append(harness.run_form(form, arrays, {"batch": 37}, workers=(1, 3)))
        for name, array in found[0].items():
            np.testing.assert_array_equal(found[-1][name], array)


def test_who_asks_ahead():
    for target in (X86_64_V4, X86_64_V3, AARCH64_NEON):
        small = replace(target, l2_bytes=1 << 16, l3_bytes=1 << 30)
        assert "llvm.prefetch" in loops.emit(only(rows), small, "k").ir_text  # an exponential takes its time
        assert "llvm.prefetch" not in loops.emit(only(lambda g: layer_norm(g, 256)), small, "k").ir_text
    large = replace(X86_64_V4, l2_bytes=1 << 40)
    assert "llvm.prefetch" not in loops.emit(only(rows), large, "k").ir_text
    tiny = replace(X86_64_V4, l2_bytes=1 << 10, l3_bytes=1 << 10)  # a row would not fit
    assert rows_ahead(flatten(only(lambda g: rows(g, 4096))), 1, tiny) == {}


def test_the_place_asked_for_is_that_many_rows_on():
    part = flatten(only(rows))
    small = replace(X86_64_V4, l2_bytes=1 << 14)
    ((_, places),) = rows_ahead(part, 3, small).items()
    ((name, place),) = places
    loaded = next(n for g in part.groups for s in g.body for n in (s.value,) if getattr(n, "buffer", "") == name)
    assert place - loaded.index[0] == 3 * 256


def test_how_many_rows_take_turns():
    jam = {w: make_plan(only(lambda g, w=w: layer_norm(g, w)), X86_64_V4).phases[0][0].jam for w in (64, 600, 4096)}
    assert jam == {64: 16, 600: 8, 4096: 1}

    def scaled(g):  # a number of each row takes no room
        x, u = g.input("x", Type(f32, (B, 600))), g.input("u", Type(f32, (B, 1)))
        centred = x - ops.reduce_max(x, axes=(1,), keepdims=True)
        g.output("y", centred * (u / ops.reduce_sum(ops.abs(centred), axes=(1,), keepdims=True)))

    assert make_plan(only(scaled), X86_64_V4).phases[0][0].jam >= 4


def _input(form):
    return next(b.name for b in form.buffers if b.role == "in")


def test_many_short_rows_are_summed_in_one_phase():
    """Adding up parts of 32 numbers costs more than the rows give threads to do; a few long rows are split."""

    def sums(rows: int, width: int):
        def make(g):
            a, b = g.input("a", Type(f32, (rows, 1, width))), g.input("b", Type(f32, (1, 64, width)))
            g.output("y", ops.reduce_sum(ops.tanh(a + b), axes=(2,), keepdims=False))

        return loops.emit(only(make), X86_64_V3, "sums")

    assert len(sums(64, 32).phases) == 1
    assert len(sums(1, 4096).phases) == 2


def test_division_by_a_number_of_the_row():
    """Two multiplications: right to 1.5 units in the last place, and infinities, zeros and NaN as a division has."""
    numbers = (1.0, 3.0, -7.0, 1e-45, 1e-39, -2.5e-38, 3e38, -1e20, 1e-20, 0.0, -0.0, np.inf, -np.inf, np.nan)

    def build(g):
        x, u = g.input("x", Type(f32, (B, WIDTH))), g.input("u", Type(f32, (B, 1)))
        g.output("y", x / (u * (ops.reduce_max(x, axes=(1,), keepdims=True) * 0.0 + 1.0)))

    form = only(build)
    x = np.random.default_rng(0).standard_normal((len(numbers), WIDTH)).astype("float32")
    x *= np.exp2(np.random.default_rng(1).integers(-100, 100, x.shape)).astype("float32")
    u = np.array(numbers, "float32")[:, None]
    names = {b.type.shape[1]: b.name for b in form.buffers if b.role == "in"}
    (found,) = harness.run_form(form, {names[WIDTH]: x, names[1]: u}, {"batch": len(x)}).values()
    with np.errstate(all="ignore"):
        wanted = x / u
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
        normal = np.abs(wanted) > 1.2e-38
        np.testing.assert_allclose(found[normal], wanted[normal], rtol=1.8e-7)
        np.testing.assert_allclose(found[~normal], wanted[~normal], rtol=0, atol=3e-45)


def test_exponentials_of_a_softmax_lie_in_its_result():
    part = flatten(only(rows))
    (row,) = rows_in_results(part, X86_64_V4)
    assert part.buffers[row.result].role == "out" and not mentions(row.start, part.groups[1].spans[0].axis)
    assert rows_in_results(flatten(only(layer_norm)), X86_64_V4) == ()  # nothing is kept there


def test_a_row_that_is_read_again_stays_local():
    def build(g):
        x = g.input("x", Type(f32, (B, WIDTH)))
        e = ops.exp(x - ops.reduce_max(x, axes=(1,), keepdims=True))
        y = e / ops.reduce_sum(e, axes=(1,), keepdims=True)
        g.output("y", y)
        g.output("z", ops.reduce_sum(y * x, axes=(1,), keepdims=True) * e)

    form = only(build)
    arrays = draw(form, {"batch": 21})
    for name, expected in interpret.run(form, arrays, {"batch": 21}).items():
        assert_close(harness.run_form(form, arrays, {"batch": 21}, workers=(1, 3))[name], expected, "", name)
