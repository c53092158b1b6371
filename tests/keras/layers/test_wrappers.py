"""TimeDistributed and SpectralNormalization: against real Keras, with masks, states and any number of timesteps."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import layers
from kcompile.testing import check_layer

INSIDE = [
    (lambda k: k.layers.Dense(3, activation="tanh", kernel_regularizer="l2"), (2, 3, 4)),
    (lambda k: k.layers.Conv2D(2, 2, activation="relu"), (2, 3, 4, 5, 2)),
    (lambda k: k.layers.Flatten(), (2, 3, 4, 2)),
    (lambda k: k.layers.LayerNormalization(), (2, 3, 4)),
    (lambda k: k.Sequential([k.layers.Dense(4, activation="relu"), k.layers.Dense(2)]), (2, 3, 4)),
]


@pytest.mark.parametrize("make, shape", INSIDE)
def test_time_distributed_against_keras(make, shape, real_keras):
    x = np.random.default_rng(0).standard_normal(shape).astype("f")
    ours, theirs = (k.layers.TimeDistributed(make(k)) for k in (keras, real_keras))
    theirs(x), ours(x)
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(x), np.asarray(theirs(x)), rtol=2e-5, atol=2e-5)
    assert ours.compute_output_shape((None, None, *shape[2:])) == (None, None, *np.shape(theirs(x))[2:])
    np.testing.assert_allclose([float(v) for v in ours.losses], [float(v) for v in theirs.losses], rtol=1e-5)
    again = layers.TimeDistributed.from_config(theirs.get_config())
    assert type(again.layer).__name__ == type(theirs.layer).__name__


@pytest.mark.parametrize("make, shape", INSIDE[:4])
def test_time_distributed_keeps_its_promises(make, shape):
    check_layer(layers.TimeDistributed, {"layer": make(keras)}, input_shape=shape, gradient=False)


def test_time_distributed_with_open_time():
    x = keras.Input((None, 4))
    model = keras.Model(x, layers.TimeDistributed(layers.Dense(2))(x))
    model.compile("sgd", "mse")
    for time in (3, 5):
        data = np.random.default_rng(time).standard_normal((6, time, 4)).astype("f")
        np.testing.assert_allclose(model.predict(data, verbose=0), model(data), rtol=1e-5, atol=1e-6)
        model.train_on_batch(data, np.zeros((6, time, 2), "f"))


def test_moving_averages_move_step_by_step(real_keras):
    x = np.random.default_rng(0).standard_normal((4, 3, 5)).astype("f")
    ours, theirs = (k.layers.TimeDistributed(k.layers.BatchNormalization(momentum=0.9)) for k in (keras, real_keras))
    np.testing.assert_allclose(ours(x, training=True), np.asarray(theirs(x, training=True)), rtol=1e-4, atol=1e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_moving_averages_over_an_open_number_of_timesteps():
    def model(time):
        norm = layers.TimeDistributed(layers.BatchNormalization(momentum=0.9))
        made = keras.Sequential([keras.Input((time, 5)), norm])
        made.compile("sgd", "mse")
        return made

    x = np.random.default_rng(0).standard_normal((4, 3, 5)).astype("f")
    known, open_ = model(3), model(None)
    np.testing.assert_allclose(known.train_on_batch(x, x), open_.train_on_batch(x, x), rtol=1e-5)
    for a, b in zip(known.get_weights(), open_.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_masks_reach_the_inner_layer_and_pass_on():
    seen = []

    class Sum(layers.Layer):
        def call(self, x, mask=None):
            seen.append(mask.shape)
            return keras.ops.sum(x * keras.ops.cast(mask, "float32")[:, None], axis=-1)

    outer = layers.TimeDistributed(Sum())
    x = layers.Masking()(np.array([[[1.0, 2.0], [0.0, 0.0]]], "f"))
    assert np.asarray(outer(x)).tolist() == [[3.0, 0.0]] and seen == [(2,)]
    assert np.asarray(outer(x)._keras_mask).tolist() == [[True, False]]
    with pytest.raises(ShapeError, match="incompatible"):
        outer(np.zeros((2, 3, 4), "f"), mask=np.ones((2, 4), bool))


def test_wrappers_say_what_they_take():
    with pytest.raises(ArgumentError, match="isn't a supported layer"):
        layers.TimeDistributed("dense")
    with pytest.raises(ShapeError, match="at least 3 dimensions"):
        layers.TimeDistributed(layers.Dense(2))(np.zeros((2, 3), "f"))
    with pytest.raises(ArgumentError, match="power_iterations"):
        layers.SpectralNormalization(layers.Dense(2), power_iterations=0)
    with pytest.raises(ArgumentError, match="'kernel' nor 'embeddings'"):
        layers.SpectralNormalization(layers.ReLU())(np.zeros((2, 3), "f"))


SPECTRAL = [
    (lambda k: k.layers.Dense(4), (3, 5), 1),
    (lambda k: k.layers.Conv2D(3, 2), (2, 4, 4, 2), 3),
]


@pytest.mark.parametrize("make, shape, rounds", SPECTRAL)
def test_spectral_normalization_against_keras(make, shape, rounds, real_keras):
    x = np.random.default_rng(0).standard_normal(shape).astype("f")
    ours, theirs = (k.layers.SpectralNormalization(make(k), rounds) for k in (keras, real_keras))
    theirs(x), ours(x)
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    ours.set_weights(theirs.get_weights())
    for training in (False, True, True, False):
        found, expected = ours(x, training=training), np.asarray(theirs(x, training=training))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    check_layer(layers.SpectralNormalization, {"layer": make(keras)}, input_shape=shape, training=True, gradient=False)


def test_spectral_normalization_keeps_a_kernel_of_zeros():
    layer = layers.SpectralNormalization(layers.Dense(3, kernel_initializer="zeros"))
    assert not np.asarray(layer(np.ones((2, 4), "f"), training=True)).any()


def test_spectral_normalization_trains_as_in_keras(real_keras):
    """The stored kernel is what is trained; the normalised one is seen by the step alone."""

    def build(k):
        inner = k.layers.SpectralNormalization(k.layers.Dense(4, activation="tanh"))
        return k.Sequential([k.Input((5,)), inner, k.layers.Dense(1)])

    rng = np.random.default_rng(0)
    theirs = build(real_keras)
    ours = build(keras)
    ours.set_weights(theirs.get_weights())
    for model in (ours, theirs):
        model.compile("sgd", "mse")
    for _ in range(5):
        x, y = rng.standard_normal((7, 5)).astype("f"), rng.standard_normal((7, 1)).astype("f")
        losses = [float(np.asarray(m.train_on_batch(x, y))) for m in (ours, theirs)]
    assert losses[0] > 0
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
