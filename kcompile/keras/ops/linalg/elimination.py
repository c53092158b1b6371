"""Triangular factors, determinants, solvers: one loop over the columns. Gradients are the loop's.

Source: Golub, Van Loan, Matrix Computations, sections 3.2, 3.4, 4.2 and 5.2.
"""

from __future__ import annotations

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras.ops.core import fori_loop
from kcompile.keras.ops.function import broadcast, cast, dtype_key, promote, public, rank, tensor
from kcompile.keras.ops.linalg.matrices import (
    column_of,
    count,
    diagonal_of,
    eager,
    flat,
    identity,
    matrix,
    row_of,
    transposed,
    upright,
    zeros,
)
from kcompile.keras.ops.shapes import part
from kcompile.ops.contract import matmul as _matmul


def _swapped(a, k, top):
    """Exchange row k with row `top` [...] of every matrix."""
    rows = count(a.shape[-2])
    top = prim.reshape(top, shape=(*top.shape, 1))
    k = tensor(k, "int32")
    source = prim.select(prim.eq(rows, k), top, prim.select(prim.eq(rows, top), k, rows))
    here = prim.reshape(rows, shape=(1, a.shape[-2]))
    moves = cast(prim.eq(upright(source), here), dtype_key(a))  # a permutation matrix: exact, and a plain product
    return _matmul(moves, a)


def _pivot(a, k):
    """The row, from k on, with the largest element of column k."""
    size = prim.abs(column_of(a, k))
    eligible = prim.ge(count(a.shape[-2]), tensor(k, "int32"))
    return prim.argmax(prim.select(eligible, size, tensor(-1.0, dtype_key(a))), axis=rank(size) - 1)


def _lu(a):
    """L below the diagonal and U on and above it, with the row exchanged at each step."""
    n = a.shape[-1]
    pivots = broadcast(tensor(0, "int32"), (*a.shape[:-2], n))

    def step(k, state):
        a, pivots = (tensor(v) for v in state)
        k, places = tensor(k), count(n)
        top = _pivot(a, k)
        pivots = prim.select(prim.eq(places, k), upright(top), pivots)
        a = _swapped(a, k, top)
        zero = tensor(0.0, dtype_key(a))
        below = prim.gt(places, k)
        column, row = column_of(a, k), row_of(a, k)
        factor = prim.select(below, prim.div(column, upright(column_of(row, k))), zero)
        right = prim.select(below, row, zero)
        a = prim.sub(a, prim.mul(upright(factor), flat(right)))
        in_column = prim.logical_and(prim.eq(flat(places), k), upright(below))
        return prim.select(in_column, upright(factor), a), pivots

    return tuple(tensor(v) for v in fori_loop(0, n, step, (a, pivots)))


@public
def lu_factor(x):
    """Return (LU, pivots): L below the diagonal (ones on it), U above, and the row exchanged at each step."""
    x = matrix(x, "lu_factor", square=True)
    lu, pivots = _lu(x)
    return lu, pivots


@public
def slogdet(x):
    """Return (sign, log|det|)."""
    x = matrix(x, "slogdet", square=True)
    if isinstance(x, np.ndarray):
        return tuple(np.asarray(v, x.dtype) for v in np.linalg.slogdet(x))
    lu, pivots = _lu(x)
    diagonal, last = diagonal_of(lu), rank(x) - 2
    swaps = prim.reduce_sum(cast(prim.ne(pivots, count(x.shape[-1])), "int32"), axes=(last,), keepdims=False)
    odd = prim.eq(prim.mod(swaps, tensor(2, "int32")), tensor(1, "int32"))
    sign = prim.reduce_prod(prim.sign(diagonal), axes=(last,), keepdims=False)
    size = prim.reduce_sum(prim.log(prim.abs(diagonal)), axes=(last,), keepdims=False)
    return prim.select(odd, prim.neg(sign), sign), size


@public
def logdet(x):
    """Return the logarithm of the determinant of positive definite matrices."""
    return tensor(slogdet(x)[1])


@public
def det(x):
    """Return the determinant."""
    x = matrix(x, "det", square=True)
    if isinstance(x, np.ndarray):
        return np.asarray(np.linalg.det(x), x.dtype)
    lu, pivots = _lu(x)
    last = rank(x) - 2
    swaps = prim.reduce_sum(cast(prim.ne(pivots, count(x.shape[-1])), "int32"), axes=(last,), keepdims=False)
    odd = prim.eq(prim.mod(swaps, tensor(2, "int32")), tensor(1, "int32"))
    product = prim.reduce_prod(diagonal_of(lu), axes=(last,), keepdims=False)
    return prim.select(odd, prim.neg(product), product)


def _gauss_jordan(a, b):
    """a⁻¹ b: every step clears one column of [a | b] but for a one on the diagonal."""
    n, kind = a.shape[-1], dtype_key(a)
    both = prim.concat(a, b, axis=rank(a) - 1)

    def step(k, both):
        both, k = tensor(both), tensor(k)
        both = _swapped(both, k, _pivot(both, k))
        row = row_of(both, k)
        row = prim.div(row, upright(column_of(row, k)))
        mine = prim.eq(count(n), k)
        others = prim.select(mine, tensor(0.0, kind), column_of(both, k))
        cleared = prim.sub(both, prim.mul(upright(others), flat(row)))
        return prim.select(upright(mine), flat(row), cleared)

    done = tensor(fori_loop(0, n, step, both))
    return part(done, rank(done) - 1, n, b.shape[-1])


@public
def solve(a, b):
    """Return x with a · x = b, for b [..., n] or [..., n, m]."""
    a, b = promote(a, b, floating=True)
    a = matrix(a, "solve", square=True)
    if rank(b) not in (rank(a) - 1, rank(a)) or b.shape[rank(a) - 2] != a.shape[-1]:
        raise ShapeError(f"solve: incompatible shapes {tuple(a.shape)} and {tuple(b.shape)}")
    vector = rank(b) == rank(a) - 1
    columns = upright(b) if vector else b
    if isinstance(a, np.ndarray) and isinstance(columns, np.ndarray):
        try:
            found = np.linalg.solve(a, columns)
        except np.linalg.LinAlgError:
            found = np.full_like(columns, np.nan)
    else:
        found = _gauss_jordan(a, columns)
    return prim.reshape(found, shape=tuple(b.shape)) if vector else found


@public
def inv(x):
    """Return the inverse matrices."""
    x = matrix(x, "inv", square=True)
    return eager(np.linalg.inv, x) if isinstance(x, np.ndarray) else _gauss_jordan(x, identity(x, x.shape[-1]))


@public
def cholesky(x, upper=False):
    """Return the lower triangular L with L · Lᵀ = x (or the upper one, Lᵀ); NaN if x is not positive definite."""
    x = matrix(x, "cholesky", square=True)
    if isinstance(x, np.ndarray):
        found = eager(np.linalg.cholesky, x)
        return transposed(found) if upper else found
    n, zero = x.shape[-1], tensor(0.0, dtype_key(x))

    def step(k, state):
        rest, lower = (tensor(v) for v in state)
        k, places = tensor(k), count(n)
        column = column_of(rest, k)
        column = prim.div(column, prim.sqrt(upright(column_of(column, k))))
        column = prim.select(prim.ge(places, k), column, zero)
        rest = prim.sub(rest, prim.mul(upright(column), flat(column)))
        return rest, prim.select(prim.eq(flat(places), k), upright(column), lower)

    found = tensor(fori_loop(0, n, step, (x, zeros(x, tuple(x.shape))))[1])
    return transposed(found) if upper else found


@public
def solve_triangular(a, b, lower=False):
    """Return x with a · x = b for a triangular a, of which the other triangle is not read."""
    a, b = promote(a, b, floating=True)
    a = matrix(a, "solve_triangular", square=True)
    vector = rank(b) == rank(a) - 1
    b = upright(b) if vector else b
    n = a.shape[-1]
    keep = tensor(np.tril(np.ones((n, n), bool)) if lower else np.triu(np.ones((n, n), bool)))
    a = prim.select(keep, a, tensor(0.0, dtype_key(a)))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return tensor(solve(a, b[..., 0] if vector else b))

    def step(i, x):
        x, i = tensor(x), tensor(i)
        k = i if lower else prim.sub(tensor(n - 1, "int32"), i)
        row = row_of(a, k)
        known = prim.reshape(_matmul(flat(row), x), shape=(*x.shape[:-2], x.shape[-1]))
        new = prim.div(prim.sub(row_of(b, k), known), upright(column_of(row, k)))
        return prim.select(upright(prim.eq(count(n), k)), flat(new), x)

    found = tensor(fori_loop(0, n, step, zeros(b, tuple(b.shape))))
    return prim.reshape(found, shape=tuple(b.shape[:-1])) if vector else found


@public
def cholesky_inverse(x, upper=False):
    """Return the inverse of the matrix whose Cholesky factor is x."""
    x = matrix(x, "cholesky_inverse", square=True)
    lower = transposed(x) if upper else x
    half = tensor(solve_triangular(lower, identity(lower, lower.shape[-1]), lower=True))
    return _matmul(transposed(half), half)


@public
def qr(x, mode="reduced"):
    """Return (Q, R) with orthonormal columns in Q and R upper triangular, by Householder's reflections.

    Args: mode: `"reduced"`: Q [..., m, k], R [..., k, n] with k = min(m, n); `"complete"`: Q [..., m, m].
    """
    if mode not in ("reduced", "complete"):
        raise ArgumentError(f"`mode` argument value not supported. Expected 'reduced' or 'complete'. Received: {mode}")
    x = matrix(x, "qr")
    if isinstance(x, np.ndarray):
        return tuple(np.linalg.qr(x, mode))
    (m, n), kind = x.shape[-2:], dtype_key(x)
    k = min(m, n)
    zero, one, two = (tensor(v, kind) for v in (0.0, 1.0, 2.0))

    def step(k, state):
        q, r = (tensor(v) for v in state)
        k, places = tensor(k), count(m)
        column = column_of(r, k)
        below = prim.select(prim.gt(places, k), column, zero)
        head = upright(column_of(column, k))
        rest = upright(prim.reduce_sum(prim.square(below), axes=(rank(below) - 1,), keepdims=False))
        clear = prim.eq(rest, zero)  # nothing to do: no reflection
        size = prim.sqrt(prim.add(prim.square(head), prim.select(clear, one, rest)))
        turned = prim.add(head, prim.select(prim.lt(head, zero), prim.neg(size), size))
        v = prim.select(prim.eq(places, k), turned, below)
        length = prim.add(prim.square(turned), rest)
        scale = prim.reshape(prim.select(clear, zero, prim.div(two, length)), shape=(*x.shape[:-2], 1, 1))
        r = prim.sub(r, prim.mul(scale, prim.mul(upright(v), _matmul(flat(v), r))))
        q = prim.sub(q, prim.mul(scale, prim.mul(_matmul(q, upright(v)), flat(v))))
        return q, r

    q, r = (tensor(v) for v in fori_loop(0, k, step, (identity(x, m), x)))
    r = prim.select(tensor(np.triu(np.ones((m, n), bool))), r, zero)
    if mode == "complete":
        return q, r
    return part(q, rank(q) - 1, 0, k), part(r, rank(r) - 2, 0, k)
