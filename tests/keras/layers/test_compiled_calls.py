"""Calls of built-in layers and models on arrays: when they are compiled, and that nobody sees a difference."""

import copy

import numpy as np
import pytest

from kcompile import flags
from kcompile.errors import ArgumentError
from kcompile.keras import Input, Model, Sequential, activations, layers, ops, utils
from kcompile.keras.layers import compiled_calls, purity
from kcompile.keras.tracing.tensor import Tensor
from kcompile.pipeline import counters


def rows(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def programs(layer):
    """How many programs serve the calls of a layer in its present state; None if Python runs them."""
    calls = vars(layer)["_compiled_calls"]
    return len(calls._state.programs) if isinstance(calls, compiled_calls.CompiledCalls) else None


def called(layer, *args, times=10, **kwargs):
    """The results of several calls."""
    return [layer(*args, **kwargs) for _ in range(times)]


def small(**kwargs):
    return Sequential([Input((4,)), layers.Dense(5, activation="relu", **kwargs), layers.Dense(2)])


def test_the_third_call_of_a_model_compiles_for_all_batch_sizes():
    model, x = small(), rows(3, 4)
    before = counters.programs
    first, second = model(x), model(x)
    assert counters.programs == before
    third = model(x)
    assert counters.programs == before + 1 and programs(model) == 1
    assert np.array_equal(first, second) and type(first) is type(third) is Tensor
    for n in (1, 3, 7, 7):
        with flags.scoped(compiled_calls=False):
            twin = copy.deepcopy(model)
            np.testing.assert_allclose(model(rows(n, 4)), twin(rows(n, 4)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model(x), model(x[::-1])[::-1])  # not contiguous
    assert counters.programs == before + 1
    assert model(x[:0]).shape == (0, 2)
    model.layers[1].bias.assign([100.0, 100.0])
    np.testing.assert_allclose(model(x), third + 100, rtol=1e-4)
    for _ in range(3):
        assert model(x.astype("float64")).dtype == "float32"
    assert programs(model) == 2
    with pytest.raises(ValueError, match="shape"):
        model(rows(2, 3))


def test_training_moves_weights_and_compiled_calls_follow():
    model, x = small(), rows(8, 4)
    called(model, x)
    model.compile("sgd", "mse")
    model.fit(x, rows(8, 2), verbose=0)
    wanted = model.predict(x, verbose=0)
    for found in called(model, x, times=4):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    model.fit(x, rows(8, 2), verbose=0)
    np.testing.assert_allclose(model(x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    model.compile("sgd", "mse", run_eagerly=True)
    called(model, x)
    assert programs(model) is None and not programs(model.layers[0])


def test_statistics_and_random_numbers_are_those_of_the_way_op_by_op():
    def make():
        utils.set_random_seed(3)
        return Sequential([Input((4,)), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(3)])

    x = rows(6, 4)
    with flags.scoped(compiled_calls=False):
        plain = make()
        wanted = called(plain, x, times=5, training=True) + [plain(x)]
    assert programs(plain) is None
    model = make()
    found = called(model, x, times=5, training=True) + [model(x)]
    assert programs(model) == 1
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(model.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_changed_attributes_count_at_once():
    drop, x = layers.Dropout(0.5), np.ones((4, 50), "float32")
    called(drop, x, training=True)
    assert programs(drop) == 1
    drop.rate = 0.0
    assert np.array_equal(drop(x, training=True), x)
    norm = layers.BatchNormalization()
    called(norm, x)
    called(norm, x, training=True)
    made = programs(norm)
    for _ in range(9):  # as a GAN does with its discriminator
        norm.trainable = False
        before = norm.moving_mean.numpy()
        norm(x, training=True)
        assert np.array_equal(norm.moving_mean.numpy(), before)
        norm.trainable = True
        norm(x, training=True)
    assert not np.array_equal(norm.moving_mean.numpy(), before) and programs(norm) == made
    assert len(vars(norm)["_compiled_calls"]._states) == 2
    model = small()
    called(model, x[:, :4])
    model.add(layers.Dense(7))
    assert model(x[:, :4]).shape == (4, 7)


def test_a_layer_that_changes_with_every_call_is_not_compiled_again_and_again():
    drop, x = layers.Dropout(0.5), rows(2, 3)
    before = counters.programs
    for n in range(30):
        drop.rate = 0.01 * n
        drop(x)
    assert counters.programs == before
    assert len(vars(drop)["_compiled_calls"]._states) <= compiled_calls._MOST_STATES


class Counting(layers.Layer):
    calls = 0

    def call(self, x):
        self.calls += 1
        return x * 2.0


def test_code_of_users_runs_in_every_call():
    seen = []

    def loud(x):
        seen.append(1)
        return ops.relu(x)

    class Own(Model):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(3)
            self.count = 0

        def call(self, x, training=None):
            self.count += 1
            return self.inner(x)

    class OwnCall(layers.Dense):
        def call(self, x):
            seen.append(1)
            return super().call(x)

    x = rows(2, 4)
    counting = Counting()
    wired = Sequential([Input((4,)), layers.Dense(3), counting])
    start = counting.calls
    called(wired, x)
    assert counting.calls == start + 10 and programs(wired) is None and programs(wired.layers[0]) == 1
    own = Own()
    called(own, x)
    own.count = 0
    called(own, x)
    assert own.count == 10 and programs(own) is None and programs(own.inner) == 1
    for layer in (layers.Dense(3, activation=loud), layers.Lambda(loud), OwnCall(3)):
        seen.clear()
        called(layer, x)
        assert len(seen) == 10 and programs(layer) is None
    patched = layers.Dense(3)
    called(patched, x)
    patched.call = lambda inputs: seen.append(2) or inputs
    seen.clear()
    called(patched, x)
    assert seen == [2] * 10


def test_steps_of_training_that_users_write_do_not_matter():
    class Custom(Model):
        def train_step(self, data):
            return super().train_step(data)

        def sample(self, n):
            return self(np.ones((n, 4), "float32"))

    x = Input((4,))
    model = Custom(x, layers.Dense(2)(x))
    [model.sample(2) for _ in range(4)]
    assert programs(model) == 1
    assert not purity.is_ours(Counting) and purity.is_ours(Custom)


def test_arrays_in_a_graph_and_switches_of_single_calls():
    x, scale = Input((4,)), np.ones(4, "float32")
    model = Model(x, x * scale)
    called(model, rows(2, 4))
    scale[:] = 2
    assert np.array_equal(model(rows(2, 4)), 2 * rows(2, 4)) and programs(model) is None
    noisy = Model(x, layers.Dropout(0.5)(x, training=True))  # dropout in every call that does not say otherwise
    ones = np.ones((4, 4), "float32")
    assert len({r.tobytes() for r in called(noisy, ones, times=6)}) > 1 and programs(noisy) == 1
    assert all(np.array_equal(r, ones) for r in called(noisy, ones, times=4, training=False))


def test_masks_and_losses_come_with_every_result():
    tokens = np.array([[1, 2, 0], [3, 0, 0]])
    embed = layers.Embedding(5, 2, mask_zero=True)
    assert all(np.array_equal(r._keras_mask, tokens != 0) for r in called(embed, tokens))
    words = Input((None,), dtype="int32")
    model = Model(words, layers.GRU(3)(layers.Embedding(5, 2, mask_zero=True)(words)))
    results = called(model, tokens, times=5)
    np.testing.assert_allclose(results[-1], results[0], rtol=1e-5, atol=1e-6)
    assert programs(model) == 1 and not hasattr(results[-1], "_keras_mask")
    with pytest.raises(ArgumentError, match="expects indices from 0 to 4"):
        model(np.array([[9, 1, 1]]))
    masked = layers.LSTM(2)
    given = embed(tokens)
    assert all(np.array_equal(r, masked(given)) for r in called(masked, given, times=10))
    dense = layers.Dense(3, activity_regularizer="l2")
    for _ in range(10):
        dense(rows(2, 4))
        assert len(dense.losses) == 1
    assert programs(dense) is None


def test_sizes_that_vary_get_symbols():
    tokens = Input((None, 4))
    model = Model(tokens, [layers.LSTM(3)(tokens), ops.mean(tokens, axis=1)])
    before = counters.programs
    for length in range(1, 9):  # as a text that grows
        last, mean = model(rows(2, length, 4))
        np.testing.assert_allclose(mean, rows(2, length, 4).mean(1), rtol=1e-5, atol=1e-6)
    assert counters.programs == before + 1 and last.shape == (2, 3)
    both, before = layers.Add(), counters.programs
    for length in range(1, 12):
        a, b = rows(2, length), rows(2, length, seed=1)
        assert np.array_equal(both([a, b]), a + b)
    assert counters.programs == before + 1


def test_nested_arguments_and_shared_results():
    attention, x, y = layers.MultiHeadAttention(2, 3), rows(2, 5, 4), rows(2, 6, 4)
    attention(x, y)
    results = called(attention, x, y, return_attention_scores=True)
    for a, b in zip(results[0], results[-1]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert programs(attention) == 1
    cell = layers.GRUCell(3)
    output, [state] = called(cell, rows(2, 4), [rows(2, 3)])[-1]
    assert output is state and programs(cell) == 1
    named = Model({"a": (a := Input((3,))), "b": (b := Input((3,)))}, {"sum": a + b})
    for _ in range(4):
        assert np.array_equal(named({"a": np.ones((2, 3)), "b": np.ones((2, 3))})["sum"], np.full((2, 3), 2))
    assert programs(named) == 1


def test_states_of_recurrent_layers_stay():
    kept, x = layers.LSTM(2, stateful=True), rows(2, 3, 4)
    assert len({r.tobytes() for r in called(kept, x, times=10)}) == 10 and programs(kept) is None
    cell = layers.LSTMCell(2, dropout=0.5)
    called(cell, rows(2, 4), [rows(2, 2), rows(2, 2)], training=True)
    assert programs(cell) is None
    long, before = layers.LSTM(2), counters.programs
    long(rows(2, 20, 4))
    assert counters.programs == before  # one call of the layer, though many of its cell
    dropping = layers.LSTM(2, dropout=0.5)
    assert len({r.tobytes() for r in called(dropping, x, training=True)}) == 10 and programs(dropping) == 1


def test_copies_find_out_themselves():
    model, x = small(), rows(2, 4)
    called(model, x)
    twin = copy.deepcopy(model)
    twin.layers[0].kernel.assign(np.zeros((4, 5)))
    twin.layers[0].activation = activations.get("sigmoid")
    results = called(twin, x, times=4)
    assert not np.allclose(results[-1], model(x))
    np.testing.assert_allclose(results[-1], results[0], rtol=1e-5, atol=1e-6)
