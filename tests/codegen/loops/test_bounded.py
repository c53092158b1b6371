"""Divisions by sums of exponentials: which are known to be in range, and that results are as of any division."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.codegen.loops.bounded import bounded
from kcompile.codegen.loops.flat import flatten
from kcompile.forms.records import IN
from kcompile.ir.types import Type, f32
from tests.codegen import harness
from tests.codegen.loops.kernels import B, only
from tests.codegen.loops.test_shifts import exponentials, total

WIDTH = 700


def softmax(g):
    _, _, e = exponentials(g, WIDTH)
    g.output("y", e / total(e))


def not_the_largest(g):
    x, high, _ = exponentials(g, WIDTH)
    e = ops.exp(x - high * 0.5)
    g.output("y", e / total(e))


def largest_of_others(g):
    x, high, _ = exponentials(g, WIDTH)
    e = ops.exp(g.input("z", Type(f32, (B, WIDTH))) - high)
    g.output("y", x + e / total(e))


@pytest.mark.parametrize("build, count", [(softmax, 1), (not_the_largest, 0), (largest_of_others, 0)])
def test_which_sums_are_bounded(build, count):
    assert len(bounded(flatten(only(build)))) == count


@pytest.mark.parametrize("build", [softmax, not_the_largest])
def test_rows_of_any_size(build):
    form = only(build)
    (x,) = (b.name for b in form.buffers if b.role == IN)
    values = np.random.default_rng(0).standard_normal((9, WIDTH), "float32")
    values[1] *= 1e30
    values[2, 5], values[3, 6], values[4, 699] = np.nan, np.inf, -np.inf
    values[5] = -np.inf
    values[6], values[7] = -3e38, 0
    values[8] *= 60
    with np.errstate(all="ignore"):
        high = values.max(1, keepdims=True) * (1 if build is softmax else 0.5)
        e = np.exp(values.astype(np.float64) - high)
        expected = e / e.sum(1, keepdims=True)
        (y,) = harness.run_form(form, {x: values}, {"batch": 9}, workers=(1, 3)).values()
    rows = slice(None) if build is softmax else [2, 3, 7]
    np.testing.assert_allclose(y[rows], expected[rows], rtol=2e-5, atol=1e-37)
