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


def test_windows_borders_and_sizes():
    x, rng = np.arange(96, dtype="f").reshape(2, 4, 4, 3), np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 3, 5)).astype("f")
    np.testing.assert_allclose(
        K.conv2d_transpose(x, kernel.transpose(0, 1, 3, 2), (2, 8, 8, 5), strides=(2, 2), padding="same"),
        keras.ops.conv_transpose(x, kernel.transpose(0, 1, 3, 2), 2, "same"),
        rtol=1e-5,
    )
    assert K.conv2d_transpose(x, kernel.transpose(0, 1, 3, 2), (2, 10, 10, 5), strides=(2, 2)).shape == (2, 10, 10, 5)
    assert K.spatial_2d_padding(x, ((1, 0), (2, 1))).shape == (2, 5, 7, 3)
    assert K.temporal_padding(x[:, 0], (1, 2)).shape == (2, 7, 3)
    np.testing.assert_array_equal(K.resize_images(x, 2, 3, "channels_last")[:, ::2, ::3], x)
    np.testing.assert_array_equal(K.resize_volumes(x[..., None], 2, 1, 1, "channels_last")[:, 1::2, :, :, 0], x)
    np.testing.assert_allclose(K.pool3d(x[..., None], (2, 2, 3), (2, 2, 3), pool_mode="avg").shape, (2, 2, 2, 1, 1))
    found, mean, variance = K.normalize_batch_in_training(x, np.ones(3, "f"), np.zeros(3, "f"), [0, 1, 2])
    np.testing.assert_allclose(np.mean(found, (0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose((mean, variance), (x.mean((0, 1, 2)), x.var((0, 1, 2))), rtol=1e-5)


def test_loops_and_phases():
    x = np.float32([[1, 2], [3, 4], [5, 6]])
    np.testing.assert_allclose(K.foldl(lambda a, r: a * 2 + r, x), [15, 22])
    np.testing.assert_allclose(K.foldr(lambda a, r: a * 2 + r, x, np.zeros(2, "f")), [27, 34])
    np.testing.assert_allclose(K.map_fn(lambda r: r + 1, x), x + 1)
    np.testing.assert_allclose(K.cumsum(x), np.cumsum(x, 0))
    with K.learning_phase_scope(1):
        assert K.in_test_phase(1, 2) == 2
    assert K.in_test_phase(1, 2) == 1
    assert np.asarray(K.in_top_k(x, np.int32([1, 0, 1]), 1)).tolist() == [True, False, True]
    v = K.random_uniform_variable((50,), 2.0, 3.0, seed=1)
    assert 2 <= v.numpy().min() and v.numpy().max() <= 3
    K.moving_average_update(v, np.zeros(50, "f"), 0.5)
    assert v.numpy().max() <= 1.5


def test_focal_crossentropies(real_keras):
    target, output = np.float32([[0, 1, 0], [1, 0, 0]]), np.float32([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]])
    found = K.categorical_focal_crossentropy(target, output)
    np.testing.assert_allclose(found, real_keras.losses.categorical_focal_crossentropy(target, output), rtol=1e-5)
    found = np.mean(K.binary_focal_crossentropy(target, output, apply_class_balancing=True), -1)
    expected = real_keras.losses.binary_focal_crossentropy(target, output, apply_class_balancing=True)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
