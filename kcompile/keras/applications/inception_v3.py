"""InceptionV3: blocks of parallel branches, written as tables. Szegedy et al. 2015.

A branch is a list of convolutions (filters, window[, strides]); a stride-2 branch is not padded.
"""

from __future__ import annotations

from typing import Any

from kcompile.keras import layers
from kcompile.keras.applications import building
from kcompile.keras.applications.imagenet_utils import decode_predictions
from kcompile.keras.applications.imagenet_utils import tf_input as preprocess_input

__all__ = ["InceptionV3", "decode_predictions", "preprocess_input"]

_PUBLISHED = {
    True: ("inception_v3_weights_tf_dim_ordering_tf_kernels.h5", "9a0d58056eeedaa3f26cb7ebd46da564"),
    False: ("inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5", "bcbd6486424b2319ff4ef7d526e38f63"),
}
_WIDE, _TALL = (1, 7), (7, 1)


def _conv(x: Any, filters: int, window: Any, strides: int = 1, padding: str = "same") -> Any:
    return building.conv_bn(x, filters, window, strides, padding, scale=False)


def _branch(x: Any, steps: list[tuple]) -> Any:
    for filters, window, *strides in steps:
        x = _conv(x, filters, window, *strides, padding="valid" if strides else "same")
    return x


def _pool_branch(x: Any, filters: int) -> Any:
    return _conv(layers.AveragePooling2D(3, strides=1, padding="same")(x), filters, 1)


def _joined(branches: list, name: str | None) -> Any:
    return layers.concatenate(branches, axis=building.channel_axis(), name=name)


def _body(x: Any, given: building.Given) -> Any:
    x = _conv(x, 32, 3, 2, "valid")
    x = _conv(x, 32, 3, padding="valid")
    x = _conv(x, 64, 3)
    x = layers.MaxPooling2D(3, strides=2)(x)
    x = _conv(x, 80, 1, padding="valid")
    x = _conv(x, 192, 3, padding="valid")
    x = layers.MaxPooling2D(3, strides=2)(x)

    for number, pool_filters in enumerate((32, 64, 64)):
        branches = [_branch(x, s) for s in ([(64, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)])]
        x = _joined([*branches, _pool_branch(x, pool_filters)], f"mixed{number}")

    branches = [_branch(x, s) for s in ([(384, 3, 2)], [(64, 1), (96, 3), (96, 3, 2)])]
    x = _joined([*branches, layers.MaxPooling2D(3, strides=2)(x)], "mixed3")

    for number, n in enumerate((128, 160, 160, 192), 4):
        steps = (
            [(192, 1)],
            [(n, 1), (n, _WIDE), (192, _TALL)],
            [(n, 1), (n, _TALL), (n, _WIDE), (n, _TALL), (192, _WIDE)],
        )
        branches = [_branch(x, s) for s in steps]
        x = _joined([*branches, _pool_branch(x, 192)], f"mixed{number}")

    branches = [_branch(x, s) for s in ([(192, 1), (320, 3, 2)], [(192, 1), (192, _WIDE), (192, _TALL), (192, 3, 2)])]
    x = _joined([*branches, layers.MaxPooling2D(3, strides=2)(x)], "mixed8")

    for number in (0, 1):
        one = _conv(x, 320, 1)
        three = _split(_conv(x, 384, 1), f"mixed9_{number}")
        double = _split(_branch(x, [(448, 1), (384, 3)]), None)
        x = _joined([one, three, double, _pool_branch(x, 192)], f"mixed{9 + number}")
    return x


def _split(x: Any, name: str | None) -> Any:
    """A wide and a tall convolution side by side."""
    return _joined([_conv(x, 384, (1, 3)), _conv(x, 384, (3, 1))], name)


InceptionV3 = building.application(
    "InceptionV3",
    building.Network(
        body=_body,
        size=299,
        least=75,
        published=_PUBLISHED,
        origin=f"{building.ORIGIN}/inception_v3",
    ),
    "inception_v3",
)
