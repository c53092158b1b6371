"""keras.ops functions that look elements up: take, one_hot, x[...], scatter."""

from __future__ import annotations

import builtins

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.ir import dim
from kcompile.ir.dim import Dim
from kcompile.ir.graph import Value
from kcompile.keras import config
from kcompile.keras.ops.creation import iota
from kcompile.keras.ops.function import axis_of, dtype_key, public, rank, sized, tensor
from kcompile.keras.ops.shapes import part
from kcompile.keras.tracing.dtypes import is_float


def as_indices(indices):
    found = tensor(indices)
    return tensor(found, "int32") if is_float(dtype_key(found)) or dtype_key(found) == "bool" else found


def from_front(indices, size):
    """Make negative indices count from the end."""
    if dtype_key(indices).startswith("uint"):
        return indices
    zero = tensor(0, dtype_key(indices))
    length = sized(size, dtype_key(indices))
    return prim.select(prim.lt(indices, zero), prim.add(indices, length), indices)


@public
def take(x, indices, axis=None):
    """Return the slices of x at `indices` along an axis (of the flattened x by default).

    Indices below 0 count from the end; those out of range are clamped, as no error can be raised
    inside a compiled program.
    """
    x, indices = tensor(x), as_indices(indices)
    if axis is None:
        x, axis = prim.reshape(x, shape=(dim.product(x.shape),)), 0
    place = axis_of(axis, rank(x))
    return prim.gather(x, from_front(indices, x.shape[place]), axis=place)


@public
def take_along_axis(x, indices, axis=None):
    """Return x[..., indices[...], ...]: one index per element of `indices`, along `axis`."""
    x, indices = tensor(x), as_indices(indices)
    if axis is None:
        x, axis = prim.reshape(x, shape=(dim.product(x.shape),)), 0
    place = axis_of(axis, rank(x))
    shape = tuple(i if n == place else s for n, (s, i) in enumerate(zip(x.shape, indices.shape)))
    indices = prim.broadcast_to(indices, shape=shape)
    indices = from_front(tensor(indices, "int32"), x.shape[place])
    flat = tensor(0, "int32")
    for axis_number, size in enumerate(x.shape):  # the flat position, axis by axis
        here = indices if axis_number == place else iota(shape, axis_number, "int32")
        flat = prim.add(prim.mul(flat, sized(size, "int32")), here)
    return prim.gather(prim.reshape(x, shape=(dim.product(x.shape),)), flat, axis=0)


@public
def one_hot(x, num_classes, axis=-1, dtype=None, sparse=False):
    """Return 1 at the class of each element and 0 elsewhere, along a new axis."""
    if sparse:
        raise NotSupportedError("one_hot(sparse=True): sparse tensors are not supported")
    x = as_indices(x)
    place = axis_of(axis, rank(x) + 1)
    shape = (*x.shape[:place], int(num_classes), *x.shape[place:])
    labels = prim.reshape(x, shape=(*x.shape[:place], 1, *x.shape[place:]))
    hot = prim.eq(prim.broadcast_to(labels, shape=shape), iota(shape, place, dtype_key(x)))
    return tensor(hot, dtype or config.floatx())


@public
def multi_hot(inputs, num_classes=None, axis=-1, dtype=None, sparse=False, **kwargs):
    """Return 1 at every class that occurs along `axis`."""
    x = as_indices(inputs)
    count = kwargs.get("num_tokens", num_classes)
    hot = tensor(one_hot(x, count, axis=-1, dtype="int32"))
    place = rank(x) - 1 if rank(x) > 1 else 0
    return tensor(prim.reduce_max(hot, axes=(place,), keepdims=False), dtype or config.floatx())


@public
def get_item(x, key):
    """Return x[key]: integers, slices, None, Ellipsis and at most one tensor of integers."""
    x = tensor(x)
    if isinstance(x, np.ndarray) and not _has_value(key):
        return np.asarray(x[_plain_key(key)])
    return _traced_item(x, key if isinstance(key, tuple) else (key,))


def _has_value(key) -> bool:
    parts = key if isinstance(key, tuple) else (key,)
    flat = [p for k in parts for p in ((k.start, k.stop, k.step) if isinstance(k, builtins.slice) else (k,))]
    return builtins.any(isinstance(p, (Value, Dim)) for p in flat)


def _plain_key(key):
    parts = key if isinstance(key, tuple) else (key,)
    basic = (builtins.slice, int, type(None), type(Ellipsis))
    plain = tuple(k if isinstance(k, basic) else np.asarray(tensor(k)) for k in parts)
    return plain if isinstance(key, tuple) else plain[0]


def _traced_item(x, key: tuple):
    used = builtins.sum(k is not None and k is not Ellipsis for k in key)
    if used > rank(x):
        raise ArgumentError(f"too many indices: {used} for a tensor of rank {rank(x)}")
    if Ellipsis not in [k for k in key if not hasattr(k, "shape")]:
        key = (*key, Ellipsis)
    at = next(i for i, k in enumerate(key) if k is Ellipsis)
    full = (builtins.slice(None),) * (rank(x) - used)
    key = (*key[:at], *full, *key[at + 1 :])

    axis, shape, looked_up = 0, [], None
    for item in key:  # first slices, in place; then one reshape for dropped and new axes
        if item is None:
            shape.append(1)
            continue
        if isinstance(item, builtins.slice):
            x = _slice_axis(x, axis, item)
            shape.append(x.shape[axis])
        elif isinstance(item, (int, np.integer, Dim)) and not isinstance(item, bool):
            size = x.shape[axis]
            if not isinstance(item, Dim) and isinstance(size, int) and not -size <= item < size:
                raise ArgumentError(f"index {item} is out of bounds for axis {axis} with size {size}")
            start = item + size if not isinstance(item, Dim) and item < 0 else item
            x = part(x, axis, start, 1)
        else:
            if looked_up is not None:
                raise NotSupportedError("x[i, j] with several index tensors; use keras.ops.take_along_axis")
            indices = as_indices(item)
            if dtype_key(tensor(item)) == "bool":
                raise NotSupportedError("x[mask] has a size only known when the program runs; use keras.ops.where")
            looked_up = (len(shape), indices)
            shape.append(x.shape[axis])
        axis += 1
    x = prim.reshape(x, shape=tuple(shape)) if tuple(shape) != tuple(x.shape) else x
    if looked_up is not None:
        place, indices = looked_up
        x = prim.gather(x, from_front(indices, x.shape[place]), axis=place)
    return x


def _slice_axis(x, axis: int, item: builtins.slice):
    size = x.shape[axis]
    step = 1 if item.step is None else int(item.step)
    if step < 0:
        if isinstance(size, int):
            indices = np.arange(size)[item]
            return prim.gather(x, indices.astype(np.int32), axis=axis)
        if item.start is None and item.stop is None and step == -1:
            return prim.reverse(x, axes=(axis,))
        raise NotSupportedError(f"x[{item}] along a size only known when the program runs")
    if isinstance(size, int) and not isinstance(item.start, Dim) and not isinstance(item.stop, Dim):
        start, stop, _ = item.indices(size)
        length = builtins.max(0, -(-(stop - start) // step))
    else:
        start = _edge(item.start, size, 0)
        stop = _edge(item.stop, size, size)
        length = dim.floordiv(stop - start + step - 1, step)
    if start == 0 and length == size and step == 1:
        return x
    return part(x, axis, start, length, step)


def _edge(value, size, default):
    if value is None:
        return default
    return value + size if not isinstance(value, Dim) and value < 0 else value


@public
def nonzero(x):
    """Return the indices of the non-zero elements; only for numbers, not while tracing."""
    x = tensor(x)
    if isinstance(x, Value):
        raise NotSupportedError("nonzero: the size of the result is only known when the program runs")
    return tuple(i.astype(np.int32) for i in np.nonzero(x))
