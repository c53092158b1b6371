"""Models in pickles and copies: weights, optimizer state and custom classes go along, programs do not."""

import copy
import pickle

import numpy as np
import pytest

from kcompile import keras
from kcompile.keras import layers

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


class Doubled(layers.Layer):
    def call(self, x):
        return 2.0 * x


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_trained_model_goes_on_where_it_stood(again):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="tanh"), Doubled(), layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(X, X[:, :1], verbose=0)
    other = again(model)
    np.testing.assert_array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
    kept = model.get_weights()
    first, second = (m.fit(X, X[:, :1], verbose=0, shuffle=False).history["loss"] for m in (other, model))
    assert first == second
    model.set_weights(kept)
    assert not np.array_equal(other.get_weights()[0], model.get_weights()[0])  # they share nothing


def test_an_unbuilt_model_and_a_layer_that_holds_a_model():
    model = pickle.loads(pickle.dumps(keras.Sequential([layers.Dense(2)])))
    assert not model.built and model.predict(X, verbose=0).shape == (6, 2)
    wrapped = layers.TimeDistributed(keras.Sequential([keras.Input((4,)), layers.Dense(2)]))
    wrapped(X[None])
    np.testing.assert_array_equal(copy.deepcopy(wrapped)(X[None]).numpy(), wrapped(X[None]).numpy())
