"""tf.keras 2's backend functions: what they compute, by NumPy."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import KcompileError
from kcompile.keras import backend as K

X = np.random.default_rng(0).standard_normal((2, 3, 4)).astype("float32")


@pytest.mark.parametrize(
    "found, expected",
    [
        (lambda: K.clip(X, -0.5, 0.5), np.clip(X, -0.5, 0.5)),
        (lambda: K.batch_dot(X, np.swapaxes(X, 1, 2)), X @ np.swapaxes(X, 1, 2)),
        (lambda: K.batch_dot(X[:, 0], X[:, 1], axes=1), np.sum(X[:, 0] * X[:, 1], -1, keepdims=True)),
        (lambda: K.argmax(X), X.argmax(-1)),
        (lambda: K.permute_dimensions(X, (0, 2, 1)), X.transpose(0, 2, 1)),
        (lambda: K.repeat(X[:, 0], 3), np.repeat(X[:, :1], 3, 1)),
        (lambda: K.repeat_elements(X, 2, 1), np.repeat(X, 2, 1)),
        (lambda: K.reverse(X, [1]), X[:, ::-1]),
        (lambda: K.relu(X, alpha=0.1, max_value=0.5), np.where(X >= 0, np.minimum(X, 0.5), 0.1 * X)),
        (lambda: K.l2_normalize(X, -1), X / np.linalg.norm(X, axis=-1, keepdims=True)),
        (lambda: K.bias_add(X, np.float32([1, 2, 3, 4])), X + np.float32([1, 2, 3, 4])),
        (lambda: K.bias_add(X, np.float32([1, 2, 3]), "channels_first"), X + np.float32([[1], [2], [3]])),
        (lambda: K.flatten(X), X.ravel()),
        (lambda: K.arange(3), np.arange(3)),
        (lambda: K.eval(K.ones((2,))), np.ones(2)),
        (lambda: K.pool2d(X[..., None], (1, 2), (1, 2), pool_mode="avg")[..., 0], X.reshape(2, 3, 2, 2).mean(-1)),
        (lambda: K.conv1d(X, np.ones((2, 4, 1), "f"), padding="causal")[:, 0, 0], X[:, 0].sum(-1)),
        (
            lambda: K.sparse_categorical_crossentropy([1, 9], np.float32([[0.5, 0.5], [0.1, 0.9]]), ignore_class=9),
            np.float32([np.log(2), 0]),
        ),
    ],
)
def test_function(found, expected):
    np.testing.assert_allclose(np.asarray(found()), expected, rtol=1e-5, atol=1e-6)


def test_learning_phase():
    assert K.learning_phase() == 0 and K.in_train_phase(1, lambda: 2) == 2
    K.set_learning_phase(1)
    assert K.in_train_phase(1, 2) == 1 and K.in_train_phase(1, 2, training=False) == 2
    K.set_learning_phase(0)
    with pytest.raises(KcompileError):
        K.set_learning_phase(2)


def test_random_numbers_have_shape_and_range():
    assert K.random_normal((3, 2)).shape == (3, 2)
    u = np.asarray(K.random_uniform((100,), 2.0, 3.0, seed=1))
    assert u.min() >= 2 and u.max() < 3
    assert (np.asarray(K.dropout(X, 0.5, seed=1)) == 0).any()


def test_function_of_part_of_a_model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="hidden"), keras.layers.Dense(2)])
    features = K.function([model.input], [model.get_layer("hidden").output])
    (found,) = features([X[:, 0]])
    np.testing.assert_allclose(found, X[:, 0] @ model.get_layer("hidden").kernel.numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(KcompileError, match="no 'signal'"):
        K.signal  # noqa: B018
