"""MobileNet: depthwise convolutions, each followed by a 1x1 one. Howard et al. 2017."""

from __future__ import annotations

from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras import config, layers
from kcompile.keras.applications import building
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.applications.imagenet_utils import tf_input as preprocess_input
from kcompile.keras.models import Functional

__all__ = ["MobileNet", "decode_predictions", "preprocess_input"]

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
    side = _side(input_shape)
    inputs = building.start(
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        classes=classes,
        size=side if side in _PUBLISHED_SIZES else 224,
        least=32,
    )
    if weights == "imagenet" and (depth_multiplier != 1 or alpha not in _PUBLISHED_ALPHAS):
        raise ArgumentError(
            f"With weights='imagenet', depth_multiplier must be 1 and alpha one of {sorted(_PUBLISHED_ALPHAS)}. "
            f"Received: depth_multiplier={depth_multiplier}, alpha={alpha}"
        )
    published_side = side if side in _PUBLISHED_SIZES else 224
    x = _normalized(layers.Conv2D(int(32 * alpha), 3, 2, "same", use_bias=False, name="conv1")(inputs), "conv1")
    for number, (filters, strides) in enumerate(_BLOCKS, 1):
        x = _block(x, int(filters * alpha), strides, depth_multiplier, number)
    if include_top:
        x = layers.GlobalAveragePooling2D(keepdims=True)(x)
        x = layers.Dropout(dropout, name="dropout")(x)
        x = layers.Conv2D(classes, 1, padding="same", name="conv_preds")(x)
        x = layers.Reshape((classes,), name="reshape_2")(x)
        x = layers.Activation(building.check_classifier(weights, classifier_activation), name="predictions")(x)
    elif pooling == "avg":
        x = layers.GlobalAveragePooling2D()(x)
    elif pooling == "max":
        x = layers.GlobalMaxPooling2D()(x)
    file = f"mobilenet_{_PUBLISHED_ALPHAS.get(alpha)}_{published_side}_tf"
    return building.finish(
        inputs,
        x,
        name or f"mobilenet_{alpha:0.2f}_{side or 224}",
        input_tensor=input_tensor,
        weights=weights,
        include_top=include_top,
        published={True: (f"{file}.h5", None), False: (f"{file}_no_top.h5", None)},
        folder="mobilenet/",
    )


def _side(input_shape: Any) -> int | None:
    """Return the side of a square image, or None."""
    if input_shape is None or len(input_shape) != 3:
        return None
    first = config.image_data_format() == "channels_first"
    height, width = input_shape[1:] if first else input_shape[:2]
    return height if height == width else None


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
