"""Norms of vectors and matrices."""

from __future__ import annotations

import math

from kcompile import ops as prim
from kcompile.errors import ArgumentError
from kcompile.keras.ops.function import axes_of, axis_of, floating, public, rank, tensor
from kcompile.keras.ops.linalg.rotations import svd
from kcompile.keras.ops.reductions import vector_norm


@public
def norm(x, ord=None, axis=None, keepdims=False):
    """Return a vector or matrix norm.

    Args:
        ord: None: the root of the sum of squares. Of one axis: a number or ±inf. Of two axes (or a matrix with
            axis=None): `"fro"`, `"nuc"`, ±1, ±2, ±inf.
        axis: one axis, a pair, or None: a vector's or matrix's own (any rank if ord is None).
    """
    x = floating(x)
    axes = axes_of(axis, rank(x))
    if ord is None or len(axes) == 1:
        return vector_norm(x, ord, axis, keepdims)
    if len(axes) != 2:
        raise ArgumentError(f"norm of order {ord!r} takes one or two axes. Received: axis={axis}")
    if isinstance(axis, (list, tuple)):
        axes = tuple(axis_of(a, rank(x)) for a in axis)  # which is the row axis matters
    return _matrix_norm(x, ord, axes, bool(keepdims))


def _matrix_norm(x, ord, axes: tuple[int, int], keepdims: bool):
    if ord == "fro":
        return vector_norm(x, None, axes, keepdims)
    rest = tuple(n for n in range(rank(x)) if n not in axes)
    kept = tuple(1 if n in axes else s for n, s in enumerate(x.shape))
    moved = prim.transpose(x, perm=(*rest, *axes))
    last = rank(x) - 1
    pick = prim.reduce_min if ord in (-1, -2, -math.inf) else prim.reduce_max
    if ord in (1, -1, math.inf, -math.inf):
        along = last - 1 if ord in (1, -1) else last
        sums = prim.reduce_sum(prim.abs(moved), axes=(along,), keepdims=False)
        found = pick(sums, axes=(last - 1,), keepdims=False)
    elif ord in (2, -2, "nuc"):
        s = tensor(svd(moved, compute_uv=False))
        found = (prim.reduce_sum if ord == "nuc" else pick)(s, axes=(last - 1,), keepdims=False)
    else:
        raise ArgumentError(f"Invalid `ord` argument for matrices. Received: ord={ord}")
    return prim.reshape(found, shape=kept) if keepdims else found
