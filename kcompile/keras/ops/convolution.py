"""keras.ops convolutions of any rank: plain, depthwise, separable, transposed.

Kernels are [*window, channels in / groups, channels out]; inputs [batch, *spatial, channels], or with
channels first, which becomes a transpose on both sides.
"""

from __future__ import annotations

from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import config
from kcompile.keras.ops.function import promote, public, rank
from kcompile.keras.ops.windows import per_axis, to_channels_first, to_channels_last
from kcompile.ops.conv import conv as _conv
from kcompile.ops.conv import conv_transpose as _conv_transpose
from kcompile.ops.conv import depthwise_conv as _depthwise_conv


def _arranged(inputs, kernel, strides, dilation_rate, data_format):
    """Return x with channels last, the kernel, strides and dilation per axis, and whether to turn back."""
    first = config.standardize_data_format(data_format) == "channels_first"
    x, w = promote(inputs, kernel, floating=True)
    count = rank(x) - 2
    if rank(w) != count + 2 or count < 1:
        raise ShapeError(f"conv: a kernel of shape {tuple(w.shape)} does not fit inputs of shape {tuple(x.shape)}")
    x = to_channels_last(x) if first else x
    strides, dilation = per_axis(strides, count, "strides"), per_axis(dilation_rate, count, "dilation_rate")
    if max(strides) > 1 and max(dilation) > 1:
        raise ArgumentError(f"strides {strides} and dilation_rate {dilation} cannot both be larger than 1")
    return x, w, strides, dilation, first


def _check_window(x, w, strides, padding, dilation) -> None:
    """Raise if the window is larger than the padded input."""
    if str(padding).lower() != "valid":
        return
    for size, window, step in zip(x.shape[1:-1], w.shape[:-2], dilation):
        if isinstance(size, int) and size < (window - 1) * step + 1:
            raise ShapeError(
                "Computed output size would be negative or zero. Received: "
                f"inputs.shape={_shown(x.shape)}, kernel.shape={tuple(w.shape)}, strides={strides}, "
                f"padding={padding!r}, dilation_rate={dilation}"
            )


def _shown(shape) -> tuple:
    return tuple(s if isinstance(s, int) else None for s in shape)


@public
def conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolve `inputs` with `kernel`; the number of groups follows from the channels."""
    x, w, strides, dilation, first = _arranged(inputs, kernel, strides, dilation_rate, data_format)
    channels, taken = x.shape[-1], w.shape[-2]
    if channels % taken:
        raise ShapeError(
            "The number of input channels must be evenly divisible by kernel's in_channels. "
            f"Received input channels {channels} and kernel of shape {tuple(w.shape)}"
        )
    _check_window(x, w, strides, padding, dilation)
    y = _conv(x, w, strides, str(padding).lower(), dilation, channels // taken)
    return to_channels_first(y) if first else y


@public
def depthwise_conv(inputs, kernel, strides=1, padding="valid", data_format=None, dilation_rate=1):
    """Convolve each channel with its own kernels [*window, channels, multiplier]."""
    x, w, strides, dilation, first = _arranged(inputs, kernel, strides, dilation_rate, data_format)
    _check_window(x, w, strides, padding, dilation)
    y = _depthwise_conv(x, w, strides, str(padding).lower(), dilation)
    return to_channels_first(y) if first else y


@public
def separable_conv(
    inputs, depthwise_kernel, pointwise_kernel, strides=1, padding="valid", data_format=None, dilation_rate=1
):
    """Convolve each channel by itself, then mix channels by a 1-wide convolution."""
    y = depthwise_conv(inputs, depthwise_kernel, strides, padding, data_format, dilation_rate)
    return conv(y, pointwise_kernel, 1, "valid", data_format, 1)


@public
def conv_transpose(inputs, kernel, strides=1, padding="valid", output_padding=None, data_format=None, dilation_rate=1):
    """Return the transposed convolution; kernels are [*window, channels out, channels in]."""
    x, w, strides, dilation, first = _arranged(inputs, kernel, strides, dilation_rate, data_format)
    y = _conv_transpose(x, w, strides, str(padding).lower(), output_padding, dilation)
    return to_channels_first(y) if first else y


__all__ = ["conv", "conv_transpose", "depthwise_conv", "separable_conv"]
