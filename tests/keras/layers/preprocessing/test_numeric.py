"""Layers on numbers: what `adapt` leaves to read."""

import numpy as np

from kcompile.keras import Input, Sequential, layers

X = np.array([[1.0, 2.0], [3.0, 6.0]], np.float32)


def test_normalization_shows_its_statistics(tmp_path):
    layer = layers.Normalization()
    assert layer.mean is None and layer.variance is None
    layer.adapt(X)
    np.testing.assert_allclose(layer.mean, [[2.0, 4.0]])
    np.testing.assert_allclose(layer.variance, [[1.0, 4.0]])
    Sequential([Input((2,)), layer]).save_weights(tmp_path / "m.weights.h5")
    other = Sequential([Input((2,)), layers.Normalization()])
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_allclose(other.layers[0].mean, [[2.0, 4.0]])
    given = layers.Normalization(mean=3.0, variance=2.0)
    given(X)
    assert float(given.mean.ravel()[0]) == 3.0
