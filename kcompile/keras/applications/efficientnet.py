"""EfficientNet: one small network and seven made of it by scaling width, depth and image together. Tan, Le 2019."""

from __future__ import annotations

import functools
import math
from typing import Any

from kcompile.keras import layers
from kcompile.keras.applications import building, mbconv
from kcompile.keras.applications.imagenet_utils import as_they_are as preprocess_input
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.applications.mbconv import PLAIN

_STAGES = (  # fused, blocks, channels, filters, window, strides, widening, weighed
    (PLAIN, 1, 32, 16, 3, 1, 1, 0.25),
    (PLAIN, 2, 16, 24, 3, 2, 6, 0.25),
    (PLAIN, 2, 24, 40, 5, 2, 6, 0.25),
    (PLAIN, 3, 40, 80, 3, 2, 6, 0.25),
    (PLAIN, 3, 80, 112, 5, 1, 6, 0.25),
    (PLAIN, 4, 112, 192, 5, 2, 6, 0.25),
    (PLAIN, 1, 192, 320, 3, 1, 6, 0.25),
)
_VARIANTS = {  # width, depth, image, dropout before the classifier, md5 of the weights with and without top
    "B0": (1.0, 1.0, 224, 0.2, ("902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d")),
    "B1": (1.0, 1.1, 240, 0.2, ("1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432")),
    "B2": (1.1, 1.2, 260, 0.3, ("b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39")),
    "B3": (1.2, 1.4, 300, 0.3, ("ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226")),
    "B4": (1.4, 1.8, 380, 0.4, ("18c95ad55216b8f92d7e70b3a046e2fc", "ebc24e6d6c33eaebbd558eafbeedf1ba")),
    "B5": (1.6, 2.2, 456, 0.4, ("ace28f2a6363774853a83a0b21b9421a", "38879255a25d3c92d5e44e04ae6cec6f")),
    "B6": (1.8, 2.6, 528, 0.5, ("165f6e37dce68623721b423839de8be5", "9ecce42647a20130c1f39a5d4cb75743")),
    "B7": (2.0, 3.1, 600, 0.5, ("8c03f828fec3ef71311cd463b6759d99", "cbcfe4450ddf6f3ad90b1b398090fe4a")),
}
_STYLE = mbconv.Style(depthwise="dwconv", momentum=0.99, centred=True)
# Standard deviations of ImageNet's channels: the published weights expect images divided by them once more
# by their roots, because the images of the training were divided by the deviations' squares.
_DEVIATIONS = (0.229, 0.224, 0.225)
_ORIGIN = "https://storage.googleapis.com/keras-applications"


def _body(x: Any, given: building.Given, width: float, depth: float) -> Any:
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Normalization(axis=building.channel_axis())(x)
    if given.weights == "imagenet":
        x = layers.Rescaling([1 / math.sqrt(d) for d in _DEVIATIONS])(x)
    x = layers.ZeroPadding2D(building.border(x, 3), name="stem_conv_pad")(x)
    x = mbconv.conv(x, building.rounded(32 * width), 3, 2, "stem_conv", padding="valid")
    x = mbconv.activated(x, "stem_", _STYLE)
    for block in mbconv.stages(_STAGES, width, depth, keep=0.9, scaled=True):
        x = mbconv.block(x, block, _STYLE)
    x = mbconv.conv(x, building.rounded(1280 * width), 1, 1, "top_conv")
    return mbconv.activated(x, "top_", _STYLE)


def _application(variant: str):
    width, depth, size, dropout, hashes = _VARIANTS[variant]
    name = f"efficientnet{variant.lower()}"
    network = building.Network(
        body=functools.partial(_body, width=width, depth=depth),
        size=size,
        least=32,
        top=functools.partial(mbconv.top, dropout=dropout),
        published=building.files(name, hashes),
        origin=_ORIGIN,
    )
    return building.application(f"EfficientNet{variant}", network, name)


EfficientNetB0, EfficientNetB1, EfficientNetB2, EfficientNetB3 = map(_application, ("B0", "B1", "B2", "B3"))
EfficientNetB4, EfficientNetB5, EfficientNetB6, EfficientNetB7 = map(_application, ("B4", "B5", "B6", "B7"))

__all__ = [*(f"EfficientNet{variant}" for variant in _VARIANTS), "decode_predictions", "preprocess_input"]
