"""Tensor and KerasTensor."""

import copy
import pickle

import numpy as np
import pytest

from kcompile.keras import Input, ops
from kcompile.keras.tracing import KerasTensor, Tensor, as_tensor


def test_a_tensor_is_an_array_with_numpy():
    t = as_tensor([1.0, 2.0])
    assert isinstance(t, np.ndarray) and t.dtype == np.float32 and t.shape == (2,)
    assert type(t.numpy()) is np.ndarray
    assert as_tensor(0.5).numpy() == 0.5 and float(as_tensor(0.5)) == 0.5
    assert f"{as_tensor(0.5):.2f}" == "0.50"
    assert "shape=(2,), dtype=float32" in repr(t)


def test_defaults_of_python_numbers():
    assert as_tensor([1, 2]).dtype == np.int32
    assert as_tensor([1.5]).dtype == np.float32
    assert as_tensor(np.array([1.5])).dtype == np.float64
    assert as_tensor([np.float64(1.5)]).dtype == np.float64
    assert as_tensor([True]).dtype == np.bool_


def test_operators_promote_as_keras():
    t = as_tensor([1.0, 2.0])
    assert (t + np.array([1, 2], np.int64)).dtype == np.float32
    assert (np.array([1, 2], np.int64) + t).dtype == np.float32
    assert (1 / as_tensor([1, 2])).dtype == np.float32
    np.testing.assert_array_equal((2 - t) ** 2 @ t, 1.0)
    np.testing.assert_array_equal(t == [1.0, 3.0], [True, False])
    np.testing.assert_array_equal(-t[::-1], [-2.0, -1.0])
    assert isinstance(t[0], Tensor) and t[0].shape == ()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies(again):
    t = as_tensor([1.0, 2.0])
    other = again(t)
    assert isinstance(other, Tensor)
    other[0] = 5
    np.testing.assert_array_equal(t, [1, 2])


def test_symbolic_arithmetic_infers_shapes():
    x = Input((4, None, 3))
    assert (x + 1).shape == (None, 4, None, 3)
    assert ops.sum(x, axis=-1).shape == (None, 4, None)
    assert x[:, 0].shape == (None, None, 3)
    assert ops.reshape(x, (-1, 6)).shape == (None, 6)
    assert (x > 0).dtype == "bool"


def test_a_symbolic_tensor_has_no_numbers():
    x = KerasTensor((None, 2))
    with pytest.raises(ValueError, match="symbolic"):
        np.asarray(x)
    with pytest.raises(TypeError):
        bool(x)
    with pytest.raises(TypeError):
        float(x)
