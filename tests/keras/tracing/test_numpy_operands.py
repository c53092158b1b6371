"""Operators with NumPy's numbers: float64 is how NumPy computes, not what a script asks for."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.keras import layers, ops

X = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
FUNCTIONS = {
    "a scalar": (lambda x: x / np.sqrt(64), X / 8),
    "on the left": (lambda x: np.float64(2) - x, 2 - X),
    "an array": (lambda x: x + np.arange(2) * 0.5, X + np.array([0, 0.5], "float32")),
    "an array on the left": (lambda x: np.array([1.0, 3.0]) * x, np.array([1, 3], "float32") * X),
    "a comparison": (lambda x: ops.cast(x == np.float64(2), "float32"), (X == 2).astype("float32")),
    "a function": (lambda x: ops.maximum(x, np.float64(2)), np.maximum(X, 2)),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_floats_stay_in_floatx(case):
    function, expected = FUNCTIONS[case]
    model = keras.Sequential([keras.Input((2,)), layers.Lambda(function)])
    model.compile(jit=True)
    found = model.predict(X, verbose=0)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "tensor, operand, dtype",
    [
        ("float32", np.float64(2), "float32"),
        ("float32", np.ones(2), "float32"),
        ("bfloat16", np.float64(2), "bfloat16"),
        ("bfloat16", np.float32(2), "bfloat16"),
        ("float16", np.float64(2), "float16"),
        ("int32", np.int64(2), "int32"),
        ("int32", np.float64(2), "float32"),
        ("float64", np.float64(2), "float64"),
        ("float64", np.ones(2), "float64"),
        ("float64", np.ones(2, "float32"), "float64"),
    ],
)
def test_dtypes_beside_tensors(tensor, operand, dtype):
    x = ops.cast(X[0], tensor)
    assert keras.backend.standardize_dtype((x * operand).dtype) == dtype
    variable = keras.Variable(X[0], dtype=tensor)
    assert keras.backend.standardize_dtype((variable * operand).dtype) == dtype


def test_numpy_alone_keeps_its_precision():
    assert ops.add(np.ones(2), np.ones(2)).dtype == np.float64
    assert ops.sqrt(np.float64(2)).dtype == np.float64
