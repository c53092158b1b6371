"""keras.ops functions that write elements at looked-up places: scatter, scatter_update, slice_update, segments."""

from __future__ import annotations

from kcompile import ops as prim
from kcompile.errors import ArgumentError, ShapeError
from kcompile.forms.records import identity
from kcompile.ir import dim, types
from kcompile.ir.dim import Dim
from kcompile.ir.graph import Value
from kcompile.keras.ops.creation import filled, iota
from kcompile.keras.ops.function import broadcast, dtype_key, public, rank, sized, tensor
from kcompile.keras.ops.indexing import as_indices, from_front
from kcompile.keras.ops.shapes import part
from kcompile.keras.ops.sizes import sizes_of
from kcompile.keras.tracing.dtypes import ir_name
from kcompile.keras.tracing.scope import unwrap

_REDUCTIONS = {"add": "scatter_add", "max": "scatter_max", "min": "scatter_min", "mul": "scatter_mul"}


def _flat_rows(indices, sizes):
    """Return the row-major number of each row of indices [..., depth] over the leading `sizes`."""
    depth = indices.shape[-1]
    flat = tensor(0, "int32")
    for axis in range(depth):
        column = part(indices, rank(indices) - 1, axis, 1)
        column = from_front(prim.reshape(column, shape=tuple(indices.shape[:-1])), sizes[axis])
        flat = prim.add(prim.mul(flat, sized(sizes[axis], "int32")), column)
    return prim.reshape(flat, shape=(dim.product(indices.shape[:-1]),))


def _as_rows(x, indices, values):
    """Return x and values as rows that one vector of numbers indexes."""
    depth = indices.shape[-1]
    if not isinstance(depth, int) or depth > rank(x):
        raise ShapeError(f"indices {tuple(indices.shape)} have more columns than a tensor of shape {tuple(x.shape)}")
    rest = tuple(x.shape[depth:])
    flat = _flat_rows(indices, tuple(x.shape))
    rows = prim.reshape(x, shape=(dim.product(x.shape[:depth]), *rest))
    values = broadcast(values, (*indices.shape[:-1], *rest))
    return rows, flat, prim.reshape(values, shape=(dim.product(indices.shape[:-1]), *rest))


@public
def scatter(indices, values, shape):
    """Return zeros of `shape` with `values` added at `indices` [n, k] (k leading axes)."""
    indices, values = tensor(indices, "int32"), tensor(values)
    sizes = sizes_of(shape)
    rows, flat, values = _as_rows(tensor(filled(sizes, 0, dtype_key(values))), indices, values)
    return prim.reshape(prim.scatter_add(rows, flat, values), shape=sizes)


@public
def scatter_update(inputs, indices, updates, reduction=None):
    """Return `inputs` with the elements at `indices` [..., k] (k leading axes) replaced, the last update winning.

    Args: reduction: instead of replacing, combine by `"add"`, `"max"`, `"min"` or `"mul"`.
    """
    x = tensor(inputs)
    indices, updates = tensor(indices, "int32"), tensor(updates, dtype_key(x))
    if reduction is not None and reduction not in _REDUCTIONS:
        raise ArgumentError(f"scatter_update: reduction must be one of {[None, *_REDUCTIONS]}. Received: {reduction!r}")
    rows, flat, values = _as_rows(x, indices, updates)
    combine = getattr(prim, _REDUCTIONS[reduction]) if reduction else _replaced
    return prim.reshape(combine(rows, flat, values), shape=tuple(x.shape))


def _replaced(rows, places, values):
    """Rows replaced: first the number of the last update of each row, then one choice per element."""
    count, total = values.shape[0], rows.shape[0]
    if count == 0:
        return rows
    nobody = tensor(filled((total,), -1, "int32"))
    winner = prim.scatter_max(nobody, places, tensor(iota((count,), 0, "int32")))
    changed = prim.ge(winner, tensor(0, "int32"))
    changed = prim.reshape(changed, shape=(total, *(1 for _ in rows.shape[1:])))
    return prim.select(changed, prim.gather(values, winner, axis=0), rows)


# slices -------------------------------------------------------------------------------------------


def starts_of(start_indices, count: int) -> list:
    """Return the start of each axis: an int or size where it is known, else a scalar value."""
    start_indices = unwrap(start_indices)
    if isinstance(start_indices, Value):
        return [prim.reshape(part(start_indices, 0, n, 1), shape=()) for n in range(count)]
    starts = [unwrap(s) for s in (start_indices if isinstance(start_indices, (list, tuple)) else list(start_indices))]
    if len(starts) != count:
        raise ShapeError(f"{len(starts)} start indices for a tensor of rank {count}")
    return [s if isinstance(s, (Value, Dim)) else int(s) for s in starts]


@public
def slice(inputs, start_indices, shape):
    """Return the block of `shape` that begins at `start_indices`; starts only known at run time are clamped."""
    x = tensor(inputs)
    starts, sizes = starts_of(start_indices, rank(x)), sizes_of(shape)
    sizes = tuple(x.shape[n] - starts[n] if s == -1 else s for n, s in enumerate(sizes))
    for axis, start in enumerate(starts):
        if isinstance(start, Value):
            places = prim.add(_clamped(start, x.shape[axis] - sizes[axis]), tensor(iota((sizes[axis],), 0, "int32")))
            x = prim.gather(x, places, axis=axis)
        elif start != 0 or sizes[axis] != x.shape[axis]:
            x = part(x, axis, start, sizes[axis])
    return x


def _clamped(start, most):
    zero = tensor(0, "int32")
    return prim.minimum(prim.maximum(tensor(start, "int32"), zero), sized(most, "int32"))


@public
def slice_update(inputs, start_indices, updates):
    """Return `inputs` with the block that begins at `start_indices` replaced by `updates`."""
    x = tensor(inputs)
    new = tensor(updates, dtype_key(x))
    if rank(new) != rank(x):
        raise ShapeError(f"slice_update: updates {tuple(new.shape)} for inputs {tuple(x.shape)}")
    shape, inside = tuple(x.shape), None
    for axis, start in enumerate(starts_of(start_indices, rank(x))):
        if not isinstance(start, Value) and start == 0 and new.shape[axis] == shape[axis]:
            continue
        start = _clamped(tensor(start, "int32"), shape[axis] - new.shape[axis])
        place = prim.sub(tensor(iota((shape[axis],), 0, "int32")), start)
        new_size = sized(new.shape[axis], "int32")
        held = prim.logical_and(prim.ge(place, tensor(0, "int32")), prim.lt(place, new_size))
        held = prim.reshape(held, shape=tuple(s if n == axis else 1 for n, s in enumerate(shape)))
        inside = held if inside is None else prim.logical_and(inside, held)
        new = prim.gather(new, place, axis=axis)  # outside of the block it reads an edge
    return new if inside is None else prim.select(inside, new, x)


# segments -----------------------------------------------------------------------------------------


def _segments(name: str, how: str, data, segment_ids, num_segments):
    x, ids = tensor(data), as_indices(segment_ids)
    if num_segments is None:
        if isinstance(ids, Value):
            raise ArgumentError(f"{name} needs num_segments= while tracing")
        num_segments = int(ids.max()) + 1 if ids.size else 0
    kind = dtype_key(x)
    start = identity(how, types.dtype(ir_name(kind)))
    rows = tensor(filled((int(num_segments) + 1, *x.shape[1:]), start, kind))
    outside = prim.logical_or(
        prim.lt(ids, tensor(0, dtype_key(ids))), prim.ge(ids, tensor(int(num_segments), dtype_key(ids)))
    )  # these go to a row more, which is dropped
    ids = prim.select(outside, tensor(int(num_segments), dtype_key(ids)), ids)
    combine = {"sum": prim.scatter_add, "prod": prim.scatter_mul, "max": prim.scatter_max, "min": prim.scatter_min}
    return part(combine[how](rows, ids, x), 0, 0, int(num_segments))


@public
def segment_sum(data, segment_ids, num_segments=None, sorted=False):
    """Return the sum of the rows of `data` of each segment."""
    return _segments("segment_sum", "sum", data, segment_ids, num_segments)


@public
def segment_max(data, segment_ids, num_segments=None, sorted=False):
    """Return the largest of the rows of `data` of each segment; the smallest number for an empty one."""
    return _segments("segment_max", "max", data, segment_ids, num_segments)


@public
def segment_min(data, segment_ids, num_segments=None, sorted=False):
    """Return the smallest of the rows of `data` of each segment; the largest number for an empty one."""
    return _segments("segment_min", "min", data, segment_ids, num_segments)


@public
def segment_prod(data, segment_ids, num_segments=None, sorted=False):
    """Return the product of the rows of `data` of each segment; 1 for an empty one."""
    return _segments("segment_prod", "prod", data, segment_ids, num_segments)
