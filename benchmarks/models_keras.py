"""The models in Keras code that runs on every backend: `keras` may be `kcompile.keras`."""

from __future__ import annotations

from typing import Any

from benchmarks.workloads import SHAPES, TOKENS, regresses


def build(keras: Any, model: str) -> Any:
    """A model with its optimizer and loss."""
    made = _MODELS[model](keras)
    made.compile(optimizer="adam", loss="mse" if regresses(model) else "sparse_categorical_crossentropy")
    return made


def _sequential(keras, model: str, body: list):
    return keras.Sequential([keras.Input(SHAPES[model][0]), *body])


def _tiny(keras):
    dense = keras.layers.Dense
    return _sequential(keras, "tiny", [dense(16, activation="relu"), dense(4, activation="relu"), dense(1)])


def _mlp(keras):
    dense = keras.layers.Dense
    body = [dense(512, activation="relu"), dense(512, activation="relu"), dense(10, activation="softmax")]
    return _sequential(keras, "mlp", body)


def _cnn(keras):
    layers = keras.layers
    body = [
        layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"), layers.Flatten(),
        layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax"),
    ]  # fmt: skip
    return _sequential(keras, "cnn", body)


def _recurrent(keras, model: str, layer) -> Any:
    """Token ids, their vectors, one recurrent layer, its last output."""
    layers = keras.layers
    tokens = keras.Input(SHAPES[model][0], dtype="int32")
    x = layer(layers.Embedding(TOKENS[model], 64)(tokens))
    return keras.Model(tokens, layers.Dense(2, activation="softmax")(x))


def _resnet20(keras):
    """The 20-layer network for CIFAR: three stages of three blocks, 1x1 shortcuts where the size changes."""
    layers = keras.layers

    def normalised(x, channels: int, window: int, stride: int, name: str):
        conv = layers.Conv2D(channels, window, stride, padding="same", use_bias=False, name=name)
        return layers.BatchNormalization(name=f"{name}_bn")(conv(x))

    inputs = keras.Input(SHAPES["resnet20"][0])
    x = layers.ReLU()(normalised(inputs, 16, 3, 1, "stem"))
    for stage, channels in enumerate((16, 32, 64)):
        for block in range(3):
            stride, name = (2 if stage and not block else 1), f"s{stage}b{block}"
            y = layers.ReLU()(normalised(x, channels, 3, stride, f"{name}_1"))
            y = normalised(y, channels, 3, 1, f"{name}_2")
            x = normalised(x, channels, 1, stride, f"{name}_0") if stride > 1 else x
            x = layers.ReLU()(layers.Add()([x, y]))
    outputs = layers.Dense(10, activation="softmax", name="predictions")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs)


def _transformer(keras):
    """Two blocks of self-attention in 4 heads and a hidden layer of four times the width."""
    layers = keras.layers
    (_, width), classes = SHAPES["transformer"]
    x = inputs = keras.Input(SHAPES["transformer"][0])
    for _ in range(2):
        y = layers.MultiHeadAttention(4, width // 4)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, y]))
        y = layers.Dense(width)(layers.Dense(4 * width, activation="relu")(x))
        x = layers.LayerNormalization()(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


def _autoencoder(keras):
    """Images to a seventh of their size with pooling, and back: once repeated, once by a transposed convolution."""
    layers = keras.layers
    body = [
        layers.Conv2D(32, 3, padding="same", activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, padding="same", activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(64, 3, padding="same", activation="relu"), layers.UpSampling2D(),
        layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2D(1, 3, padding="same", activation="sigmoid"),
    ]  # fmt: skip
    return _sequential(keras, "autoencoder", body)


_MODELS = {
    "tiny": _tiny,
    "mlp": _mlp,
    "cnn": _cnn,
    "resnet20": _resnet20,
    "lstm": lambda keras: _recurrent(keras, "lstm", keras.layers.LSTM(64)),
    "gru": lambda keras: _recurrent(keras, "gru", keras.layers.GRU(64)),
    "bilstm": lambda keras: _recurrent(keras, "bilstm", keras.layers.Bidirectional(keras.layers.LSTM(64))),
    "transformer": _transformer,
    "resnet50": lambda keras: keras.applications.ResNet50(weights=None),
    "vgg16": lambda keras: keras.applications.VGG16(weights=None),
    "mobilenet": lambda keras: keras.applications.MobileNet(weights=None),
    "autoencoder": _autoencoder,
}
