"""Subclassed models that meet many sizes are not compiled for each of them."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.keras import layers, ops
from kcompile.keras.training.varying import LEAST

LENGTHS = tuple(range(3, 3 + LEAST + 2))


class Reader(keras.Model):
    """One number per sequence."""

    def __init__(self):
        super().__init__()
        self.vectors, self.read, self.head = layers.Embedding(9, 4), layers.GRU(4), layers.Dense(1)

    def call(self, x):
        return self.head(self.read(self.vectors(x)))


class Tagger(Reader):
    """One number per element."""

    def call(self, x):
        return self.head(self.vectors(x) + ops.mean(self.vectors(x), axis=1, keepdims=True))


class Counter(Reader):
    """Its Python code needs the length."""

    def call(self, x):
        vectors = self.vectors(x)
        return self.head(sum(vectors[:, i] * (i + 1) for i in range(x.shape[1])))


def sequences(length, rows=3):
    return np.random.default_rng(length).integers(0, 9, (rows, length)).astype("int32")


def trained(kind, lengths, target, **options):
    keras.utils.set_random_seed(0)
    model = kind()
    model.compile("sgd", "mse", **options)
    losses = [model.train_on_batch(sequences(n, 2 + n % 2), target(n, 2 + n % 2)) for n in lengths]
    return model, losses


@pytest.mark.parametrize(
    ("kind", "target"),
    [(Reader, lambda n, rows: np.ones((rows, 1), "f")), (Tagger, lambda n, rows: np.ones((rows, n, 1), "f"))],
)
def test_sizes_that_vary_become_symbols(kind, target):
    model, losses = trained(kind, LENGTHS, target)
    assert len(model._training.programs._found) == LEAST + 1
    other, expected = trained(kind, LENGTHS, target, jit=False)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for n in (*LENGTHS, 30) if kind is Tagger else ():
        np.testing.assert_allclose(model.predict(sequences(n), verbose=0), other(sequences(n)), rtol=1e-4, atol=1e-5)
    if kind is Tagger:
        assert len(model._training.programs._found) == 2 * (LEAST + 1)


def test_code_that_needs_numbers_gets_them():
    model, losses = trained(Counter, LENGTHS, lambda n, rows: np.ones((rows, 1), "f"), jit=False)
    assert np.isfinite(losses).all() and len(model._training.programs._found) == len(LENGTHS)
