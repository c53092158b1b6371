"""Arithmetic shared by convolution and pooling: arguments per spatial axis, layouts, padding."""

from __future__ import annotations

from collections.abc import Sequence

from kcompile import ops as prim
from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.ir import dim
from kcompile.ir.dim import Dim, DimLike
from kcompile.keras.ops.function import rank


def per_axis(value, count: int, name: str) -> tuple[int, ...]:
    """Return one number per spatial axis from a number or a sequence.

    Raises: ArgumentError unless there are `count` positive integers.
    """
    numbers = (value,) * count if isinstance(value, int) else tuple(value)
    if len(numbers) == 1:
        numbers *= count
    if len(numbers) != count or any(int(n) != n or n < 1 for n in numbers):
        raise ArgumentError(
            f"The `{name}` argument must be a positive integer or a tuple of {count} of them. Received: {name}={value}"
        )
    return tuple(int(n) for n in numbers)


def to_channels_last(x):
    """Move the channel axis from position 1 to the end."""
    order = (0, *range(2, rank(x)), 1)
    return prim.transpose(x, perm=order)


def to_channels_first(x):
    """Move the channel axis from the end to position 1."""
    order = (0, rank(x) - 1, *range(1, rank(x) - 1))
    return prim.transpose(x, perm=order)


def padding_of(
    padding: str, sizes: Sequence[DimLike], window: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> list[tuple[DimLike, DimLike]]:
    """Return (before, after) per spatial axis for `"valid"`, `"same"` (more at the end) or `"causal"`."""
    padding = str(padding).lower()
    if padding == "valid":
        return [(0, 0)] * len(sizes)
    spans = [(w - 1) * d + 1 for w, d in zip(window, dilation)]
    if padding == "causal":
        return [(span - 1, 0) for span in spans]
    if padding != "same":
        raise ArgumentError(f"Invalid padding: expected 'valid', 'same' or 'causal'. Received: padding={padding!r}")
    return [_same(size, span, stride) for size, span, stride in zip(sizes, spans, strides)]


def _same(size: DimLike, span: int, stride: int) -> tuple[DimLike, DimLike]:
    """Pad so that the output has ceil(size / stride) elements."""
    if span == 1:
        return 0, 0
    if stride == 1:
        total: DimLike = span - 1
    else:
        total = (dim.floordiv(size + stride - 1, stride) - 1) * stride + span - size
        if isinstance(total, Dim) and span < stride:
            raise NotSupportedError(
                "padding='same' with strides larger than the window along a size only known when the program runs"
            )
        total = max(total, 0) if isinstance(total, int) else total
    before = dim.floordiv(total, 2)
    return before, total - before


def output_size(size: DimLike, window: int, stride: int, dilation: int) -> DimLike:
    """Return how many windows fit (no padding)."""
    return dim.floordiv(size - (window - 1) * dilation - 1, stride) + 1
