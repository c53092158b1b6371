"""keras.ops pooling of any rank: the largest or the mean element of sliding windows."""

from __future__ import annotations

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ShapeError
from kcompile.keras import config
from kcompile.keras.ops.creation import filled
from kcompile.keras.ops.function import dtype_key, floating, public, rank, tensor
from kcompile.keras.ops.products import matmul
from kcompile.keras.ops.shapes import moveaxis, pad_constant
from kcompile.keras.ops.windows import per_axis, to_channels_first, to_channels_last
from kcompile.keras.tracing.dtypes import is_float
from kcompile.ops.conv import padding_amounts


def _arranged(inputs, pool_size, strides, padding, data_format):
    """Return x with channels last, windows, strides and padding over all axes, and whether to turn back."""
    first = config.standardize_data_format(data_format) == "channels_first"
    x = tensor(inputs)
    x = to_channels_last(x) if first else x
    count = rank(x) - 2
    window = per_axis(pool_size, count, "pool_size")
    strides = per_axis(pool_size if strides is None else strides, count, "strides")
    pads = padding_amounts(x.shape[1:-1], window, strides, str(padding).lower(), (1,) * count)
    for size, (low, high), width in zip(x.shape[1:-1], pads, window):
        if isinstance(size, int) and size + low + high < width:
            raise ShapeError(
                "Computed output size would be negative. Received: "
                f"inputs.shape={tuple(x.shape)}, pool_size={window}, padding={padding!r}"
            )
    return x, (1, *window, 1), (1, *strides, 1), [(0, 0), *pads, (0, 0)], first


@public
def max_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """Return the largest element of each window; padding never wins."""
    x, window, strides, pads, first = _arranged(inputs, pool_size, strides, padding, data_format)
    kind = dtype_key(x)
    lowest = float("-inf") if is_float(kind) else int(np.iinfo(kind).min)
    y = prim.window_max(pad_constant(x, pads, lowest), window=window, strides=strides, dilation=(1,) * rank(x))
    return to_channels_first(y) if first else y


@public
def average_pool(inputs, pool_size, strides=None, padding="valid", data_format=None):
    """Return the mean of each window; padding is not counted."""
    x, window, strides, pads, first = _arranged(floating(inputs), pool_size, strides, padding, data_format)
    total = prim.window_sum(pad_constant(x, pads, 0), window=window, strides=strides, dilation=(1,) * rank(x))
    count = tensor(float(np.prod(window)), dtype_key(x))
    if any(not isinstance(w, int) or w for pair in pads for w in pair):
        ones = filled((1, *x.shape[1:-1], 1), 1, dtype_key(x))
        count = prim.window_sum(pad_constant(ones, pads, 0), window=window, strides=strides, dilation=(1,) * rank(x))
    y = prim.div(total, count)
    return to_channels_first(y) if first else y


__all__ = ["average_pool", "max_pool"]


@public
def adaptive_average_pool(inputs, output_size, data_format=None):
    """Return means of `output_size` windows per spatial axis, which together cover it (and overlap by one at most)."""
    return _adaptive(inputs, output_size, data_format, _mean_along)


@public
def adaptive_max_pool(inputs, output_size, data_format=None):
    """Return the largest elements of `output_size` windows per spatial axis, which together cover it."""
    return _adaptive(inputs, output_size, data_format, _max_along)


def _adaptive(inputs, output_size, data_format, along):
    """Axis by axis: the mean and the largest element of a box are those of its lines'."""
    first = config.standardize_data_format(data_format) == "channels_first"
    x = floating(tensor(inputs)) if along is _mean_along else tensor(inputs)
    start = 2 if first else 1
    for axis, wanted in enumerate(per_axis(output_size, rank(x) - 2, "output_size"), start):
        size = x.shape[axis]
        if not isinstance(size, int):
            raise ShapeError(f"adaptive pooling needs the sizes it divides. Received: inputs.shape={tuple(x.shape)}")
        if wanted != size:
            x = along(x, axis, [(i * size // wanted, -(-(i + 1) * size // wanted)) for i in range(wanted)])
    return x


def _mean_along(x, axis: int, windows: list[tuple[int, int]]):
    shares = np.zeros((x.shape[axis], len(windows)), np.float64)
    for column, (low, high) in enumerate(windows):
        shares[low:high, column] = 1 / (high - low)
    return moveaxis(matmul(moveaxis(x, axis, -1), tensor(shares, dtype_key(x))), -1, axis)


def _max_along(x, axis: int, windows: list[tuple[int, int]]):
    width = max(high - low for low, high in windows)
    places = np.array([[min(low + i, high - 1) for i in range(width)] for low, high in windows], np.int32)
    found = prim.gather(x, places, axis=axis)  # [..., windows, width, ...]
    return prim.reduce_max(found, axes=(axis + 1,), keepdims=False)
