"""VGG16 and VGG19: 3x3 convolutions and pooling, then three dense layers. Simonyan, Zisserman 2014."""

from __future__ import annotations

from typing import Any

from kcompile.keras import layers
from kcompile.keras.applications import building
from kcompile.keras.models import Functional

_FILTERS = (64, 128, 256, 512, 512)
_PUBLISHED = {
    "vgg16": {
        True: ("vgg16_weights_tf_dim_ordering_tf_kernels.h5", "64373286793e3c8b2b4e3219cbf3544b"),
        False: ("vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "6d6bbae143d832006294945121d1f1fc"),
    },
    "vgg19": {
        True: ("vgg19_weights_tf_dim_ordering_tf_kernels.h5", "cbe5617147190e668d6c5d5026f83318"),
        False: ("vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5", "253f8cb515780f3b799900260a226db6"),
    },
}


def VGG16(
    include_top=True,
    weights="imagenet",
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="vgg16",
) -> Functional:
    """Return VGG16: 13 convolutions. 224x224x3 by default, at least 32x32."""
    given = (include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name)
    return _vgg("vgg16", (2, 2, 3, 3, 3), *given)


def VGG19(
    include_top=True,
    weights="imagenet",
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="vgg19",
) -> Functional:
    """Return VGG19: 16 convolutions. 224x224x3 by default, at least 32x32."""
    given = (include_top, weights, input_tensor, input_shape, pooling, classes, classifier_activation, name)
    return _vgg("vgg19", (2, 2, 4, 4, 4), *given)


def _vgg(
    kind: str,
    depths: tuple[int, ...],
    include_top: bool,
    weights: Any,
    input_tensor: Any,
    input_shape: Any,
    pooling: str | None,
    classes: int,
    classifier_activation: Any,
    name: str,
) -> Functional:
    inputs = x = building.start(
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        classes=classes,
        size=224,
        least=32,
    )
    for block, (filters, depth) in enumerate(zip(_FILTERS, depths), 1):
        for number in range(1, depth + 1):
            convolution = layers.Conv2D(
                filters, 3, padding="same", activation="relu", name=f"block{block}_conv{number}"
            )
            x = convolution(x)
        x = layers.MaxPooling2D(2, strides=2, name=f"block{block}_pool")(x)
    if include_top:
        activation = building.check_classifier(weights, classifier_activation)
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(4096, activation="relu", name="fc1")(x)
        x = layers.Dense(4096, activation="relu", name="fc2")(x)
        x = layers.Dense(classes, activation=activation, name="predictions")(x)
    else:
        x = building.pooled(x, pooling)
    return building.finish(
        inputs,
        x,
        name,
        input_tensor=input_tensor,
        weights=weights,
        include_top=include_top,
        published=_PUBLISHED[kind],
        folder=f"{kind}/",
    )
