"""The short ways of predict, evaluate and the one-batch calls give what the long ones give."""

import threading

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import KcompileError
from kcompile.keras import layers


@pytest.fixture
def model():
    made = keras.Sequential([keras.Input((6,)), layers.Dense(4, activation="relu"), layers.Dense(3)])
    made.compile(optimizer="sgd", loss="mse", metrics=["mae"])
    return made


def data(rows: int, seed: int = 0):
    draw = np.random.default_rng(seed)
    return draw.standard_normal((rows, 6)).astype(np.float32), draw.standard_normal((rows, 3)).astype(np.float32)


class Watching(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_predict_batch_end(self, batch, logs=None):
        self.seen.append(batch)

    def on_test_begin(self, logs=None):
        self.seen.append("test")


@pytest.mark.parametrize("rows", [1, 5, 32, 33])
def test_predict_again_is_predict(model, rows):
    x, _ = data(rows)
    first = model.predict(x)
    np.testing.assert_array_equal(model.predict(x), first)
    np.testing.assert_array_equal(model.predict(x, batch_size=4), first)
    np.testing.assert_array_equal(model.predict_on_batch(x), first)
    np.testing.assert_array_equal(model.predict(x.tolist()), first)


def test_predictions_stay_as_they_were(model):
    batches = [data(8, seed)[0] for seed in range(6)]
    found = [model.predict(x) for x in batches]
    kept = [a.copy() for a in found]
    for x in batches:
        model.predict(x), model.predict_on_batch(x)
    for a, b in zip(found, kept):
        np.testing.assert_array_equal(a, b)


def test_predict_sees_new_weights(model):
    x, y = data(8)
    before = model.predict(x)
    model.train_on_batch(x, y)
    after = model.predict(x)
    assert (before != after).any()
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    assert (model.predict(x) == 0).all()


def test_evaluate_again_is_evaluate(model):
    x, y = data(8)
    first = model.evaluate(x, y, verbose=0)
    assert model.evaluate(x, y, verbose=0) == first == model.test_on_batch(x, y)
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    assert list(logs) == ["loss", "mae"] and list(logs.values()) == first
    np.testing.assert_allclose(model.evaluate(x, y, batch_size=3, verbose=0), first, rtol=1e-6)
    weighted = model.evaluate(x, y, sample_weight=np.arange(8, dtype=np.float32), verbose=0)
    assert weighted != first


def test_callbacks_and_the_bar_take_the_long_way(model, capsys):
    x, y = data(8)
    watching = Watching()
    for _ in range(2):
        model.predict(x, callbacks=[watching])
        model.evaluate(x, y, verbose=0, callbacks=[watching])
    assert watching.seen == [0, "test", 0, "test"]
    capsys.readouterr()
    model.predict(x)
    model.evaluate(x, y, verbose=0)
    assert capsys.readouterr().out == ""
    model.predict(x, verbose=1)
    model.evaluate(x, y, verbose=1)
    assert capsys.readouterr().out.count("1/1") >= 2


def test_errors_do_not_depend_on_earlier_calls(model):
    x, y = data(8)
    calls = [
        lambda: model.predict(x[:, :5]),
        lambda: model.predict(x, batch_size=0),
        lambda: model.predict(x[:0]),
        lambda: model.predict(None),
        lambda: model.evaluate(x, y[:5], verbose=0),
        lambda: model.evaluate(x, verbose=0),
        lambda: model.train_on_batch(x, y[:, :2]),
        lambda: model.predict_on_batch(x[0]),
    ]

    def complaint(call):
        with pytest.raises((KcompileError, ValueError)) as caught:
            call()
        return str(caught.value)

    before = [complaint(c) for c in calls]
    model.predict(x), model.evaluate(x, y, verbose=0), model.train_on_batch(x, y), model.predict_on_batch(x)
    assert [complaint(c) for c in calls] == before


def test_compile_again_forgets(model):
    x, y = data(8)
    model.predict(x), model.evaluate(x, y, verbose=0)
    model.compile(optimizer="sgd", loss="mae", jit=False)
    assert isinstance(model.evaluate(x, y, verbose=0), float)
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), np.abs(model.predict(x) - y).mean(), rtol=1e-5)


def test_a_changed_arena_is_bound_again(model):
    x, y = data(8)
    model.predict(x), model.train_on_batch(x, y)  # the weights move into an arena
    other = keras.Sequential([keras.Input((6,)), *model.layers, layers.Dense(2)])
    other.compile(optimizer="sgd", loss="mse")
    other.train_on_batch(x, y[:, :2])
    expected = np.maximum(x @ model.layers[0].kernel.numpy() + model.layers[0].bias.numpy(), 0)
    expected = expected @ model.layers[1].kernel.numpy() + model.layers[1].bias.numpy()
    for _ in range(2):
        np.testing.assert_allclose(model.predict(x), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(model.predict_on_batch(x), expected, rtol=1e-4, atol=1e-5)


def test_several_inputs_and_outputs_again():
    a, b = keras.Input((3,)), keras.Input((2,))
    joined = layers.Concatenate()([a, b])
    model = keras.Model([a, b], [layers.Dense(2)(joined), layers.Dense(1)(joined)])
    x = [np.ones((4, 3), np.float32), np.ones((4, 2), np.float32)]
    first, again = model.predict(x), model.predict(x)
    assert [f.shape for f in first] == [(4, 2), (4, 1)]
    for f, g in zip(first, again):
        np.testing.assert_array_equal(f, g)


def test_lists_tuples_and_dicts_take_the_short_way(monkeypatch):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    model = keras.Model([a, b], layers.Dense(1)(layers.Concatenate()([a, b])))
    model.compile(optimizer="sgd", loss="mse")
    draw = np.random.default_rng(0)
    p, q = draw.standard_normal((4, 3)).astype("float32"), draw.standard_normal((4, 2)).astype("float32")
    y = np.ones((4, 1), np.float32)
    for x in ([p, q], (p, q), {"b": q, "a": p}):
        first, loss = model.predict_on_batch(x), model.test_on_batch(x, y)
        with monkeypatch.context() as patched:
            patched.setattr(model, "_lean", None)
            np.testing.assert_array_equal(model.predict_on_batch(x), first)
            np.testing.assert_array_equal(model.predict(x, verbose=0), first)
            assert model.test_on_batch(x, y) == loss
    with pytest.raises((KcompileError, ValueError)):
        model.predict_on_batch([p, q[:2]])
    assert model.predict_on_batch([p[:3], q[:3]]).shape == (3, 1)
    assert model.predict_on_batch([p.astype("float64"), q]).shape == (4, 1)


def test_threads_predict_with_one_model(model):
    batches = [data(n, n)[0] for n in (1, 8, 8, 40)]
    expected = [model.predict(x) for x in batches]
    wrong = []

    def work():
        for _ in range(60):
            for x, y in zip(batches, expected):
                if not (np.array_equal(model.predict(x), y) and np.array_equal(model.predict_on_batch(x), y)):
                    wrong.append(len(x))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
