"""Several inputs with open sizes: independent where the model lets them be, equal where it does not."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ShapeError


def model_of(make):
    inputs = [keras.Input((None, 3)) for _ in range(2)]
    model = keras.Model(inputs, make(inputs))
    model.compile("sgd", "mse")
    return model


def numbers(*sizes):
    return [np.random.default_rng(n).standard_normal((2, n, 3)).astype("f") for n in sizes]


@pytest.mark.parametrize(
    "make",
    [
        lambda x: keras.layers.Add()([keras.layers.Dense(3)(x[0]), x[1]]),
        lambda x: keras.layers.Concatenate()(x),
        lambda x: keras.layers.Dot(axes=1)([x[0] * x[1], x[1]]),
    ],
)
def test_sequences_of_one_length_meet(make):
    model = model_of(make)
    for size in (5, 7):
        x = numbers(size, size)
        found = model.predict(x, verbose=0)
        np.testing.assert_allclose(found, model(x), rtol=1e-5, atol=1e-6)
        assert np.isfinite(model.train_on_batch(x, np.zeros_like(found)))
    assert len(model._training.programs._found) == 2  # one for each mode serves every length
    with pytest.raises(ShapeError):
        model.predict(numbers(5, 7), verbose=0)
    with pytest.raises(ShapeError):
        model.train_on_batch(numbers(5, 7), np.zeros_like(found))


def test_sequences_of_two_lengths_stay_apart():
    model = model_of(lambda x: keras.layers.Dot(axes=2)(x))
    for sizes in ((5, 5), (4, 7)):
        x = numbers(*sizes)
        np.testing.assert_allclose(model.predict(x, verbose=0), model(x), rtol=1e-5, atol=1e-6)
    assert len(model._training.programs._found) == 1
