"""GradientTape outside any step: loops that users write, gradients of inputs, numbers in the middle of a block."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError
from kcompile.keras import layers, ops

rng = np.random.default_rng(0)
X = rng.standard_normal((12, 4)).astype("float32")
Y = rng.integers(0, 3, 12)


def net():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, activation="tanh"), layers.BatchNormalization()])
    model.add(layers.Dense(3))
    model.set_weights([np.linspace(-1, 1, w.size, dtype="float32").reshape(w.shape) for w in model.get_weights()])
    return model


def test_a_loop_of_the_users_own_is_the_built_in_one():
    model, twin = net(), net()
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer, accuracy = keras.optimizers.SGD(0.1, momentum=0.9), keras.metrics.SparseCategoricalAccuracy()
    losses = []
    for _ in range(2):
        for rows in (slice(0, 6), slice(6, 12)):
            with keras.GradientTape() as tape:
                logits = model(X[rows], training=True)
                loss = loss_of(Y[rows], logits)
            gradients = tape.gradient(loss, model.trainable_weights)
            optimizer.apply_gradients(zip(gradients, model.trainable_weights))
            accuracy.update_state(Y[rows], logits)
            losses.append(float(loss))
    twin.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss_of, jit=False)
    history = twin.fit(X, Y, batch_size=6, epochs=2, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(np.reshape(losses, (2, 2)).mean(1), history, rtol=1e-5)
    for mine, theirs in zip(model.get_weights(), twin.get_weights()):  # moving statistics too
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
    assert 0.0 <= float(accuracy.result()) <= 1.0 and f"{loss:.2f}" == f"{losses[-1]:.2f}"


def test_inputs_are_watched():
    x = ops.convert_to_tensor(X)
    with keras.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = ops.sum(x**3)
        inner = 2.0 * x
        z = ops.sum(inner * inner)
    np.testing.assert_allclose(tape.gradient(y, x), 3 * X**2, rtol=1e-5)
    found = tape.gradient(z, {"x": x, "inner": inner})
    np.testing.assert_allclose(found["x"], 8 * X, rtol=1e-5)
    np.testing.assert_allclose(found["inner"], 4 * X, rtol=1e-5)
    with pytest.raises(ArgumentError, match=r"shape \(12,\) was not watched"):
        tape.gradient(y, Y)


def test_gradients_of_layers_with_respect_to_their_input():
    model = net()
    with keras.GradientTape() as tape:
        tape.watch(X)
        score = model(X)[:, 0]
    step = 1e-2
    shifted = [np.asarray(model(X + sign * step * np.eye(4, dtype="f")[1]))[:, 0] for sign in (1, -1)]
    np.testing.assert_allclose(
        tape.gradient(score, X)[:, 1], (shifted[0] - shifted[1]) / (2 * step), rtol=1e-2, atol=1e-3
    )


def test_tapes_within_and_beside():
    w = keras.Variable(3.0)
    with keras.GradientTape() as outer:
        with keras.GradientTape() as inner:
            y = w**3
        first = inner.gradient(y, w)
    assert float(outer.gradient(first, w)) == 18.0 and float(first) == 27.0
    with keras.GradientTape() as one, keras.GradientTape() as other:
        a, b = w * 2.0, w * w
    assert float(one.gradient(a, w)) == 2.0 and float(other.gradient(b, w)) == 6.0
    unused = keras.Variable(1.0)
    assert one.gradient(a, unused) is None
    assert float(one.gradient(a, unused, unconnected_gradients="zero")) == 0.0


def test_numbers_in_the_block_and_what_is_assigned():
    w, count = keras.Variable(np.arange(3.0, dtype="f")), keras.Variable(0, dtype="int32")
    with keras.GradientTape() as tape:
        best = int(ops.argmax(w))
        loss = w[best] * 2.0 if w[0] < 1.0 else w[0]
        count.assign_add(best)
        assert [float(v) for v in w * 1.0] == [0.0, 1.0, 2.0]
    assert tape.gradient(loss, w).tolist() == [0.0, 0.0, 2.0] and int(count) == 2
    assert (loss + 1.0).numpy() == 5.0 and np.asarray(loss) == 4.0
    with pytest.raises(ZeroDivisionError), keras.GradientTape():
        count.assign(100)
        raise ZeroDivisionError
    assert int(count) == 2


def test_an_image_is_a_variable():
    image, target = keras.Variable(np.zeros((1, 4, 4, 1), "f")), np.ones((1, 4, 4, 1), "f")
    look, optimizer = layers.AveragePooling2D(2), keras.optimizers.SGD(2.0)
    losses = []
    for _ in range(2):
        with keras.GradientTape() as tape:
            loss = ops.mean(ops.square(look(image) - look(target)))
        optimizer.apply_gradients([(tape.gradient(loss, image), image)])
        losses.append(float(loss))
    assert losses == [1.0, pytest.approx(0.5625)]


def test_recurrent_layers_and_dropout():
    model = keras.Sequential([keras.Input((5, 2)), layers.LSTM(3), layers.Dropout(0.5, seed=1), layers.Dense(1)])
    x = rng.standard_normal((4, 5, 2)).astype("float32")
    with keras.GradientTape() as tape:
        first = model(x, training=True)
        second = model(x, training=True)
    assert not np.array_equal(np.asarray(first), np.asarray(second))
    assert all(np.isfinite(g).all() and np.abs(g).sum() > 0 for g in tape.gradient(second, model.trainable_weights))
