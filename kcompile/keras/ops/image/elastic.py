"""keras.ops.image.elastic_transform: pixels move by a smooth random field.

Source: Simard, Steinkraus, Platt 2003, "Best practices for convolutional neural networks", section 2.
"""

from __future__ import annotations

import numpy as np

from kcompile import ops as prim
from kcompile.errors import NotSupportedError
from kcompile.ir.graph import Value
from kcompile.keras.ops.creation import iota
from kcompile.keras.ops.function import broadcast, dtype_key, public, tensor
from kcompile.keras.ops.image.layout import Layout
from kcompile.keras.ops.image.warping import check_modes, looked_up
from kcompile.keras.random.draws import normal_quantile, open_fraction


@public
def elastic_transform(
    images,
    alpha=20.0,
    sigma=5.0,
    interpolation="bilinear",
    fill_mode="reflect",
    fill_value=0.0,
    seed=None,
    data_format=None,
):
    """Return images whose pixels moved by `alpha` times normal numbers smoothed over `sigma` pixels.

    The fields of both directions are drawn apart (Keras 3.15 takes one for both).
    """
    if isinstance(tensor(sigma), Value):
        raise NotSupportedError("elastic_transform: `sigma` is computed by the program; its filter needs a known size")
    return elastic(images, alpha, sigma, float(sigma), interpolation, fill_mode, fill_value, seed, data_format)


def elastic(images, alpha, sigma, most: float, interpolation, mode, fill_value, seed, data_format):
    """`elastic_transform` for a sigma that a program computes, up to `most`."""
    check_modes(mode, interpolation)
    layout = Layout(images, data_format)
    batch, height, width = layout.images.shape[:3]
    numbers = normal_quantile(open_fraction((2, batch, height, width), seed, "float32"))
    sigma, alpha = tensor(sigma, "float32"), tensor(alpha, "float32")
    moves = prim.mul(smoothed(prim.mul(numbers, sigma), sigma, most), alpha)
    places = []
    for axis in (0, 1):
        move = prim.reshape(
            prim.slice(moves, starts=(axis, 0, 0, 0), sizes=(1, *moves.shape[1:]), strides=(1, 1, 1, 1)),
            shape=tuple(moves.shape[1:]),
        )
        places.append(prim.add(move, broadcast(iota((batch, height, width), axis + 1, "float32"), move.shape)))
    return looked_up(layout, *places, interpolation, mode, fill_value)


def smoothed(fields, sigma, most: float):
    """Fields [2, batch, height, width] under a Gaussian filter of int(6 sigma) | 1 points, zero outside."""
    size = int(6 * most) | 1
    kind = dtype_key(fields)
    at = tensor(np.arange(size) - size // 2, kind)
    points = prim.floor(prim.mul(sigma, tensor(6.0, kind)))  # an odd count: half of it, rounded down, on each side
    reach = prim.floor(prim.div(points, tensor(2.0, kind)))
    weights = prim.exp(prim.mul(tensor(-0.5, kind), prim.square(prim.div(at, sigma))))
    weights = prim.select(prim.le(prim.abs(at), reach), weights, tensor(0.0, kind))
    weights = prim.div(weights, prim.reduce_sum(weights, axes=(0,), keepdims=False))
    two, batch, height, width = fields.shape
    x = prim.reshape(fields, shape=(2 * batch, height, width, 1))
    x = prim.depthwise_conv(x, prim.reshape(weights, shape=(size, 1, 1, 1)), padding="same")
    x = prim.depthwise_conv(x, prim.reshape(weights, shape=(1, size, 1, 1)), padding="same")
    return prim.reshape(x, shape=(two, batch, height, width))
