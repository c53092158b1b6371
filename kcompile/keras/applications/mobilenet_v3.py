"""MobileNetV3: the blocks of V2 with channels weighed by their means and a cheap silu. Howard et al. 2019.

`minimalistic` leaves out what some hardware does badly: 5x5 windows, the weighing, and hard silu.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras import layers
from kcompile.keras.applications import building
from kcompile.keras.applications.imagenet_utils import as_they_are as preprocess_input
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.models import Functional

__all__ = ["MobileNetV3Large", "MobileNetV3Small", "decode_predictions", "preprocess_input"]

_WEIGHED, _PLAIN = True, False
# of each block: window, factor by which it widens, filters, channels weighed or not, activation, strides
_BLOCKS = {
    "large": (
        (3, 1, 16, _PLAIN, "relu", 1),
        (3, 4, 24, _PLAIN, "relu", 2),
        (3, 3, 24, _PLAIN, "relu", 1),
        (5, 3, 40, _WEIGHED, "relu", 2),
        (5, 3, 40, _WEIGHED, "relu", 1),
        (5, 3, 40, _WEIGHED, "relu", 1),
        (3, 6, 80, _PLAIN, "hard_silu", 2),
        (3, 2.5, 80, _PLAIN, "hard_silu", 1),
        (3, 2.3, 80, _PLAIN, "hard_silu", 1),
        (3, 2.3, 80, _PLAIN, "hard_silu", 1),
        (3, 6, 112, _WEIGHED, "hard_silu", 1),
        (3, 6, 112, _WEIGHED, "hard_silu", 1),
        (5, 6, 160, _WEIGHED, "hard_silu", 2),
        (5, 6, 160, _WEIGHED, "hard_silu", 1),
        (5, 6, 160, _WEIGHED, "hard_silu", 1),
    ),
    "small": (
        (3, 1, 16, _WEIGHED, "relu", 2),
        (3, 72 / 16, 24, _PLAIN, "relu", 2),
        (3, 88 / 24, 24, _PLAIN, "relu", 1),
        (5, 4, 40, _WEIGHED, "hard_silu", 2),
        (5, 6, 40, _WEIGHED, "hard_silu", 1),
        (5, 6, 40, _WEIGHED, "hard_silu", 1),
        (5, 3, 48, _WEIGHED, "hard_silu", 1),
        (5, 3, 48, _WEIGHED, "hard_silu", 1),
        (5, 6, 96, _WEIGHED, "hard_silu", 2),
        (5, 6, 96, _WEIGHED, "hard_silu", 1),
        (5, 6, 96, _WEIGHED, "hard_silu", 1),
    ),
}
_LAST = {"large": 1280, "small": 1024}  # filters before the classifier
# published weights -> md5 with and without top
_HASHES = {
    "large_224_0.75": ("765b44a33ad4005b3ac83185abf1d0eb", "40af19a13ebea4e2ee0c676887f69a2e"),
    "large_224_1.0": ("59e551e166be033d707958cf9e29a6a7", "07fb09a5933dd0c8eaafa16978110389"),
    "large_minimalistic_224_1.0": ("675e7b876c45c57e9e63e6d90a36599c", "ec5221f64a2f6d1ef965a614bdae7973"),
    "small_224_0.75": ("cb65d4e5be93758266aa0a7f2c6708b7", "ebdb5cc8e0b497cd13a7c275d475c819"),
    "small_224_1.0": ("8768d4c2e7dee89b9d02b2d03d65d862", "d3e8ec802a04aa4fc771ee12a9a9b836"),
    "small_minimalistic_224_1.0": ("99cd97fb2fcdad2bf028eb838de69e37", "cde8136e733e811080d9fcd8a252f7e4"),
}


def _application(kind: str, label: str) -> Callable[..., Functional]:
    """Return the public function of the small or the large network."""

    def function(
        input_shape=None,
        alpha=1.0,
        minimalistic=False,
        include_top=True,
        weights="imagenet",
        input_tensor=None,
        classes=1000,
        pooling=None,
        dropout_rate=0.2,
        classifier_activation="softmax",
        include_preprocessing=True,
        name=label,
    ) -> Functional:
        variant = f"{kind}{'_minimalistic' if minimalistic else ''}_224_{float(alpha)}"
        if weights == "imagenet" and variant not in _HASHES:
            raise ArgumentError(
                "With weights='imagenet', alpha must be 0.75 or 1.0, with minimalistic=True 1.0. "
                f"Received: alpha={alpha}, minimalistic={minimalistic}"
            )
        network = building.Network(
            body=lambda image, given: _body(image, kind, alpha, minimalistic, given),
            size=None,
            least=32,
            top=lambda x, given: _top(x, kind, alpha, minimalistic, dropout_rate, given),
            pools=(None, None),
            published=_published(variant),
            origin=f"{building.ORIGIN}/mobilenet_v3",
        )
        given = building.Given(
            include_top,
            weights,
            input_tensor,
            input_shape,
            pooling,
            classes,
            classifier_activation,
            include_preprocessing,
        )
        return building.build(network, given, name)

    function.__name__ = function.__qualname__ = label
    function.__doc__ = f"""Return {label} for images of any size from 32x32, with values of 0..255.

    Args:
        alpha: scales the number of filters of every block.
        minimalistic: only 3x3 windows and relu, no channels weighed.
        dropout_rate: before the classifier.
        include_preprocessing: the model scales images to -1..1; without, give it such images.
    """
    return function


def _published(variant: str) -> dict:
    if variant not in _HASHES:
        return {}
    stem = f"weights_mobilenet_v3_{variant}_float"
    return building.files(stem, _HASHES[variant], "_no_top_v2")


MobileNetV3Small = _application("small", "MobileNetV3Small")
MobileNetV3Large = _application("large", "MobileNetV3Large")


def _body(x: Any, kind: str, alpha: float, minimalistic: bool, given: building.Given) -> Any:
    if given.include_preprocessing:
        x = layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    smooth = _smooth(minimalistic)
    x = layers.Conv2D(16, 3, 2, "same", use_bias=False, name="conv")(x)
    x = _activated(_normalized(x, "conv_bn"), smooth)
    for number, (window, widening, filters, weighed, activation, strides) in enumerate(_BLOCKS[kind]):
        name = f"expanded_conv_{number}_" if number else "expanded_conv_"
        if minimalistic:
            window, weighed, activation = 3, _PLAIN, "relu"
        x = _block(x, name, window, widening, building.rounded(filters * alpha), weighed, activation, strides)
    wide = building.rounded(6 * x.shape[building.channel_axis()])
    x = layers.Conv2D(wide, 1, padding="same", use_bias=False, name="conv_1")(x)
    return _activated(_normalized(x, "conv_1_bn"), smooth)


def _top(x: Any, kind: str, alpha: float, minimalistic: bool, dropout_rate: float, given: building.Given) -> Any:
    last = building.rounded(_LAST[kind] * max(alpha, 1.0))  # a narrow network keeps its last layer
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(last, 1, padding="same", name="conv_2")(x)
    x = _activated(x, _smooth(minimalistic))
    if dropout_rate > 0:
        x = layers.Dropout(dropout_rate)(x)
    x = layers.Conv2D(given.classes, 1, padding="same", name="logits")(x)
    x = layers.Flatten()(x)
    return layers.Activation(given.classifier_activation, name="predictions")(x)


def _smooth(minimalistic: bool) -> str:
    return "relu" if minimalistic else "hard_silu"


def _activated(x: Any, activation: str, name: str | None = None) -> Any:
    return layers.ReLU(name=name)(x) if activation == "relu" else layers.Activation(activation, name=name)(x)


def _normalized(x: Any, name: str) -> Any:
    return layers.BatchNormalization(axis=building.channel_axis(), momentum=0.999, name=name)(x)


def _block(
    x: Any, name: str, window: int, widening: float, filters: int, weighed: bool, activation: str, strides: int
) -> Any:
    shortcut, channels = x, x.shape[building.channel_axis()]
    wide = building.rounded(channels * widening)
    if widening > 1:
        x = layers.Conv2D(wide, 1, padding="same", use_bias=False, name=f"{name}expand")(x)
        x = _activated(_normalized(x, f"{name}expand_bn"), activation)
    if strides > 1:
        x = layers.ZeroPadding2D(building.border(x, window), name=f"{name}depthwise_pad")(x)
    padding = "valid" if strides > 1 else "same"
    x = layers.DepthwiseConv2D(window, strides=strides, padding=padding, use_bias=False, name=f"{name}depthwise")(x)
    x = _activated(_normalized(x, f"{name}depthwise_bn"), activation)
    if weighed:
        x = _weighed(x, wide, f"{name}squeeze_excite_")
    x = layers.Conv2D(filters, 1, padding="same", use_bias=False, name=f"{name}project")(x)
    x = _normalized(x, f"{name}project_bn")
    return layers.Add(name=f"{name}add")([shortcut, x]) if strides == 1 and channels == filters else x


def _weighed(x: Any, channels: int, name: str) -> Any:
    """Each channel times a number from 0 to 1 that two small layers make of the means of all (hard sigmoid)."""
    y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}avg_pool")(x)
    y = layers.Conv2D(building.rounded(channels / 4), 1, padding="same", name=f"{name}conv")(y)
    y = layers.ReLU(name=f"{name}relu")(y)
    y = layers.Conv2D(channels, 1, padding="same", name=f"{name}conv_1")(y)
    y = layers.ReLU(6.0)(y + 3.0) * (1 / 6)
    return layers.Multiply(name=f"{name}mul")([x, y])
