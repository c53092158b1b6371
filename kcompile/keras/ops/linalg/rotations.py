"""Eigenvalues and singular values by Jacobi's method, and what follows from them.

A round turns n/2 disjoint pairs of columns at once, and after n - 1 rounds every pair has met (a round-robin
tournament); the number of sweeps is fixed. An iteration that converges has no gradient of its own worth taking:
its results are made differentiable by adding their differential at dA = A - stop_gradient(A), which is zero, and
whose derivative is the exact one.

Sources: Golub, Van Loan, sections 8.5 and 8.6; Brent, Luk 1985 (parallel ordering); Giles 2008, "Collected matrix
derivative results"; Golub, Pereyra 1973 (derivative of the pseudo-inverse).
"""

from __future__ import annotations

import math

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ShapeError
from kcompile.keras.ops.core import fori_loop
from kcompile.keras.ops.function import cast, dtype_key, promote, public, rank, tensor
from kcompile.keras.ops.linalg.elimination import qr
from kcompile.keras.ops.linalg.matrices import count, diagonal_of, flat, identity, matrix, transposed, upright
from kcompile.keras.ops.ordering import order
from kcompile.keras.ops.shapes import part
from kcompile.keras.tracing.dtypes import limits
from kcompile.ops.contract import matmul as _matmul


def tournament(n: int) -> np.ndarray:
    """Who meets whom: [rounds, n] partners, each pair once; with an odd n one is its own partner in each round."""
    size = n + n % 2
    players, rounds = list(range(size)), []
    for _ in range(max(size - 1, 1)):
        partner = np.arange(n, dtype=np.int32)
        for a, b in zip(players[: size // 2], reversed(players[size // 2 :])):
            if a < n and b < n:
                partner[a], partner[b] = b, a
        rounds.append(partner)
        players = [players[0], players[-1], *players[1:-1]]
    return np.stack(rounds)


def _sweeps(n: int) -> int:
    """Quadratic convergence sets in after a few; the number grows with the logarithm of n (Brent, Luk 1985)."""
    return 6 + max(1, math.ceil(math.log2(max(n, 2))))


def _partners(table, t):
    return prim.gather(table, prim.mod(tensor(t), tensor(int(table.shape[0]), "int32")), axis=0)


def _rotation(own, other, product, first):
    """(c, σ) of each column i, new column = c · column i + σ · column of its partner, so that their product is 0.

    own, other: the two diagonal entries; first: whether i is the first of its pair.
    """
    kind = dtype_key(own)
    zero, one, two = (tensor(v, kind) for v in (0.0, 1.0, 2.0))
    apart = prim.eq(product, zero)
    low, high = prim.select(first, own, other), prim.select(first, other, own)
    ratio = prim.div(prim.sub(high, low), prim.mul(two, prim.select(apart, one, product)))
    size = prim.reciprocal(prim.add(prim.abs(ratio), prim.sqrt(prim.add(one, prim.square(ratio)))))
    tangent = prim.select(apart, zero, prim.select(prim.lt(ratio, zero), prim.neg(size), size))
    cosine = prim.rsqrt(prim.add(one, prim.square(tangent)))
    sine = prim.mul(tangent, cosine)
    return cosine, prim.select(first, prim.neg(sine), sine)


def _turned(x, partner, cosine, sine):
    """Rotate the columns of x."""
    other = prim.gather(x, partner, axis=rank(x) - 1)
    return prim.add(prim.mul(x, flat(cosine)), prim.mul(other, flat(sine)))


def _jacobi_eigh(a):
    n = a.shape[-1]
    table, places = tensor(tournament(n)), count(n)

    def step(t, state):
        a, v = (tensor(s) for s in state)
        partner = _partners(table, t)
        own = diagonal_of(a)
        meets = prim.eq(upright(places), flat(partner))  # [row, column]: the row is the column's partner
        off = prim.logical_and(meets, prim.ne(upright(places), flat(places)))
        product = prim.reduce_sum(prim.select(off, a, tensor(0.0, dtype_key(a))), axes=(rank(a) - 2,), keepdims=False)
        other = prim.gather(own, partner, axis=rank(own) - 1)
        c, s = _rotation(own, other, product, prim.lt(places, partner))
        a = transposed(_turned(transposed(_turned(a, partner, c, s)), partner, c, s))
        return a, _turned(v, partner, c, s)

    a, v = (tensor(s) for s in fori_loop(0, _sweeps(n) * table.shape[0], step, (a, identity(a, n))))
    return diagonal_of(a), v


def _change(x):
    """Zero, with the derivative of x."""
    return prim.sub(x, prim.stop_gradient(x))


def _ordered(values, *matrices, descending: bool):
    """Values sorted along the last axis, and the columns of matrices with them."""
    places = order(values, rank(values) - 1, descending)
    n = values.shape[-1]
    moves = cast(prim.eq(upright(count(n)), flat(places)), dtype_key(values))
    return (
        prim.reshape(_matmul(flat(values), moves), shape=tuple(values.shape)),
        *(_matmul(m, moves) for m in matrices),
    )


def _apart(x):
    """1 / (x_j - x_i), 0 where they are equal."""
    gap = prim.sub(flat(x), upright(x))
    zero, one = tensor(0.0, dtype_key(x)), tensor(1.0, dtype_key(x))
    same = prim.eq(gap, zero)
    return prim.select(same, zero, prim.reciprocal(prim.select(same, one, gap)))


@public
def eigh(x):
    """Return (eigenvalues in ascending order, eigenvectors as columns) of symmetric matrices."""
    x = matrix(x, "eigh", square=True)
    if isinstance(x, np.ndarray):
        return tuple(np.linalg.eigh(x))
    half = tensor(0.5, dtype_key(x))
    x = prim.mul(half, prim.add(x, transposed(x)))
    w, v = (prim.stop_gradient(s) for s in _ordered(*_jacobi_eigh(prim.stop_gradient(x)), descending=False))
    inner = _matmul(transposed(v), _matmul(_change(x), v))
    return prim.add(w, diagonal_of(inner)), prim.add(v, _matmul(v, prim.mul(_apart(w), inner)))


def _jacobi_svd(a):
    """One-sided: columns are turned until they are orthogonal; their lengths are the singular values."""
    n = a.shape[-1]
    table, places = tensor(tournament(n)), count(n)

    def step(t, state):
        u, v = (tensor(s) for s in state)
        partner = _partners(table, t)
        across = prim.gather(u, partner, axis=rank(u) - 1)
        own = prim.reduce_sum(prim.square(u), axes=(rank(u) - 2,), keepdims=False)
        product = prim.reduce_sum(prim.mul(u, across), axes=(rank(u) - 2,), keepdims=False)
        alone = prim.eq(partner, places)
        product = prim.select(alone, tensor(0.0, dtype_key(u)), product)
        c, s = _rotation(own, prim.gather(own, partner, axis=rank(own) - 1), product, prim.lt(places, partner))
        return _turned(u, partner, c, s), _turned(v, partner, c, s)

    u, v = (tensor(s) for s in fori_loop(0, _sweeps(n) * table.shape[0], step, (a, identity(a, n))))
    s = prim.sqrt(prim.reduce_sum(prim.square(u), axes=(rank(u) - 2,), keepdims=False))
    s, u, v = _ordered(s, u, v, descending=True)
    none = prim.eq(s, tensor(0.0, dtype_key(s)))
    return prim.div(u, flat(prim.select(none, tensor(1.0, dtype_key(s)), s))), s, v


def _thin_svd(x):
    """u [..., m, k], s [..., k], v [..., n, k], differentiable where singular values differ."""
    if x.shape[-2] < x.shape[-1]:
        v, s, u = _thin_svd(transposed(x))
        return u, s, v
    u, s, v = (prim.stop_gradient(r) for r in _jacobi_svd(prim.stop_gradient(x)))
    change = _change(x)
    inner = _matmul(transposed(u), _matmul(change, v))
    apart, row, column = _apart(prim.square(s)), flat(s), upright(s)
    none = prim.eq(s, tensor(0.0, dtype_key(s)))
    inverse = flat(
        prim.select(none, tensor(0.0, dtype_key(s)), prim.reciprocal(prim.select(none, prim.add(s, 1.0), s)))
    )
    turned = prim.mul(apart, prim.add(prim.mul(inner, row), prim.mul(column, transposed(inner))))
    beside = prim.sub(_matmul(change, v), _matmul(u, inner))
    du = prim.add(_matmul(u, turned), prim.mul(beside, inverse))
    turned = prim.mul(apart, prim.add(prim.mul(column, inner), prim.mul(transposed(inner), row)))
    dv = _matmul(v, turned)
    return prim.add(u, du), prim.add(s, diagonal_of(inner)), prim.add(v, dv)


def _completed(u, size: int):
    """Further orthonormal columns; without a gradient."""
    if u.shape[-1] == size:
        return u
    full = tensor(qr(prim.stop_gradient(u), "complete")[0])
    return prim.concat(u, part(full, rank(full) - 1, u.shape[-1], size - u.shape[-1]), axis=rank(u) - 1)


@public
def svd(x, full_matrices=True, compute_uv=True):
    """Return (u, s, vᵀ) with x = u · diag(s) · vᵀ and s in descending order; s alone without `compute_uv`."""
    x = matrix(x, "svd")
    if isinstance(x, np.ndarray):
        found = np.linalg.svd(x, full_matrices=full_matrices, compute_uv=compute_uv)
        return tuple(found) if compute_uv else found
    u, s, v = _thin_svd(x)
    if not compute_uv:
        return s
    if full_matrices:
        u, v = _completed(u, x.shape[-2]), _completed(v, x.shape[-1])
    return u, s, transposed(v)


@public
def pinv(x, rcond=None):
    """Return the pseudo-inverse; singular values below rcond times the largest count as zero."""
    x = matrix(x, "pinv")
    kind = dtype_key(x)
    share = 10.0 * max(x.shape[-2:]) * limits(kind).eps if rcond is None else float(rcond)
    if isinstance(x, np.ndarray):
        return np.linalg.pinv(x, share)
    u, s, v = (prim.stop_gradient(r) for r in _thin_svd(prim.stop_gradient(x)))
    zero, one = tensor(0.0, kind), tensor(1.0, kind)
    kept = prim.gt(s, prim.mul(tensor(share, kind), prim.reduce_max(s, axes=(rank(s) - 1,), keepdims=True)))
    inverse = prim.select(kept, prim.reciprocal(prim.select(kept, s, one)), zero)
    p = prim.stop_gradient(_matmul(prim.mul(v, flat(inverse)), transposed(u)))
    d, at = _change(x), prim.stop_gradient(x)
    dt = transposed(d)
    left = prim.sub(dt, _matmul(dt, _matmul(at, p)))  # dAᵀ (1 - A P)
    right = prim.sub(dt, _matmul(_matmul(p, at), dt))  # (1 - P A) dAᵀ
    change = prim.neg(_matmul(p, _matmul(d, p)))
    change = prim.add(change, _matmul(_matmul(p, transposed(p)), left))
    return prim.add(p, prim.add(change, _matmul(right, _matmul(transposed(p), p))))


@public
def lstsq(a, b, rcond=None):
    """Return the x of least norm among those with the smallest |a · x - b|."""
    a, b = promote(a, b, floating=True)
    if rank(a) != 2 or rank(b) not in (1, 2) or a.shape[0] != b.shape[0]:
        raise ShapeError(f"lstsq: incompatible shapes {tuple(a.shape)} and {tuple(b.shape)}")
    share = limits(dtype_key(a)).eps * max(a.shape) if rcond is None else rcond
    return _matmul(tensor(pinv(a, share)), b)


@public
def matrix_rank(x, tol=None):
    """Return the number of singular values above `tol`."""
    x = matrix(x, "matrix_rank")
    s = tensor(svd(x, compute_uv=False))
    if tol is None:
        share = tensor(max(x.shape[-2:]) * limits(dtype_key(x)).eps, dtype_key(x))
        tol = prim.mul(share, prim.reduce_max(s, axes=(rank(s) - 1,), keepdims=True))
    above = cast(prim.gt(s, tensor(tol, dtype_key(s))), "int32")
    return prim.reduce_sum(above, axes=(rank(s) - 1,), keepdims=False)
