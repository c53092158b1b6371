"""Rows: sums and maxima of a row, and what is made of them. Every run is made with 1 to 4 workers."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.codegen.loops import plan
from kcompile.forms.records import (
    IN,
    LOCAL,
)
from kcompile.ir.types import Type, f32, i32
from kcompile.target import X86_64_V4
from tests.codegen.loops.kernels import SIZES, B, T, check, draw, forms, layer_norm, only, row_softmax


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("known", (False, True))
def test_softmax(width, known):
    form = only(lambda g: row_softmax(g, width if known else T))
    for batch in (0, 1, 20):
        y = check(form, {"batch": batch, "time": width})
        (y,) = y.values()
        np.testing.assert_allclose(y.sum(1), np.ones(batch), rtol=1e-5)


def test_row_temporaries_of_unknown_length_live_in_the_workers_workspace():
    def build(g):
        x = g.input("x", Type(f32, (B, T)))
        e = ops.exp(x)
        total = ops.reduce_sum(e, axes=(1,), keepdims=True)
        g.output("y", ops.reduce_max(ops.div(e, total), axes=(1,), keepdims=False))

    form = only(build)
    assert any(b.role == LOCAL and b.type.shape for b in form.buffers)
    for time in (1, 50, 3000):
        check(form, {"batch": 13, "time": time})


@pytest.mark.parametrize("width", (1, 8, 77, 256))
def test_layer_norm(width):
    check(only(lambda g: layer_norm(g, width)), {"batch": 6})


@pytest.mark.parametrize("name", ("reduce_max", "reduce_min"))
def test_nan_reaches_the_result_of_a_row(name):
    form = only(
        lambda g: g.output("y", getattr(ops, name)(g.input("x", Type(f32, (B, 70))), axes=(1,), keepdims=False))
    )
    x = np.random.default_rng(0).standard_normal((5, 70)).astype(np.float32)
    x[1, 3], x[2, 69], x[3] = np.nan, np.nan, np.inf
    (y,) = check(
        form, {"batch": 5}, {form.buffers[0].name if form.buffers[0].role == IN else form.buffers[1].name: x}
    ).values()
    assert np.isnan(y[1]) and np.isnan(y[2]) and np.isinf(y[3]) and np.isfinite(y[[0, 4]]).all()


@pytest.mark.parametrize("axis", (0, 1, 2))
def test_argmax_takes_the_first(axis):
    form = only(lambda g: g.output("y", ops.argmax(g.input("x", Type(i32, (B, 30, 21))), axis=axis)))
    check(form, {"batch": 6})


def test_empty_rows_give_the_identity():
    def build(g):
        x = g.input("x", Type(f32, (B, T)))
        g.output("sum", ops.reduce_sum(x, axes=(1,), keepdims=False))
        g.output("max", ops.reduce_max(x, axes=(1,), keepdims=False))

    for form in forms(build):
        check(form, {"batch": 4, "time": 0})


@pytest.mark.parametrize(("width", "several"), [(48, True), (5000, False), (T, False)])
def test_short_rows_take_turns_in_each_nest(width, several):
    form = only(lambda g: row_softmax(g, width))
    ((schedule,),) = plan.make_plan(form, X86_64_V4).phases
    assert (schedule.jam > 1) == several
    if several:  # as many rows as fill no group, and NaN stays in its row
        arrays = draw(form, {"batch": 37})
        (x,) = arrays.values()
        x[5, 7] = np.nan
        (y,) = check(form, {"batch": 37}, arrays).values()
        assert np.isnan(y[5]).all() and np.isnan(y).sum() == width
