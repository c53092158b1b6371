"""MobileNetV2: blocks that widen, filter each channel, and narrow again, linearly. Sandler et al. 2018."""

from __future__ import annotations

from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras import layers
from kcompile.keras.applications import building
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.applications.imagenet_utils import tf_input as preprocess_input
from kcompile.keras.models import Functional

__all__ = ["MobileNetV2", "decode_predictions", "preprocess_input"]

# of each stage: filters, strides of its first block, factor by which a block widens, blocks
_STAGES = ((16, 1, 1, 1), (24, 2, 6, 2), (32, 2, 6, 3), (64, 2, 6, 4), (96, 1, 6, 3), (160, 2, 6, 3), (320, 1, 6, 1))
_PUBLISHED_SIZES = (96, 128, 160, 192, 224)
_PUBLISHED_ALPHAS = (0.35, 0.50, 0.75, 1.0, 1.3, 1.4)


def MobileNetV2(
    input_shape=None,
    alpha=1.0,
    include_top=True,
    weights="imagenet",
    input_tensor=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name=None,
) -> Functional:
    """Return MobileNetV2. 224x224x3 by default, at least 32x32.

    Args:   alpha: scales the number of filters of every block.
    """
    if weights == "imagenet" and alpha not in _PUBLISHED_ALPHAS:
        raise ArgumentError(f"With weights='imagenet', alpha must be one of {_PUBLISHED_ALPHAS}. Received: {alpha}")
    side = building.square_side(input_shape, input_tensor)
    size = side if side in _PUBLISHED_SIZES else 224
    file = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(alpha)}_{size}"
    network = building.Network(
        body=lambda image, given: _body(image, alpha),
        size=size,
        least=32,
        top=_top,
        pools=(None, None),
        published=building.files(file, (None, None), "_no_top"),
        origin=f"{building.ORIGIN}/mobilenet_v2",
    )
    given = building.Given(include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation)
    return building.build(network, given, name or f"mobilenetv2_{alpha:0.2f}_{building.rows_asked_for(network, given)}")


def _body(x: Any, alpha: float) -> Any:
    x = layers.Conv2D(building.rounded(32 * alpha), 3, 2, "same", use_bias=False, name="Conv1")(x)
    x = layers.ReLU(6.0, name="Conv1_relu")(_normalized(x, "bn_Conv1"))
    number = 0
    for filters, strides, widening, depth in _STAGES:
        for place in range(depth):
            name = f"block_{number}_" if number else "expanded_conv_"
            x = _block(x, building.rounded(int(filters * alpha)), 1 if place else strides, widening, name)
            number += 1
    last = building.rounded(1280 * max(alpha, 1.0))  # a narrow network keeps its last layer
    x = layers.Conv2D(last, 1, use_bias=False, name="Conv_1")(x)
    return layers.ReLU(6.0, name="out_relu")(_normalized(x, "Conv_1_bn"))


def _top(x: Any, given: building.Given) -> Any:
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(given.classes, activation=given.classifier_activation, name="predictions")(x)


def _normalized(x: Any, name: str) -> Any:
    return layers.BatchNormalization(axis=building.channel_axis(), momentum=0.999, name=name)(x)


def _block(x: Any, filters: int, strides: int, widening: int, name: str) -> Any:
    axis = building.channel_axis()
    shortcut, channels = x, x.shape[axis]
    if widening > 1:
        x = layers.Conv2D(widening * channels, 1, padding="same", use_bias=False, name=f"{name}expand")(x)
        x = layers.ReLU(6.0, name=f"{name}expand_relu")(_normalized(x, f"{name}expand_BN"))
    if strides > 1:
        x = layers.ZeroPadding2D(building.border(x, 3), name=f"{name}pad")(x)
    padding = "valid" if strides > 1 else "same"
    x = layers.DepthwiseConv2D(3, strides=strides, padding=padding, use_bias=False, name=f"{name}depthwise")(x)
    x = layers.ReLU(6.0, name=f"{name}depthwise_relu")(_normalized(x, f"{name}depthwise_BN"))
    x = layers.Conv2D(filters, 1, padding="same", use_bias=False, name=f"{name}project")(x)
    x = _normalized(x, f"{name}project_BN")
    return layers.Add(name=f"{name}add")([shortcut, x]) if strides == 1 and channels == filters else x
