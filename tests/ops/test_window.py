"""Windows against naive loops, and who gets the gradient."""

import itertools

import numpy as np
import pytest

from kcompile import ops
from kcompile.autodiff import grad
from kcompile.errors import DTypeError, ShapeError
from kcompile.forms.records import Store, indices
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ir.types import Type, boolean, f32, f64, i32, u8

CASES = [
    ((2, 6, 6, 3), (1, 2, 2, 1), (1, 2, 2, 1), ()),
    ((1, 7, 5, 2), (1, 3, 3, 1), (1, 2, 2, 1), ()),
    ((2, 7, 2), (1, 2, 1), (1, 2, 1), ()),  # a rest that no window reaches
    ((1, 8, 2), (1, 2, 1), (1, 3, 1), ()),  # gaps between windows
    ((1, 9, 2), (1, 3, 1), (1, 2, 1), (1, 2, 1)),
    ((1, 9, 2), (1, 3, 1), (1, 1, 1), ()),
    ((1, 4, 4, 5, 1), (1, 2, 2, 2, 1), (1, 2, 1, 3, 1), ()),
    ((1, 8, 9, 2), (1, 4, 5, 1), (1, 2, 3, 1), ()),  # strided dimensions one after another
    ((1, 6, 5, 2), (1, 3, 2, 1), (1, 2, 2, 1), ()),
]


def naive(x, reduce, window, strides, dilation):
    dilation = dilation or (1,) * x.ndim
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(x.shape, window, strides, dilation)]
    y = np.zeros(counts)
    for at in itertools.product(*map(range, counts)):
        starts = [i * s for i, s in zip(at, strides)]
        taken = tuple(np.s_[a : a + (k - 1) * d + 1 : d] for a, k, d in zip(starts, window, dilation))
        y[at] = reduce(x[taken])
    return y


def attrs(window, strides, dilation):
    return {"window": window, "strides": strides, "dilation": dilation}


def distinct(shape, seed=0):
    return np.random.default_rng(seed).permutation(int(np.prod(shape))).reshape(shape).astype(np.float64)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(
    "op, reduce",
    [(ops.window_max, np.max), (ops.window_min, np.min), (ops.window_sum, np.sum), (ops.window_argmax, np.argmax)],
)
def test_values(op, reduce, case):
    shape, *rest = case
    x = distinct(shape)
    np.testing.assert_array_equal(op(x, **attrs(*rest)), naive(x, reduce, *rest))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("op", [ops.window_max, ops.window_min, ops.window_sum])
def test_gradients(op, case):
    """All three are linear in a small enough neighbourhood of distinct values: the difference is exact."""
    shape, *rest = case
    graph = Graph()
    x = graph.input("x", Type(f64, (dim.symbol("batch"), *shape[1:])))
    y = op(x, **attrs(*rest))
    weight = graph.input("g", y.type)
    loss = ops.reduce_sum(y * weight, axes=tuple(range(y.rank)), keepdims=False)
    graph.output("dx", grad(loss, [x])[0])
    value, rng = distinct(shape), np.random.default_rng(1)
    g = rng.standard_normal(op(value, **attrs(*rest)).shape)
    e = rng.uniform(-0.4, 0.4, shape)  # less than half the distance between values
    dx = run(graph, {"x": value, "g": g})[0]["dx"]
    change = op(value + e, **attrs(*rest)) - op(value, **attrs(*rest))
    np.testing.assert_allclose((dx * e).sum(), (g * change).sum(), rtol=1e-9, atol=1e-9)


def test_the_first_maximum_takes_all():
    x = np.array([[3.0, 3.0, 1.0, 3.0]])
    pooled = attrs((1, 2), (1, 2), ())
    (dx,) = ops.window_max.vjp(np.array([[1.0, 10.0]]), None, x, **pooled)
    np.testing.assert_array_equal(dx, [[1, 0, 0, 10]])
    overlapping = attrs((1, 2), (1, 1), ())
    (dx,) = ops.window_max.vjp(np.array([[1.0, 10.0, 100.0]]), None, x, **overlapping)
    np.testing.assert_array_equal(dx, [[1, 10, 0, 100]])


def test_behind_a_nan_the_search_starts_anew():
    x = np.array([[1.0, np.nan, 5.0, 3.0], [1.0, np.nan, 5.0, np.nan]])
    whole = attrs((1, 4), (1, 4), ())
    assert np.isnan(ops.window_max(x, **whole)).all()
    np.testing.assert_array_equal(ops.window_argmax(x, **whole), [[2], [3]])


def test_the_gradient_of_the_gradient():
    dy, arg = np.array([[2.0, 3.0]]), np.array([[1, 0]], np.int32)
    pooled = {**attrs((1, 2), (1, 2), ()), "shape": (1, 4)}
    g = np.array([[1.0, 10.0, 100.0, 1000.0]])
    d, _ = ops.window_unpool.vjp(g, None, dy, arg, **pooled)
    np.testing.assert_array_equal(d, [[10, 100]])


def test_windows_that_do_not_overlap_unpool_without_a_sum():
    dy = Type(f32, (2, 3, 3, 4))
    form = ops.window_unpool.lower(
        dy, dy.with_dtype(i32), window=(1, 2, 2, 1), strides=(1, 2, 2, 1), dilation=(), shape=(2, 6, 6, 4)
    )
    (statement,) = form.body
    assert isinstance(statement, Store) and statement.index == indices(form.outer)


@pytest.mark.parametrize(
    "size, window, strides, kept",
    [(7, 2, 2, False), (7, 2, 3, False), (7, 3, 2, True), (70, 35, 35, True), (dim.symbol("time"), 2, 2, False),
     (dim.symbol("time"), 2, 3, True)],
)  # fmt: skip
def test_places_are_kept_only_where_comparing_is_dearer(size, window, strides, kept):
    """Windows that overlap, large ones, and gaps before an end that is not known."""
    graph = Graph()
    x = graph.input("x", Type(f32, (dim.symbol("batch"), size, 4)))
    y = ops.window_max(x, **attrs((1, window, 1), (1, strides, 1), ()))
    graph.output("dx", grad(ops.reduce_sum(y, axes=(0, 1, 2), keepdims=False), [x])[0])
    names = {n.op.name for n in graph.live_nodes() if not n.is_source}
    assert ("window_argmax" in names) == kept and ("window_max_gradient" in names) != kept


def test_a_place_is_a_byte_where_that_suffices():
    assert ops.window_argmax.infer(Type(f32, (256,)), window=(256,), strides=(1,)).dtype is u8
    assert ops.window_argmax.infer(Type(f32, (257,)), window=(257,), strides=(1,)).dtype is i32


def test_symbolic_sizes():
    batch, time = dim.symbol("batch"), dim.symbol("time")
    x = Graph().input("x", Type(f32, (batch, time, 3)))
    assert ops.window_max(x, **attrs((1, 2, 1), (1, 2, 1), ())).shape == (batch, dim.floordiv(time - 2, 2) + 1, 3)


def test_half_precision_sums_in_single():
    x = np.array([2048.0] + [1.0] * 4, np.float16)
    assert ops.window_sum(x, window=(5,), strides=(1,), dilation=()) == 2052


@pytest.mark.parametrize("window, strides", [((1, 7), (1, 1)), ((2,), (1,)), ((1, 0), (1, 1)), ((1, 2), (1, 0))])
def test_wrong_windows_are_explained(window, strides):
    with pytest.raises(ShapeError, match="window"):
        ops.window_max.infer(Type(f32, (3, 4)), window=window, strides=strides)


def test_wrong_dtypes_are_explained():
    with pytest.raises(DTypeError, match="numbers"):
        ops.window_sum.infer(Type(boolean, (3,)), window=(1,), strides=(1,))
