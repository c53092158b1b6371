"""keras.ops convolutions of any rank: plain, depthwise, separable, transposed.

Kernels are [*window, channels in / groups, channels out]; inputs [batch, *spatial, channels], or with
channels first, which becomes a transpose on both sides.
"""

from __future__ import annotations

from kcompile import ops as prim
from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import config
from kcompile.keras.ops.function import promote, public, rank
from kcompile.keras.ops.shapes import pad_constant
from kcompile.keras.ops.windows import padding_of, per_axis, to_channels_first, to_channels_last


@public
def conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolve `inputs` with `kernel`; the number of groups follows from the channels."""
    first = config.standardize_data_format(data_format) == "channels_first"
    x, w = promote(inputs, kernel, floating=True)
    count = rank(x) - 2
    if rank(w) != count + 2 or count < 1:
        raise ShapeError(f"conv: a kernel of shape {tuple(w.shape)} does not fit inputs of shape {tuple(x.shape)}")
    x = to_channels_last(x) if first else x
    channels, window_channels = x.shape[-1], w.shape[-2]
    if channels % window_channels or w.shape[-1] % (channels // window_channels):
        raise ShapeError(
            "The number of input channels must be evenly divisible by kernel's in_channels. "
            f"Received input channels {channels} and kernel of shape {tuple(w.shape)}"
        )
    y = _conv_last(x, w, strides, padding, dilation_rate, channels // window_channels)
    return to_channels_first(y) if first else y


def _conv_last(x, w, strides, padding, dilation_rate, groups: int):
    count = rank(x) - 2
    strides, dilation = per_axis(strides, count, "strides"), per_axis(dilation_rate, count, "dilation_rate")
    if any(s > 1 for s in strides) and any(d > 1 for d in dilation):
        raise ArgumentError(f"strides {strides} and dilation_rate {dilation} cannot both be larger than 1")
    pads = padding_of(padding, x.shape[1:-1], w.shape[:-2], strides, dilation)
    for size, (low, high), window, step in zip(x.shape[1:-1], pads, w.shape[:-2], dilation):
        span = (window - 1) * step + 1
        if isinstance(size, int) and size + low + high < span:
            raise ShapeError(
                "Computed output size would be negative. Received: "
                f"inputs.shape={tuple(x.shape)}, kernel.shape={tuple(w.shape)}, strides={strides}, padding={padding!r}"
            )
    x = pad_constant(x, [(0, 0), *pads, (0, 0)], 0)
    return prim.conv(x, w, strides=strides, dilation=dilation, groups=groups)


@public
def depthwise_conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolve each channel with its own kernels [*window, channels, multiplier]."""
    first = config.standardize_data_format(data_format) == "channels_first"
    x, w = promote(inputs, kernel, floating=True)
    x = to_channels_last(x) if first else x
    channels, multiplier = w.shape[-2], w.shape[-1]
    w = prim.reshape(w, shape=(*w.shape[:-2], 1, channels * multiplier))
    y = _conv_last(x, w, strides, padding, dilation_rate, channels)
    return to_channels_first(y) if first else y


@public
def separable_conv(
    inputs, depthwise_kernel, pointwise_kernel, strides=1, padding="valid", data_format=None, dilation_rate=1
):
    """Convolve each channel by itself, then mix channels by a 1-wide convolution."""
    y = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(y, pointwise_kernel, 1, "valid", data_format, 1)


@public
def conv_transpose(
    inputs, kernel, strides=1, padding="valid", output_padding=None, data_format=None, dilation_rate=1
):
    """Return the transposed convolution; kernels are [*window, channels out, channels in]."""
    first = config.standardize_data_format(data_format) == "channels_first"
    x, w = promote(inputs, kernel, floating=True)
    x = to_channels_last(x) if first else x
    count = rank(x) - 2
    strides, dilation = per_axis(strides, count, "strides"), per_axis(dilation_rate, count, "dilation_rate")
    extra = (None,) * count if output_padding is None else output_padding
    extra = (extra,) * count if isinstance(extra, int) else tuple(extra)
    # spread x by the strides and convolve with the flipped kernel; then crop or pad to the output size
    low, high, crops = [], [], []
    for size, window, stride, step, more in zip(x.shape[1:-1], w.shape[:-2], strides, dilation, extra):
        span = (window - 1) * step + 1
        full = (size - 1) * stride + span
        wanted = transposed_size(size, window, stride, step, padding, more)
        before = 0 if str(padding).lower() == "valid" else _crop_before(span, stride, more)
        low.append(span - 1)
        high.append(span - 1)
        crops.append((-before, wanted - full + before))
    interior = (0, *(s - 1 for s in strides), 0)
    low = [a + c[0] for a, c in zip(low, crops)]
    high = [a + c[1] for a, c in zip(high, crops)]
    x = prim.pad(x, low=(0, *low, 0), high=(0, *high, 0), interior=interior, value=0)
    flipped = prim.reverse(w, axes=tuple(range(count)))
    order = (*range(count), count + 1, count)
    y = prim.conv(x, prim.transpose(flipped, perm=order), strides=(1,) * count, dilation=dilation, groups=1)
    return to_channels_first(y) if first else y


def transposed_size(size, window: int, stride: int, dilation: int, padding: str, output_padding):
    """Return the output size of a transposed convolution along one axis."""
    span = (window - 1) * dilation + 1
    if output_padding is None:
        return size * stride if str(padding).lower() == "same" else size * stride + max(span - stride, 0)
    if str(padding).lower() == "same":
        return (size - 1) * stride + span - 2 * (span // 2) + output_padding
    return (size - 1) * stride + span + output_padding


def _crop_before(span: int, stride: int, output_padding) -> int:
    return max(span - stride, 0) // 2 if output_padding is None else span // 2


__all__ = ["conv", "conv_transpose", "depthwise_conv", "separable_conv"]
