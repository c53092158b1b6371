"""What the functions of matrices share: checks, rows, columns, diagonals of [..., m, n]."""

from __future__ import annotations

import numpy as np

from kcompile import ops as prim
from kcompile.errors import NotSupportedError, ShapeError
from kcompile.ir.graph import Value
from kcompile.keras.ops.creation import eye, iota
from kcompile.keras.ops.function import broadcast, dtype_key, floating, rank, tensor


def matrix(x, name: str, square: bool = False):
    x = floating(x)
    if rank(x) < 2:
        raise ShapeError(f"{name}: Input should have rank >= 2. Received: input.shape = {tuple(x.shape)}")
    rows, columns = x.shape[-2:]
    if square and rows != columns:
        raise ShapeError(f"{name}: Expected a square matrix. Received: input.shape = {tuple(x.shape)}")
    if isinstance(x, Value) and not (isinstance(rows, int) and isinstance(columns, int)):
        raise NotSupportedError(f"keras.ops.{name} needs the size of its matrices when the program is compiled")
    return x


def eager(function, x: np.ndarray, *args, **kwargs):
    """LAPACK on an array; NaN where it gives up."""
    try:
        return function(x, *args, **kwargs)
    except np.linalg.LinAlgError:
        return np.full_like(x, np.nan)


def transposed(x):
    return prim.transpose(x, perm=(*range(rank(x) - 2), rank(x) - 1, rank(x) - 2))


def column_of(x, k):
    return prim.gather(x, tensor(k, "int32"), axis=rank(x) - 1)


def row_of(x, k):
    return prim.gather(x, tensor(k, "int32"), axis=rank(x) - 2)


def upright(v):
    """A vector [..., n] as a column [..., n, 1]."""
    return prim.reshape(v, shape=(*v.shape, 1))


def flat(v):
    """A vector [..., n] as a row [..., 1, n]."""
    return prim.reshape(v, shape=(*v.shape[:-1], 1, v.shape[-1]))


def count(n: int):
    return tensor(iota((n,), 0, "int32"))


def zeros(x, shape):
    return broadcast(tensor(0.0, dtype_key(x)), shape)


def identity(x, n: int):
    """One identity matrix per matrix of x."""
    return broadcast(tensor(eye(n, dtype=dtype_key(x))), (*x.shape[:-2], n, n))


def diagonal_of(x):
    """The diagonal, by a mask: also of a symbolic batch."""
    n = x.shape[-1]
    kept = prim.select(tensor(np.eye(x.shape[-2], n, dtype=bool)), x, tensor(0.0, dtype_key(x)))
    return prim.reduce_sum(kept, axes=(rank(x) - 2,), keepdims=False)
