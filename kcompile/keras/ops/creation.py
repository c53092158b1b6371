"""keras.ops functions that make tensors: zeros, full, arange, eye, linspace, ... Sizes may be symbolic."""

from __future__ import annotations

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir.dim import Dim
from kcompile.ir.graph import Value
from kcompile.ir.types import bf16
from kcompile.keras.config import floatx
from kcompile.keras.ops.function import broadcast, cast, dtype_key, promote, public, rank, sized, tensor
from kcompile.keras.ops.reductions import summable
from kcompile.keras.ops.shapes import moveaxis, part
from kcompile.keras.ops.sizes import sizes_of
from kcompile.keras.tracing.bfloat16 import BFloat16Tensor
from kcompile.keras.tracing.dtypes import ir_name, numpy_dtype, result_type, standardize_dtype
from kcompile.keras.tracing.scope import current_graph


def filled(shape, value, dtype):
    """Return an array of `value`, or a graph value where a size is symbolic."""
    sizes = sizes_of(shape)
    scalar = tensor(value, dtype)
    if any(isinstance(s, Dim) for s in sizes):
        if isinstance(scalar, BFloat16Tensor):
            scalar = current_graph().constant(scalar.numpy(), bf16)
        scalar = current_graph().constant(scalar) if isinstance(scalar, np.ndarray) else scalar
        return prim.broadcast_to(scalar, shape=sizes)
    if isinstance(scalar, np.ndarray) and scalar.ndim == 0:
        return np.full(sizes, scalar, dtype=scalar.dtype)
    return prim.broadcast_to(scalar, shape=sizes)


def iota(shape, axis: int, dtype: str):
    """Return indices along `axis`, repeated along the others."""
    sizes = sizes_of(shape)
    if any(isinstance(s, Dim) for s in sizes):
        like = current_graph().constant(np.zeros((), numpy_dtype(dtype)))
        return prim.iota(like, shape=sizes, axis=axis, dtype=ir_name(dtype))
    line = np.arange(sizes[axis], dtype=numpy_dtype(dtype))
    line = line.reshape([-1 if i == axis else 1 for i in range(len(sizes))])
    return cast(np.ascontiguousarray(np.broadcast_to(line, sizes)), dtype)


@public
def zeros(shape, dtype=None):
    """Return zeros."""
    return filled(shape, 0, standardize_dtype(dtype))


@public
def ones(shape, dtype=None):
    """Return ones."""
    return filled(shape, 1, standardize_dtype(dtype))


@public
def empty(shape, dtype=None):
    """Return zeros (memory without a value is never shown)."""
    return filled(shape, 0, standardize_dtype(dtype))


@public
def full(shape, fill_value, dtype=None):
    """Return a tensor in which every element is `fill_value`."""
    return filled(shape, fill_value, dtype or dtype_key(tensor(fill_value)))


@public
def zeros_like(x, dtype=None):
    """Return zeros of the shape and dtype of x."""
    x = tensor(x)
    return filled(x.shape, 0, dtype or dtype_key(x))


@public
def ones_like(x, dtype=None):
    """Return ones of the shape and dtype of x."""
    x = tensor(x)
    return filled(x.shape, 1, dtype or dtype_key(x))


@public
def empty_like(x, dtype=None):
    """Return zeros of the shape and dtype of x."""
    x = tensor(x)
    return filled(x.shape, 0, dtype or dtype_key(x))


@public
def full_like(x, fill_value, dtype=None):
    """Return a tensor of the shape of x in which every element is `fill_value`."""
    x = tensor(x)
    return filled(x.shape, fill_value, dtype or dtype_key(x))


@public
def arange(start, stop=None, step=None, dtype=None):
    """Return start, start + step, ... below stop. A symbolic stop needs start 0 and step 1."""
    if stop is None:
        start, stop = 0, start
    step = 1 if step is None else step
    if dtype is None:
        dtype = result_type(*(dtype_key(v) for v in (start, stop, step)))
    dtype = standardize_dtype(dtype)
    if isinstance(stop, Dim) or isinstance(start, Dim):
        if step != 1:
            raise ArgumentError("arange over a size only known when the program runs needs step 1")
        line = iota((stop - start,), 0, dtype)
        return prim.add(*promote(line, start, dtype=dtype))
    return cast(np.arange(start, stop, step, dtype=numpy_dtype(dtype)), dtype)


@public
def linspace(start, stop, num=50, endpoint=True, retstep=False, dtype=None, axis=0):
    """Return `num` evenly spaced numbers from start to stop."""
    start, stop = tensor(start), tensor(stop)
    dtype = dtype or result_type(dtype_key(start), dtype_key(stop), float)
    if any(isinstance(v, (Dim, Value)) for v in (num, start, stop)):
        return _spaced(start, stop, num, endpoint, retstep, dtype, axis)
    found = np.linspace(start, stop, int(num), endpoint=endpoint, retstep=retstep, axis=axis)
    if retstep:
        return found[0].astype(dtype), found[1]
    return found.astype(dtype)


def _spaced(start, stop, num, endpoint: bool, retstep: bool, dtype: str, axis: int):
    """linspace with a size, or between numbers, that the program learns; not more precise than its dtype."""
    start, stop = promote(start, stop, dtype=dtype)
    count = num if isinstance(num, Dim) else int(num)
    length = sized(count, dtype) if isinstance(count, Dim) else tensor(count, dtype)
    parts = prim.maximum(prim.sub(length, tensor(1, dtype)), tensor(1, dtype)) if endpoint else length
    step = prim.div(prim.sub(stop, start), parts)
    place = axis + rank(step) + 1 if axis < 0 else axis
    shape = (*step.shape[:place], count, *step.shape[place:])
    each = (*step.shape[:place], 1, *step.shape[place:])
    start = broadcast(start, step.shape)
    first, width = (broadcast(prim.reshape(v, shape=each), shape) for v in (start, step))
    found = prim.add(first, prim.mul(width, iota(shape, place, dtype)))
    return (found, step) if retstep else found


@public
def eye(N, M=None, k=0, dtype=None):
    """Return ones on the k-th diagonal, zeros elsewhere."""
    if isinstance(N, Dim) or isinstance(M, Dim):
        row, column = _places(N, M)
        return cast(prim.eq(column, prim.add(*promote(row, int(k), dtype="int32"))), dtype or floatx())
    return cast(np.eye(int(N), None if M is None else int(M), int(k), dtype=numpy_dtype(dtype)), dtype)


def _places(rows, columns) -> tuple:
    """The row and the column of each element of a matrix."""
    shape = (rows, rows if columns is None else columns)
    return iota(shape, 0, "int32"), iota(shape, 1, "int32")


@public
def identity(n, dtype=None):
    """Return the identity matrix."""
    return eye(n, dtype=dtype)


@public
def tri(N, M=None, k=0, dtype=None):
    """Return ones at and below the k-th diagonal."""
    if isinstance(N, Dim) or isinstance(M, Dim):
        row, column = _places(N, M)
        return cast(prim.le(column, prim.add(*promote(row, int(k), dtype="int32"))), dtype or floatx())
    return cast(np.tri(int(N), None if M is None else int(M), int(k), dtype=numpy_dtype(dtype)), dtype)


def _triangle(x, k: int, lower: bool):
    x = tensor(x)
    if rank(x) < 2:
        raise ShapeError(f"{'tril' if lower else 'triu'} takes matrices, received shape {tuple(x.shape)}")
    shape, last = tuple(x.shape), rank(x) - 1
    rows, columns = iota(shape, last - 1, "int32"), iota(shape, last, "int32")
    edge = prim.add(rows, tensor(int(k), "int32"))
    keep = prim.le(columns, edge) if lower else prim.ge(columns, edge)
    return prim.select(keep, x, filled(shape, 0, dtype_key(x)))


@public
def tril(x, k=0):
    """Return x with zeros above the k-th diagonal."""
    return _triangle(x, k, lower=True)


@public
def triu(x, k=0):
    """Return x with zeros below the k-th diagonal."""
    return _triangle(x, k, lower=False)


@public
def diag(x, k=0):
    """Return the k-th diagonal of a matrix, or a matrix with the vector x on it."""
    x = tensor(x)
    if rank(x) == 1:
        size = x.shape[0] + abs(k)
        spread = prim.pad(
            prim.reshape(x, shape=(x.shape[0], 1)), low=(0, 0), high=(0, size), interior=(0, 0), value=0
        )  # each row: the element, then `size` zeros; read as rows of `size` it walks down the diagonal
        flat = part(prim.reshape(spread, shape=(x.shape[0] * (size + 1),)), 0, 0, x.shape[0] * (size + 1))
        lead = max(k, 0) + max(-k, 0) * size
        flat = prim.pad(flat, low=(lead,), high=(size * size,), interior=(0,), value=0)
        return prim.reshape(part(flat, 0, 0, size * size), shape=(size, size))
    return diagonal(x, k)


@public
def diagonal(x, offset=0, axis1=0, axis2=1):
    """Return the diagonal over two axes, as the last axis of the result."""
    x = tensor(moveaxis(x, (axis1, axis2), (-2, -1)))
    rows, columns = x.shape[-2], x.shape[-1]
    length = min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns)
    if length <= 0:
        return np.zeros((*x.shape[:-2], 0), dtype_key(x))
    start = offset if offset >= 0 else -offset * columns
    flat = prim.reshape(x, shape=(*x.shape[:-2], rows * columns))
    return part(flat, rank(flat) - 1, start, length, columns + 1)


@public
def trace(x, offset=0, axis1=0, axis2=1):
    """Return the sum of the diagonal over two axes."""
    line = summable(diagonal(x, offset, axis1, axis2))
    return prim.reduce_sum(line, axes=(rank(line) - 1,), keepdims=False)


@public
def array(x, dtype=None):
    """Convert to a tensor."""
    return tensor(x, dtype)
