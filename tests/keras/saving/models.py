"""The same small models written once, for kcompile's `keras` and for the real one."""

from __future__ import annotations

import numpy as np

RNG_SEED = 7


def data(*shapes, seed=RNG_SEED, classes=None):
    rng = np.random.default_rng(seed)
    if classes is not None:
        return rng.integers(0, classes, shapes[0]).astype("int32")
    found = [rng.normal(size=s).astype("float32") for s in shapes]
    return found[0] if len(found) == 1 else found


def cnn(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(3, activation="softmax", bias_initializer="ones"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model, data((8, 6, 6, 2)), data((8,), classes=3)


def two_by_two(keras, operations=True):
    layers = keras.layers
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    shared = layers.Dense(4, name="shared")
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="tanh"), layers.Dense(3)], name="inner")
    x = inner(layers.Add()([shared(a), shared(b)]))
    if operations:
        x = keras.ops.softmax(keras.ops.relu(x) + 1.0, axis=-1) * keras.ops.mean(x, axis=1, keepdims=True)
    nested_in = keras.Input((4,))
    nested = keras.Model(nested_in, layers.BatchNormalization()(layers.Dense(2)(nested_in)), name="nested")
    side = layers.Reshape((2, 2))(a)[:, 0] if operations else b
    x = layers.Concatenate()([nested(a), x, nested(b), side])
    model = keras.Model([a, b], [layers.Dense(1, name="o1")(x), layers.Dense(2, name="o2")(x)], name="big")
    model.compile(
        keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9), momentum=0.9),
        ["mse", keras.losses.MeanAbsoluteError()],
        metrics=[["mae"], [keras.metrics.MeanSquaredError()]],
        loss_weights=[1.0, 0.5],
    )
    x0, x1, y0, y1 = data((8, 4), (8, 4), (8, 1), (8, 2))
    return model, [x0, x1], [y0, y1]


def embedding(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(11, 4),
            layers.Conv1D(3, 2, padding="same"),
            layers.LayerNormalization(),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("rmsprop", "binary_crossentropy")
    return model, data((8, 5), classes=11), data((8, 1), classes=2).astype("float32")


def recurrent(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(11, 4, mask_zero=True),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True, dropout=0.1), merge_mode="sum"),
            layers.GRU(4, return_sequences=True, go_backwards=True, recurrent_initializer="glorot_normal"),
            layers.RNN([layers.GRUCell(3, reset_after=False), layers.SimpleRNNCell(2)], return_sequences=True),
            layers.Bidirectional(layers.SimpleRNN(2), backward_layer=layers.LSTM(2, go_backwards=True)),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("rmsprop", "binary_crossentropy")
    return model, data((8, 5), classes=11), data((8, 1), classes=2).astype("float32")


def attention(keras, plain=True):
    layers = keras.layers
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(11, 4)(tokens)
    y = layers.MultiHeadAttention(2, 3, dropout=0.1, use_gate=True, name="heads")(x, x)
    y = layers.GroupQueryAttention(3, 2, 1, name="groups")(y, x)
    y = layers.AdditiveAttention(name="additive")([y, x])
    if plain:
        y = layers.Attention(use_scale=True, name="plain")([y, x])
    model = keras.Model(tokens, layers.Dense(1)(layers.Flatten()(y)))
    model.compile("adam", "mse")
    return model, data((8, 5), classes=11), data((8, 1))


def mlp(keras, optimizer="adam", loss="mse"):
    layers = keras.layers
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu", name="first"), layers.Dense(2, name="second")])
    model.compile(optimizer, loss, metrics=["mae"])
    return model, *data((16, 4), (16, 2))


def interpret(model):
    """Run a model's programs with NumPy, so that a test does not depend on native code."""
    model._training.jit = False
    return model


def outputs(model, x):
    found = model.predict(x, verbose=0)
    return found if isinstance(found, list) else [found]


def assert_same_outputs(one, other, x, atol=1e-5):
    for p, q in zip(outputs(one, x), outputs(other, x), strict=True):
        np.testing.assert_allclose(p, q, atol=atol, rtol=1e-5)


def assert_same_state(ours, theirs):
    """Equal optimizer variables, in order."""
    own, other = ours.optimizer.variables, theirs.optimizer.variables
    assert len(own) == len(other)
    for u, v in zip(own, other):
        np.testing.assert_allclose(np.asarray(u), np.asarray(v), rtol=1e-6, err_msg=v.path)
