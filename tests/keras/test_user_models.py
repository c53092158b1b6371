"""Models as people write them, subclasses and all: trained, evaluated and run beside real Keras."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import keras as ours

ROWS = 9
rng = np.random.default_rng(0)
IDS = rng.integers(0, 12, (ROWS, 7))
IDS[:, 5:] = 0
IMAGES = rng.random((2, ROWS, 8, 8, 1), dtype=np.float32)
LABELS = rng.integers(0, 2, ROWS).astype("float32")


def transformer(keras):
    """An encoder that turns the mask of its embedding into one of attention."""
    layers, ops = keras.layers, keras.ops

    class Positions(layers.Layer):
        def __init__(self):
            super().__init__()
            self.tokens, self.places = layers.Embedding(12, 8), layers.Embedding(7, 8)

        def call(self, ids):
            return self.tokens(ids) + self.places(ops.arange(0, ops.shape(ids)[-1], 1))

        def compute_mask(self, ids, mask=None):
            return ops.not_equal(ids, 0)

    class Encoder(layers.Layer):
        def __init__(self):
            super().__init__()
            self.attention = layers.MultiHeadAttention(2, 4)
            self.dense = keras.Sequential([layers.Dense(6, activation="relu"), layers.Dense(8)])
            self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]
            self.supports_masking = True

        def call(self, x, mask=None):
            mask = ops.cast(mask[:, None, :], "int32")
            x = self.norms[0](x + self.attention(query=x, value=x, key=x, attention_mask=mask))
            return self.norms[1](x + self.dense(x))

    ids = keras.Input((None,), dtype="int32")
    x = Encoder()(Positions()(ids))
    both = layers.concatenate([layers.GlobalMaxPooling1D()(x), layers.GlobalAveragePooling1D()(x)])
    model = keras.Model([ids], [layers.Dense(1, activation="sigmoid")(both)])
    model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy", metrics=["accuracy"])
    return model, IDS, LABELS


def vision(keras):
    """Patches, and a token of its own in front of each row's."""
    layers, ops = keras.layers, keras.ops

    class WithToken(layers.Layer):
        def build(self, shape):
            self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="glorot_uniform")

        def call(self, x):
            return ops.concatenate([ops.tile(self.token, (ops.shape(x)[0], 1, 1)), x], axis=1)

    class Patches(layers.Layer):
        def call(self, x):
            rows, height, width, channels = ops.shape(x)
            return ops.reshape(ops.image.extract_patches(x, size=4), (rows, height * width // 16, 16 * channels))

    image = keras.Input((8, 8, 1))
    x = WithToken()(layers.Dense(6)(Patches()(image)))
    x = layers.Add()([x, layers.MultiHeadAttention(2, 3)(x, x)])
    model = keras.Model(image, layers.Dense(1)(layers.LayerNormalization(epsilon=1e-6)(x)[:, 0]))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(0.01, weight_decay=0.01, epsilon=1e-3), loss)
    return model, IMAGES[0], LABELS


def siamese(keras):
    """One network for two images, a distance, a loss with a margin."""
    layers, ops = keras.layers, keras.ops

    def distance(vectors):
        return ops.sqrt(ops.maximum(ops.sum(ops.square(vectors[0] - vectors[1]), 1, keepdims=True), 1e-7))

    def contrastive(y, d):
        return ops.mean((1 - y) * ops.square(d) + y * ops.square(ops.maximum(1.0 - d, 0)))

    x = keras.Input((8, 8, 1))
    h = layers.AveragePooling2D(2)(layers.Conv2D(3, 3, activation="tanh")(x))
    embedding = keras.Model(x, layers.Dense(4, activation="tanh")(layers.BatchNormalization()(layers.Flatten()(h))))
    one, other = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    apart = layers.Lambda(distance, output_shape=(1,))([embedding(one), embedding(other)])
    model = keras.Model([one, other], layers.Dense(1, activation="sigmoid")(apart))
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), contrastive, metrics=["mae"])
    return model, [IMAGES[0], IMAGES[1]], LABELS


def distiller(keras):
    """A student that learns from a teacher too, by a `compute_loss` of its own."""
    layers, ops = keras.layers, keras.ops

    class Distiller(keras.Model):
        def __init__(self):
            super().__init__()
            self.teacher, self.student = (
                keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(n, "relu"), layers.Dense(2)])
                for n in (7, 3)
            )
            self.teacher.trainable = False
            self.gap = keras.metrics.Mean(name="gap")

        def call(self, x):
            return self.student(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            wanted = ops.softmax(self.teacher(x, training=False) / 3.0)
            gap = keras.losses.KLDivergence()(wanted, ops.softmax(y_pred / 3.0))
            self.gap.update_state(gap)
            return 0.3 * super().compute_loss(x, y, y_pred, sample_weight) + 0.7 * 9.0 * gap

    model = Distiller()
    model(IMAGES[0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model, IMAGES[0], LABELS.astype("int32")


@pytest.mark.parametrize("make", [transformer, vision, siamese, distiller])
def test_as_in_keras(make, real_keras):
    found: list[list] = []
    weights = None
    for keras in (real_keras, ours):
        model, x, y = make(keras)
        weights = model.get_weights() if weights is None else weights
        model.set_weights(weights)
        fitted = model.fit(x, y, batch_size=3, epochs=2, shuffle=False, verbose=0).history
        logs = model.evaluate(x, y, batch_size=3, verbose=0, return_dict=True)
        found.append(
            [fitted, logs, {"outputs": model.predict(x, batch_size=3, verbose=0)}, dict(enumerate(model.get_weights()))]
        )
    for expected, got in zip(*found):
        assert expected.keys() == got.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=2e-5, err_msg=str(name))
