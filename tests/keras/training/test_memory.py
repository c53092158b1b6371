"""model.memory_plan says what a step needs, for every batch size, before it runs."""

import numpy as np
import pytest

from benchmarks import models_keras, workloads
from kcompile import keras
from kcompile.errors import ArgumentError


def small_cnn():
    layers = keras.layers
    body = [layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(3)]
    model = keras.Sequential([keras.Input((12, 12, 2)), *body])
    model.compile(optimizer="adam", loss="mse")
    return model


def rows(n):
    return np.zeros((n, 12, 12, 2), np.float32), np.zeros((n, 3), np.float32)


def test_train_plan_counts_variables_and_arena():
    model = small_cnn()
    before = [w.copy() for w in model.get_weights()]
    plan = model.memory_plan(*rows(2))
    assert plan.mode == "train"
    weights = sum(w.size for w in before) * 4
    assert plan.variables >= 3 * weights  # Adam keeps two more numbers per weight
    activations = 10 * 10 * 8 * 4  # of the convolution alone, per image
    assert plan.arena_bytes(64) >= 64 * activations
    assert plan.total_bytes(64) == plan.variables + plan.arena_bytes(64)
    for was, now in zip(before, model.get_weights()):
        np.testing.assert_array_equal(was, now)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_arena_is_close_to_what_is_alive(name):
    """Within a tenth for the models of the benchmarks."""
    model, (x, y) = models_keras.build(keras, name), workloads.data(name, 2)
    for plan in (model.memory_plan(x, y), model.memory_plan(x)):
        for batch in (32, 128, 1000):
            assert plan.lower_bound_bytes(batch) <= plan.arena_bytes(batch) <= 1.1 * plan.lower_bound_bytes(batch)


def test_prediction_needs_no_data():
    plan = small_cnn().memory_plan()
    assert plan.mode == "predict"
    assert plan.arena_bytes(32) < small_cnn().memory_plan(*rows(1)).arena_bytes(32)
    assert "128" in str(plan) and "arena" in plan.picture(8)


def test_largest_batch():
    plan = small_cnn().memory_plan(*rows(2))
    limit = plan.total_bytes(100)
    assert plan.largest_batch(limit) >= 100
    assert plan.total_bytes(plan.largest_batch(limit)) <= limit < plan.total_bytes(plan.largest_batch(limit) + 1)
    assert plan.largest_batch(plan.variables) == 0


def test_clear_errors():
    model = small_cnn()
    with pytest.raises(ArgumentError, match="at least 1"):
        model.memory_plan().arena_bytes(0)
    with pytest.raises(ArgumentError, match="no input shapes"):
        keras.Sequential([keras.layers.Dense(2)]).memory_plan()


def test_what_is_kept_of_weights_counts():
    model = keras.Sequential([keras.Input((8, 8, 256)), keras.layers.Conv2D(256, 1)])
    plan = model.memory_plan()
    assert plan.kept == 256 * 256 * 4 and "kept" in str(plan)
    assert plan.total_bytes(2) == plan.variables + plan.kept + plan.arena_bytes(2)
