"""The models in Keras code that runs on every backend: `keras` may be `kcompile.keras`."""

from __future__ import annotations

from typing import Any

from benchmarks.workloads import BLOCKS, SHAPES, TOKENS, UNET, regresses


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


def _transformer(keras, model: str):
    """Blocks of self-attention and a hidden layer of four times the width."""
    layers = keras.layers
    (_, width), classes = SHAPES[model]
    blocks, heads, activation = BLOCKS[model]
    x = inputs = keras.Input(SHAPES[model][0])
    for _ in range(blocks):
        y = layers.MultiHeadAttention(heads, width // heads)(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, y]))
        y = layers.Dense(width)(layers.Dense(4 * width, activation=activation)(x))
        x = layers.LayerNormalization()(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


def _unet(keras):
    """Down three times by pooling and up again by transposed convolutions, each level beside its equal."""
    layers = keras.layers

    def twice(x, channels: int):
        for _ in range(2):
            x = layers.Conv2D(channels, 3, padding="same", activation="relu")(x)
        return x

    x = inputs = keras.Input(SHAPES["unet"][0])
    levels = []
    for channels in UNET[:-1]:
        levels.append(twice(x, channels))
        x = layers.MaxPooling2D()(levels[-1])
    x = twice(x, UNET[-1])
    for channels, beside in zip(UNET[-2::-1], reversed(levels)):
        x = layers.Conv2DTranspose(channels, 2, strides=2)(x)
        x = twice(layers.Concatenate()([x, beside]), channels)
    return keras.Model(inputs, layers.Conv2D(SHAPES["unet"][1], 1, activation="softmax")(x))


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
    "transformer": lambda keras: _transformer(keras, "transformer"),
    "bert": lambda keras: _transformer(keras, "bert"),
    "unet": _unet,
    "resnet50": lambda keras: keras.applications.ResNet50(weights=None),
    "vgg16": lambda keras: keras.applications.VGG16(weights=None),
    "mobilenet": lambda keras: keras.applications.MobileNet(weights=None),
    "autoencoder": _autoencoder,
}
