"""Masks reach losses and metrics of compiled steps: padding counts for nothing."""

import numpy as np
import pytest

from kcompile import keras
from tests.keras.zoo import ZOO


def evaluated(k, weights, data, **arguments):
    case = ZOO["masked_steps"]
    model = case.build(k)
    model.set_weights(weights)
    model.compile("sgd", case.loss(k), metrics=["accuracy"], weighted_metrics=["sparse_categorical_crossentropy"])
    return model, model.evaluate(*data, verbose=0, return_dict=True, **arguments)


@pytest.mark.parametrize("weighted", [False, True])
def test_evaluate_against_keras(weighted, real_keras):
    case = ZOO["masked_steps"]
    x, y = case.data(9)
    arguments = {"sample_weight": np.random.default_rng(2).random((9, 7)).astype("f")} if weighted else {}
    weights = case.weights(real_keras)
    (_, found), (_, expected) = (evaluated(k, weights, (x, y), **arguments) for k in (keras, real_keras))
    assert found.keys() == expected.keys()
    for name in ("loss", "accuracy"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5)


def test_padding_changes_nothing():
    case = ZOO["masked_steps"]
    x, y = case.data(9)
    weights = case.weights(keras)
    x = np.where(x == 0, 1, x)
    model, expected = evaluated(keras, weights, (x, y))
    x[:, 5:] = 0
    other = y.copy()
    other[:, 5:] = (y[:, 5:] + 1) % 3  # what is padded may be anything
    first, second = (model.evaluate(x, t, verbose=0, return_dict=True) for t in (y, other))
    assert first["loss"] == second["loss"] and first["accuracy"] == second["accuracy"]
    assert first["loss"] != expected["loss"]
