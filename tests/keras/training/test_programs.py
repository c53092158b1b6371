"""One program per kind of batch: never per batch size; arenas shared; nothing recompiled for a new rate."""

import gc
import weakref

import numpy as np
import pytest

from kcompile import keras, pipeline
from kcompile.keras import layers
from kcompile.keras.callbacks import LambdaCallback


def model_of(jit=False):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="relu"), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01, name="adam"), "mse", metrics=["mae"], jit=jit)
    return model


def programs(model):
    return [p.mode for p in model._training.programs._found.values()]


def test_one_program_for_every_batch_size():
    model = model_of(jit=True)
    x, y = np.random.default_rng(0).random((100, 4), "float32"), np.zeros((100, 1), "float32")
    before = pipeline.counters.programs
    model.fit(x, y, batch_size=32, epochs=2, verbose=0)
    for rows in (1, 7, 100):
        model.predict(x[:rows])
        model.predict_on_batch(x[:rows])
        model.train_on_batch(x[:rows], y[:rows])
    assert pipeline.counters.programs - before == 2
    assert sorted(programs(model)) == ["predict", "train"]


def test_dtypes_and_row_shapes_are_part_of_the_signature():
    model = model_of()
    model.predict(np.zeros((3, 4), "float32"))
    model.predict(np.zeros((3, 4), "float64"))  # converted to float32 before
    assert programs(model) == ["predict"]
    model.predict(np.zeros((3, 4), "uint8"))
    assert programs(model) == ["predict", "predict"]


def test_open_sizes_are_symbols():
    model = keras.Sequential([keras.Input((None, 3)), layers.Dense(2)])
    model.compile("sgd", "mse", jit=False)
    for length in (2, 5):
        x = np.ones((4, length, 3), "float32")
        model.fit(x, np.zeros((4, length, 2), "float32"), verbose=0)
        assert model.predict(x).shape == (4, length, 2)
    assert sorted(programs(model)) == ["predict", "train"]


def test_learning_rate_is_an_input_of_the_program(jit):
    model = model_of(jit)
    x, y = np.ones((4, 4), "float32"), np.ones((4, 1), "float32")
    model.train_on_batch(x, y)
    model.optimizer.learning_rate = 0.0
    before = model.get_weights()
    model.train_on_batch(x, y)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert programs(model) == ["train"]


def test_weights_and_slots_live_in_arenas_of_one_layout():
    model = model_of()
    model.train_on_batch(np.ones((2, 4), "float32"), np.ones((2, 1), "float32"))
    (program,) = model._training.programs._found.values()
    owners = program.traced.variables
    params, momentum = owners["params"], owners["adam_momentum"]
    assert params.offsets == momentum.offsets and params.size == momentum.size
    assert all(np.shares_memory(w._array, params.buffer) for w in model.weights)
    assert {"params", "adam_momentum", "adam_velocity"} <= set(program.traced.graph.assignments)
    assert not program.traced.graph.outputs


def test_per_batch_callbacks_see_what_native_slices_compute(jit):
    x = np.random.default_rng(0).random((50, 4)).astype("float32")
    y = x.sum(1, keepdims=True)
    results = []
    for callbacks in ([], [LambdaCallback(on_train_batch_end=lambda batch, logs: None)]):
        keras.utils.set_random_seed(1)
        model = model_of(jit)
        history = model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=callbacks)
        results.append((history.history, model.get_weights()))
    assert results[0][0] == results[1][0]
    for a, b in zip(results[0][1], results[1][1]):
        np.testing.assert_array_equal(a, b)


def test_set_weights_reaches_programs(jit):
    model = model_of(jit)
    x, y = np.ones((2, 4), "float32"), np.ones((2, 1), "float32")
    model.predict(x)
    model.train_on_batch(x, y)  # moves the weights into an arena
    model.set_weights([np.ones_like(w) for w in model.get_weights()])
    np.testing.assert_allclose(model.predict(x), np.full((2, 1), 3 * 5 + 1.0))


def test_a_deleted_model_frees_its_arenas():
    model = model_of()
    model.fit(np.ones((4, 4)), np.ones((4, 1)), verbose=0)
    (program,) = model._training.programs._found.values()
    arena = weakref.ref(program.traced.variables["params"])
    del model, program
    gc.collect()
    assert arena() is None


def test_metrics_held_by_a_model_are_logged_and_reset():
    class Watched(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1, kernel_initializer="zeros")
            self.level = keras.metrics.Mean(name="level")

        def call(self, x):
            self.level.update_state(x)
            return self.dense(x)

    model = Watched()
    model.compile("sgd", "mse", jit=False)
    history = model.fit(np.full((4, 2), 3.0), np.zeros((4, 1)), epochs=2, verbose=0).history
    assert history["level"] == pytest.approx([3.0, 3.0])
