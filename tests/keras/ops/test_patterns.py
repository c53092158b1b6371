"""rearrange, fold, unfold, view and nextafter against real Keras; jvp and vectorize."""

import numpy as np
import pytest

from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.keras import ops
from kcompile.keras.tracing import trace
from kcompile.runtime.interpreted import InterpretedProgram
from tests.keras.ops.checking import check, check_compiled, check_gradient, ids

RNG = np.random.default_rng(0)


def f(*shape):
    return RNG.standard_normal(shape).astype("float32")


EDGES = np.float32([0.0, -0.0, 1.0, -1.0, 3.4e38, np.inf, -np.inf, np.nan, 1e-45, 2.5])
TOWARDS = np.float32([1.0, -1.0, 1.0, -3.0, np.inf, 0.0, 0.0, 1.0, 0.0, 2.5])
CASES = [
    ("rearrange", (f(2, 4, 6, 3), "b h w c -> b c h w"), {}),
    ("rearrange", (f(2, 4, 6, 3), "b (h p) (w q) c -> b (h w) (p q c)"), {"p": 2, "q": 3}),
    ("rearrange", (f(6, 5), "(a b) c -> b (c a)"), {"a": 2}),
    ("unfold", (f(2, 3, 6, 7), 2), {}),
    ("unfold", (f(2, 3, 6, 7), (2, 3)), {"padding": 1, "stride": (2, 1)}),
    ("unfold", (f(1, 2, 9, 8), 3), {"dilation": 2, "stride": 2, "padding": (1, 0)}),
    ("fold", (f(2, 12, 30), (6, 7), 2), {}),
    ("fold", (f(2, 18, 16), (6, 6), (2, 3)), {"padding": (1, 0), "stride": (2, 1), "dilation": 1}),
    ("fold", (f(1, 18, 9), (7, 7), 3), {"dilation": 2, "stride": (1, 2), "padding": (0, 1)}),
    ("fold", (f(2, 8, 6), (4, 6), 2), {"stride": 2}),
    ("view", (f(3, 4), "int32"), {}),
    ("view", (RNG.integers(0, 2**31, (3, 4)).astype("int32"), "float32"), {}),
    ("view", (f(3, 4), "uint8"), {}),
    ("view", (RNG.integers(0, 255, (3, 8)).astype("uint8"), "int32"), {}),
    ("view", (RNG.integers(0, 255, (3, 8)).astype("int8"), "uint16"), {}),
    ("nextafter", (EDGES, TOWARDS), {}),
    ("nextafter", (f(3, 4), f(4)), {}),
]


@pytest.mark.parametrize("name, args, kwargs", CASES, ids=ids(CASES))
def test_function(name, args, kwargs, real_keras):
    check(real_keras, name, args, kwargs, open_batch=name in ("unfold", "fold"), rtol=1e-6, atol=1e-6)


def test_compiled(real_keras):
    check_compiled(real_keras, CASES, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name, args, kwargs", [CASES[1], CASES[4], CASES[7]])
def test_gradients(name, args, kwargs):
    check_gradient(name, args, kwargs)


def test_fold_adds_what_unfold_took():
    x = f(2, 3, 5, 6)  # the last row and column of windows of 2 lie outside
    ones = ops.fold(ops.unfold(np.ones_like(x), 2, stride=2), (5, 6), 2, stride=2)
    np.testing.assert_allclose(ops.fold(ops.unfold(x, 2, stride=2), (5, 6), 2, stride=2), x * ones)
    assert np.all(np.asarray(ones)[:, :, 4] == 0) and np.all(np.asarray(ones)[:, :, :4] == 1)


def test_jvp(real_keras):
    def function(x, y):
        return ops.sin(x) * y, ops.sum(ops.square(y))

    x, y, dx, dy = (f(3, 2) for _ in range(4))
    (a, b), (da, db) = ops.jvp(function, (x, y), (dx, dy))
    np.testing.assert_allclose(a, np.sin(x) * y, rtol=1e-6)
    np.testing.assert_allclose(da, np.cos(x) * y * dx + np.sin(x) * dy, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose((b, db), (np.sum(y * y), np.sum(2 * y * dy)), rtol=1e-5)
    traced = trace(lambda v: ops.jvp(function, (v["x"], y), (dx, dy))[1], {"x": (x.shape, "float32")})
    found = InterpretedProgram(traced.graph).run({"x": x}, traced.arrays())
    np.testing.assert_allclose(found["y0"], da, rtol=1e-5, atol=1e-6)
    value, slope, aux = ops.jvp(lambda x: (ops.exp(x), 2 * x), (x,), (dx,), has_aux=True)
    np.testing.assert_allclose(slope, np.exp(x) * dx, rtol=1e-5)
    np.testing.assert_allclose(aux, 2 * x)
    expected = real_keras.ops.jvp(real_keras.ops.tanh, (x,), (dx,))
    for one, other in zip(ops.jvp(ops.tanh, (x,), (dx,)), expected):
        np.testing.assert_allclose(one, np.asarray(other), rtol=1e-5, atol=1e-6)


def test_vectorize():
    add = ops.vectorize(lambda a, b: a + 2 * b)
    np.testing.assert_allclose(add([1.0, 2.0, 3.0], 2.0), [5.0, 6.0, 7.0])
    np.testing.assert_allclose(add(np.float32([[1], [2]]), np.float32([1, 2, 3])), [[3, 5, 7], [4, 6, 8]])
    product = ops.vectorize(lambda a, b: ops.matmul(a, b), signature="(m,n),(n)->(m)")
    a, b = f(4, 2, 3), f(3)
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-5)
    scaled = ops.vectorize(lambda a, table: ops.take(table, a), excluded={1})
    np.testing.assert_allclose(scaled(np.int32([2, 0]), np.float32([5, 6, 7])), [7, 5])


def test_what_is_wrong_is_said():
    with pytest.raises(ArgumentError, match="same axes"):
        ops.rearrange(f(2, 3), "a b -> a c")
    with pytest.raises(ShapeError, match="axis of size 3"):
        ops.rearrange(f(2, 3), "a (b c) -> a b c", b=2)
    with pytest.raises(NotSupportedError, match="polar"):
        ops.polar(1.0, 2.0)
    with pytest.raises(ShapeError, match="columns"):
        ops.fold(f(1, 4, 5), (4, 4), 2)
