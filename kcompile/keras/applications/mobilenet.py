"""MobileNet: depthwise convolutions, each followed by a 1x1 one. Howard et al. 2017."""

from __future__ import annotations

from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras import layers
from kcompile.keras.applications import building
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.applications.imagenet_utils import tf_input as preprocess_input
from kcompile.keras.models import Functional

__all__ = ["MobileNet", "decode_predictions", "preprocess_input"]

# of each block: filters, strides
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
_PUBLISHED_SIZES = (128, 160, 192, 224)
_PUBLISHED_ALPHAS = {0.25: "2_5", 0.50: "5_0", 0.75: "7_5", 1.0: "1_0"}


def MobileNet(
    input_shape=None,
    alpha=1.0,
    depth_multiplier=1,
    dropout=1e-3,
    include_top=True,
    weights="imagenet",
    input_tensor=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name=None,
) -> Functional:
    """Return MobileNet. 224x224x3 by default, at least 32x32.

    Args:
        alpha: scales the number of filters of every block.   depth_multiplier: of the depthwise convolutions.
        dropout: rate before the classifier.
    """
    if weights == "imagenet" and (depth_multiplier != 1 or alpha not in _PUBLISHED_ALPHAS):
        raise ArgumentError(
            f"With weights='imagenet', depth_multiplier must be 1 and alpha one of {sorted(_PUBLISHED_ALPHAS)}. "
            f"Received: depth_multiplier={depth_multiplier}, alpha={alpha}"
        )
    side = building.square_side(input_shape, input_tensor)
    size = side if side in _PUBLISHED_SIZES else 224
    file = f"mobilenet_{_PUBLISHED_ALPHAS.get(alpha)}_{size}_tf"
    network = building.Network(
        body=lambda image, given: _body(image, alpha, depth_multiplier),
        size=size,
        least=32,
        top=lambda x, given: _top(x, dropout, given),
        pools=(None, None),
        published=building.files(file, (None, None), "_no_top"),
        origin=f"{building.ORIGIN}/mobilenet",
    )
    given = building.Given(include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation)
    return building.build(network, given, name or f"mobilenet_{alpha:0.2f}_{building.rows_asked_for(network, given)}")


def _body(x: Any, alpha: float, depth_multiplier: int) -> Any:
    x = _normalized(layers.Conv2D(int(32 * alpha), 3, 2, "same", use_bias=False, name="conv1")(x), "conv1")
    for number, (filters, strides) in enumerate(_BLOCKS, 1):
        x = _block(x, int(filters * alpha), strides, depth_multiplier, number)
    return x


def _top(x: Any, dropout: float, given: building.Given) -> Any:
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Conv2D(given.classes, 1, padding="same", name="conv_preds")(x)
    x = layers.Reshape((given.classes,), name="reshape_2")(x)
    return layers.Activation(given.classifier_activation, name="predictions")(x)


def _normalized(x: Any, name: str) -> Any:
    x = layers.BatchNormalization(axis=building.channel_axis(), name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def _block(x: Any, filters: int, strides: int, depth_multiplier: int, number: int) -> Any:
    if strides > 1:
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"conv_pad_{number}")(x)
    depthwise = layers.DepthwiseConv2D(
        3,
        strides=strides,
        padding="same" if strides == 1 else "valid",
        depth_multiplier=depth_multiplier,
        use_bias=False,
        name=f"conv_dw_{number}",
    )
    x = _normalized(depthwise(x), f"conv_dw_{number}")
    x = layers.Conv2D(filters, 1, padding="same", use_bias=False, name=f"conv_pw_{number}")(x)
    return _normalized(x, f"conv_pw_{number}")
