"""model.memory_plan says what a step needs, for every batch size, before it runs."""

import numpy as np
import pytest

from benchmarks import models_keras, workloads
from kcompile import keras
from kcompile.errors import ArgumentError
from kcompile.keras.training.memory import readable
from kcompile.keras.training.programs import TRAIN, Batch
from kcompile.passes.memory import check_plan


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


@pytest.mark.parametrize("name", ["tiny", "mlp", "cnn"])
def test_arena_is_close_to_what_is_alive(name):
    """Within 5 % for the small models of the benchmarks, for one row as for many."""
    model, (x, y) = models_keras.build(keras, name), workloads.data(name, 2)
    for plan in (model.memory_plan(x, y), model.memory_plan(x)):
        check_plan(plan.built.plan)
        for batch in (1, 2, 3, 8, 32, 50, 128, 1000):
            assert plan.lower_bound_bytes(batch) <= plan.arena_bytes(batch) <= 1.05 * plan.lower_bound_bytes(batch)


class OwnModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner, self.last = keras.layers.Dense(5, activation="relu"), keras.layers.Dense(2)

    def call(self, x):
        return self.last(self.inner(x))


def functional():
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Dense(2)(inputs))


def recurrent():
    layers = [keras.Input((5, 6)), keras.layers.LSTM(4, return_sequences=True), keras.layers.GRU(3)]
    return keras.Sequential([*layers, keras.layers.Dense(2)])


@pytest.mark.parametrize("make, shape", [(OwnModel, (6,)), (functional, (6,)), (recurrent, (5, 6))])
def test_every_kind_of_model_runs_in_what_its_plan_says(make, shape):
    model = make()
    model.compile(optimizer="adam", loss="mse")
    x, y = np.ones((7, *shape), np.float32), np.ones((7, 2), np.float32)
    plan = model.memory_plan(x[:2], y[:2])
    model.fit(x, y, batch_size=7, verbose=0)
    executable = model._program(TRAIN, Batch(x, y)).program
    sizes = {"batch": 7, "workers": plan.sizes["workers"]}
    taken = executable.arena_bytes(tuple(sizes[name] for name in executable.program.symbols))
    assert taken == plan.arena_bytes(7)
    assert "train step" in str(plan)


def test_the_plan_is_of_the_algorithms_the_model_may_use():
    """Winograd's filters are kept; where it is not allowed they are not."""
    kept = {}
    for precision in ("default", "highest"):
        model = keras.Sequential([keras.Input((16, 16, 64)), keras.layers.Conv2D(64, 3, padding="same")])
        model.compile(precision=precision)
        kept[precision] = model.memory_plan().kept
    assert kept["highest"] < kept["default"]


def test_prediction_needs_no_data():
    plan = small_cnn().memory_plan()
    assert plan.mode == "predict"
    assert plan.arena_bytes(32) < small_cnn().memory_plan(*rows(1)).arena_bytes(32)
    assert "128" in str(plan) and "arena" in plan.picture(8)
    assert [readable(n) for n in (5, 1536, 3 << 20, 5 << 40)] == ["5 bytes", "1.5 KiB", "3.0 MiB", "5,120.0 GiB"]


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
