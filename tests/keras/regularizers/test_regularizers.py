"""Regularizers: D-9, values and gradients against real Keras, native training."""

import numpy as np
import pytest

from kcompile import keras as kc
from kcompile import plugins
from kcompile.errors import ArgumentError
from kcompile.keras import regularizers
from tests.keras.real import real_keras

W = np.array([[1, -2], [3, -4]], "float32")
CASES = [
    ("L1", {"l1": 0.01}, 0.1),
    ("L2", {"l2": 0.01}, 0.3),
    ("L1L2", {"l1": 0.001, "l2": 0.001}, 0.04),
    ("OrthogonalRegularizer", {"factor": 0.1}, None),
    ("OrthogonalRegularizer", {"factor": 0.1, "mode": "columns"}, None),
]


@pytest.mark.parametrize("name, options, value", CASES, ids=str)
def test_d9_and_native_training_equal_keras(name, options, value):
    real = real_keras()
    made = [getattr(k.regularizers, name)(**options) for k in (kc, real)]
    found, expected = float(made[0](W)), float(made[1](real.ops.convert_to_tensor(W)))
    assert found == pytest.approx(expected, rel=1e-5)
    assert value is None or found == pytest.approx(value, rel=1e-5)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(6, 4)).astype("float32"), rng.normal(size=(6, 3)).astype("float32")
    start = [rng.normal(size=(4, 3)).astype("float32"), np.zeros(3, "float32")]
    weights = []
    for keras, regularizer in zip((kc, real), made):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_regularizer=regularizer)])
        model.set_weights(start)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        losses = [float(model.train_on_batch(x, y)) for _ in range(3)]
        weights.append([*model.get_weights(), np.array(losses)])
    for a, b in zip(*weights):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_names_configs_and_errors():
    assert regularizers.get("l1_l2").get_config() == {"l1": 0.0, "l2": 0.0}
    assert regularizers.l1_l2(l1=0.001, l2=0.002).get_config() == {"l1": 0.001, "l2": 0.002}
    again = regularizers.deserialize(regularizers.serialize(regularizers.L2(0.3)))
    assert again.l2 == 0.3
    with pytest.raises(ArgumentError, match="non-negative"):
        regularizers.L1(-1.0)
    names = plugins.names("regularizers", aliases=False)
    builtin = {n for n in names if plugins.get("regularizers", n).__module__.startswith("kcompile.")}
    assert builtin == {n for n, *_ in CASES}
