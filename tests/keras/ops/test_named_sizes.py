"""Functions whose size is one that is known when the program runs: rows of a batch against each other."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError
from kcompile.keras import layers, ops

X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


class OfRows(layers.Layer):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x, ops.shape(x)[0])


CASES = {
    "eye": (lambda x, n: ops.eye(n, k=1) @ x, lambda x, n: np.eye(n, k=1) @ x),
    "wide eye": (lambda x, n: ops.eye(3, n) @ x, lambda x, n: np.eye(3, n) @ x),
    "identity": (lambda x, n: ops.identity(n) @ x, lambda x, n: x),
    "tri": (lambda x, n: ops.tri(n, k=-1) @ x, lambda x, n: np.tri(n, k=-1) @ x),
    "linspace": (lambda x, n: ops.linspace(1.0, 2.0, n)[:, None] * x, lambda x, n: np.linspace(1, 2, n)[:, None] * x),
    "linspace of values": (
        lambda x, n: ops.linspace(x[:, 0], x[:, 1], n, endpoint=False, axis=-1),
        lambda x, n: np.linspace(x[:, 0], x[:, 1], n, endpoint=False, axis=-1),
    ),
    "one_hot": (lambda x, n: ops.one_hot(0 * ops.arange(n), n) @ x, lambda x, n: x[[0] * n]),
    "tile": (lambda x, n: ops.tile(ops.ones((1, 2)), (n, 1)) * x[:, :1], lambda x, n: np.ones((n, 2)) * x[:, :1]),
    "tile of computed sizes": (
        lambda x, n: (
            ops.tile(ops.ones((1, 2, 2)), ops.concatenate([ops.expand_dims(n, -1), [1, 1]], 0)) @ x[:, :2, None]
        ),
        lambda x, n: np.ones((n, 2, 2)) @ x[:, :2, None],
    ),
    "tile of stacked sizes": (
        lambda x, n: ops.tile(x[:1], ops.stack([n * 2 // 2, ops.shape(x)[1] - 1])),
        lambda x, n: np.tile(x[:1], (n, 2)),
    ),
    "repeat": (lambda x, n: ops.repeat(x[:1], n, axis=0), lambda x, n: np.repeat(x[:1], n, axis=0)),
    "broadcast_to": (
        lambda x, n: ops.concatenate([ops.broadcast_to(ops.ones((1, 2)), (n, 2)), x], axis=-1),
        lambda x, n: np.concatenate([np.ones((n, 2)), x], axis=-1),
    ),
    "similarities": (
        lambda x, n: keras.losses.sparse_categorical_crossentropy(ops.arange(n), x @ ops.transpose(x), True),
        lambda x, n: np.log(np.exp(x @ x.T).sum(1)) - (x * x).sum(1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_sizes_of_the_batch(name):
    function, expected = CASES[name]
    inputs = keras.Input((3,))
    model = keras.Model(inputs, OfRows(function)(inputs))
    for rows in (X, X[:2]):
        np.testing.assert_allclose(model.predict_on_batch(rows), expected(rows, len(rows)), rtol=1e-5, atol=1e-6)


def test_a_size_of_values_is_refused():
    inputs = keras.Input((3,))
    with pytest.raises(ArgumentError, match=r"(?s)a size must be known when the program is compiled.*layer 'of_rows"):
        OfRows(lambda x, n: ops.tile(x, (1, ops.cast(x[0, 0], "int32"))))(inputs)


def test_a_named_size_beside_tensors():
    class Countdown(keras.layers.Layer):
        def call(self, x):
            rows = ops.shape(x)[0]
            return x * ops.cast(rows - ops.arange(rows), "float32")[:, None] + ops.cast(rows * ops.arange(2), "float32")

    inputs = keras.Input((2,))
    model = keras.Model(inputs, Countdown()(inputs))
    for rows in (3, 5):
        expected = np.arange(rows, 0, -1)[:, None] + rows * np.arange(2.0)
        np.testing.assert_array_equal(model.predict(np.ones((rows, 2), "float32"), verbose=0), expected)
