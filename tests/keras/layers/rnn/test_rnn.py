"""What recurrent layers promise beyond Keras's numbers: state, dropout, user cells, errors, older idioms."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import keras
from kcompile.keras import layers, ops

RNG = np.random.default_rng(5)
X = RNG.standard_normal((3, 5, 2)).astype("f")


class Minimal(layers.AbstractRNNCell):
    """The cell of tf.keras 2's documentation."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    @property
    def state_size(self):
        return self.units

    @property
    def output_size(self):
        return self.units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), name="recurrent_kernel")

    def call(self, inputs, states):
        output = ops.matmul(inputs, self.kernel) + ops.matmul(states[0], self.recurrent_kernel)
        return output, output


def test_a_plain_cell():
    layer = layers.RNN([Minimal(4), Minimal(3)], return_sequences=True, return_state=True)
    y, first, last = layer(X)
    assert y.shape == (3, 5, 3) and first.shape == (3, 4)
    np.testing.assert_array_equal(y[:, -1], last)
    a, b, c, d = layer.get_weights()
    h = np.zeros((3, 4), "f")
    k = np.zeros((3, 3), "f")
    for t in range(5):
        h = X[:, t] @ a + h @ b
        k = h @ c + k @ d
    np.testing.assert_allclose(last, k, rtol=1e-4, atol=1e-5)


def test_a_cell_that_is_no_layer():
    class Sum:
        state_size = 2

        def call(self, inputs, states):
            return states[0] + inputs, [states[0] + inputs]

    np.testing.assert_allclose(layers.RNN(Sum())(X), X.sum(1), rtol=1e-5)


def test_a_cell_that_counts_its_steps():
    """Variables assigned in a step are carried from step to step."""

    class Counting(layers.Layer):
        state_size = 2

        def build(self, input_shape):
            self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")

        def call(self, inputs, states):
            self.steps.assign_add(1.0)
            return inputs + states[0], [inputs + states[0]]

    model = keras.Sequential([keras.Input((None, 2)), layers.RNN(Counting())])
    model.compile("sgd", "mse")
    np.testing.assert_allclose(model.predict(X, verbose=0), X.sum(1), rtol=1e-5)
    model.predict(X[:, :3], verbose=0)
    assert float(model.layers[-1].cell.steps.numpy()) == 8.0


@pytest.mark.parametrize("jit", [True, False])
def test_stateful(jit):
    """Two halves of a sequence, one after the other, end as the whole does; reset starts anew."""
    inputs = keras.Input(batch_shape=(3, None, 2))
    stateful = layers.LSTM(4, stateful=True)
    model = keras.Model(inputs, stateful(inputs))
    model.compile("sgd", "mse", jit=jit)
    plain = layers.LSTM(4)
    plain.build((None, None, 2))
    plain.set_weights(stateful.get_weights())
    for _ in range(2):
        model.predict(X[:, :2], batch_size=3, verbose=0)
        found = model.predict(X[:, 2:], batch_size=3, verbose=0)
        np.testing.assert_allclose(found, plain(X), rtol=1e-5, atol=1e-6)
        stateful.reset_states()
    model.train_on_batch(X, np.zeros((3, 4), "f"))
    assert np.abs(stateful.states[0].numpy()).max() > 0
    assert len(model.weights) == 3
    with pytest.raises(ValueError, match="Expected batches of 3 rows"):
        model.predict(X[:2], verbose=0)
    with pytest.raises(ValueError, match="Expected batches of 3 rows"):
        model.predict(np.concatenate([X, X]), batch_size=4, verbose=0)
    assert model.predict(np.concatenate([X, X]), batch_size=3, verbose=0).shape == (6, 4)


def test_stateful_needs_a_batch_size():
    with pytest.raises(ValueError, match="batch size must be static"):
        layers.GRU(2, stateful=True)(keras.Input((None, 2)))


@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_dropout_masks_are_the_same_in_every_step(name):
    """With identity-like steps a dropped input is dropped throughout; inference drops nothing."""
    layer = getattr(layers, name)(3, dropout=0.5, seed=1, return_sequences=True)
    assert np.isfinite(layer(X, training=True)).all()
    np.testing.assert_array_equal(layer(X), layer(X))
    assert not np.array_equal(layer(X, training=True), layer(X, training=True))
    cell = layers.SimpleRNNCell(2, dropout=0.5, activation=None, kernel_initializer="identity", seed=3)
    cell.recurrent_initializer = keras.initializers.Zeros()
    y = np.asarray(layers.RNN(cell, return_sequences=True)(np.ones((50, 4, 2), "f"), training=True))
    assert set(np.unique(y)) == {0.0, 2.0}
    assert (y == y[:, :1]).all()


def test_dropout_in_a_compiled_model():
    """W-11: it trains on any sequence length."""
    model = keras.Sequential(
        [
            layers.LSTM(6, dropout=0.2, recurrent_dropout=0.2, return_sequences=True, input_shape=(None, 2)),
            layers.LSTM(5, activation="relu", dropout=0.2, recurrent_dropout=0.2),
            layers.Dense(1),
        ]
    )
    model.compile("rmsprop", "mae")
    for length in (5, 3):
        x = np.ascontiguousarray(X[:, :length])
        assert np.isfinite(model.train_on_batch(x, np.ones((3, 1), "f")))


def test_d5_parameter_counts():
    def count(layer, *shape):
        layer.build((None, *shape))
        return layer.count_params()

    assert count(layers.Bidirectional(layers.LSTM(32)), None, 32) == 16640
    assert count(layers.GRU(32), None, 7) == 3936
    assert count(layers.GRU(32, reset_after=False), None, 7) == 3840
    assert count(layers.ConvLSTM2D(4, 3), None, 8, 8, 3) == 1024


def test_d4_values():
    x = np.array([[[1.0], [2.0], [3.0]]], "f")
    half = keras.initializers.Constant(0.5)
    options = {"kernel_initializer": half, "recurrent_initializer": half, "return_sequences": True}
    wanted = {
        "SimpleRNN": [0.4621172, 0.8428861, 0.9580360],
        "LSTM": [0.1742697, 0.5008594, 0.7700234],
        "GRU": [0.1744680, 0.3290781, 0.4242780],
    }
    for name, values in wanted.items():
        more = {"unit_forget_bias": False} if name == "LSTM" else {}
        layer = getattr(layers, name)(1, **options, **more)
        np.testing.assert_allclose(np.ravel(layer(x)), values, rtol=1e-5)
    lstm = layers.LSTM(1, **options, unit_forget_bias=False)
    np.testing.assert_allclose(lstm(x, mask=np.array([[True, True, False]]))[0, 2, 0], 0.5008594, rtol=1e-5)
    lstm = layers.LSTM(2)
    lstm.build((None, None, 1))
    np.testing.assert_array_equal(lstm.cell.bias.numpy(), [0, 0, 1, 1, 0, 0, 0, 0])


def test_older_idioms():
    assert layers.Recurrent is layers.RNN
    model = keras.Sequential([layers.LSTM(3, input_dim=2, input_length=5), layers.Dense(1)])
    assert model.input_shape == (None, 5, 2)
    time_major = layers.GRU(3, time_major=True, return_sequences=True)
    usual = layers.GRU(3, return_sequences=True)
    y = time_major(X.transpose(1, 0, 2))
    usual(X)
    usual.set_weights(time_major.get_weights())
    np.testing.assert_array_equal(np.transpose(y, (1, 0, 2)), usual(X))
    assert layers.LSTM(3, implementation=1, use_cudnn=False).units == 3


def test_backend_rnn():
    """K.rnn, with constants behind the states."""
    last, outputs, states = keras.backend.rnn(
        lambda x, s: (x + s[0] * s[1], [x + s[0] * s[1]]), X, [np.zeros((3, 2), "f")], constants=[np.float32(2.0)]
    )
    wanted = X[:, 0]
    for t in range(1, 5):
        wanted = X[:, t] + 2 * wanted
    np.testing.assert_allclose(last, wanted, rtol=1e-5)
    assert outputs.shape == (3, 5, 2)
    np.testing.assert_array_equal(states[0], last)


def test_errors():
    with pytest.raises(ValueError, match="state_size"):
        layers.RNN(layers.Dense(3))
    with pytest.raises(ValueError, match="positive integer"):
        layers.LSTM(0)
    with pytest.raises(ValueError, match="use_cudnn"):
        layers.GRU(2, use_cudnn="yes")
    with pytest.raises(ValueError, match="Cannot unroll"):
        layers.GRU(2, unroll=True)(keras.Input((None, 2)))
    with pytest.raises(ValueError, match="expected ndim=3"):
        layers.LSTM(2)(np.ones((2, 3), "f"))
