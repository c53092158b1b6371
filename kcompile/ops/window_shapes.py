"""Windows of any rank: how many there are, where their elements lie, and cases for tests of ops over them.

`window`, `strides` and `dilation` have an entry per dimension, 1 where nothing is pooled; an empty
`dilation` is all ones. Windows lie inside the operand: padding is an op of its own.
"""

from __future__ import annotations

import itertools

import numpy as np

from kcompile.errors import ShapeError
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.types import Shape, shape_text
from kcompile.ops.elementwise import draw


def window_shape(name: str, shape: Shape, window, strides, dilation) -> Shape:
    """The number of windows along every dimension. Raises: ShapeError if one does not fit."""
    dilation = dilation or (1,) * len(shape)
    for attr, given in (("window", window), ("strides", strides), ("dilation", dilation)):
        if len(given) != len(shape) or any(n < 1 for n in given):
            raise ShapeError(f"{name}: {attr} {tuple(given)} for an operand of shape {shape_text(shape)}")
    result = []
    for size, k, stride, gap in zip(shape, window, strides, dilation):
        count = dim.floordiv(size - (k - 1) * gap - 1, stride) + 1
        if dim.is_static(count) and count < (1 if size else 0):
            raise ShapeError(f"{name}: windows {tuple(window)} do not fit an operand of shape {shape_text(shape)}")
        result.append(count)
    return tuple(result)


def window_view(x: np.ndarray, window, strides, dilation) -> np.ndarray:
    """A view with the axes of the result, then those of the window."""
    dilation = dilation or (1,) * x.ndim
    shape = window_shape("window", x.shape, window, strides, dilation)
    steps = [a * b for a, b in zip(x.strides, strides)] + [a * b for a, b in zip(x.strides, dilation)]
    return np.lib.stride_tricks.as_strided(x, (*shape, *window), steps, writeable=False)


def element_place(at, window, strides, dilation) -> tuple[tuple[Axis, ...], tuple[DimLike, ...]]:
    """Axes over the window, those of extent 1 left out, and the element's place in the operand."""
    taps = tuple(Axis(f"w{n}", k) for n, k in enumerate(window))
    place = tuple(i * s + dim.of(t) * d for i, s, t, d in zip(at, strides, taps, dilation or (1,) * len(window)))
    return tuple(t for t in taps if t.extent != 1), place


def flat_position(window, taps) -> DimLike:
    """The row-major place inside the window."""
    flat: DimLike = 0
    for size, place in zip(window, taps):
        flat = flat * size + place
    return flat


def tap_offsets(window, dilation):
    """(position, offset per dimension) of every element of a window."""
    for flat, taps in enumerate(itertools.product(*(range(k) for k in window))):
        yield flat, tuple(t * d for t, d in zip(taps, dilation or (1,) * len(window)))


# cases -----------------------------------------------------------------------------------------

CASES = (
    ((2, 6, 6, 3), (1, 2, 2, 1), (1, 2, 2, 1), ()),
    ((1, 7, 5, 2), (1, 3, 2, 1), (1, 2, 1, 1), (1, 1, 1, 1)),
    ((2, 9, 3), (1, 3, 1), (1, 2, 1), (1, 2, 1)),
    ((1, 8, 2), (1, 2, 1), (1, 3, 1), ()),
    ((2, 5, 4, 5, 2), (1, 2, 2, 3, 1), (1, 2, 1, 2, 1), ()),
    ((4, 3), (1, 1), (2, 1), ()),
    ((5,), (5,), (1,), ()),
    ((0, 4, 2), (1, 2, 1), (1, 2, 1), ()),
)


def attrs_of(window, strides, dilation) -> dict:
    return {"window": window, "strides": strides, "dilation": dilation}


def samples(rng):
    for n, (shape, *rest) in enumerate(CASES):
        yield (draw(rng, ("f32", "f64", "f32")[n % 3], shape),), attrs_of(*rest)
    yield (draw(rng, "f16", (1, 6, 2)),), attrs_of((1, 3, 1), (1, 1, 1), ())
    yield (draw(rng, "i32", (1, 6, 2)),), attrs_of((1, 2, 1), (1, 2, 1), ())
