"""Composed arithmetic, arrangements, NaN-aware reductions, windows: against real Keras and compiled."""

import mpmath
import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ShapeError
from kcompile.keras import ops
from tests.keras.ops.checking import check, check_compiled, check_gradient, ids

RNG = np.random.default_rng(0)


def f(*shape):
    return RNG.standard_normal(shape).astype("float32")


def i(*shape, low=-20, high=20):
    return RNG.integers(low, high, shape).astype("int32")


X, Y, N, M = f(3, 4), f(3, 4), i(3, 4), i(3, 4)
NAN = f(3, 5)
NAN[0, 2] = NAN[2, 1] = np.nan
ODD = np.float32([0.0, -0.0, 1.5, -2.5, np.inf, -np.inf, np.nan, 1e-30])
NONZERO = np.where(M == 0, 3, M).astype("int32")

CASES = [
    *((name, (X,), {}) for name in "fabs cbrt sinc signbit real imag conj conjugate angle isreal erfc i0".split()),
    *((name, (N,), {}) for name in "fabs cbrt sinc signbit angle erfc i0 imag".split()),
    *((name, (ODD,), {}) for name in "signbit fabs cbrt isreal angle".split()),
    ("erfc", (np.linspace(-4, 8, 50).astype("float32"),), {}),
    ("i0", (np.linspace(-9, 9, 50).astype("float32"),), {}),
    *((name, (X, Y), {}) for name in "fmax fmin fmod logaddexp2 kron allclose".split()),
    *((name, (N, M), {}) for name in "fmax gcd lcm kron logaddexp2".split()),
    ("fmod", (N, NONZERO), {}),
    ("fmax", (NAN, f(3, 5)), {}),
    ("fmin", (f(3, 5), NAN), {}),
    ("ldexp", (X, N), {}),
    ("allclose", (X, X + 1e-9), {}),
    ("select", ([X > 0, X < -1], [X, Y], 3), {}),
    *((name, (NAN,), {}) for name in "nansum nanmean nanmax nanmin nanprod nanstd nanvar nancumsum nancumprod".split()),
    *((name, (NAN,), {"axis": 1}) for name in "nansum nanmean nanmax nanmin nanstd nanargmax nanargmin".split()),
    *((name, (N,), {"axis": 0}) for name in "nansum nanmean nanmax nanargmin ptp".split()),
    ("nanmax", (NAN,), {"axis": (0, 1), "keepdims": True}),
    ("ptp", (X,), {"axis": 1, "keepdims": True}),
    ("cumprod", (X,), {"axis": 1}),
    ("cumprod", (X,), {}),
    ("cumprod", (N,), {"axis": 0}),
    ("amax", (X,), {"axis": 1}),
    ("amin", (X,), {}),
    ("array_split", (f(7, 2), 3), {}),
    ("hsplit", (X, 2), {}),
    ("vsplit", (X, 3), {}),
    ("dsplit", (f(2, 2, 4), [1, 3]), {}),
    ("dstack", ([X, Y],), {}),
    ("fliplr", (X,), {}),
    ("flipud", (X,), {}),
    *(("rot90", (f(2, 3, 4),), {"k": k, "axes": axes}) for k in (1, 2, 3, 4, -1) for axes in ((0, 1), (2, 0))),
    ("diagflat", (f(2, 2),), {"k": 1}),
    ("kron", (f(2, 3), f(2)), {}),
    ("vander", (f(4),), {}),
    ("vander", (f(4), 3), {"increasing": True}),
    ("cross", (f(4, 3), f(4, 3)), {}),
    ("cross", (f(3, 4), f(3, 4)), {"axis": 0}),
    ("cross", (f(4, 2), f(4, 2)), {}),
    ("cross", (f(4, 2), f(4, 3)), {}),
    ("trapezoid", (X,), {"dx": 0.5}),
    ("trapezoid", (X,), {"x": np.sort(f(4))}),
    ("trapezoid", (X,), {"axis": 0}),
    ("corrcoef", (X,), {}),
    *(("correlate", (f(7), f(3)), {"mode": m}) for m in ("valid", "same", "full")),
    *(("correlate", (f(3), f(6)), {"mode": m}) for m in ("valid", "same", "full")),
    ("correlate", (f(6), f(4)), {"mode": "same"}),
    ("cdist", (f(2, 3, 4), f(2, 5, 4)), {}),
    ("unravel_index", (i(5, low=0, high=24), (2, 3, 4)), {}),
    ("depth_to_space", (f(2, 3, 2, 8), 2), {}),
    ("depth_to_space", (f(2, 8, 3, 2), 2), {"data_format": "channels_first"}),
    ("space_to_depth", (f(2, 4, 6, 3), 2), {}),
    ("space_to_depth", (f(2, 3, 4, 6), 2), {"data_format": "channels_first"}),
    *((name, (6,), {}) for name in "bartlett blackman hamming hanning".split()),
    ("kaiser", (6, 3.5), {}),
    ("logspace", (0.0, 2.0, 5), {}),
    ("geomspace", (1.0, 1000.0, 4), {}),
    ("logdet", (np.eye(3, dtype="float32") * 2,), {}),
]
FAR = np.float32([np.inf, -np.inf, np.inf, np.nan, 1, np.inf])
AWAY = np.float32([np.inf, -np.inf, -np.inf, 1, 2, np.nan])
BYTES, SIGNED = np.uint8([[1, 0, 3], [0, 200, 7]]), np.int8([[1, -3, 3], [0, 5, -7]])
CASES += [  # infinities that meet; small integers that stay what they are, or become wide enough
    *((name, (FAR, AWAY), {}) for name in ("logaddexp", "logaddexp2", "hypot")),
    *((name, (a,), {}) for a in (BYTES, SIGNED) for name in "cumsum cumprod trace trunc relu".split()),
    ("hard_tanh", (SIGNED,), {}),
    ("nancumsum", (SIGNED,), {"axis": 1}),
    ("cumsum", (BYTES > 1,), {}),
    ("trace", (BYTES > 1,), {}),
    ("diff", (BYTES > 1,), {}),
    ("round", (np.int32([15, 25, -5, -15, 4, 6, -26]),), {"decimals": -1}),
    ("nanvar", (np.float32([[1, np.inf, np.nan], [1, 2, np.nan]]),), {"axis": 1}),
]
TRACED = [c for c in CASES if c[0] not in ("geomspace", "select")]


@pytest.mark.parametrize("name, args, kwargs", CASES, ids=ids(CASES))
def test_function(name, args, kwargs, real_keras):
    check(real_keras, name, args, kwargs, traced=name != "geomspace", rtol=5e-5)


def test_compiled(real_keras):
    check_compiled(real_keras, TRACED, rtol=5e-5)


GRADIENTS = [
    *((name, (0.3 + np.abs(f(3)),), {}) for name in ("cbrt", "sinc", "fabs")),
    ("i0", (0.3 + np.abs(f(3)),), {}),
    ("fmax", (f(4), f(4)), {}),
    ("logaddexp2", (f(4), f(4)), {}),
    ("nanmean", (f(3, 4),), {"axis": 1}),
    ("nanmax", (f(3, 4),), {"axis": 1}),
    ("cumprod", (np.float32([[1.2, 0.0, 2, 3], [0, 1, 0, 2], [1, 2, 3, 0]]),), {"axis": 1}),
    ("kron", (f(2, 2), f(2)), {}),
    ("cross", (f(2, 3), f(2, 3)), {}),
    ("cdist", (f(2, 3), f(4, 3)), {}),
    ("trapezoid", (f(2, 4),), {}),
    ("corrcoef", (f(2, 5),), {}),
    ("correlate", (f(5), f(2)), {"mode": "same"}),
    ("select", ([np.array([True, False, False])], [f(3)], 1.0), {}),
]


@pytest.mark.parametrize("name, args, kwargs", GRADIENTS, ids=ids(GRADIENTS))
def test_gradient(name, args, kwargs):
    check_gradient(name, args, kwargs, rtol=1e-4)


def test_erfc_keeps_its_digits_where_it_is_small(real_keras):
    x = np.float32([0.4, 0.6, 2, 4, 8])
    np.testing.assert_allclose(ops.erfc(x), real_keras.ops.erfc(x), rtol=2e-6)


def test_gelu_keeps_its_digits_far_below_zero():
    x = np.linspace(-12.5, -0.5, 60, dtype="float32")
    exact = [float(v * mpmath.ncdf(v)) for v in x.astype("float64")]
    compiled = keras.Sequential([keras.Input((x.size,)), keras.layers.Activation("gelu")])
    np.testing.assert_allclose(compiled.predict_on_batch(x[None])[0], exact, rtol=1e-6)
    np.testing.assert_allclose(ops.gelu(x, approximate=False), exact, rtol=1e-5)
    check_gradient("gelu", (x[::6].astype("float64"),), {"approximate": False}, rtol=1e-4)


def test_sparsemax_is_the_nearest_point_of_the_simplex():
    """By bisection for the threshold; Keras 3.15 adds up running sums instead, and its results do not sum to 1."""
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    for axis in (0, 1):
        low, high = x.min(axis, keepdims=True) - 1, x.max(axis, keepdims=True)
        for _ in range(60):
            middle = (low + high) / 2
            too_low = np.maximum(x - middle, 0).sum(axis, keepdims=True) > 1
            low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
        np.testing.assert_allclose(ops.sparsemax(x, axis=axis), np.maximum(x - low, 0), atol=1e-6)


def test_bfloat16_stays(real_keras):
    numbers = np.float32([1, np.nan, np.inf, 2, 1])
    for name in ("nan_to_num", "copy", "unique"):
        ours, theirs = (getattr(k.ops, name)(k.ops.convert_to_tensor(numbers, "bfloat16")) for k in (keras, real_keras))
        assert ours.dtype == str(theirs.dtype) == "bfloat16"
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs, "float32"))


def test_no_elements_have_no_largest_one():
    empty = np.zeros((2, 0), "float32")
    for function in (ops.max, ops.amin, ops.nanmax, ops.median):
        with pytest.raises(ShapeError, match="no elements"):
            function(empty, axis=1)
    assert ops.max(empty, axis=1, initial=3).tolist() == [3, 3] and ops.max(empty, axis=0).shape == (0,)
    with pytest.raises(ShapeError, match="tril takes matrices"):
        ops.tril(np.float32(1))
