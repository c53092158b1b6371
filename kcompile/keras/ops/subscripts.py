"""x[key] with everything NumPy takes, as far as the result's shape is known without the numbers.

Basic keys (integers, slices, None, Ellipsis) become slices, reversals and one reshape. Arrays of integers are
broadcast to each other and gathered at once over the axes they index, which are first brought together; so the
gradient is one scatter. An array of truths is as many arrays of integers, if its numbers are there.
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.ir import dim
from kcompile.ir.dim import Dim, DimLike
from kcompile.ir.graph import Value
from kcompile.ir.types import Type, broadcast_shapes, i32
from kcompile.keras.ops.function import broadcast, dtype_key, public, rank, sized, tensor
from kcompile.keras.ops.indexing import as_indices, from_front
from kcompile.keras.ops.shapes import part
from kcompile.keras.tracing.scope import TraceGraph, unwrap
from kcompile.keras.tracing.tensor import StringValue

_BASIC = (builtins.slice, int, np.integer, Dim, type(None), type(Ellipsis))


@public
def get_item(x, key):
    """Return x[key]: integers, slices, None, Ellipsis, and tensors of integers, mixed as in NumPy.

    While tracing, indices out of range are clamped, as no error can be raised inside a compiled program; a mask
    whose values are only known then has a result of unknown size, and is refused.
    """
    if isinstance(x, StringValue):
        return _strings(x, key)
    x = tensor(x)
    parts = key if isinstance(key, tuple) else (key,)
    parts = tuple(k if isinstance(k, _BASIC) and not isinstance(k, bool) else unwrap(k) for k in parts)
    if isinstance(x, np.ndarray) and not _has_value(parts):
        return np.asarray(x[tuple(k if isinstance(k, _BASIC) else np.asarray(tensor(k)) for k in parts)])
    return _traced(x, _whole(x, parts))


def _strings(x: StringValue, key: Any) -> StringValue:
    """Part of strings, which only have a shape; the key holds no traced numbers."""
    parts = key if isinstance(key, tuple) else (key,)
    if _has_value(parts):
        raise NotSupportedError(f"{x!r}[...] by numbers that the compiled program computes: it holds no strings")
    numbers = TraceGraph("strings").input("x", Type(i32, x.shape))
    return StringValue(get_item(numbers, key).shape, part_of=(x, key))


def _has_value(parts: tuple) -> bool:
    flat = [p for k in parts for p in ((k.start, k.stop, k.step) if isinstance(k, builtins.slice) else (k,))]
    return builtins.any(isinstance(p, (Value, Dim)) for p in flat)


def _whole(x, parts: tuple) -> list:
    """The key with one entry per axis of x besides its Nones: masks as integers, the Ellipsis written out."""
    key: list[Any] = []
    for item in parts:
        key += [item] if isinstance(item, _BASIC) and not isinstance(item, bool) else _arrays(x, item)
    used = builtins.sum(k is not None and k is not Ellipsis for k in key)
    if used > rank(x):
        raise ArgumentError(f"too many indices: {used} for a tensor of rank {rank(x)}")
    dots = [n for n, k in enumerate(key) if k is Ellipsis]
    if len(dots) > 1:
        raise ArgumentError("an index can only have a single ellipsis ('...')")
    at = dots[0] if dots else len(key)
    return [*key[:at], *[builtins.slice(None)] * (rank(x) - used), *key[at + 1 :]]


def _arrays(x, item) -> list:
    """An array of integers; for an array of truths those of each of its axes."""
    found = tensor(item)
    if dtype_key(found) not in ("bool", bool):
        return [as_indices(found)]
    if isinstance(found, Value):
        raise NotSupportedError(
            "x[mask] has as many rows as the mask has truths, which is only known when the program runs, and a "
            "compiled program has shapes of its own. Ways out that keep the shape of x: keras.ops.where(mask, x, 0), "
            "x * keras.ops.cast(mask, x.dtype), and for sums or means also dividing by keras.ops.sum(mask)"
        )
    if rank(found) == 0:
        raise NotSupportedError("x[True] and x[False]: use x[None] or keras.ops.where")
    return [places.astype(np.int32) for places in np.nonzero(found)]


def _traced(x, key: list):
    """Slices first, each in place; then what is looked up; then one reshape for dropped and new axes."""
    arrays = [k for k in key if k is not None and not isinstance(k, _BASIC)]
    whole = builtins.any(rank(k) for k in arrays)
    axis, shape, looked_up = 0, [], []
    for item in key:
        if item is None:
            shape.append(1)
            continue
        if isinstance(item, builtins.slice):
            x = _sliced(x, axis, item)
            shape.append(x.shape[axis])
        elif isinstance(item, _BASIC):
            start = _checked(item, axis, x.shape[axis])
            if whole:  # beside arrays an integer is one of them, which decides where their axes go
                looked_up.append((len(shape), start))
                shape.append(x.shape[axis])
            else:
                x = part(x, axis, start, 1)
        else:
            looked_up.append((len(shape), _in_range(item, axis, x.shape[axis])))
            shape.append(x.shape[axis])
        axis += 1
    x = prim.reshape(x, shape=tuple(shape)) if tuple(shape) != tuple(x.shape) else x
    return _gathered(x, looked_up, apart=_apart(key) if whole else False) if looked_up else x


def _apart(key: list) -> bool:
    """True if a slice or None stands between arrays: then NumPy puts the axes of the result they make first."""
    places = [n for n, k in enumerate(key) if k is not None and not isinstance(k, builtins.slice)]
    return places[-1] - places[0] >= len(places)


def _checked(item, axis: int, size: DimLike):
    """An integer counted from the front."""
    if isinstance(item, Dim):
        return item
    if isinstance(size, int) and not -size <= item < size:
        raise ArgumentError(f"index {item} is out of bounds for axis {axis} with size {size}")
    return item + size if item < 0 else item


def _in_range(indices, axis: int, size: DimLike):
    if isinstance(indices, np.ndarray) and isinstance(size, int) and indices.size:
        for extreme in (indices.min(), indices.max()):
            _checked(int(extreme), axis, size)
    return indices


def _gathered(x, looked_up: list, apart: bool):
    """Gather at `looked_up`, pairs of an axis of x and an index array (or a number)."""
    axes = [axis for axis, _ in looked_up]
    if len(axes) == 1:
        axis, indices = looked_up[0]
        return prim.gather(x, from_front(tensor(indices), x.shape[axis]), axis=axis)
    first = 0 if apart else axes[0]
    others = [n for n in range(rank(x)) if n not in axes]
    order = (*others[:first], *axes, *others[first:])
    if order != tuple(range(rank(x))):
        x = prim.transpose(x, perm=order)
    end = first + len(axes)
    flat, shape = _flat_places(looked_up, x.shape[first:end])
    rows = prim.reshape(x, shape=(*x.shape[:first], dim.product(x.shape[first:end]), *x.shape[end:]))
    return prim.gather(rows, broadcast(flat, shape), axis=first)


def _flat_places(looked_up: list, sizes):
    """The row-major places of index arrays over the axes they index, and their common shape."""
    flat, shape = None, ()
    for (_, indices), size in zip(looked_up, sizes):
        places = sized(indices, "int32") if isinstance(indices, Dim) else tensor(indices, "int32")
        shape = broadcast_shapes(shape, tuple(places.shape))
        places = from_front(places, size)
        if isinstance(places, Value):  # one axis must not run into the next
            top = prim.sub(sized(size, "int32"), tensor(1, "int32"))
            places = prim.maximum(prim.minimum(places, top), tensor(0, "int32"))
        flat = places if flat is None else prim.add(prim.mul(flat, sized(size, "int32")), places)
    return flat, shape


def _sliced(x, axis: int, item: builtins.slice):
    size = x.shape[axis]
    bounds = (item.start, item.stop, item.step)
    if builtins.any(isinstance(unwrap(b), Value) for b in bounds):
        raise NotSupportedError(
            f"x[{item.start}:{item.stop}] with a bound only known when the program runs has a result of unknown size: "
            "use keras.ops.slice with a start and a fixed size, or keras.ops.where on a range of positions"
        )
    start, stop, step = (b if b is None or isinstance(b, Dim) else int(b) for b in bounds)
    step = 1 if step is None else step
    if step < 0:  # the same slice of the axis turned round
        x = prim.reverse(x, axes=(axis,))
        start, stop, step = _mirrored(start, size), _mirrored(stop, size), -step
    if isinstance(size, int) and not isinstance(start, Dim) and not isinstance(stop, Dim):
        start, stop, _ = builtins.slice(start, stop, step).indices(size)
        length = builtins.max(0, -(-(stop - start) // step))
    else:
        start = _edge(start, size, 0)
        stop = _edge(stop, size, size)
        length = dim.floordiv(stop - start + step - 1, step)
    if start == 0 and length == size and step == 1:
        return x
    return part(x, axis, start, length, step)


def _mirrored(bound, size):
    """Where a slice's bound is once the axis is turned round."""
    if bound is None:
        return None
    if not isinstance(bound, Dim) and bound < 0:
        found = -1 - bound
        return builtins.min(found, size) if isinstance(size, int) else found
    found = size - 1 - bound
    return builtins.max(found, 0) if isinstance(found, int) else found


def _edge(value, size, default):
    if value is None:
        return default
    return value + size if not isinstance(value, Dim) and value < 0 else value
