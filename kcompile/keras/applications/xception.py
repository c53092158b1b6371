"""Xception: separable convolutions with residual connections. Chollet 2017."""

from __future__ import annotations

from typing import Any

from kcompile.keras import layers
from kcompile.keras.applications import building
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.applications.imagenet_utils import tf_input as preprocess_input

__all__ = ["Xception", "decode_predictions", "preprocess_input"]

_PUBLISHED = {
    True: ("xception_weights_tf_dim_ordering_tf_kernels.h5", "0a58e3b7378bc2990ea3b43d5981f1f6"),
    False: ("xception_weights_tf_dim_ordering_tf_kernels_notop.h5", "b0042744bf5b25fce3cb969f33bebb97"),
}
_MIDDLE = range(5, 13)  # blocks of the same shape


def _body(x: Any, given: building.Given) -> Any:
    for number, (filters, strides) in enumerate(((32, 2), (64, 1)), 1):
        name = f"block1_conv{number}"
        x = building.conv_bn(x, filters, 3, strides, "valid", names=(name, f"{name}_bn", f"{name}_act"))
    x = _down(x, 2, (128, 128), first_activation=False)
    x = _down(x, 3, (256, 256))
    x = _down(x, 4, (728, 728))
    for block in _MIDDLE:
        residual = x
        for number in (1, 2, 3):
            x = layers.Activation("relu", name=f"block{block}_sepconv{number}_act")(x)
            x = _separable(x, 728, f"block{block}_sepconv{number}")
        x = layers.add([x, residual])
    x = _down(x, 13, (728, 1024))
    for number, filters in ((1, 1536), (2, 2048)):
        x = _separable(x, filters, f"block14_sepconv{number}")
        x = layers.Activation("relu", name=f"block14_sepconv{number}_act")(x)
    return x


def _separable(x: Any, filters: int, name: str) -> Any:
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return layers.BatchNormalization(axis=building.channel_axis(), name=f"{name}_bn")(x)


def _down(x: Any, block: int, filters: tuple[int, int], first_activation: bool = True) -> Any:
    """Two separable convolutions and pooling, beside a 1x1 convolution of stride 2."""
    residual = building.conv_bn(x, filters[1], 1, 2, activation=None)
    for number, count in enumerate(filters, 1):
        if number > 1 or first_activation:
            x = layers.Activation("relu", name=f"block{block}_sepconv{number}_act")(x)
        x = _separable(x, count, f"block{block}_sepconv{number}")
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"block{block}_pool")(x)
    return layers.add([x, residual])


Xception = building.application(
    "Xception",
    building.Network(body=_body, size=299, least=71, published=_PUBLISHED, origin=f"{building.ORIGIN}/xception"),
    "xception",
)
