"""Worked examples: pooling (W-5, D-2), convolution (D-3), activations (D-6), normalisation (D-10), merges (D-14)."""

import numpy as np
import pytest

from kcompile.keras import activations, layers, ops


def image(values, height, width):
    return np.asarray(values, "float32").reshape(1, height, width, 1)


def count(first, last, height, width):
    return image(np.arange(first, last + 1), height, width)


@pytest.mark.parametrize(
    "x, pool, strides, padding, expected",
    [
        (count(1, 9, 3, 3), 2, 1, "valid", [[5, 6], [8, 9]]),
        (count(1, 12, 3, 4), 2, 2, "valid", [[6, 8]]),
        (count(1, 12, 3, 4), 2, 1, "same", [[6, 7, 8, 8], [10, 11, 12, 12], [10, 11, 12, 12]]),
        (count(1, 12, 3, 4), 2, 2, "same", [[6, 8], [10, 12]]),
        (-count(1, 12, 3, 4), 2, 2, "same", [[-1, -3], [-9, -11]]),
    ],
)
def test_max_pooling(x, pool, strides, padding, expected):
    y = layers.MaxPool2D((pool, pool), (strides, strides), padding)(x)
    np.testing.assert_array_equal(y[0, :, :, 0], expected)


def test_average_pooling_does_not_count_padding():
    y = layers.AveragePooling2D((2, 2), (2, 2), "same")(count(1, 12, 3, 4))
    np.testing.assert_allclose(y[0, :, :, 0], [[3.5, 5.5], [9.5, 11.5]])


def test_shape_layers():
    def series(*values):
        return np.asarray(values, "float32").reshape(1, -1, 1)

    np.testing.assert_array_equal(layers.UpSampling1D(2)(series(1, 2)).ravel(), [1, 1, 2, 2])
    np.testing.assert_array_equal(layers.Cropping1D((1, 1))(series(0, 1, 2, 3, 4)).ravel(), [1, 2, 3])
    np.testing.assert_array_equal(layers.ZeroPadding1D((1, 2))(series(1, 2)).ravel(), [0, 1, 2, 0, 0])
    np.testing.assert_array_equal(layers.Permute((2, 1))([[[0, 1, 2], [3, 4, 5]]])[0], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(layers.RepeatVector(3)([[1.0, 2.0]])[0], [[1, 2]] * 3)
    y = layers.UpSampling2D(2, interpolation="bilinear")(image([1, 2, 3, 4], 2, 2))
    np.testing.assert_allclose(y[0, 0, :, 0], [1, 1.25, 1.75, 2])


X16 = count(0, 15, 4, 4)


@pytest.mark.parametrize(
    "kwargs, expected",
    [
        ({}, [[45, 54], [81, 90]]),
        ({"padding": "same"}, [[10, 18, 24, 18], [27, 45, 54, 39], [51, 81, 90, 63], [42, 66, 72, 50]]),
        ({"padding": "same", "strides": 2}, [[45, 39], [66, 50]]),
    ],
)
def test_convolution(kwargs, expected):
    y = layers.Conv2D(1, 3, kernel_initializer="ones", use_bias=False, **kwargs)(X16)
    np.testing.assert_allclose(y[0, :, :, 0], expected)


def test_more_convolutions():
    ones = {"kernel_initializer": "ones", "use_bias": False}
    y = layers.Conv2D(1, 3, padding="same", dilation_rate=2, **ones)(X16)
    np.testing.assert_allclose(y[0, 0, :, 0], [20, 24, 20, 24])
    y = layers.Conv2DTranspose(1, 3, strides=2, padding="same", **ones)(image([1, 2, 3, 4], 2, 2))
    np.testing.assert_allclose(y[0, :, :, 0], [[1, 1, 3, 2], [1, 1, 3, 2], [4, 4, 10, 6], [3, 3, 7, 4]])
    y = layers.Conv2DTranspose(1, 3, strides=2, **ones)(image([1, 2, 3, 4], 2, 2))
    assert y.shape == (1, 5, 5, 1)
    np.testing.assert_allclose(y[0, 0, :, 0], [1, 1, 3, 2, 2])
    y = layers.Conv1D(1, 2, padding="causal", **ones)(np.asarray([1, 2, 3], "f").reshape(1, 3, 1))
    np.testing.assert_allclose(y.ravel(), [1, 3, 5])


FIVE = [-3.0, -1.0, 0.0, 1.0, 3.0]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("elu", [-0.9502130, -0.6321205, 0, 1, 3]),
        ("selu", [-1.6705688, -1.1113307, 0, 1.0507010, 3.1521029]),
        ("softplus", [0.0485874, 0.3132617, 0.6931472, 1.3132617, 3.0485873]),
        ("softsign", [-0.75, -0.5, 0, 0.5, 0.75]),
        ("exponential", [0.0497871, 0.3678795, 1, 2.7182817, 20.0855370]),
        ("hard_sigmoid", [0, 0.3333333, 0.5, 0.6666667, 1]),
        ("relu", [0, 0, 0, 1, 3]),
        ("linear", FIVE),
        ("tanh", np.tanh(FIVE)),
        ("sigmoid", 1 / (1 + np.exp(-np.array(FIVE)))),
    ],
)
def test_activations(name, expected):
    for compute in (activations.get(name), layers.Activation(name), getattr(activations, name)):
        np.testing.assert_allclose(compute(np.array([FIVE], "f"))[0], expected, rtol=1e-5, atol=1e-6)


def test_activation_layers():
    np.testing.assert_allclose(layers.LeakyReLU()([FIVE])[0], [-0.9, -0.3, 0, 1, 3], rtol=1e-6)
    np.testing.assert_allclose(layers.LeakyReLU(alpha=0.1)([FIVE])[0], [-0.3, -0.1, 0, 1, 3], rtol=1e-6)
    np.testing.assert_allclose(layers.ThresholdedReLU(1.0)([FIVE])[0], [0, 0, 0, 0, 3])
    np.testing.assert_allclose(activations.elu(np.array(FIVE, "f"), 0.5), [-0.4751065, -0.3160603, 0, 1, 3], rtol=1e-5)
    np.testing.assert_allclose(layers.Softmax()([[1.0, 2.0, 3.0]])[0], [0.0900306, 0.2447285, 0.6652409], rtol=1e-5)


def test_normalisation():
    x = [[1.0, 2.0], [3.0, 6.0]]
    layer = layers.BatchNormalization()
    y = layer(x, training=True)
    np.testing.assert_allclose(y, [[-0.9995003, -0.9998751], [0.9995004, 0.9998751]], rtol=1e-5)
    np.testing.assert_allclose(layer.moving_mean.numpy(), [0.02, 0.04], rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), [1.0, 1.03], rtol=1e-5)
    np.testing.assert_allclose(
        layers.LayerNormalization()(x), [[-0.9980060, 0.9980061], [-0.9997779, 0.9997778]], rtol=1e-5
    )


def test_merges():
    np.testing.assert_array_equal(layers.Subtract()(pair([5, 7], [2, 3])), [[3, 4]])
    np.testing.assert_allclose(layers.Dot(axes=1)(pair([1, 2, 3], [4, 5, 6])), [[32]])
    np.testing.assert_allclose(layers.Dot(axes=1, normalize=True)(pair([1, 2, 3], [4, 5, 6])), [[0.9746318]], rtol=1e-5)
    np.testing.assert_allclose(layers.PReLU(alpha_initializer=_quarter)([[-2.0, 3.0]]), [[-0.5, 3]])
    masked = layers.Masking(0.0)(np.array([[[1, 1], [0, 0], [2, 0]]], "f"))
    np.testing.assert_array_equal(masked._keras_mask, [[True, False, True]])


def pair(a, b):
    return [np.array([a], "f"), np.array([b], "f")]


def _quarter(shape, dtype=None):
    return np.full(shape, 0.25, dtype)


@pytest.mark.parametrize("name", ["add", "multiply", "average", "maximum", "minimum", "concatenate"])
def test_merge_functions_are_their_layers(name):
    x = pair([1, 2, 3], [4, 5, 6])
    np.testing.assert_array_equal(getattr(layers, name)(x), getattr(layers, name.capitalize())()(x))


def test_dropout():
    x = np.ones((200, 50), "f")
    layer = layers.Dropout(0.25, seed=1)
    np.testing.assert_array_equal(layer(x), x)
    y, z = layer(x, training=True), layer(x, training=True)
    assert set(np.asarray(y).ravel().tolist()) == {0.0, float(np.float32(1 / 0.75))}
    assert abs(float(ops.mean(y)) - 1) < 0.02 and not np.array_equal(y, z)
    again = layers.Dropout(0.25, seed=1)
    np.testing.assert_array_equal(again(x, training=True), y)


def test_activity_regularization():
    layer = layers.ActivityRegularization(l1=0.1, l2=0.01)
    layer(np.ones((3, 2), "f"))
    np.testing.assert_allclose(float(layer.losses[0]), 0.22, rtol=1e-6)


def test_embedding():
    layer = layers.Embedding(5, 2, mask_zero=True)
    y = layer([[1, 0, 4]])
    np.testing.assert_array_equal(y[0], layer.get_weights()[0][[1, 0, 4]])
    np.testing.assert_array_equal(y._keras_mask, [[True, False, True]])
    table = np.arange(10, dtype="f").reshape(5, 2)
    np.testing.assert_array_equal(layers.Embedding(5, 2, weights=[table])([[3]])[0], table[[3]])
