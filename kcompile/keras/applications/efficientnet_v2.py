"""EfficientNetV2: fused blocks first, where images are large. Tan, Le 2021.

B0 to B3 are scaled from one table; S, M and L have tables of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from kcompile.keras import layers
from kcompile.keras.applications import building, mbconv
from kcompile.keras.applications.imagenet_utils import as_they_are as preprocess_input
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.applications.mbconv import FUSED, PLAIN
from kcompile.keras.models import Functional

_STAGES = {  # fused, blocks, channels, filters, window, strides, widening, weighed
    "b": (
        (FUSED, 1, 32, 16, 3, 1, 1, 0),
        (FUSED, 2, 16, 32, 3, 2, 4, 0),
        (FUSED, 2, 32, 48, 3, 2, 4, 0),
        (PLAIN, 3, 48, 96, 3, 2, 4, 0.25),
        (PLAIN, 5, 96, 112, 3, 1, 6, 0.25),
        (PLAIN, 8, 112, 192, 3, 2, 6, 0.25),
    ),
    "s": (
        (FUSED, 2, 24, 24, 3, 1, 1, 0),
        (FUSED, 4, 24, 48, 3, 2, 4, 0),
        (FUSED, 4, 48, 64, 3, 2, 4, 0),
        (PLAIN, 6, 64, 128, 3, 2, 4, 0.25),
        (PLAIN, 9, 128, 160, 3, 1, 6, 0.25),
        (PLAIN, 15, 160, 256, 3, 2, 6, 0.25),
    ),
    "m": (
        (FUSED, 3, 24, 24, 3, 1, 1, 0),
        (FUSED, 5, 24, 48, 3, 2, 4, 0),
        (FUSED, 5, 48, 80, 3, 2, 4, 0),
        (PLAIN, 7, 80, 160, 3, 2, 4, 0.25),
        (PLAIN, 14, 160, 176, 3, 1, 6, 0.25),
        (PLAIN, 18, 176, 304, 3, 2, 6, 0.25),
        (PLAIN, 5, 304, 512, 3, 1, 6, 0.25),
    ),
    "l": (
        (FUSED, 4, 32, 32, 3, 1, 1, 0),
        (FUSED, 7, 32, 64, 3, 2, 4, 0),
        (FUSED, 7, 64, 96, 3, 2, 4, 0),
        (PLAIN, 10, 96, 192, 3, 2, 4, 0.25),
        (PLAIN, 19, 192, 224, 3, 1, 6, 0.25),
        (PLAIN, 25, 224, 384, 3, 2, 6, 0.25),
        (PLAIN, 7, 384, 640, 3, 1, 6, 0.25),
    ),
}


class _Variant(NamedTuple):
    table: str
    width: float
    depth: float
    size: int
    hashes: tuple[str, str]  # md5 of the published weights with and without top


_VARIANTS = {
    "B0": _Variant("b", 1.0, 1.0, 224, ("21ecbf6da12460d5c40bb2f29ceb2188", "893217f2bb855e2983157299931e43ff")),
    "B1": _Variant("b", 1.0, 1.1, 240, ("069f0534ff22adf035c89e2d9547a9dc", "0e80663031ca32d657f9caa404b6ec37")),
    "B2": _Variant("b", 1.1, 1.2, 260, ("424e49f28180edbde1e94797771950a7", "1dfe2e7a5d45b6632553a8961ea609eb")),
    "B3": _Variant("b", 1.2, 1.4, 300, ("1f1fc43bd98a6e4fd8fdfd551e02c7a0", "f6abf7b5849ac99a89b50dd3fd532856")),
    "S": _Variant("s", 1.0, 1.0, 384, ("e1d88a8495beba45748fedd0cecbe016", "af0682fb74e8c54910f2d4393339c070")),
    "M": _Variant("m", 1.0, 1.0, 480, ("a3bf6aa3276309f4fc6a34aa114c95cd", "1b8dc055df72dde80d614482840fe342")),
    "L": _Variant("l", 1.0, 1.0, 480, ("27e6d408b53c7ebc868fefa357689935", "b0b66b5c863aef5b46e8608fe1711615")),
}
_STYLE = mbconv.Style(depthwise="dwconv2", momentum=0.9, centred=False)
_MEAN, _VARIANCE = (0.485, 0.456, 0.406), (0.229**2, 0.224**2, 0.225**2)  # of ImageNet's channels
_DROPOUT = 0.2  # before the classifier


def _body(x: Any, given: building.Given, variant: _Variant) -> Any:
    axis = building.channel_axis()
    width, table = variant.width, _STAGES[variant.table]
    if given.include_preprocessing:
        if variant.table == "b" and x.shape[axis] == 3:
            x = layers.Normalization(mean=_MEAN, variance=_VARIANCE, axis=axis)(layers.Rescaling(1 / 255)(x))
        else:
            x = layers.Rescaling(1 / 128, offset=-1)(x)
    x = mbconv.conv(x, building.rounded(table[0][2] * width, keep=0), 3, 2, "stem_conv")
    x = mbconv.activated(x, "stem_", _STYLE)
    for block in mbconv.stages(table, width, variant.depth, keep=0, scaled=False):
        x = mbconv.block(x, block, _STYLE)
    x = mbconv.conv(x, building.rounded(1280 * width, keep=0), 1, 1, "top_conv")
    return mbconv.activated(x, "top_", _STYLE)


def _application(label: str) -> Callable[..., Functional]:
    """Return the public function of one variant."""
    variant, name = _VARIANTS[label], f"efficientnetv2-{label.lower()}"
    network = building.Network(
        body=functools.partial(_body, variant=variant),
        size=variant.size,
        least=32,
        top=functools.partial(mbconv.top, dropout=_DROPOUT),
        published=building.files(name, variant.hashes),
        origin=f"{building.ORIGIN}/efficientnet_v2",
    )

    def function(
        include_top=True,
        weights="imagenet",
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=1000,
        classifier_activation="softmax",
        include_preprocessing=True,
        name=name,
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
        return building.build(network, given, name)

    return building.described(function, f"EfficientNetV2{label}", network)


EfficientNetV2B0, EfficientNetV2B1, EfficientNetV2B2, EfficientNetV2B3 = map(_application, ("B0", "B1", "B2", "B3"))
EfficientNetV2S, EfficientNetV2M, EfficientNetV2L = map(_application, "SML")

__all__ = [*(f"EfficientNetV2{variant}" for variant in _VARIANTS), "decode_predictions", "preprocess_input"]
