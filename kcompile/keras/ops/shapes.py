"""keras.ops functions that move elements: reshape, transpose, concatenate, slice, pad, ...

Sizes may be symbolic. A `-1` in a shape is resolved exactly, by dividing sizes as polynomials.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.ir import dim
from kcompile.ir.dim import Dim, DimLike
from kcompile.ir.graph import Value
from kcompile.ir.types import broadcast_shapes
from kcompile.keras.ops.function import axes_of, axis_of, broadcast, dtype_key, promote, public, rank, tensor
from kcompile.keras.ops.sizes import size_of, sizes_of
from kcompile.keras.tracing.tensor import KerasTensor


def shape(x) -> tuple:
    """Return the sizes of x: ints, symbolic sizes while tracing, None in a symbolic model."""
    return tuple(x.shape) if isinstance(x, (KerasTensor, Value)) else tuple(tensor(x).shape)


def ndim(x) -> int:
    """Return the number of axes of x."""
    return len(shape(x))


def size(x):
    """Return the number of elements of x."""
    sizes = shape(x)
    return None if None in sizes else dim.product(sizes)


def resolve_shape(new_shape: Sequence, total: DimLike) -> tuple[DimLike, ...]:
    """Return `new_shape` with its one -1 (or None) replaced by what is left of `total` elements.

    Raises: ShapeError if the sizes cannot fit.
    """
    new_shape = sizes_of(new_shape)
    unknown = [i for i, s in enumerate(new_shape) if s is None or (not isinstance(s, Dim) and s == -1)]
    if len(unknown) > 1:
        raise ShapeError(f"reshape can find one size, received several -1 in {tuple(new_shape)}")
    known = dim.product(s for i, s in enumerate(new_shape) if i not in unknown)
    if not unknown:
        if isinstance(total, int) and isinstance(known, int) and total != known:
            raise ShapeError(f"cannot reshape {total} elements to shape {tuple(new_shape)}")
        return tuple(new_shape)
    rest = _exact_quotient(total, known, new_shape)
    return tuple(rest if i in unknown else s for i, s in enumerate(new_shape))


def _exact_quotient(total: DimLike, known: DimLike, new_shape) -> DimLike:
    if known == 0:
        if total == 0:
            return 0
        raise ShapeError(f"cannot reshape {total} elements to shape {tuple(new_shape)}")
    quotient = dim.floordiv(total, known)
    if isinstance(total, int) and isinstance(known, int) and quotient * known != total:
        raise ShapeError(f"cannot reshape {total} elements to shape {tuple(new_shape)}")
    return quotient


@public
def reshape(x, newshape):
    """Give x another shape; one size may be -1."""
    x = tensor(x)
    return prim.reshape(x, shape=resolve_shape(newshape, dim.product(x.shape)))


@public
def ravel(x):
    """Return x with one axis."""
    x = tensor(x)
    return prim.reshape(x, shape=(dim.product(x.shape),))


@public
def transpose(x, axes=None):
    """Permute the axes of x; by default reverse them."""
    x = tensor(x)
    count = rank(x)
    perm = tuple(range(count))[::-1] if axes is None else tuple(axis_of(a, count) for a in axes)
    if sorted(perm) != list(range(count)):
        raise ArgumentError(f"axes {axes} are not a permutation of the {count} axes of x")
    return x if perm == tuple(range(count)) else prim.transpose(x, perm=perm)


@public
def swapaxes(x, axis1, axis2):
    """Exchange two axes."""
    x = tensor(x)
    perm = list(range(rank(x)))
    a, b = axis_of(axis1, rank(x)), axis_of(axis2, rank(x))
    perm[a], perm[b] = perm[b], perm[a]
    return prim.transpose(x, perm=tuple(perm))


@public
def moveaxis(x, source, destination):
    """Move axes to new positions; the others keep their order."""
    x = tensor(x)
    count = rank(x)
    source = [axis_of(a, count) for a in (source if isinstance(source, (list, tuple)) else (source,))]
    places = [axis_of(a, count) for a in (destination if isinstance(destination, (list, tuple)) else (destination,))]
    order = [a for a in range(count) if a not in source]
    for place, axis in sorted(zip(places, source)):
        order.insert(place, axis)
    return prim.transpose(x, perm=tuple(order))


@public
def expand_dims(x, axis):
    """Insert axes of size 1."""
    x = tensor(x)
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    count = rank(x) + len(axes)
    places = {axis_of(a, count) for a in axes}
    old = iter(x.shape)
    return prim.reshape(x, shape=tuple(1 if i in places else next(old) for i in range(count)))


@public
def squeeze(x, axis=None):
    """Remove axes of size 1."""
    x = tensor(x)
    if axis is None:
        places = {i for i, s in enumerate(x.shape) if s == 1}
    else:
        places = set(axes_of(axis, rank(x)))
        for place in places:
            if x.shape[place] != 1:
                raise ArgumentError(f"Cannot squeeze axis={axis}, because the dimension is not 1: shape {x.shape}")
    return prim.reshape(x, shape=tuple(s for i, s in enumerate(x.shape) if i not in places))


@public
def broadcast_to(x, shape):
    """Repeat x along axes of size 1 to reach `shape`."""
    return broadcast(tensor(x), sizes_of(shape))


@public
def concatenate(xs, axis=0):
    """Join tensors along an existing axis."""
    xs = promote(*xs)
    if len(xs) == 1:
        return xs[0]
    return prim.concat(*xs, axis=axis_of(axis, rank(xs[0])))


@public
def stack(x, axis=0):
    """Join tensors along a new axis."""
    xs = promote(*x)
    place = axis_of(axis, rank(xs[0]) + 1)
    grown = [prim.reshape(p, shape=(*p.shape[:place], 1, *p.shape[place:])) for p in xs]
    return grown[0] if len(grown) == 1 else prim.concat(*grown, axis=place)


@public
def unstack(x, num=None, axis=0):
    """Return the slices of x along `axis` as a list."""
    x = tensor(x)
    place = axis_of(axis, rank(x))
    count = num if num is not None else x.shape[place]
    if not isinstance(count, int):
        raise NotSupportedError("unstack needs a size known when the program is compiled; pass num=")
    rest = tuple(s for i, s in enumerate(x.shape) if i != place)
    return [prim.reshape(part(x, place, i, 1), shape=rest) for i in range(count)]


@public
def split(x, indices_or_sections, axis=0):
    """Cut x into equal parts (an int) or at the given indices; returns a list."""
    x = tensor(x)
    place = axis_of(axis, rank(x))
    total = x.shape[place]
    if isinstance(indices_or_sections, (int, np.integer)):
        count = int(indices_or_sections)
        if isinstance(total, int) and total % count:
            raise ArgumentError(f"split: {total} elements on axis {axis} do not divide into {count} equal parts")
        width = dim.floordiv(total, count)
        return [part(x, place, i * width, width) for i in range(count)]
    edges = [0, *(int(i) for i in indices_or_sections), total]
    return [part(x, place, a, b - a) for a, b in itertools.pairwise(edges)]


def part(x, axis: int, start: DimLike, length: DimLike, stride: int = 1):
    """Return `length` slices of x along one axis."""
    starts = tuple(start if i == axis else 0 for i in range(rank(x)))
    sizes = tuple(length if i == axis else s for i, s in enumerate(x.shape))
    strides = tuple(stride if i == axis else 1 for i in range(rank(x)))
    return prim.slice(x, starts=starts, sizes=sizes, strides=strides)


@public
def append(x1, x2, axis=None):
    """Join two tensors; with axis=None both are flattened first."""
    a, b = promote(x1, x2)
    if axis is None:
        a, b = (prim.reshape(t, shape=(dim.product(t.shape),)) for t in (a, b))
        axis = 0
    return prim.concat(a, b, axis=axis_of(axis, rank(a)))


@public
def hstack(xs):
    """Join along the second axis (the only one of vectors)."""
    xs = promote(*xs)
    return prim.concat(*xs, axis=0 if rank(xs[0]) == 1 else 1)


@public
def vstack(xs):
    """Join along the first axis; vectors become rows."""
    xs = [prim.reshape(x, shape=(1, *x.shape)) if rank(x) < 2 else x for x in promote(*xs)]
    return prim.concat(*xs, axis=0)


@public
def flip(x, axis=None):
    """Reverse the order along axes (all by default)."""
    x = tensor(x)
    return prim.reverse(x, axes=axes_of(axis, rank(x)))


@public
def repeat(x, repeats, axis=None):
    """Repeat each element of x `repeats` times along `axis` (of the flattened x by default)."""
    x = tensor(x)
    if axis is None:
        x, axis = prim.reshape(x, shape=(dim.product(x.shape),)), 0
    place = axis_of(axis, rank(x))
    if not isinstance(repeats, (Dim, Value)) and (np.ndim(repeats) or not isinstance(repeats, (int, np.integer))):
        counts = np.broadcast_to(np.asarray(repeats, np.int64), (x.shape[place],))
        return prim.gather(x, np.repeat(np.arange(x.shape[place]), counts).astype(np.int32), axis=place)
    before, size, after = x.shape[:place], x.shape[place], x.shape[place + 1 :]
    count = size_of(repeats)
    grown = prim.reshape(x, shape=(*before, size, 1, *after))
    grown = broadcast(grown, (*before, size, count, *after))
    return prim.reshape(grown, shape=(*before, size * count, *after))


@public
def tile(x, repeats):
    """Repeat the whole of x along each axis."""
    x = tensor(x)
    repeats = sizes_of(repeats)
    count = max(rank(x), len(repeats))
    sizes = (1,) * (count - rank(x)) + tuple(x.shape)
    repeats = (1,) * (count - len(repeats)) + repeats
    grown = prim.reshape(x, shape=tuple(s for size in sizes for s in (1, size)))
    grown = broadcast(grown, [s for r, size in zip(repeats, sizes) for s in (r, size)])
    return prim.reshape(grown, shape=tuple(r * size for r, size in zip(repeats, sizes)))


@public
def roll(x, shift, axis=None):
    """Move elements along axes; what leaves at one end enters at the other."""
    x = tensor(x)
    if axis is None:
        flat = prim.reshape(x, shape=(dim.product(x.shape),))
        return prim.reshape(_roll(flat, int(shift), 0), shape=tuple(x.shape))
    axes = axis if isinstance(axis, (list, tuple)) else (axis,)
    shifts = shift if isinstance(shift, (list, tuple)) else (shift,) * len(axes)
    for amount, place in zip(shifts, axes):
        x = _roll(x, int(amount), axis_of(place, rank(x)))
    return x


def _roll(x, amount: int, axis: int):
    size = x.shape[axis]
    if isinstance(size, int):
        amount = amount % size if size else 0
        if amount == 0:
            return x
        return prim.concat(part(x, axis, size - amount, amount), part(x, axis, 0, size - amount), axis=axis)
    if amount == 0:
        return x
    if amount > 0:
        return prim.concat(part(x, axis, size - amount, amount), part(x, axis, 0, size - amount), axis=axis)
    return prim.concat(part(x, axis, -amount, size + amount), part(x, axis, 0, -amount), axis=axis)


@public
def pad(x, pad_width, mode="constant", constant_values=None):
    """Add elements at the ends of each axis.

    Args:
        pad_width: a number for all, a (before, after) pair for all, or one pair per axis.
        mode: `"constant"`, `"reflect"`, `"symmetric"` or `"edge"`.
    """
    x = tensor(x)
    widths = _pad_widths(pad_width, rank(x))
    if mode == "constant":
        (value,) = [0 if constant_values is None else constant_values]
        value = value.item() if isinstance(value, (np.ndarray, np.generic)) else value
        return pad_constant(x, widths, value)
    if constant_values is not None:
        raise ArgumentError(
            f"Argument `constant_values` can only be provided when `mode == 'constant'`. Received: mode={mode}"
        )
    if mode not in ("reflect", "symmetric", "edge"):
        raise ArgumentError(f"unknown padding mode {mode!r}; expected constant, reflect, symmetric or edge")
    for axis, (low, high) in enumerate(widths):
        x = _pad_mirrored(x, axis, low, high, mode)
    return x


def pad_constant(x, widths: Sequence[tuple[DimLike, DimLike]], value):
    """Pad with a number; x itself if there is nothing to add."""
    if all(isinstance(w, int) and w == 0 for pair in widths for w in pair):
        return x
    low, high = tuple(w[0] for w in widths), tuple(w[1] for w in widths)
    return prim.pad(x, low=low, high=high, interior=(0,) * rank(x), value=value)


def _pad_widths(pad_width, count: int) -> list[tuple[DimLike, DimLike]]:
    if isinstance(pad_width, (int, np.integer)):
        return [(int(pad_width), int(pad_width))] * count
    if isinstance(pad_width, np.ndarray):
        pad_width = pad_width.tolist()
    pairs = [p if isinstance(p, (list, tuple)) else None for p in pad_width]
    if all(p is None for p in pairs) and len(pad_width) == 2:
        return [tuple(pad_width)] * count
    pairs = [(p[0], p[-1]) if p is not None else (w, w) for p, w in zip(pairs, pad_width)]
    if len(pairs) == 1:
        pairs *= count
    if len(pairs) != count:
        raise ArgumentError(f"pad_width must have one pair per axis ({count}), received {pad_width}")
    return pairs


def _pad_mirrored(x, axis: int, low: int, high: int, mode: str):
    size = x.shape[axis]
    if not low and not high:
        return x
    skip = 1 if mode == "reflect" else 0
    if isinstance(size, int) and mode != "edge" and max(low, high) > size - skip:
        raise ArgumentError(f"{mode} padding of {max(low, high)} is wider than axis {axis} of size {size}")

    def edge(at, length):
        one = part(x, axis, at, 1)
        return prim.broadcast_to(one, shape=tuple(length if i == axis else s for i, s in enumerate(one.shape)))

    if mode == "edge":
        before, after = edge(0, low), edge(size - 1, high)
    else:
        before = prim.reverse(part(x, axis, skip, low), axes=(axis,))
        after = prim.reverse(part(x, axis, size - skip - high, high), axes=(axis,))
    return prim.concat(*([before] if low else []), x, *([after] if high else []), axis=axis)


@public
def diff(a, n=1, axis=-1):
    """Return the n-th difference of neighbours along an axis."""
    x = tensor(a)
    place = axis_of(axis, rank(x))
    minus = prim.logical_xor if dtype_key(x) == "bool" else prim.sub
    for _ in range(n):
        width = x.shape[place] - 1
        x = minus(part(x, place, 1, width), part(x, place, 0, width))
    return x


@public
def meshgrid(*x, indexing="xy"):
    """Return coordinate matrices from vectors."""
    xs = [tensor(v) for v in x]
    order = list(range(len(xs)))
    if indexing == "xy" and len(xs) > 1:
        order[0], order[1] = 1, 0
    sizes = tuple(dim.product(xs[i].shape) for i in order)
    result = []
    for i, vector in enumerate(xs):
        place = order.index(i)
        grown = prim.reshape(vector, shape=tuple(sizes[place] if p == place else 1 for p in range(len(xs))))
        result.append(prim.broadcast_to(grown, shape=sizes))
    return result


def broadcast_shape(*shapes) -> tuple:
    """Return the shape that tensors of these shapes broadcast to (None is an unknown size)."""
    named = [tuple(dim.symbol("unknown") if s is None else s for s in one) for one in shapes]
    return tuple(None if isinstance(s, Dim) else s for s in broadcast_shapes(*named))
