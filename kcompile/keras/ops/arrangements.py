"""keras.ops functions that rearrange or combine whole tensors: rot90, kron, cross, trapezoid, cdist, blocks, ..."""

from __future__ import annotations

import builtins
import math

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir import dim
from kcompile.keras.ops.creation import diag, linspace
from kcompile.keras.ops.function import axis_of, dtype_key, floating, promote, public, rank, tensor
from kcompile.keras.ops.products import matmul
from kcompile.keras.ops.reductions import mean_over
from kcompile.keras.ops.shapes import flip, moveaxis, part, split, swapaxes
from kcompile.keras.tracing.dtypes import standardize_dtype


@public
def array_split(x, indices_or_sections, axis=0):
    """Cut x into parts that differ by one at most, or at the given indices."""
    if not isinstance(indices_or_sections, (int, np.integer)):
        return split(x, indices_or_sections, axis)
    x, count = tensor(x), int(indices_or_sections)
    size = x.shape[axis_of(axis, rank(x))]
    if not isinstance(size, int):
        raise ShapeError("array_split needs a size known when the program is compiled")
    widths = [size // count + (n < size % count) for n in range(count)]
    return split(x, np.cumsum(widths)[:-1].tolist(), axis)


@public
def hsplit(x, indices_or_sections):
    """Cut along the second axis (the only one of vectors)."""
    return split(x, indices_or_sections, 0 if rank(tensor(x)) == 1 else 1)


@public
def vsplit(x, indices_or_sections):
    """Cut along the first axis."""
    return split(x, indices_or_sections, 0)


@public
def dsplit(x, indices_or_sections):
    """Cut along the third axis."""
    return split(x, indices_or_sections, 2)


@public
def dstack(xs):
    """Join along the third axis; vectors and matrices grow to rank 3 first."""
    grown = []
    for x in promote(*xs):
        shape = (1, x.shape[0], 1) if rank(x) == 1 else (*x.shape, 1) if rank(x) == 2 else tuple(x.shape)
        grown.append(prim.reshape(x, shape=shape if rank(x) else (1, 1, 1)))
    return grown[0] if len(grown) == 1 else prim.concat(*grown, axis=2)


@public
def fliplr(x):
    """Reverse the second axis."""
    return flip(x, 1)


@public
def flipud(x):
    """Reverse the first axis."""
    return flip(x, 0)


@public
def rot90(array, k=1, axes=(0, 1)):
    """Turn by k quarter turns in the plane of two axes, from the first towards the second."""
    x = tensor(array)
    if rank(x) < 2 or len(axes) != 2 or axis_of(axes[0], rank(x)) == axis_of(axes[1], rank(x)):
        raise ArgumentError(f"Invalid axes: {axes} for a tensor of rank {rank(x)}. Axes must be two different ones")
    turns = int(k) % 4
    if turns == 2:
        return flip(x, tuple(axes))
    if turns:
        x = swapaxes(flip(x, axes[1]) if turns == 1 else x, *axes)
        return x if turns == 1 else flip(x, axes[1])
    return x


@public
def diagflat(x, k=0):
    """Return a matrix with the flattened x on its k-th diagonal."""
    x = tensor(x)
    return diag(prim.reshape(x, shape=(dim.product(x.shape),)), k)


@public
def kron(x1, x2):
    """Return the Kronecker product: every element of x1 times the whole of x2."""
    a, b = promote(x1, x2)
    count = builtins.max(rank(a), rank(b))
    wide = [(1,) * (count - rank(t)) + tuple(t.shape) for t in (a, b)]
    left = prim.reshape(a, shape=tuple(s for size in wide[0] for s in (size, 1)))
    right = prim.reshape(b, shape=tuple(s for size in wide[1] for s in (1, size)))
    return prim.reshape(prim.mul(left, right), shape=tuple(m * n for m, n in zip(*wide)))


@public
def vander(x, N=None, increasing=False):
    """Return the powers of the vector x as columns, the highest first."""
    x = tensor(x)
    if rank(x) != 1:
        raise ShapeError(f"vander takes a vector, received shape {tuple(x.shape)}")
    size = x.shape[0] if N is None else int(N)
    column = prim.reshape(x, shape=(x.shape[0], 1))
    powers = [prim.select(prim.eq(column, column), *([tensor(1, dtype_key(x))] * 2))]
    for _ in range(1, size):
        powers.append(prim.mul(powers[-1], column))
    powers = powers[:size] if increasing else powers[:size][::-1]
    return powers[0] if len(powers) == 1 else prim.concat(*powers, axis=1)


@public
def cross(x1, x2, axisa=-1, axisb=-1, axisc=-1, axis=None):
    """Return the cross product of vectors of 2 or 3 elements."""
    axisa, axisb, axisc = (axis,) * 3 if axis is not None else (axisa, axisb, axisc)
    a, b = promote(x1, x2)
    a, b = tensor(moveaxis(a, axisa, -1)), tensor(moveaxis(b, axisb, -1))
    sizes = (a.shape[-1], b.shape[-1])
    if not set(sizes) <= {2, 3}:
        raise ShapeError(f"cross: vectors have 2 or 3 elements, received {sizes}")

    def parts(x):
        found = [prim.reshape(part(x, rank(x) - 1, n, 1), shape=tuple(x.shape[:-1])) for n in range(x.shape[-1])]
        return found if len(found) == 3 else [*found, tensor(0, dtype_key(x))]

    (a0, a1, a2), (b0, b1, b2) = parts(a), parts(b)
    last = prim.sub(prim.mul(a0, b1), prim.mul(a1, b0))
    if sizes == (2, 2):
        return last
    rest = [prim.sub(prim.mul(a1, b2), prim.mul(a2, b1)), prim.sub(prim.mul(a2, b0), prim.mul(a0, b2)), last]
    joined = prim.concat(*(prim.reshape(r, shape=(*last.shape, 1)) for r in rest), axis=rank(last))
    return moveaxis(joined, -1, axisc)


@public
def trapezoid(y, x=None, dx=1.0, axis=-1):
    """Return the integral along an axis by the trapezoidal rule, at points `x` or `dx` apart."""
    y = floating(y)
    kind, place = dtype_key(y), axis_of(axis, rank(y))
    width = y.shape[place] - 1
    if x is None:
        step = tensor(dx, kind)
    else:
        points = tensor(x, kind)
        along = axis_of(axis, rank(points)) if rank(points) > 1 else 0
        step = prim.sub(part(points, along, 1, width), part(points, along, 0, width))
        if rank(step) == 1:
            step = prim.reshape(step, shape=tuple(width if n == place else 1 for n in range(rank(y))))
    both = prim.add(part(y, place, 1, width), part(y, place, 0, width))
    area = prim.mul(prim.mul(both, step), tensor(0.5, kind))
    return prim.reduce_sum(area, axes=(place,), keepdims=False)


@public
def corrcoef(x):
    """Return the correlation coefficients of the rows of x."""
    x = floating(x)
    if rank(x) == 1:
        x = prim.reshape(x, shape=(1, x.shape[0]))
    centred = prim.sub(x, mean_over(x, (1,), True))
    size = prim.sqrt(prim.reduce_sum(prim.square(centred), axes=(1,), keepdims=True))
    rows = prim.div(centred, size)
    found = tensor(matmul(rows, prim.transpose(rows, perm=(1, 0))))
    low, high = tensor(-1.0, dtype_key(x)), tensor(1.0, dtype_key(x))
    found = prim.minimum(prim.maximum(found, low), high)
    return prim.reshape(found, shape=()) if x.shape[0] == 1 else found


@public
def correlate(x1, x2, mode="valid"):
    """Return the cross-correlation of two vectors: the sums of their products at every shift."""
    a, b = promote(x1, x2, extra=(int,))
    if rank(a) != 1 or rank(b) != 1:
        raise ShapeError("correlate takes vectors")
    n, m = a.shape[0], b.shape[0]
    if mode not in ("valid", "same", "full"):
        raise ArgumentError(f"correlate: mode must be 'valid', 'same' or 'full', received {mode!r}")
    low = {"full": m - 1, "same": m // 2 if n >= m else n // 2, "valid": 0}[mode]
    if mode == "valid" and m > n:
        return flip(correlate(b, a, mode))
    length = {"full": n + m - 1, "same": builtins.max(n, m), "valid": n - m + 1}[mode]
    if mode == "same" and m > n:
        low = m - 1 - (n - 1) // 2
    padded = prim.pad(a, low=(low,), high=(length + m - 1 - n - low,), interior=(0,), value=0)
    kernel = prim.reshape(b, shape=(m, 1, 1))
    line = prim.reshape(padded, shape=(1, length + m - 1, 1))
    found = prim.conv(line, kernel, strides=(1,), padding=((0, 0),), dilation=(1,))
    return prim.reshape(found, shape=(length,))


@public
def cdist(x, y):
    """Return the Euclidean distances between the rows of x [..., m, k] and of y [..., n, k]."""
    a, b = promote(x, y, floating=True)
    a = prim.reshape(a, shape=(*a.shape[:-1], 1, a.shape[-1]))
    b = prim.reshape(b, shape=(*b.shape[:-2], 1, *b.shape[-2:]))
    squares = prim.square(prim.sub(a, b))
    total = prim.reduce_sum(squares, axes=(rank(squares) - 1,), keepdims=False)
    zero, one = tensor(0.0, dtype_key(a)), tensor(1.0, dtype_key(a))
    apart = prim.gt(total, zero)  # the root of 0 has no slope
    return prim.select(apart, prim.sqrt(prim.select(apart, total, one)), zero)


@public
def unravel_index(indices, shape):
    """Return the coordinates of flat indices in a tensor of `shape`."""
    flat = tensor(indices, "int32")
    total = math.prod(shape)
    flat = prim.select(prim.lt(flat, tensor(0, "int32")), prim.add(flat, tensor(total, "int32")), flat)
    found = []
    for size in reversed(shape):
        found.append(prim.mod(flat, tensor(int(size), "int32")))
        flat = prim.floordiv(flat, tensor(int(size), "int32"))
    return tuple(reversed(found))


@public
def logspace(start, stop, num=50, endpoint=True, base=10, dtype=None, axis=0):
    """Return `num` numbers whose logarithms are evenly spaced: base**start to base**stop."""
    steps = floating(linspace(start, stop, num, endpoint, axis=axis))
    found = prim.pow(tensor(float(base), dtype_key(steps)), steps)
    return tensor(found, standardize_dtype(dtype)) if dtype else found


@public
def geomspace(start, stop, num=50, endpoint=True, dtype=None, axis=0):
    """Return `num` numbers with equal ratios from start to stop (of one sign, known numbers)."""
    start, stop = (np.asarray(tensor(v), np.float64) for v in (start, stop))
    found = np.geomspace(start, stop, int(num), endpoint=endpoint, axis=axis)
    return found.astype(standardize_dtype(dtype))


# blocks of pixels -----------------------------------------------------------------------------------


def _checked_blocks(x, data_format: str):
    x = tensor(x)
    if rank(x) != 4:
        raise ShapeError(f"expected a tensor of rank 4, received shape {tuple(x.shape)}")
    if data_format not in ("channels_last", "channels_first"):
        raise ArgumentError(f"unknown data_format {data_format!r}")
    return x, data_format == "channels_first"


@public
def depth_to_space(x, block_size, data_format="channels_last"):
    """Move groups of channels into blocks of block_size × block_size pixels.

    A pixel's channels are neighbours with channels_last, block_size² apart with channels_first (as in Keras).
    """
    (x, first), n = _checked_blocks(x, data_format), int(block_size)
    if first:
        batch, channels, height, width = x.shape
        rest = channels // (n * n)
        x = prim.reshape(x, shape=(batch, rest, n, n, height, width))
        x = prim.transpose(x, perm=(0, 1, 4, 2, 5, 3))
        return prim.reshape(x, shape=(batch, rest, height * n, width * n))
    batch, height, width, channels = x.shape
    rest = channels // (n * n)
    x = prim.reshape(x, shape=(batch, height, width, n, n, rest))
    x = prim.transpose(x, perm=(0, 1, 3, 2, 4, 5))
    return prim.reshape(x, shape=(batch, height * n, width * n, rest))


@public
def space_to_depth(x, block_size, data_format="channels_last"):
    """Move blocks of block_size × block_size pixels into channels: the inverse of depth_to_space."""
    (x, first), n = _checked_blocks(x, data_format), int(block_size)
    if first:
        batch, channels, height, width = x.shape
        rows, columns = dim.floordiv(height, n), dim.floordiv(width, n)
        x = prim.reshape(x, shape=(batch, channels, rows, n, columns, n))
        x = prim.transpose(x, perm=(0, 1, 3, 5, 2, 4))
        return prim.reshape(x, shape=(batch, channels * n * n, rows, columns))
    batch, height, width, channels = x.shape
    rows, columns = dim.floordiv(height, n), dim.floordiv(width, n)
    x = prim.reshape(x, shape=(batch, rows, n, columns, n, channels))
    x = prim.transpose(x, perm=(0, 1, 3, 2, 4, 5))
    return prim.reshape(x, shape=(batch, rows, columns, n * n * channels))
