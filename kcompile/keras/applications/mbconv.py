"""The blocks of both EfficientNets: widen, filter each channel, weigh the channels, narrow, add what came in.

A fused block filters with one full convolution where a plain one widens and filters each channel (Tan, Le 2021).
`Style` holds what differs between the families; `stages` walks a table of stages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from kcompile.keras import initializers, layers
from kcompile.keras.applications import building

PLAIN, FUSED = False, True
_DROP_RATE = 0.2  # of the last block; it grows from 0 with the depth


@dataclass(frozen=True)
class Style:
    """What differs between the families.

    Args:
        depthwise: suffix of the name of the convolution per channel.
        momentum: of the moving averages.
        centred: windows of stride 2 on images that are padded first, so that they stay centred.
    """

    depthwise: str
    momentum: float
    centred: bool


class Block(NamedTuple):
    """One block; a table of stages holds the same but for the name and the rate."""

    name: str
    fused: bool
    channels: int  # that come in, as the table says
    filters: int
    window: int
    strides: int
    widening: int
    weighed: float  # filters of the layer that weighs channels, per channel that comes in
    drop_rate: float


def stages(table: tuple[tuple, ...], width: float, depth: float, keep: float, scaled: bool) -> Iterator[Block]:
    """Yield all blocks of a network.

    Args:
        table: of each stage: fused, blocks, channels, filters, window, strides, widening, weighed.
        width, depth: what filters and numbers of blocks are multiplied by.
        keep: see `building.rounded`.
        scaled: the rate reaches its largest value after all blocks; otherwise after those of the table.
    """
    depths = [math.ceil(depth * row[1]) for row in table]
    total = sum(depths) if scaled else sum(row[1] for row in table)
    done = 0
    for stage, (row, blocks) in enumerate(zip(table, depths), 1):
        fused, _, channels, filters, window, strides, widening, weighed = row
        channels, filters = (building.rounded(n * width, keep) for n in (channels, filters))
        for place in range(blocks):
            first = place == 0
            name, rate = f"block{stage}{chr(ord('a') + place)}_", _DROP_RATE * done / total
            before, step = (channels, strides) if first else (filters, 1)
            yield Block(name, fused, before, filters, window, step, widening, weighed, rate)
            done += 1


def block(x: Any, b: Block, style: Style) -> Any:
    """Return the image after one block."""
    shortcut, wide = x, b.channels * b.widening
    if b.fused:
        x = _fused_filter(x, b, style, wide)
    else:
        x = _filter(x, b, style, wide)
    if b.weighed:
        x = _weighed(x, b, wide)
    if b.fused and b.widening == 1:
        x = normalized(conv(x, b.filters, b.window, b.strides, f"{b.name}project_conv"), f"{b.name}project_bn", style)
        x = layers.Activation("silu", name=f"{b.name}project_activation")(x)
    else:
        x = normalized(conv(x, b.filters, 1, 1, f"{b.name}project_conv"), f"{b.name}project_bn", style)
    if b.strides > 1 or b.channels != b.filters:
        return x
    if b.drop_rate > 0:  # whole images, so whole blocks
        x = layers.Dropout(b.drop_rate, noise_shape=(None, 1, 1, 1), name=f"{b.name}drop")(x)
    return layers.add([x, shortcut], name=f"{b.name}add")


def conv(x: Any, filters: int, window: int, strides: int, name: str, padding: str = "same", **options: Any) -> Any:
    """Convolution as both families start it; without bias unless asked for."""
    options = {"use_bias": False, "kernel_initializer": _initializer(), **options}
    return layers.Conv2D(filters, window, strides=strides, padding=padding, name=name, **options)(x)


def normalized(x: Any, name: str, style: Style) -> Any:
    return layers.BatchNormalization(axis=building.channel_axis(), momentum=style.momentum, name=name)(x)


def activated(x: Any, name: str, style: Style) -> Any:
    """Normalization, then silu; `name` of both, less "bn" and "activation"."""
    return layers.Activation("silu", name=f"{name}activation")(normalized(x, f"{name}bn", style))


def top(x: Any, given: building.Given, dropout: float) -> Any:
    """Mean of each channel, dropout, classes."""
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Dropout(dropout, name="top_dropout")(x)
    kernel = initializers.VarianceScaling(scale=1 / 3, mode="fan_out", distribution="uniform")
    dense = layers.Dense(
        given.classes, activation=given.classifier_activation, kernel_initializer=kernel, name="predictions"
    )
    return dense(x)


def _initializer() -> Any:
    return initializers.VarianceScaling(scale=2.0, mode="fan_out", distribution="truncated_normal")


def _fused_filter(x: Any, b: Block, style: Style, wide: int) -> Any:
    if b.widening == 1:  # the last convolution filters
        return x
    return activated(conv(x, wide, b.window, b.strides, f"{b.name}expand_conv"), f"{b.name}expand_", style)


def _filter(x: Any, b: Block, style: Style, wide: int) -> Any:
    if b.widening > 1:
        x = activated(conv(x, wide, 1, 1, f"{b.name}expand_conv"), f"{b.name}expand_", style)
    padded = style.centred and b.strides > 1
    if padded:
        x = layers.ZeroPadding2D(building.border(x, b.window), name=f"{b.name}dwconv_pad")(x)
    depthwise = layers.DepthwiseConv2D(
        b.window,
        strides=b.strides,
        padding="valid" if padded else "same",
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=f"{b.name}{style.depthwise}",
    )
    return activated(depthwise(x), b.name, style)


def _weighed(x: Any, b: Block, wide: int) -> Any:
    """Each channel times a number from 0 to 1 that two small layers make of the means of all."""
    narrow = max(1, int(b.channels * b.weighed))
    shape = (wide, 1, 1) if building.channel_axis() == 1 else (1, 1, wide)
    y = layers.GlobalAveragePooling2D(name=f"{b.name}se_squeeze")(x)
    y = layers.Reshape(shape, name=f"{b.name}se_reshape")(y)
    y = conv(y, narrow, 1, 1, f"{b.name}se_reduce", use_bias=True, activation="silu")
    y = conv(y, wide, 1, 1, f"{b.name}se_expand", use_bias=True, activation="sigmoid")
    return layers.multiply([x, y], name=f"{b.name}se_excite")
