"""Maxima that may leave NaN out: which ones, and that results cannot tell."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.codegen import loops
from kcompile.codegen.loops.flat import flatten
from kcompile.codegen.loops.shifts import shifts
from kcompile.forms.records import IN
from kcompile.ir.types import Type, f32, i32
from kcompile.target import X86_64_V4
from tests.codegen import harness
from tests.codegen.loops.kernels import B, only

WIDTH = 150


def exponentials(g, width=WIDTH):
    x = g.input("x", Type(f32, (B, width)))
    high = ops.reduce_max(x, axes=(1,), keepdims=True)
    return x, high, ops.exp(x - high)


def total(x):
    return ops.reduce_sum(x, axes=(1,), keepdims=True)


def softmax(g):
    _, _, e = exponentials(g)
    g.output("y", e / total(e))


def log_softmax(g):
    x, high, e = exponentials(g)
    g.output("y", (x - high) - ops.log(total(e)))


def log_sum(g):
    x = g.input("x", Type(f32, (B, WIDTH)))
    high = ops.reduce_max(x, axes=(1,), keepdims=True)
    high = ops.select(ops.isfinite(high), high, 0.0)
    g.output("y", ops.log(total(ops.exp(x - high))) + high)


def chosen(g):
    """The gradient of a cross-entropy: rows of another label have none."""
    _, _, e = exponentials(g)
    label = g.input("label", Type(i32, (B, 1)))
    inside = ops.ge(label, label - label)
    share = ops.select(inside, e / total(e), e - e)
    g.output("y", share)


def sum_of_some(g):  # half of the row does not enter the sum
    x, high, e = exponentials(g)
    g.output("y", e / total(ops.select(ops.gt(x, high - 1.0), e, e - e)))


def maximum_too(g):
    _, high, e = exponentials(g)
    g.output("high", high)
    g.output("y", e / total(e))


def unscaled(g):
    g.output("y", exponentials(g)[2])


SAFE, OTHERS = (softmax, log_softmax), (sum_of_some, maximum_too, unscaled, chosen)


@pytest.mark.parametrize("build", [*SAFE, log_sum, *OTHERS])
def test_which_maxima_leave_nan_out(build):
    form = only(build)
    found = shifts(flatten(form))
    assert bool(found) == (build in (*SAFE, log_sum)), found
    compared = "fcmp uno" in loops.emit(form, X86_64_V4, "k").ir_text
    assert compared != bool(found)


@pytest.mark.parametrize("build", [softmax, log_sum])
def test_results_cannot_tell(build):
    form = only(build)
    x = np.random.default_rng(0).standard_normal((24, WIDTH)).astype("float32")
    x[0, 3], x[1, -1], x[2] = np.nan, np.nan, np.nan
    x[3, 7], x[4, 7], x[5], x[6, 9], x[6, 60] = np.inf, -np.inf, -np.inf, np.inf, np.nan
    x[7, 0], x[7, 1] = np.inf, -np.inf
    x[8] = np.float32(-3.4e38)
    x[9, 4] = -np.nan
    (name,) = (b.name for b in form.buffers if b.role == IN)
    ((_, found),) = harness.run_form(form, {name: x}, {"batch": len(x)}, workers=(1, 3)).items()
    with np.errstate(all="ignore"):
        high = x.max(axis=1, keepdims=True)
        high = np.where(np.isfinite(high), high, 0) if build is log_sum else high
        e = np.exp((x - high).astype("float64"))
        expected = np.log(e.sum(axis=1, keepdims=True)) + high if build is log_sum else e / e.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
