"""InceptionResNetV2: inception branches added to a shortcut, scaled down. Szegedy et al. 2016."""

from __future__ import annotations

from typing import Any

from kcompile.keras import layers
from kcompile.keras.applications import building
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.applications.imagenet_utils import tf_input as preprocess_input
from kcompile.keras.serialization import register_keras_serializable

__all__ = ["InceptionResNetV2", "decode_predictions", "preprocess_input"]

_STEM = "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels"
_PUBLISHED = {
    True: (f"{_STEM}.h5", "e693bd0210a403b3192acc6073ad2e96"),
    False: (f"{_STEM}_notop.h5", "d19885ff4a710c122648d3b5c3b684e4"),
}
# kind of block -> its branches, each a list of (filters, window)
_BRANCHES = {
    "block35": ([(32, 1)], [(32, 1), (32, 3)], [(32, 1), (48, 3), (64, 3)]),
    "block17": ([(192, 1)], [(128, 1), (160, (1, 7)), (192, (7, 1))]),
    "block8": ([(192, 1)], [(192, 1), (224, (1, 3)), (256, (3, 1))]),
}


@register_keras_serializable()
class CustomScaleLayer(layers.Layer):
    """a + scale · b of two tensors [a, b]: the residual connection."""

    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, inputs):
        return inputs[0] + inputs[1] * self.scale


def _conv(x: Any, filters: int, window: Any, strides: int = 1, padding: str = "same", name: str | None = None) -> Any:
    names = (None, None, None) if name is None else (name, f"{name}_bn", f"{name}_ac")
    return building.conv_bn(x, filters, window, strides, padding, names=names, scale=False)


def _branch(x: Any, steps: list[tuple]) -> Any:
    for filters, window, *strides in steps:
        x = _conv(x, filters, window, *strides, padding="valid" if strides else "same")
    return x


def _joined(branches: list, name: str) -> Any:
    return layers.Concatenate(axis=building.channel_axis(), name=name)(branches)


def _block(x: Any, kind: str, number: int, scale: float, activation: str | None = "relu") -> Any:
    name = f"{kind}_{number}"
    mixed = _joined([_branch(x, steps) for steps in _BRANCHES[kind]], f"{name}_mixed")
    up = layers.Conv2D(x.shape[building.channel_axis()], 1, padding="same", name=f"{name}_conv")(mixed)
    x = CustomScaleLayer(scale)([x, up])
    return x if activation is None else layers.Activation(activation, name=f"{name}_ac")(x)


def _body(x: Any, given: building.Given) -> Any:
    x = _conv(x, 32, 3, 2, "valid")
    x = _conv(x, 32, 3, padding="valid")
    x = _conv(x, 64, 3)
    x = layers.MaxPooling2D(3, strides=2)(x)
    x = _conv(x, 80, 1, padding="valid")
    x = _conv(x, 192, 3, padding="valid")
    x = layers.MaxPooling2D(3, strides=2)(x)

    branches = [_branch(x, s) for s in ([(96, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)])]
    pool = _conv(layers.AveragePooling2D(3, strides=1, padding="same")(x), 64, 1)
    x = _joined([*branches, pool], "mixed_5b")
    for number in range(1, 11):
        x = _block(x, "block35", number, 0.17)

    branches = [_branch(x, s) for s in ([(384, 3, 2)], [(256, 1), (256, 3), (384, 3, 2)])]
    x = _joined([*branches, layers.MaxPooling2D(3, strides=2)(x)], "mixed_6a")
    for number in range(1, 21):
        x = _block(x, "block17", number, 0.1)

    steps = ([(256, 1), (384, 3, 2)], [(256, 1), (288, 3, 2)], [(256, 1), (288, 3), (320, 3, 2)])
    x = _joined([*(_branch(x, s) for s in steps), layers.MaxPooling2D(3, strides=2)(x)], "mixed_7a")
    for number in range(1, 10):
        x = _block(x, "block8", number, 0.2)
    x = _block(x, "block8", 10, 1.0, activation=None)
    return _conv(x, 1536, 1, name="conv_7b")


InceptionResNetV2 = building.application(
    "InceptionResNetV2",
    building.Network(
        body=_body,
        size=299,
        least=75,
        published=_PUBLISHED,
        origin=f"{building.ORIGIN}/inception_resnet_v2",
    ),
    "inception_resnet_v2",
)
