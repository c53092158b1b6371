"""ResNet and ResNetV2 of 50, 101 and 152 layers. He et al. 2015 and 2016.

Both stack bottlenecks (1x1, 3x3, 1x1 convolutions) beside a shortcut. V1 normalizes after each convolution
and adds before the last activation; V2 normalizes and activates before.
"""

from __future__ import annotations

from typing import Any

from kcompile.keras import layers
from kcompile.keras.applications import building

_EPSILON = 1.001e-5
_DEPTHS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}
_FILTERS = (64, 128, 256, 512)
# kind -> md5 of the published weights with and without top
_HASHES = {
    "resnet50": ("2cb95161c43110f7111970584f804107", "4d473c1dd8becc155b73f8504c6f6626"),
    "resnet101": ("f1aeb4b969a6efcfb50fad2f0c20cfc5", "88cf7a10940856eca736dc7b7e228a21"),
    "resnet152": ("100835be76be38e30d865e96f2aaae62", "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    "resnet50v2": ("3ef43a0b657b3be2300d5770ece849e0", "fac2f116257151a9d068a22e544a4917"),
    "resnet101v2": ("6343647c601c52e1368623803854d971", "c0ed64b8031c3730f411d2eb4eea35b5"),
    "resnet152v2": ("a49b44d1979771252814e80f8ec446f9", "ed17cf2e0169df9d443503ef94b23b33"),
}


def _application(kind: str, label: str):
    network = building.Network(
        body=lambda image, given: _body(image, kind),
        size=224,
        least=32,
        published=building.files(f"{kind}_weights_tf_dim_ordering_tf_kernels", _HASHES[kind]),
        origin=f"{building.ORIGIN}/resnet",
    )
    return building.application(label, network, kind)


ResNet50 = _application("resnet50", "ResNet50")
ResNet101 = _application("resnet101", "ResNet101")
ResNet152 = _application("resnet152", "ResNet152")
ResNet50V2 = _application("resnet50v2", "ResNet50V2")
ResNet101V2 = _application("resnet101v2", "ResNet101V2")
ResNet152V2 = _application("resnet152v2", "ResNet152V2")


def _body(x: Any, kind: str) -> Any:
    second = kind.endswith("v2")
    depths = _DEPTHS[kind.removeprefix("resnet").removesuffix("v2")]
    x = layers.ZeroPadding2D(((3, 3), (3, 3)), name="conv1_pad")(x)
    x = layers.Conv2D(64, 7, strides=2, name="conv1_conv")(x)
    if not second:
        x = _normalized(x, "conv1", "conv1_relu")
    x = layers.ZeroPadding2D(((1, 1), (1, 1)), name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, (filters, depth) in enumerate(zip(_FILTERS, depths), 2):
        for number in range(1, depth + 1):
            name = f"conv{stage}_block{number}"
            first, last = number == 1, number == depth
            if second:  # the image shrinks at the end of a stage
                x = _block_v2(x, filters, 2 if last and stage < 5 else 1, first, name)
            else:  # ... at its beginning
                x = _block_v1(x, filters, 2 if first and stage > 2 else 1, first, name)
    return _normalized(x, "post", "post_relu") if second else x


def _normalized(x: Any, name: str, activation: str | None = None) -> Any:
    x = layers.BatchNormalization(axis=building.channel_axis(), epsilon=_EPSILON, name=f"{name}_bn")(x)
    return x if activation is None else layers.Activation("relu", name=activation)(x)


def _block_v1(x: Any, filters: int, strides: int, widens: bool, name: str) -> Any:
    shortcut = x
    if widens:
        shortcut = layers.Conv2D(4 * filters, 1, strides=strides, name=f"{name}_0_conv")(x)
        shortcut = _normalized(shortcut, f"{name}_0")
    x = layers.Conv2D(filters, 1, strides=strides, name=f"{name}_1_conv")(x)
    x = _normalized(x, f"{name}_1", f"{name}_1_relu")
    x = layers.Conv2D(filters, 3, padding="same", name=f"{name}_2_conv")(x)
    x = _normalized(x, f"{name}_2", f"{name}_2_relu")
    x = layers.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x)
    x = layers.Add(name=f"{name}_add")([shortcut, _normalized(x, f"{name}_3")])
    return layers.Activation("relu", name=f"{name}_out")(x)


def _block_v2(x: Any, filters: int, strides: int, widens: bool, name: str) -> Any:
    before = _normalized(x, f"{name}_preact", f"{name}_preact_relu")
    if widens:
        shortcut = layers.Conv2D(4 * filters, 1, strides=strides, name=f"{name}_0_conv")(before)
    else:
        shortcut = layers.MaxPooling2D(1, strides=strides)(x) if strides > 1 else x
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_1_conv")(before)
    x = _normalized(x, f"{name}_1", f"{name}_1_relu")
    x = layers.ZeroPadding2D(((1, 1), (1, 1)), name=f"{name}_2_pad")(x)
    x = layers.Conv2D(filters, 3, strides=strides, use_bias=False, name=f"{name}_2_conv")(x)
    x = _normalized(x, f"{name}_2", f"{name}_2_relu")
    x = layers.Conv2D(4 * filters, 1, name=f"{name}_3_conv")(x)
    return layers.Add(name=f"{name}_out")([shortcut, x])
