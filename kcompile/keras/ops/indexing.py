"""keras.ops functions that look elements up: take, one_hot, nonzero."""

from __future__ import annotations

import numpy as np

from kcompile import ops as prim
from kcompile.errors import NotSupportedError
from kcompile.ir import dim
from kcompile.ir.dim import Dim
from kcompile.ir.graph import Value
from kcompile.keras import config
from kcompile.keras.ops.creation import iota
from kcompile.keras.ops.function import axis_of, dtype_key, public, rank, sized, tensor
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

    Indices below 0 count from the end. Out of range there is NaN, as in Keras on JAX (of integers the least number, of
    unsigned ones the largest, of bools True): no error can be raised inside a compiled program.
    """
    x, indices = tensor(x), as_indices(indices)
    if axis is None:
        x, axis = prim.reshape(x, shape=(dim.product(x.shape),)), 0
    place = axis_of(axis, rank(x))
    found = nearest_slices(x, indices, place)
    held = _in_range(indices, x.shape[place])
    if held is None:
        return found
    return _filled(found, prim.reshape(held, shape=(*held.shape, *(1,) * (rank(x) - place - 1))))


def nearest_slices(x, indices, axis: int):
    """The slices of x at `indices`, those out of range clamped."""
    return prim.gather(x, from_front(indices, x.shape[axis]), axis=axis)


def _in_range(indices, size):
    """Whether each index is one; None if all are known to be."""
    if isinstance(indices, np.ndarray) and isinstance(size, int):
        held = (indices >= -size) & (indices < size)
        return None if held.all() else held
    length = sized(size, dtype_key(indices))
    held = prim.lt(indices, length)
    return held if dtype_key(indices).startswith("uint") else prim.logical_and(held, prim.ge(indices, prim.neg(length)))


def _filled(found, held):
    """`found` where an index was in range; else NaN, or what stands for it."""
    kind = dtype_key(found)
    if kind == "bool":
        nothing = True
    elif is_float(kind):
        nothing = float("nan")
    else:
        limits = np.iinfo(kind)
        nothing = limits.max if kind.startswith("uint") else limits.min
    return prim.select(held, found, tensor(nothing, kind))


@public
def take_along_axis(x, indices, axis=None):
    """Return x[..., indices[...], ...]: one index per element of `indices`, along `axis`; out of range as `take`."""
    x, indices = tensor(x), as_indices(indices)
    if axis is None:
        x, axis = prim.reshape(x, shape=(dim.product(x.shape),)), 0
    place = axis_of(axis, rank(x))
    shape = tuple(i if n == place else s for n, (s, i) in enumerate(zip(x.shape, indices.shape)))
    indices = prim.broadcast_to(indices, shape=shape)
    held = _in_range(indices, x.shape[place])
    indices = from_front(tensor(indices, "int32"), x.shape[place])
    if held is not None:  # an index out of range would leave its row
        indices = prim.select(held, indices, tensor(0, "int32"))
    flat = tensor(0, "int32")
    for axis_number, size in enumerate(x.shape):  # the flat position, axis by axis
        here = indices if axis_number == place else iota(shape, axis_number, "int32")
        flat = prim.add(prim.mul(flat, sized(size, "int32")), here)
    found = prim.gather(prim.reshape(x, shape=(dim.product(x.shape),)), flat, axis=0)
    return found if held is None else _filled(found, held)


@public
def one_hot(x, num_classes, axis=-1, dtype=None, sparse=False):
    """Return 1 at the class of each element and 0 elsewhere, along a new axis."""
    if sparse:
        raise NotSupportedError("one_hot(sparse=True): sparse tensors are not supported")
    x = as_indices(x)
    place = axis_of(axis, rank(x) + 1)
    classes = num_classes if isinstance(num_classes, Dim) else int(num_classes)
    shape = (*x.shape[:place], classes, *x.shape[place:])
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
def nonzero(x):
    """Return the indices of the non-zero elements; only for numbers, not while tracing."""
    x = tensor(x)
    if isinstance(x, Value):
        raise NotSupportedError("nonzero: the size of the result is only known when the program runs")
    return tuple(i.astype(np.int32) for i in np.nonzero(x))
