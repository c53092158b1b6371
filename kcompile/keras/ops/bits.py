"""keras.ops functions on the bits of numbers: view, nextafter. Bytes of a number lie lowest first."""

from __future__ import annotations

import numpy as np

from kcompile import ops as prim
from kcompile.errors import NotSupportedError, ShapeError
from kcompile.ir import dim
from kcompile.keras.ops.function import cast, dtype_key, promote, public, rank, tensor
from kcompile.keras.tracing.dtypes import numpy_dtype, standardize_dtype

_PLAIN = ("float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))


def _as_words(x):
    """The same bits as unsigned integers."""
    name = dtype_key(x)
    if name.startswith("float"):
        return prim.bits_of(x)
    return cast(x, name if name.startswith("uint") else f"u{name}")


def _from_words(words, name: str):
    return prim.from_bits(words) if name.startswith("float") else cast(words, name)


@public
def view(x, dtype=None):
    """Return the bits of x as another dtype; the last axis grows or shrinks where its numbers are of another size."""
    x = tensor(x)
    before, after = dtype_key(x), dtype_key(x) if dtype is None else standardize_dtype(dtype)
    if before == after:
        return x
    if before not in _PLAIN or after not in _PLAIN:
        raise NotSupportedError(f"view: from {before} to {after}; it takes float32, float64 and integers")
    words, (old, new) = _as_words(x), (numpy_dtype(n).itemsize for n in (before, after))
    if old != new and rank(x) == 0:
        raise ShapeError(f"view: a scalar of {before} has not the size of {after}")
    unit = f"uint{8 * new}"
    if old > new:
        shifts = np.arange(old // new).astype(f"uint{8 * old}") * (8 * new)
        parts = prim.shift_right(prim.reshape(words, shape=(*words.shape, 1)), shifts)
        mask = np.asarray(2 ** (8 * new) - 1, shifts.dtype)
        words = cast(prim.bitwise_and(parts, mask), unit)
        words = prim.reshape(words, shape=(*x.shape[:-1], x.shape[-1] * (old // new)))
    elif old < new:
        count = new // old
        if isinstance(x.shape[-1], int) and x.shape[-1] % count:
            raise ShapeError(f"view: the last axis of {tuple(x.shape)} of {before} does not hold whole {after}")
        shape = (*x.shape[:-1], dim.floordiv(x.shape[-1], count), count)
        shifts = np.arange(count).astype(unit) * (8 * old)
        parts = prim.shift_left(cast(prim.reshape(words, shape=shape), unit), shifts)
        words = prim.reduce_sum(parts, axes=(len(shape) - 1,), keepdims=False)
    return _from_words(words, after)


@public
def nextafter(x1, x2):
    """Return the next number after x1 towards x2."""
    x, goal = promote(x1, x2, floating=True)
    name = dtype_key(x)
    if name not in ("float32", "float64"):
        raise NotSupportedError(f"nextafter of {name}: it takes float32 and float64")
    words = prim.bits_of(x)
    unit = dtype_key(words)
    one, zero = tensor(1, unit), tensor(0.0, name)
    sign = tensor(1 << (numpy_dtype(unit).itemsize * 8 - 1), unit)
    outwards = prim.eq(prim.gt(goal, x), prim.gt(x, zero))  # the size grows
    moved = prim.select(outwards, prim.add(words, one), prim.sub(words, one))
    least = prim.select(prim.lt(goal, zero), prim.bitwise_or(one, sign), one)
    found = prim.from_bits(prim.select(prim.eq(x, zero), least, moved))
    found = prim.select(prim.eq(x, goal), goal, found)
    return prim.select(prim.logical_or(prim.isnan(x), prim.isnan(goal)), prim.add(x, goal), found)
