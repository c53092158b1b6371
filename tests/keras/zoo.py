"""Small models and their data, written once and built with either library.

A builder takes the module `keras`, real or ours. Together they hold every way through the front that changes
the compiled program: chains, branches, shared layers, nested models, several inputs and outputs, weights
that are assigned in the forward pass, integer inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.keras import recurrent

ROWS = 7  # odd: no loop of the compiled code ends without a tail
CLASSES = 3


def mlp(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(9, activation="relu"),
            layers.Dense(5, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01)),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def logits(keras):
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="elu"), keras.layers.Dense(CLASSES)])


def binary(keras):
    return keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(2, activation="sigmoid")]
    )


def binary_logits(keras):
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, activation="gelu"), keras.layers.Dense(2)])


def cnn(keras):
    """Strided, "same" and "valid" convolutions, pooling, statistics of batches.

    No bias before a normalisation: its gradient is 0 up to rounding, which Adam divides by its own size.
    """
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((9, 8, 2)),
            layers.Conv2D(4, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.Activation("relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(5, 3, strides=2, padding="same", activation="relu", use_bias=False),
            layers.Conv2D(3, (1, 2), strides=(2, 1), use_bias=False),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def pools(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((7, 6, 2)),
            layers.Conv2D(4, 3, dilation_rate=2, padding="same", activation="relu"),
            layers.MaxPooling2D(3, strides=2, padding="same"),
            layers.ZeroPadding2D(((1, 0), (0, 2))),
            layers.Conv2D(4, 2, groups=2),
            layers.AveragePooling2D(2, strides=1, padding="same"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def maxima(keras):
    """Maxima over places and of branches: their gradients look for what was largest."""
    layers = keras.layers
    image = keras.Input((6, 5, 2))
    x = layers.Conv2D(4, 3, activation="tanh")(image)
    a, b = layers.GlobalMaxPooling2D()(x), layers.GlobalAveragePooling2D()(x)
    x = layers.Maximum()([layers.Dense(5)(a), layers.Dense(5)(b), layers.Average()([a, b])[:, :1]])
    return keras.Model(image, layers.Dense(CLASSES, activation="softmax")(x))


def any_length(keras):
    """An open time axis beside the batch."""
    layers = keras.layers
    x = keras.Input((None, 3))
    y = layers.Conv1D(4, 3, padding="same", activation="swish")(x)
    y = layers.Dense(4, activation="softplus")(layers.LayerNormalization()(y))
    return keras.Model(x, layers.Dense(CLASSES, activation="softmax")(keras.ops.mean(y, axis=1)))


def conv1d(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((11, 3)),
            layers.Conv1D(6, 3, padding="causal", activation="relu"),
            layers.Conv1D(4, 4, strides=3),
            layers.LayerNormalization(),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def layer_norm(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8),
            layers.LayerNormalization(),
            layers.LeakyReLU(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def transformer(keras):
    """A block of self-attention and one of grouped, causal cross-attention, with residuals and normalisation.

    No biases of keys: shares do not depend on them, so their gradient is 0 up to rounding.
    """
    layers = keras.layers
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(13, 8)(tokens)
    y = layers.MultiHeadAttention(2, 4, use_bias=False)(x, x)
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    y = layers.Dense(8)(layers.Dense(12, activation="gelu")(x))
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    z = layers.Attention(use_scale=True)([x, y])
    y = layers.GroupQueryAttention(3, 4, 2, use_bias=False)(x, z, use_causal_mask=True)
    y = layers.AdditiveAttention()([y, x])
    x = layers.GlobalAveragePooling1D()(layers.Add()([x, y]))
    return keras.Model(tokens, layers.Dense(CLASSES, activation="softmax")(x))


def embedding(keras):
    """Token ids, averaged over the time axis by an op instead of a layer."""
    tokens = keras.Input((5,), dtype="int32")
    mean = keras.ops.mean(keras.layers.Embedding(13, 6)(tokens), axis=1)
    return keras.Model(tokens, keras.layers.Dense(CLASSES, activation="softmax")(mean))


def two_by_two(keras):
    a, b = keras.Input((5,), name="a"), keras.Input((3,), name="b")
    both = keras.layers.Concatenate()([keras.layers.Dense(4, activation="relu")(a), b])
    number = keras.layers.Dense(1, name="number")(both)
    kind = keras.layers.Dense(CLASSES, activation="softmax", name="kind")(both)
    return keras.Model([a, b], [number, kind])


def shared(keras):
    """One layer called twice: its gradient has two terms."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    layer = keras.layers.Dense(6, activation="tanh")
    joined = keras.layers.Subtract()([layer(a), layer(b)])
    joined = keras.layers.Multiply()([joined, layer(keras.layers.Add()([a, b]))])
    return keras.Model([a, b], keras.layers.Dense(CLASSES, activation="softmax")(joined))


def nested(keras):
    inner_input = keras.Input((5,))
    hidden = keras.layers.Dense(5, activation="relu")(inner_input)
    inner = keras.Model(inner_input, keras.layers.Add()([hidden, inner_input]), name="inner")
    x = keras.Input((5,))
    tail = keras.Sequential([keras.layers.Dense(4, activation="selu"), keras.layers.Dense(CLASSES)], name="tail")
    return keras.Model(x, keras.layers.Softmax()(tail(inner(inner(x)))))


# data ----------------------------------------------------------------------------------------------


def groups(keras):
    """Norms over groups, layers on timesteps, einsum."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((4, 6, 5, 2)),
            layers.Rescaling(0.5, 0.1),
            layers.TimeDistributed(layers.Conv2D(4, 3, padding="same", activation="tanh")),
            layers.GroupNormalization(2),
            layers.TimeDistributed(layers.Flatten()),
            layers.RMSNormalization(),
            layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d", activation="gelu"),
            layers.TimeDistributed(layers.Dense(5, activation="elu")),
            layers.GlobalAveragePooling1D(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def masked(keras):
    """Padding that no layer, loss or metric counts."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            layers.Embedding(4, 5, mask_zero=True),
            layers.TimeDistributed(layers.Dense(6, activation="tanh")),
            layers.LayerNormalization(),
            layers.Dropout(0.0),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def normal(*shape: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, rows: rng.standard_normal((rows, *shape)).astype(np.float32)


def integers(high: int, *shape: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, rows: rng.integers(0, high, (rows, *shape)).astype(np.int32)


def one_hot(classes: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, rows: np.eye(classes, dtype=np.float32)[rng.integers(0, classes, rows)]


def zeros_and_ones(*shape: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, rows: rng.integers(0, 2, (rows, *shape)).astype(np.float32)


SPARSE = "sparse_categorical_crossentropy"
CLASS_INDICES = integers(CLASSES)


@dataclass(frozen=True)
class Case:
    """A model, what it is trained on, and the arguments of compile."""

    build: Callable[[Any], Any]
    x: Any
    y: Any = CLASS_INDICES
    loss: Callable[[Any], Any] = lambda keras: SPARSE
    options: dict[str, Any] = field(default_factory=lambda: {"metrics": ["accuracy"]})

    def data(self, rows: int, seed: int = 0) -> tuple[Any, Any]:
        """Draw inputs and targets, nested as the model takes them."""
        rng = np.random.default_rng(seed)

        def drawn(part):
            return [f(rng, rows) for f in part] if isinstance(part, list) else part(rng, rows)

        return drawn(self.x), drawn(self.y)

    def weights(self, keras) -> list[np.ndarray]:
        """Draw weights around the initial ones, so that biases and statistics count from the first step."""
        rng = np.random.default_rng(1)
        keras.utils.set_random_seed(1)  # Adam divides by gradients: a draw near zero would compare rounding
        found = self.build(keras).get_weights()
        return [w + 0.2 * rng.random(w.shape).astype(np.float32) for w in found]


ZOO = {
    "mlp": Case(mlp, normal(6)),
    "logits": Case(logits, normal(6), loss=lambda k: k.losses.SparseCategoricalCrossentropy(from_logits=True)),
    "one_hot": Case(mlp, normal(6), one_hot(CLASSES), lambda k: "categorical_crossentropy"),
    "one_hot_logits": Case(
        logits,
        normal(6),
        one_hot(CLASSES),
        lambda k: k.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    ),
    "binary": Case(binary, normal(6), zeros_and_ones(2), lambda k: "binary_crossentropy"),
    "binary_logits": Case(
        binary_logits, normal(6), zeros_and_ones(2), lambda k: k.losses.BinaryCrossentropy(from_logits=True)
    ),
    "regression": Case(logits, normal(6), normal(CLASSES), lambda k: "mae", {"metrics": ["mse"]}),
    "cnn": Case(cnn, normal(9, 8, 2)),
    "pools": Case(pools, normal(7, 6, 2)),
    "maxima": Case(maxima, normal(6, 5, 2)),
    "any_length": Case(any_length, normal(8, 3)),
    "conv1d": Case(conv1d, normal(11, 3)),
    "layer_norm": Case(layer_norm, normal(6)),
    "embedding": Case(embedding, integers(13, 5)),
    "transformer": Case(transformer, integers(13, 6)),
    "two_by_two": Case(
        two_by_two,
        [normal(5), normal(3)],
        [normal(1), one_hot(CLASSES)],
        lambda k: ["mse", "categorical_crossentropy"],
        {"loss_weights": [1.0, 0.5], "metrics": [["mae"], ["accuracy"]]},
    ),
    "shared": Case(shared, [normal(4), normal(4)]),
    "nested": Case(nested, normal(5)),
    "stacked_lstm": Case(recurrent.stacked_lstm, normal(6, 4)),
    "masked": Case(recurrent.masked, integers(7, 6)),
    "encoder_decoder": Case(recurrent.encoder_decoder, [normal(5, 3), normal(4, 2)]),
    "cells": Case(recurrent.cells, normal(5, 3)),
    "user_cell": Case(recurrent.user_cell, normal(4, 3)),
    "conv_lstm": Case(recurrent.conv_lstm, normal(3, 5, 4, 2)),
    "groups": Case(groups, normal(4, 6, 5, 2)),
    "masked_steps": Case(masked, integers(4, 7), integers(CLASSES, 7), options={}),
}
