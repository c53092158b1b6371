"""VGG16 and VGG19: 3x3 convolutions and pooling, then three dense layers. Simonyan, Zisserman 2014."""

from __future__ import annotations

from typing import Any

from kcompile.keras import layers
from kcompile.keras.applications import building

_FILTERS = (64, 128, 256, 512, 512)
_DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
# kind -> md5 of the published weights with and without top
_HASHES = {
    "vgg16": ("64373286793e3c8b2b4e3219cbf3544b", "6d6bbae143d832006294945121d1f1fc"),
    "vgg19": ("cbe5617147190e668d6c5d5026f83318", "253f8cb515780f3b799900260a226db6"),
}


def _body(x: Any, depths: tuple[int, ...]) -> Any:
    for block, (filters, depth) in enumerate(zip(_FILTERS, depths), 1):
        for number in range(1, depth + 1):
            name = f"block{block}_conv{number}"
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    return x


def _top(x: Any, given: building.Given) -> Any:
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(4096, activation="relu", name="fc1")(x)
    x = layers.Dense(4096, activation="relu", name="fc2")(x)
    return layers.Dense(given.classes, activation=given.classifier_activation, name="predictions")(x)


def _application(kind: str, label: str):
    network = building.Network(
        body=lambda image, given: _body(image, _DEPTHS[kind]),
        size=224,
        least=32,
        top=_top,
        published=building.files(f"{kind}_weights_tf_dim_ordering_tf_kernels", _HASHES[kind]),
        origin=f"{building.ORIGIN}/{kind}",
    )
    return building.application(label, network, kind)


VGG16 = _application("vgg16", "VGG16")
VGG19 = _application("vgg19", "VGG19")
