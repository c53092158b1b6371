"""Models of preprocessing, wrapped and normalising layers: into files and back, here and in real Keras."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.keras import layers


def model():
    numbers = layers.Normalization()
    numbers.adapt(np.random.default_rng(0).standard_normal((20, 6)).astype("f"))
    inputs = keras.Input((6,))
    x = layers.Reshape((3, 2))(layers.Rescaling(2.0, -1.0)(numbers(inputs)))
    x = layers.TimeDistributed(layers.Dense(4))(x)
    x = layers.RMSNormalization()(layers.GroupNormalization(2)(x))
    x = layers.SpectralNormalization(layers.EinsumDense("abc,cd->abd", (3, 3), bias_axes="d"))(x)
    bins = layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0], output_mode="multi_hot", dtype="float32")(inputs)
    x = layers.Concatenate()([layers.Flatten()(x), bins])
    return keras.Model(inputs, layers.Dense(2)(x))


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_files(name, tmp_path, real_keras):
    made, path = model(), str(tmp_path / name)
    x = np.random.default_rng(1).standard_normal((5, 6)).astype("f")
    expected = made.predict(x, verbose=0)
    made.save(path)
    np.testing.assert_array_equal(keras.models.load_model(path).predict(x, verbose=0), expected)
    theirs = real_keras.models.load_model(path)
    np.testing.assert_allclose(theirs.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5)


def test_locally_connected(tmp_path):
    made = keras.Sequential([keras.Input((5, 4, 2)), layers.LocallyConnected2D(3, 2), layers.Flatten()])
    x = np.random.default_rng(1).standard_normal((5, 5, 4, 2)).astype("f")
    path = str(tmp_path / "model.keras")
    made.save(path)
    np.testing.assert_array_equal(keras.models.load_model(path).predict(x), made.predict(x))
