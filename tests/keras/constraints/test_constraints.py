"""Constraints: D-9, values against real Keras, native training."""

import numpy as np
import pytest

from kcompile import keras as kc
from kcompile import plugins
from kcompile.keras import constraints
from tests.keras.real import real_keras

W = np.array([[1, -2], [3, -4]], "float32")
LIMITED = [[0.6324555, -0.8944272], [1.8973665, -1.7888544]]
CASES = [
    ("MaxNorm", {"max_value": 2}, LIMITED),
    ("MinMaxNorm", {"min_value": 1, "max_value": 2}, LIMITED),
    ("MinMaxNorm", {"min_value": 0.5, "max_value": 1.5, "rate": 0.3, "axis": 1}, None),
    ("NonNeg", {}, [[1, 0], [3, 0]]),
    ("UnitNorm", {}, [[0.3162278, -0.4472136], [0.9486833, -0.8944272]]),
]


@pytest.mark.parametrize("name, options, value", CASES, ids=str)
def test_d9_and_native_training_equal_keras(name, options, value):
    real = real_keras()
    made = [getattr(k.constraints, name)(**options) for k in (kc, real)]
    found, expected = (np.asarray(c(W)) for c in made)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    if value is not None:
        np.testing.assert_allclose(found, value, atol=1e-5)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(6, 4)).astype("float32"), rng.normal(size=(6, 3)).astype("float32")
    start = [rng.normal(size=(4, 3)).astype("float32"), np.zeros(3, "float32")]
    weights = []
    for keras, constraint in zip((kc, real), made):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_constraint=constraint)])
        model.set_weights(start)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        for _ in range(3):
            model.train_on_batch(x, y)
        weights.append(model.get_weights())
    for a, b in zip(*weights):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_names_and_configs():
    assert constraints.get("max_norm").get_config() == {"max_value": 2, "axis": 0}
    again = constraints.deserialize(constraints.serialize(constraints.MinMaxNorm(0.1, 0.9, axis=1)))
    assert again.get_config() == {"min_value": 0.1, "max_value": 0.9, "rate": 1.0, "axis": 1}
    assert constraints.unit_norm is constraints.UnitNorm
    names = plugins.names("constraints", aliases=False)
    builtin = {n for n in names if plugins.get("constraints", n).__module__.startswith("kcompile.")}
    assert builtin == {n for n, *_ in CASES}
