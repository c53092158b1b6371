"""Sums across rows and of everything: columns in registers, two phases, accuracy; with 1 to 4 workers."""

import itertools

import numpy as np
import pytest

from kcompile import ops
from kcompile.codegen.loops import plan
from kcompile.forms.records import (
    IN,
)
from kcompile.ir.types import Type, boolean, f32, f64, i32
from kcompile.target import X86_64_V4
from tests.codegen.harness import run_form
from tests.codegen.loops.kernels import B, T, batch_statistics, check, draw, forms, kinds, only
from tests.tolerances import assert_close


@pytest.mark.parametrize("width", (1, 3, 10, 16, 64, 100, 513, 700))
@pytest.mark.parametrize("batch", (0, 1, 5, 300))
def test_sums_over_rows(width, batch):
    form = only(lambda g: g.output("y", ops.reduce_sum(g.input("x", Type(f32, (B, width))), axes=(0,), keepdims=False)))
    arrays = draw(form, {"batch": batch})
    (y,) = run_form(form, arrays, {"batch": batch}).values()
    (x,) = arrays.values()
    np.testing.assert_allclose(y, x.sum(0, dtype=np.float64), rtol=1e-5, atol=1e-5)


def test_batch_statistics_take_two_phases():
    form = only(batch_statistics)
    assert kinds(form) == [[plan.COLUMN], [plan.COLUMN]]
    check(form, {"batch": 0})
    arrays = draw(form, {"batch": 331})
    (x,) = arrays.values()
    found = run_form(form, arrays, {"batch": 331})
    wide = x.astype(np.float64)
    expected = [wide.sum((0, 1, 2)), np.square(wide).sum((0, 1, 2))]
    for y, e in zip(sorted(found.values(), key=lambda a: a.sum()), sorted(expected, key=lambda a: a.sum())):
        np.testing.assert_allclose(y, e, rtol=1e-5, atol=1e-3)


def test_numbers_of_rows_do_not_turn_a_sum_across_the_matrix():
    def build(g):
        x = g.input("x", Type(f32, (B, 48)))
        p, q = (g.input(n, Type(f32, (B, 1))) for n in "pq")
        value = ops.mul(ops.add(ops.mul(x, p), ops.mul(ops.mul(x, p), q)), x)
        g.output("y", ops.reduce_sum(value, axes=(0, 1), keepdims=False))

    form = only(build)
    first = plan.make_plan(form, X86_64_V4).phases[0][0]
    (nest,) = (g for g in first.part.groups if g.spans)
    assert nest.spans[-1].axis.extent == 48
    arrays = draw(form, {"batch": 37})
    (found,) = run_form(form, arrays, {"batch": 37}).values()
    x, p, q = (a.astype(np.float64) for a in sorted(arrays.values(), key=lambda a: -a.size))
    either = [(x * a * (1 + b) * x).sum() for a, b in ((p, q), (q, p))]
    assert np.isclose(found.item(), either, rtol=1e-5).any()


def test_columns_of_unknown_width_inside_rows():
    def build(g):
        x = g.input("x", Type(f32, (B, T, 60, T)))
        g.output("y", ops.reduce_max(x, axes=(2,), keepdims=False))

    form = only(build)
    assert kinds(form) == [[plan.COLUMN]]
    for time in (0, 1, 70):
        check(form, {"batch": 2, "time": time})


def test_softmax_over_a_leading_axis():
    def build(g):
        x = g.input("x", Type(f32, (B, T, 40)))
        g.output("y", ops.reduce_sum(ops.exp(x), axes=(1,), keepdims=False))

    check(only(build), {"batch": 3, "time": 50}, op="softmax")


@pytest.mark.parametrize("n", (1, 1000, 32768, 32769, 1_000_000))
def test_long_sums_stay_accurate(n):
    form = only(lambda g: g.output("y", ops.reduce_sum(g.input("x", Type(f32, (T,))), axes=(0,), keepdims=False)))
    x = np.random.default_rng(1).random(n, np.float32)
    name = next(b.name for b in form.buffers if b.role == IN)
    (y,) = run_form(form, {name: x}, {"time": n}).values()
    assert abs(y / x.sum(dtype=np.float64) - 1) < 1e-6


def test_long_rows_and_columns_stay_accurate():
    rng = np.random.default_rng(2)
    for axis, shape in ((1, (3, 200_000)), (0, (200_000, 3))):
        form = only(
            lambda g, s=shape, a=axis: g.output(
                "y", ops.reduce_sum(g.input("x", Type(f32, s)), axes=(a,), keepdims=False)
            )
        )
        x = rng.random(shape, np.float32)
        name = next(b.name for b in form.buffers if b.role == IN)
        (y,) = run_form(form, {name: x}).values()
        np.testing.assert_allclose(y, x.sum(axis, dtype=np.float64), rtol=1e-6)


def test_all_reduce_kinds_over_everything():
    def build(g):
        x = g.input("x", Type(f32, (B, 33)))
        flags = ops.gt(x, 3.0)
        for name in ("sum", "max", "min", "prod"):
            g.output(name, getattr(ops, f"reduce_{name}")(x, axes=(0, 1), keepdims=False))
        for name in ("any", "all"):
            g.output(name, getattr(ops, f"reduce_{name}")(flags, axes=(0, 1), keepdims=False))

    for form in forms(build):
        for batch in (0, 1, 3):
            check(form, {"batch": batch})


@pytest.mark.parametrize(
    "kind, how", [*itertools.product((f32, f64, i32), ("max", "min", "sum")), (boolean, "any"), (boolean, "all")]
)
@pytest.mark.parametrize("axis", (0, 1))
def test_reductions_of_every_width(kind, how, axis):
    """Whole vectors, a rest, and both, along rows and down columns."""
    op = getattr(ops, f"reduce_{how}")
    for width in (3, 16, 37, 150):
        shape = (5, width) if axis else (width, 37)
        form = only(lambda g, s=shape: g.output("y", op(g.input("x", Type(kind, s)), axes=(axis,), keepdims=False)))
        check(form, {})


@pytest.mark.parametrize("lanes", (1, 3, 17, 64, 200, 600))
def test_columns_keep_all_their_lanes(lanes):
    def build(g):
        x, a = g.input("x", Type(f32, (B, lanes))), g.input("a", Type(f32, (lanes,)))
        g.output("y", ops.reduce_sum(ops.mul(x, a), axes=(0,), keepdims=False))

    form = only(build)
    for batch in (1, 7, 1000):
        arrays = draw(form, {"batch": batch})
        wide = {n: a.astype("float64") for n, a in arrays.items()}
        rows, weights = sorted(wide.values(), key=lambda a: -a.ndim)
        (found,) = run_form(form, arrays, {"batch": batch}).values()
        assert_close(found / batch, ((rows * weights).sum(0) / batch).astype("float32"))
