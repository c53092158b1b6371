"""DenseNet: every layer of a block reads all before it. Huang et al. 2016."""

from __future__ import annotations

from typing import Any

from kcompile.keras import layers
from kcompile.keras.applications import building
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.applications.imagenet_utils import torch_input as preprocess_input

__all__ = ["DenseNet121", "DenseNet169", "DenseNet201", "decode_predictions", "preprocess_input"]

_EPSILON = 1.001e-5
_GROWTH = 32  # channels that each layer of a block adds
_DEPTHS = {"densenet121": (6, 12, 24, 16), "densenet169": (6, 12, 32, 32), "densenet201": (6, 12, 48, 32)}
# kind -> md5 of the published weights with and without top
_HASHES = {
    "densenet121": ("9d60b8095a5708f2dcce2bca79d332c7", "30ee3e1110167f948a6b9946edeeb738"),
    "densenet169": ("d699b8f76981ab1b30698df4c175e90b", "b8c4d4c20dd625c148057b9ff1c1176b"),
    "densenet201": ("1ceb130c1ea1b78c3bf6114dbdfd8807", "c13680b51ded0fb44dff2d8f86ac8bb1"),
}


def _application(kind: str, label: str):
    network = building.Network(
        body=lambda image, given: _body(image, _DEPTHS[kind]),
        size=224,
        least=32,
        published=building.files(f"{kind}_weights_tf_dim_ordering_tf_kernels", _HASHES[kind]),
        origin=f"{building.ORIGIN}/densenet",
    )
    return building.application(label, network, kind)


DenseNet121 = _application("densenet121", "DenseNet121")
DenseNet169 = _application("densenet169", "DenseNet169")
DenseNet201 = _application("densenet201", "DenseNet201")


def _normalized(x: Any, bn: str, relu: str) -> Any:
    x = layers.BatchNormalization(axis=building.channel_axis(), epsilon=_EPSILON, name=bn)(x)
    return layers.Activation("relu", name=relu)(x)


def _body(x: Any, depths: tuple[int, ...]) -> Any:
    axis = building.channel_axis()
    x = layers.ZeroPadding2D(((3, 3), (3, 3)))(x)
    x = layers.Conv2D(64, 7, strides=2, use_bias=False, name="conv1_conv")(x)
    x = _normalized(x, "conv1_bn", "conv1_relu")
    x = layers.ZeroPadding2D(((1, 1), (1, 1)))(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for stage, depth in enumerate(depths, 2):
        for number in range(1, depth + 1):
            name = f"conv{stage}_block{number}"
            y = _normalized(x, f"{name}_0_bn", f"{name}_0_relu")
            y = layers.Conv2D(4 * _GROWTH, 1, use_bias=False, name=f"{name}_1_conv")(y)
            y = _normalized(y, f"{name}_1_bn", f"{name}_1_relu")
            y = layers.Conv2D(_GROWTH, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(y)
            x = layers.Concatenate(axis=axis, name=f"{name}_concat")([x, y])
        if stage < 5:
            name = f"pool{stage}"
            x = _normalized(x, f"{name}_bn", f"{name}_relu")
            x = layers.Conv2D(x.shape[axis] // 2, 1, use_bias=False, name=f"{name}_conv")(x)
            x = layers.AveragePooling2D(2, strides=2, name=f"{name}_pool")(x)
    return _normalized(x, "bn", "relu")
