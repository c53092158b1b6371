"""What convolution and pooling share: arguments per spatial axis, and layouts."""

from __future__ import annotations

from kcompile import ops as prim
from kcompile.errors import ArgumentError
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
