"""Recurrent layers against real Keras: outputs and states, masks, first states, configs; eagerly, on odd sizes."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import keras
from tests.keras.layers.test_all import plain

RNG = np.random.default_rng(5)
X = RNG.standard_normal((3, 5, 2)).astype("f")
MASK = np.array([[1, 1, 1, 0, 0], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]], bool)
H, C = RNG.standard_normal((2, 3, 4)).astype("f")


@pytest.fixture(autouse=True)
def names_begin_anew(real_keras):
    """Automatic names are part of paths and configs: they count the same whatever ran before."""
    for k in (keras, real_keras):
        k.utils.clear_session(free_memory=False)


def arrays(found):
    return [np.asarray(t) for t in (found if isinstance(found, (tuple, list)) else [found])]


def both(real, make, x=X, **kwargs):
    """Return ours and the real layer with equal weights, after one call each."""
    ours, theirs = make(keras), make(real)
    ours(x, **kwargs), theirs(x, **kwargs)
    assert [w.path.split("/", 1)[1] for w in ours.weights] == [w.path.split("/", 1)[1] for w in theirs.weights]
    rng = np.random.default_rng(1)
    values = [rng.uniform(-0.8, 0.8, w.shape).astype("f") for w in ours.weights]
    ours.set_weights(values)
    theirs.set_weights(values)
    return ours, theirs


def assert_same(found, expected):
    for a, b in zip(arrays(found), arrays(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


LAYERS = {
    "SimpleRNN": lambda k, **o: k.layers.SimpleRNN(4, **o),
    "LSTM": lambda k, **o: k.layers.LSTM(4, **o),
    "GRU": lambda k, **o: k.layers.GRU(4, **o),
    "GRU before": lambda k, **o: k.layers.GRU(4, reset_after=False, **o),
    "stack": lambda k, **o: k.layers.RNN([k.layers.LSTMCell(3), k.layers.GRUCell(4)], **o),
}
OPTIONS = (
    {},
    {"return_sequences": True, "return_state": True},
    {"return_sequences": True, "return_state": True, "go_backwards": True},
    {"return_state": True, "go_backwards": True},
    {"return_sequences": True, "zero_output_for_mask": True},
    {"zero_output_for_mask": True},
    {"return_sequences": True, "unroll": True, "return_state": True},
    {"unroll": True, "go_backwards": True},
)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "+".join(o) or "plain")
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_states(name, options, real_keras):
    ours, theirs = both(real_keras, lambda k: LAYERS[name](k, **options))
    assert_same(ours(X), theirs(X))
    assert_same(ours(X[:, :1]), theirs(X[:, :1]))
    assert_same(ours(X, mask=MASK), theirs(X, mask=MASK))


@pytest.mark.parametrize("name, states", [("SimpleRNN", [H]), ("GRU", [H]), ("LSTM", [H, C])])
def test_first_states(name, states, real_keras):
    ours, theirs = both(real_keras, lambda k: LAYERS[name](k, return_sequences=True, return_state=True))
    expected = theirs(X, initial_state=states)
    assert_same(ours(X, initial_state=states), expected)
    assert_same(ours([X, *states]), expected)  # tf.keras 2
    assert_same(ours(X, initial_state=states, mask=MASK), theirs(X, initial_state=states, mask=MASK))


@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences", [True, False])
def test_bidirectional(merge, sequences, real_keras):
    def make(k):
        inner = k.layers.LSTM(4, return_sequences=sequences, return_state=True)
        return k.layers.Bidirectional(inner, merge_mode=merge, name="both")

    ours, theirs = both(real_keras, make)
    assert_same(ours(X), theirs(X))
    assert_same(ours(X, mask=MASK), theirs(X, mask=MASK))
    states = [H, C, C, H]
    assert_same(ours(X, initial_state=states), theirs(X, initial_state=states))
    assert plain(type(theirs).from_config(ours.get_config()).get_config()) == plain(theirs.get_config())
    assert plain(type(ours).from_config(theirs.get_config()).get_config()) == plain(ours.get_config())


def test_bidirectional_with_its_own_way_back(real_keras):
    def make(k):
        back = k.layers.LSTM(3, go_backwards=True, activation="relu", return_sequences=True)
        return k.layers.Bidirectional(k.layers.GRU(4, return_sequences=True), backward_layer=back)

    ours, theirs = both(real_keras, make)
    assert_same(ours(X), theirs(X))
    with pytest.raises(ValueError, match="go_backwards"):
        keras.layers.Bidirectional(keras.layers.GRU(4), backward_layer=keras.layers.GRU(4))
    with pytest.raises(ValueError, match="merge mode"):
        keras.layers.Bidirectional(keras.layers.GRU(4), merge_mode="max")


@pytest.mark.parametrize("cls", ["SimpleRNNCell", "LSTMCell", "GRUCell"])
def test_cells(cls, real_keras):
    def make(k):
        return getattr(k.layers, cls)(4, dropout=0.1, recurrent_dropout=0.2, kernel_regularizer="l2", name="it")

    ours, theirs = make(keras), make(real_keras)
    states = [H, C][: 2 if cls == "LSTMCell" else 1]
    ours(X[:, 0], states), theirs(X[:, 0], states)
    values = [np.random.default_rng(1).uniform(-0.8, 0.8, w.shape).astype("f") for w in ours.weights]
    ours.set_weights(values)
    theirs.set_weights(values)
    (y, new), (expected, expected_new) = ours(X[:, 0], states), theirs(X[:, 0], states)
    assert_same([y, *new], [expected, *expected_new])
    assert plain(type(theirs).from_config(ours.get_config()).get_config()) == plain(theirs.get_config())
    assert plain(type(ours).from_config(theirs.get_config()).get_config()) == plain(ours.get_config())


def test_stacked_cells_config(real_keras):
    def make(k):
        return k.layers.RNN([k.layers.LSTMCell(3, name="a"), k.layers.GRUCell(4, name="b")], name="it")

    ours, theirs = make(keras), make(real_keras)
    assert plain(type(ours).from_config(theirs.get_config()).get_config()) == plain(ours.get_config())
    assert (
        type(theirs).from_config(ours.get_config()).get_config()["cell"]["config"]["cells"][1]["config"]["units"] == 4
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_lstm_states_and_masks(rank, real_keras):
    x = RNG.standard_normal((2, 3, *(5, 4, 3)[:rank], 2)).astype("f")
    mask = np.array([[1, 0, 1], [0, 1, 0]], bool)

    def make(k):
        cls = getattr(k.layers, f"ConvLSTM{rank}D")
        return cls(2, 3, padding="same", return_sequences=True, return_state=True, go_backwards=True)

    ours, theirs = both(real_keras, make, x)
    assert_same(ours(x), theirs(x))
    y, h, _ = ours(x, mask=mask)  # of Keras's own masks only the shape [batch, 1] fits its states
    kept = ours(x[:1, ::2])
    np.testing.assert_allclose(h[0], kept[1][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(y[1, 0], 0)


def test_masks_travel(real_keras):
    """An embedding's mask goes through sequences and stops at the last output."""

    def make(k):
        tokens = k.Input((None,), dtype="int32")
        x = k.layers.Embedding(5, 3, mask_zero=True)(tokens)
        seq = k.layers.GRU(3, return_sequences=True)(x)
        both_ways = k.layers.Bidirectional(k.layers.GRU(2, return_sequences=True))(seq)
        return k.Model(tokens, [both_ways, k.layers.LSTM(2)(both_ways)])

    tokens = np.array([[1, 2, 0, 0], [3, 0, 4, 1]], np.int32)
    ours, theirs = make(keras), make(real_keras)
    values = [RNG.uniform(-0.8, 0.8, w.shape).astype("f") for w in theirs.get_weights()]
    ours.set_weights(values)
    theirs.set_weights(values)
    assert_same(ours(tokens), theirs(tokens))
    assert ours.outputs[0]._keras_mask is not None
    assert getattr(ours.outputs[1], "_keras_mask", None) is None
