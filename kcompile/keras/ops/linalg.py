"""keras.ops.linalg: factorisations and solvers of matrices [..., n, n], for sizes known at compile time.

    elimination    cholesky, lu_factor, det, solve, inv, qr: one loop over the columns; gradients are the loop's
    rotations      eigh, svd: Jacobi's method. A round turns n/2 disjoint pairs of columns at once, and after
                   n - 1 rounds every pair has met (a round-robin tournament); sweeps are a fixed number

An iteration that converges has no gradient of its own worth taking. Its results are made differentiable by
adding their differential at dA = A - stop_gradient(A), which is zero, and whose derivative is the exact one.

Eagerly - arrays outside of a trace - LAPACK computes (through NumPy).

Sources: Golub, Van Loan, Matrix Computations, 3.2, 3.4, 4.2, 5.2, 8.5, 8.6; Brent, Luk 1985 (parallel ordering);
Giles 2008, "Collected matrix derivative results"; Golub, Pereyra 1973 (derivative of the pseudo-inverse).
"""

from __future__ import annotations

import math

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError, MissingNameError, NotSupportedError, ShapeError, suggestion
from kcompile.ir.graph import Value
from kcompile.keras.ops.core import fori_loop
from kcompile.keras.ops.creation import eye, iota
from kcompile.keras.ops.function import (
    PUBLIC,
    axes_of,
    axis_of,
    broadcast,
    cast,
    dtype_key,
    floating,
    promote,
    public,
    rank,
    tensor,
)
from kcompile.keras.ops.ordering import order
from kcompile.keras.ops.reductions import vector_norm
from kcompile.keras.ops.shapes import part
from kcompile.ops.contract import matmul as _matmul


def _matrix(x, name: str, square: bool = False):
    x = floating(x)
    if rank(x) < 2:
        raise ShapeError(f"{name}: Input should have rank >= 2. Received: input.shape = {tuple(x.shape)}")
    rows, columns = x.shape[-2:]
    if square and rows != columns:
        raise ShapeError(f"{name}: Expected a square matrix. Received: input.shape = {tuple(x.shape)}")
    if isinstance(x, Value) and not (isinstance(rows, int) and isinstance(columns, int)):
        raise NotSupportedError(f"keras.ops.{name} needs the size of its matrices when the program is compiled")
    return x


def _eager(function, x: np.ndarray, *args, **kwargs):
    """LAPACK on an array; NaN where it gives up."""
    try:
        return function(x, *args, **kwargs)
    except np.linalg.LinAlgError:
        return np.full_like(x, np.nan)


def _transposed(x):
    return prim.transpose(x, perm=(*range(rank(x) - 2), rank(x) - 1, rank(x) - 2))


def _column(x, k):
    return prim.gather(x, tensor(k, "int32"), axis=rank(x) - 1)


def _row(x, k):
    return prim.gather(x, tensor(k, "int32"), axis=rank(x) - 2)


def _upright(v):
    """A vector [..., n] as a column [..., n, 1]."""
    return prim.reshape(v, shape=(*v.shape, 1))


def _flat(v):
    """A vector [..., n] as a row [..., 1, n]."""
    return prim.reshape(v, shape=(*v.shape[:-1], 1, v.shape[-1]))


def _count(n: int):
    return tensor(iota((n,), 0, "int32"))


def _zeros(x, shape):
    return broadcast(tensor(0.0, dtype_key(x)), shape)


def _identity(x, n: int):
    """One identity matrix per matrix of x."""
    return broadcast(tensor(eye(n, dtype=dtype_key(x))), (*x.shape[:-2], n, n))


def _diagonal(x):
    """The diagonal, by a mask: also of a symbolic batch."""
    n = x.shape[-1]
    kept = prim.select(tensor(np.eye(x.shape[-2], n, dtype=bool)), x, tensor(0.0, dtype_key(x)))
    return prim.reduce_sum(kept, axes=(rank(x) - 2,), keepdims=False)


# elimination ----------------------------------------------------------------------------------------


def _swapped(a, k, top):
    """Exchange row k with row `top` [...] of every matrix."""
    rows = _count(a.shape[-2])
    top = prim.reshape(top, shape=(*top.shape, 1))
    k = tensor(k, "int32")
    source = prim.select(prim.eq(rows, k), top, prim.select(prim.eq(rows, top), k, rows))
    here = prim.reshape(rows, shape=(1, a.shape[-2]))
    moves = cast(prim.eq(_upright(source), here), dtype_key(a))  # a permutation matrix: exact, and a plain product
    return _matmul(moves, a)


def _pivot(a, k):
    """The row, from k on, with the largest element of column k."""
    size = prim.abs(_column(a, k))
    eligible = prim.ge(_count(a.shape[-2]), tensor(k, "int32"))
    return prim.argmax(prim.select(eligible, size, tensor(-1.0, dtype_key(a))), axis=rank(size) - 1)


def _lu(a):
    """L below the diagonal and U on and above it, with the row exchanged at each step."""
    n = a.shape[-1]
    pivots = broadcast(tensor(0, "int32"), (*a.shape[:-2], n))

    def step(k, state):
        a, pivots = (tensor(v) for v in state)
        k, places = tensor(k), _count(n)
        top = _pivot(a, k)
        pivots = prim.select(prim.eq(places, k), _upright(top), pivots)
        a = _swapped(a, k, top)
        zero = tensor(0.0, dtype_key(a))
        below = prim.gt(places, k)
        column, row = _column(a, k), _row(a, k)
        factor = prim.select(below, prim.div(column, _upright(_column(row, k))), zero)
        right = prim.select(below, row, zero)
        a = prim.sub(a, prim.mul(_upright(factor), _flat(right)))
        in_column = prim.logical_and(prim.eq(_flat(places), k), _upright(below))
        return prim.select(in_column, _upright(factor), a), pivots

    return tuple(tensor(v) for v in fori_loop(0, n, step, (a, pivots)))


@public
def lu_factor(x):
    """Return (LU, pivots): L below the diagonal (ones on it), U above, and the row exchanged at each step."""
    x = _matrix(x, "lu_factor", square=True)
    lu, pivots = _lu(x)
    return lu, pivots


@public
def slogdet(x):
    """Return (sign, log|det|)."""
    x = _matrix(x, "slogdet", square=True)
    if isinstance(x, np.ndarray):
        return tuple(np.asarray(v, x.dtype) for v in np.linalg.slogdet(x))
    lu, pivots = _lu(x)
    diagonal, last = _diagonal(lu), rank(x) - 2
    swaps = prim.reduce_sum(cast(prim.ne(pivots, _count(x.shape[-1])), "int32"), axes=(last,), keepdims=False)
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
    x = _matrix(x, "det", square=True)
    if isinstance(x, np.ndarray):
        return np.asarray(np.linalg.det(x), x.dtype)
    lu, pivots = _lu(x)
    last = rank(x) - 2
    swaps = prim.reduce_sum(cast(prim.ne(pivots, _count(x.shape[-1])), "int32"), axes=(last,), keepdims=False)
    odd = prim.eq(prim.mod(swaps, tensor(2, "int32")), tensor(1, "int32"))
    product = prim.reduce_prod(_diagonal(lu), axes=(last,), keepdims=False)
    return prim.select(odd, prim.neg(product), product)


def _gauss_jordan(a, b):
    """a⁻¹ b: every step clears one column of [a | b] but for a one on the diagonal."""
    n, kind = a.shape[-1], dtype_key(a)
    both = prim.concat(a, b, axis=rank(a) - 1)

    def step(k, both):
        both, k = tensor(both), tensor(k)
        both = _swapped(both, k, _pivot(both, k))
        row = _row(both, k)
        row = prim.div(row, _upright(_column(row, k)))
        mine = prim.eq(_count(n), k)
        others = prim.select(mine, tensor(0.0, kind), _column(both, k))
        cleared = prim.sub(both, prim.mul(_upright(others), _flat(row)))
        return prim.select(_upright(mine), _flat(row), cleared)

    done = tensor(fori_loop(0, n, step, both))
    return part(done, rank(done) - 1, n, b.shape[-1])


@public
def solve(a, b):
    """Return x with a · x = b, for b [..., n] or [..., n, m]."""
    a, b = promote(a, b, floating=True)
    a = _matrix(a, "solve", square=True)
    if rank(b) not in (rank(a) - 1, rank(a)) or b.shape[rank(a) - 2] != a.shape[-1]:
        raise ShapeError(f"solve: incompatible shapes {tuple(a.shape)} and {tuple(b.shape)}")
    vector = rank(b) == rank(a) - 1
    columns = _upright(b) if vector else b
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
    x = _matrix(x, "inv", square=True)
    return _eager(np.linalg.inv, x) if isinstance(x, np.ndarray) else _gauss_jordan(x, _identity(x, x.shape[-1]))


@public
def cholesky(x, upper=False):
    """Return the lower triangular L with L · Lᵀ = x (or the upper one, Lᵀ); NaN if x is not positive definite."""
    x = _matrix(x, "cholesky", square=True)
    if isinstance(x, np.ndarray):
        found = _eager(np.linalg.cholesky, x)
        return _transposed(found) if upper else found
    n, zero = x.shape[-1], tensor(0.0, dtype_key(x))

    def step(k, state):
        rest, lower = (tensor(v) for v in state)
        k, places = tensor(k), _count(n)
        column = _column(rest, k)
        column = prim.div(column, prim.sqrt(_upright(_column(column, k))))
        column = prim.select(prim.ge(places, k), column, zero)
        rest = prim.sub(rest, prim.mul(_upright(column), _flat(column)))
        return rest, prim.select(prim.eq(_flat(places), k), _upright(column), lower)

    found = tensor(fori_loop(0, n, step, (x, _zeros(x, tuple(x.shape))))[1])
    return _transposed(found) if upper else found


@public
def solve_triangular(a, b, lower=False):
    """Return x with a · x = b for a triangular a, of which the other triangle is not read."""
    a, b = promote(a, b, floating=True)
    a = _matrix(a, "solve_triangular", square=True)
    vector = rank(b) == rank(a) - 1
    b = _upright(b) if vector else b
    n = a.shape[-1]
    keep = tensor(np.tril(np.ones((n, n), bool)) if lower else np.triu(np.ones((n, n), bool)))
    a = prim.select(keep, a, tensor(0.0, dtype_key(a)))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return tensor(solve(a, b[..., 0] if vector else b))

    def step(i, x):
        x, i = tensor(x), tensor(i)
        k = i if lower else prim.sub(tensor(n - 1, "int32"), i)
        row = _row(a, k)
        known = prim.reshape(_matmul(_flat(row), x), shape=(*x.shape[:-2], x.shape[-1]))
        new = prim.div(prim.sub(_row(b, k), known), _upright(_column(row, k)))
        return prim.select(_upright(prim.eq(_count(n), k)), _flat(new), x)

    found = tensor(fori_loop(0, n, step, _zeros(b, tuple(b.shape))))
    return prim.reshape(found, shape=tuple(b.shape[:-1])) if vector else found


@public
def cholesky_inverse(x, upper=False):
    """Return the inverse of the matrix whose Cholesky factor is x."""
    x = _matrix(x, "cholesky_inverse", square=True)
    lower = _transposed(x) if upper else x
    half = tensor(solve_triangular(lower, _identity(lower, lower.shape[-1]), lower=True))
    return _matmul(_transposed(half), half)


@public
def qr(x, mode="reduced"):
    """Return (Q, R) with orthonormal columns in Q and R upper triangular, by Householder's reflections.

    Args: mode: `"reduced"`: Q [..., m, k], R [..., k, n] with k = min(m, n); `"complete"`: Q [..., m, m].
    """
    if mode not in ("reduced", "complete"):
        raise ArgumentError(f"`mode` argument value not supported. Expected 'reduced' or 'complete'. Received: {mode}")
    x = _matrix(x, "qr")
    if isinstance(x, np.ndarray):
        return tuple(np.linalg.qr(x, mode))
    (m, n), kind = x.shape[-2:], dtype_key(x)
    k = min(m, n)
    zero, one, two = (tensor(v, kind) for v in (0.0, 1.0, 2.0))

    def step(k, state):
        q, r = (tensor(v) for v in state)
        k, places = tensor(k), _count(m)
        column = _column(r, k)
        below = prim.select(prim.gt(places, k), column, zero)
        head = _upright(_column(column, k))
        rest = _upright(prim.reduce_sum(prim.square(below), axes=(rank(below) - 1,), keepdims=False))
        flat = prim.eq(rest, zero)  # nothing to clear: no reflection
        size = prim.sqrt(prim.add(prim.square(head), prim.select(flat, one, rest)))
        turned = prim.add(head, prim.select(prim.lt(head, zero), prim.neg(size), size))
        v = prim.select(prim.eq(places, k), turned, below)
        length = prim.add(prim.square(turned), rest)
        scale = prim.reshape(prim.select(flat, zero, prim.div(two, length)), shape=(*x.shape[:-2], 1, 1))
        r = prim.sub(r, prim.mul(scale, prim.mul(_upright(v), _matmul(_flat(v), r))))
        q = prim.sub(q, prim.mul(scale, prim.mul(_matmul(q, _upright(v)), _flat(v))))
        return q, r

    q, r = (tensor(v) for v in fori_loop(0, k, step, (_identity(x, m), x)))
    r = prim.select(tensor(np.triu(np.ones((m, n), bool))), r, zero)
    if mode == "complete":
        return q, r
    return part(q, rank(q) - 1, 0, k), part(r, rank(r) - 2, 0, k)


# rotations ------------------------------------------------------------------------------------------


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
    return prim.add(prim.mul(x, _flat(cosine)), prim.mul(other, _flat(sine)))


def _jacobi_eigh(a):
    n = a.shape[-1]
    table, places = tensor(tournament(n)), _count(n)

    def step(t, state):
        a, v = (tensor(s) for s in state)
        partner = _partners(table, t)
        own = _diagonal(a)
        meets = prim.eq(_upright(places), _flat(partner))  # [row, column]: the row is the column's partner
        off = prim.logical_and(meets, prim.ne(_upright(places), _flat(places)))
        product = prim.reduce_sum(prim.select(off, a, tensor(0.0, dtype_key(a))), axes=(rank(a) - 2,), keepdims=False)
        other = prim.gather(own, partner, axis=rank(own) - 1)
        c, s = _rotation(own, other, product, prim.lt(places, partner))
        a = _transposed(_turned(_transposed(_turned(a, partner, c, s)), partner, c, s))
        return a, _turned(v, partner, c, s)

    a, v = (tensor(s) for s in fori_loop(0, _sweeps(n) * table.shape[0], step, (a, _identity(a, n))))
    return _diagonal(a), v


def _change(x):
    """Zero, with the derivative of x."""
    return prim.sub(x, prim.stop_gradient(x))


def _ordered(values, *matrices, descending: bool):
    """Values sorted along the last axis, and the columns of matrices with them."""
    places = order(values, rank(values) - 1, descending)
    n = values.shape[-1]
    moves = cast(prim.eq(_upright(_count(n)), _flat(places)), dtype_key(values))
    return (
        prim.reshape(_matmul(_flat(values), moves), shape=tuple(values.shape)),
        *(_matmul(m, moves) for m in matrices),
    )


def _apart(x):
    """1 / (x_j - x_i), 0 where they are equal."""
    gap = prim.sub(_flat(x), _upright(x))
    zero, one = tensor(0.0, dtype_key(x)), tensor(1.0, dtype_key(x))
    same = prim.eq(gap, zero)
    return prim.select(same, zero, prim.reciprocal(prim.select(same, one, gap)))


@public
def eigh(x):
    """Return (eigenvalues in ascending order, eigenvectors as columns) of symmetric matrices."""
    x = _matrix(x, "eigh", square=True)
    if isinstance(x, np.ndarray):
        return tuple(np.linalg.eigh(x))
    half = tensor(0.5, dtype_key(x))
    x = prim.mul(half, prim.add(x, _transposed(x)))
    w, v = (prim.stop_gradient(s) for s in _ordered(*_jacobi_eigh(prim.stop_gradient(x)), descending=False))
    inner = _matmul(_transposed(v), _matmul(_change(x), v))
    return prim.add(w, _diagonal(inner)), prim.add(v, _matmul(v, prim.mul(_apart(w), inner)))


def _jacobi_svd(a):
    """One-sided: columns are turned until they are orthogonal; their lengths are the singular values."""
    n = a.shape[-1]
    table, places = tensor(tournament(n)), _count(n)

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

    u, v = (tensor(s) for s in fori_loop(0, _sweeps(n) * table.shape[0], step, (a, _identity(a, n))))
    s = prim.sqrt(prim.reduce_sum(prim.square(u), axes=(rank(u) - 2,), keepdims=False))
    s, u, v = _ordered(s, u, v, descending=True)
    none = prim.eq(s, tensor(0.0, dtype_key(s)))
    return prim.div(u, _flat(prim.select(none, tensor(1.0, dtype_key(s)), s))), s, v


def _thin_svd(x):
    """u [..., m, k], s [..., k], v [..., n, k], differentiable where singular values differ."""
    if x.shape[-2] < x.shape[-1]:
        v, s, u = _thin_svd(_transposed(x))
        return u, s, v
    u, s, v = (prim.stop_gradient(r) for r in _jacobi_svd(prim.stop_gradient(x)))
    change = _change(x)
    inner = _matmul(_transposed(u), _matmul(change, v))
    apart, row, column = _apart(prim.square(s)), _flat(s), _upright(s)
    none = prim.eq(s, tensor(0.0, dtype_key(s)))
    inverse = _flat(
        prim.select(none, tensor(0.0, dtype_key(s)), prim.reciprocal(prim.select(none, prim.add(s, 1.0), s)))
    )
    turned = prim.mul(apart, prim.add(prim.mul(inner, row), prim.mul(column, _transposed(inner))))
    beside = prim.sub(_matmul(change, v), _matmul(u, inner))
    du = prim.add(_matmul(u, turned), prim.mul(beside, inverse))
    turned = prim.mul(apart, prim.add(prim.mul(column, inner), prim.mul(_transposed(inner), row)))
    dv = _matmul(v, turned)
    return prim.add(u, du), prim.add(s, _diagonal(inner)), prim.add(v, dv)


def _completed(u, size: int):
    """Further orthonormal columns; without a gradient."""
    if u.shape[-1] == size:
        return u
    full = tensor(qr(prim.stop_gradient(u), "complete")[0])
    return prim.concat(u, part(full, rank(full) - 1, u.shape[-1], size - u.shape[-1]), axis=rank(u) - 1)


@public
def svd(x, full_matrices=True, compute_uv=True):
    """Return (u, s, vᵀ) with x = u · diag(s) · vᵀ and s in descending order; s alone without `compute_uv`."""
    x = _matrix(x, "svd")
    if isinstance(x, np.ndarray):
        found = np.linalg.svd(x, full_matrices=full_matrices, compute_uv=compute_uv)
        return tuple(found) if compute_uv else found
    u, s, v = _thin_svd(x)
    if not compute_uv:
        return s
    if full_matrices:
        u, v = _completed(u, x.shape[-2]), _completed(v, x.shape[-1])
    return u, s, _transposed(v)


@public
def pinv(x, rcond=None):
    """Return the pseudo-inverse; singular values below rcond times the largest count as zero."""
    x = _matrix(x, "pinv")
    kind = dtype_key(x)
    share = 10.0 * max(x.shape[-2:]) * float(np.finfo(kind).eps) if rcond is None else float(rcond)
    if isinstance(x, np.ndarray):
        return np.linalg.pinv(x, share)
    u, s, v = (prim.stop_gradient(r) for r in _thin_svd(prim.stop_gradient(x)))
    zero, one = tensor(0.0, kind), tensor(1.0, kind)
    kept = prim.gt(s, prim.mul(tensor(share, kind), prim.reduce_max(s, axes=(rank(s) - 1,), keepdims=True)))
    inverse = prim.select(kept, prim.reciprocal(prim.select(kept, s, one)), zero)
    p = prim.stop_gradient(_matmul(prim.mul(v, _flat(inverse)), _transposed(u)))
    d, at = _change(x), prim.stop_gradient(x)
    dt = _transposed(d)
    left = prim.sub(dt, _matmul(dt, _matmul(at, p)))  # dAᵀ (1 - A P)
    right = prim.sub(dt, _matmul(_matmul(p, at), dt))  # (1 - P A) dAᵀ
    change = prim.neg(_matmul(p, _matmul(d, p)))
    change = prim.add(change, _matmul(_matmul(p, _transposed(p)), left))
    return prim.add(p, prim.add(change, _matmul(right, _matmul(_transposed(p), p))))


@public
def lstsq(a, b, rcond=None):
    """Return the x of least norm among those with the smallest |a · x - b|."""
    a, b = promote(a, b, floating=True)
    if rank(a) != 2 or rank(b) not in (1, 2) or a.shape[0] != b.shape[0]:
        raise ShapeError(f"lstsq: incompatible shapes {tuple(a.shape)} and {tuple(b.shape)}")
    share = float(np.finfo(dtype_key(a)).eps) * max(a.shape) if rcond is None else rcond
    return _matmul(tensor(pinv(a, share)), b)


@public
def matrix_rank(x, tol=None):
    """Return the number of singular values above `tol`."""
    x = _matrix(x, "matrix_rank")
    s = tensor(svd(x, compute_uv=False))
    if tol is None:
        share = tensor(max(x.shape[-2:]) * float(np.finfo(dtype_key(x)).eps), dtype_key(x))
        tol = prim.mul(share, prim.reduce_max(s, axes=(rank(s) - 1,), keepdims=True))
    above = cast(prim.gt(s, tensor(tol, dtype_key(s))), "int32")
    return prim.reduce_sum(above, axes=(rank(s) - 1,), keepdims=False)


def eig(x):
    """Eigenvalues of general matrices are complex numbers, which kcompile has no dtype for."""
    raise NotSupportedError(
        "keras.ops.eig returns complex numbers, which kcompile has no dtype for; eigh takes symmetric"
    )


# norms ----------------------------------------------------------------------------------------------


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


def __getattr__(name: str):
    names = [n for n, f in PUBLIC.items() if f.__module__ == __name__]
    raise MissingNameError(f"keras.ops.linalg.{name} is not available in kcompile.{suggestion(name, names)}")
