"""ConvNeXt: residual blocks of a large depthwise convolution and two dense layers. Liu et al. 2022."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from kcompile.errors import NotSupportedError
from kcompile.keras import config, layers
from kcompile.keras.applications import building
from kcompile.keras.applications.imagenet_utils import as_they_are as preprocess_input
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.initializers import Constant
from kcompile.keras.layers.layer import Layer
from kcompile.keras.models import Functional, Sequential
from kcompile.keras.serialization import register_keras_serializable

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels
_SCALE = 1e-6  # of a block's result at first
_EPSILON = 1e-6


class _Variant(NamedTuple):
    depths: tuple[int, ...]
    channels: tuple[int, ...]


_SMALL = (3, 3, 27, 3)
_VARIANTS = {
    "Tiny": _Variant((3, 3, 9, 3), (96, 192, 384, 768)),
    "Small": _Variant(_SMALL, (96, 192, 384, 768)),
    "Base": _Variant(_SMALL, (128, 256, 512, 1024)),
    "Large": _Variant(_SMALL, (192, 384, 768, 1536)),
    "XLarge": _Variant(_SMALL, (256, 512, 1024, 2048)),
}


@register_keras_serializable("convnext")
class LayerScale(Layer):
    """A factor per channel, learned, `init_values` at first.

    Weights: gamma [projection_dim].
    """

    def __init__(self, init_values, projection_dim, **kwargs):
        super().__init__(**kwargs)
        self.init_values, self.projection_dim = init_values, projection_dim

    def build(self, input_shape):
        self.gamma = self.add_weight(name="gamma", shape=(self.projection_dim,), initializer=Constant(self.init_values))

    def call(self, x):
        return x * self.gamma


def _normalised(name: str | None = None) -> Layer:
    return layers.LayerNormalization(epsilon=_EPSILON, name=name)


def _block(x: Any, channels: int, name: str) -> Any:
    y = layers.Conv2D(channels, 7, padding="same", groups=channels, name=f"{name}_depthwise_conv")(x)
    y = _normalised(f"{name}_layernorm")(y)
    y = layers.Dense(4 * channels, name=f"{name}_pointwise_conv_1")(y)
    y = layers.Activation("gelu", name=f"{name}_gelu")(y)
    y = layers.Dense(channels, name=f"{name}_pointwise_conv_2")(y)
    y = LayerScale(_SCALE, channels, name=f"{name}_layer_scale")(y)
    return x + layers.Activation("linear", name=f"{name}_identity")(y)


def _body(x: Any, given: building.Given, variant: _Variant, name: str) -> Any:
    if config.image_data_format() == "channels_first":
        raise NotSupportedError("ConvNeXt does not support the `channels_first` image data format.")
    if given.include_preprocessing and x.shape[-1] == 3:
        mean, variance = [m * 255 for m in _MEAN], [(d * 255) ** 2 for d in _DEVIATION]
        x = layers.Normalization(mean=mean, variance=variance, name=f"{name}_prestem_normalization")(x)
    for stage, (depth, channels) in enumerate(zip(*variant)):
        if stage == 0:
            conv = layers.Conv2D(channels, 4, strides=4, name=f"{name}_stem_conv")
            x = Sequential([conv, _normalised(f"{name}_stem_layernorm")], name=f"{name}_stem")(x)
        else:
            before = _normalised(f"{name}_downsampling_layernorm_{stage - 1}")
            conv = layers.Conv2D(channels, 2, strides=2, name=f"{name}_downsampling_conv_{stage - 1}")
            x = Sequential([before, conv], name=f"{name}_downsampling_block_{stage - 1}")(x)
        for number in range(depth):
            x = _block(x, channels, f"{name}_stage_{stage}_block_{number}")
    return x


def _top(x: Any, given: building.Given, name: str) -> Any:
    x = layers.GlobalAveragePooling2D(name=f"{name}_head_gap")(x)
    x = _normalised(f"{name}_head_layernorm")(x)
    return layers.Dense(given.classes, activation=given.classifier_activation, name=f"{name}_head_dense")(x)


def _application(label: str) -> Callable[..., Functional]:
    """Return the public function of one variant."""
    variant, file = _VARIANTS[label], f"convnext_{label.lower()}"

    def network(name: str) -> building.Network:
        return building.Network(
            body=functools.partial(_body, variant=variant, name=name),
            size=224,
            least=32,
            top=functools.partial(_top, name=name),
            pools=(None, None),
            published=building.files(file, (None, None)),
            origin=f"{building.ORIGIN}/convnext",
            last=_normalised,
        )

    def function(
        include_top=True,
        include_preprocessing=True,
        weights="imagenet",
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=1000,
        classifier_activation="softmax",
        name=file,
    ) -> Functional:
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
        return building.build(network(name), given, name)

    return building.described(function, f"ConvNeXt{label}", network(file))


ConvNeXtTiny, ConvNeXtSmall, ConvNeXtBase, ConvNeXtLarge, ConvNeXtXLarge = map(_application, _VARIANTS)

__all__ = [*(f"ConvNeXt{variant}" for variant in _VARIANTS), "decode_predictions", "preprocess_input"]
