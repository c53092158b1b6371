"""What the tests of applications share: cheap weights, and the real package's twin of a network."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from kcompile import keras
from kcompile.keras import applications
from kcompile.keras.initializers import random


@pytest.fixture
def plain_weights(monkeypatch):
    """Building draws up to 144 million random numbers per model; zeros do for its structure."""
    _zeros(monkeypatch, random)


@pytest.fixture
def plain_keras(real_keras, monkeypatch):
    """Real Keras, whose weights are zeros too: drawing them compiles a program for every shape."""
    from keras.src.initializers import random_initializers

    _zeros(monkeypatch, random_initializers)
    return real_keras


def _zeros(monkeypatch, module) -> None:
    for kind in vars(module).values():
        if inspect.isclass(kind) and "__call__" in vars(kind):
            monkeypatch.setattr(kind, "__call__", lambda self, shape, dtype=None, **_: np.zeros(shape, dtype))


def twins(name: str, real_keras, **arguments):
    """One network of kcompile and one of real Keras, with names counted from the start."""
    keras.backend.clear_session()
    real_keras.backend.clear_session()
    ours, theirs = getattr(applications, name), getattr(real_keras.applications, name)
    return ours(weights=None, **arguments), theirs(weights=None, **arguments)


def described(layer) -> tuple:
    """What a layer is: its kind, its output, its weights, and what else its arithmetic depends on."""
    config = layer.get_config()
    names = ("activation", "strides", "padding", "use_bias", "epsilon", "momentum", "rate", "scale", "offset")
    settings = {n: config[n] for n in names if config.get(n) is not None}
    shapes = [tuple(w.shape) for w in layer.weights]
    return type(layer).__name__, tuple(layer.output.shape), shapes, repr(settings).replace("[", "(").replace("]", ")")


def randomize(model, seed: int = 0) -> None:
    """Weights that keep the size of what passes through: real Keras's initial ones do not in every family."""
    draw = np.random.default_rng(seed)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if len(shape) <= 1:
            positive = "variance" in weight.path or "gamma" in weight.path
            weight.assign(draw.uniform(0.8, 1.2, shape) if positive else draw.normal(size=shape) * 0.1)
        else:
            inputs = np.prod(shape[:-1]) if "depthwise" not in weight.path and "dwconv" not in weight.path else 9
            weight.assign(draw.normal(size=shape) * np.sqrt(2 / inputs))
