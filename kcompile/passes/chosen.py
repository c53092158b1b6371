"""A sum along an axis of what one comparison with a count chooses is a read of one element.

    sum_j select(label == j, x[j], 0)   ->   select(0 <= label < n, x[label], 0)

One-hot labels contracted with a row are such sums: cross-entropy of class indices, and the sum over a row that its
gradient takes. What else would have been added is zero times nothing: a select leaves no NaN behind.
"""

from __future__ import annotations

import numpy as np

from kcompile import ops
from kcompile.ir import dim
from kcompile.ir.graph import Value
from kcompile.ir.pattern import Match, Rule, attributes, computed, wildcards

x, y, z = wildcards("x y z")
s, t, u = attributes("s t u")

PLACES = ("i32", "i64")


def counted_axis(value: Value) -> int | None:
    """The axis along which a value is 0, 1, 2, ..., the same along all others; None if it is no such value."""
    node = value.node
    while not node.is_source and node.op.name in ("broadcast_to", "cast") and node.inputs[0].rank == value.rank:
        node = node.inputs[0].node
    if not node.is_source:
        return node.attrs["axis"] if node.op.name == "iota" and node.output.rank == value.rank else None
    data = node.data if value.is_constant else None
    if data is None or data.dtype.kind not in "iu" or data.size < 2 or data.flat[0] != 0:
        return None
    for axis, size in enumerate(data.shape):
        line = np.arange(size, dtype=data.dtype).reshape([-1 if n == axis else 1 for n in range(data.ndim)])
        if size > 1 and data.flat[-1] == size - 1 and bool((data == line).all()):
            return axis
    return None


def _axis(m: Match) -> int | None:
    """The axis of the sum along which m.y counts and m.x, a place for each row, stays the same."""
    summed = m.root.node.inputs[0]
    if m.x.dtype.name not in PLACES:
        return None
    axis = counted_axis(m.y)
    if axis is None:
        return None
    axis += summed.rank - m.y.rank
    own = axis - summed.rank + m.x.rank
    counts = m.y.shape[axis - summed.rank + m.y.rank] == summed.shape[axis]
    return axis if counts and axis in m.t and (own < 0 or m.x.shape[own] == 1) else None


def _of_rank(value: Value, rank: int) -> Value:
    return value if value.rank == rank else ops.reshape(value, shape=(*[1] * (rank - value.rank), *value.shape))


def _chosen(m: Match) -> Value:
    """The chosen element of every row, summed along what is left."""
    summed, axis = m.root.node.inputs[0], _axis(m)
    places = _of_rank(m.x, summed.rank)
    extent = ops.size(places, value=summed.shape[axis], dtype=places.dtype.name)
    inside = ops.logical_and(ops.ge(places, 0), ops.lt(places, extent))
    if "z" not in m:
        found = ops.cast(inside, dtype=m.s)
    else:
        rows = _of_rank(m.z, summed.rank)
        element = rows if rows.shape[axis] == 1 else ops.pick(rows, places, axis=axis)
        found = ops.select(inside, element, 0)
    found = ops.broadcast_to(found, shape=tuple(1 if n == axis else size for n, size in enumerate(summed.shape)))
    rest = tuple(n for n in m.t if n != axis)
    if rest:
        found = ops.reduce_sum(found, axes=rest, keepdims=True)
    return ops.reshape(found, shape=m.root.shape)


def _chooses(m: Match) -> bool:
    axis = _axis(m)
    return axis is not None and not (dim.is_static(m.root.node.inputs[0].shape[axis]) and _length(m, axis) < 2)


def _length(m: Match, axis: int) -> int:
    return m.root.node.inputs[0].shape[axis]


_WHY = "a read of one element replaces a sum"

CHOSEN = (
    Rule(
        "sum_of_chosen",
        ops.reduce_sum(ops.select(ops.eq(x, y), z, 0), axes=t, keepdims=u),
        computed(_chosen),
        where=_chooses,
        grows=_WHY,
    ),
    Rule(
        "sum_of_matches",
        ops.reduce_sum(ops.cast(ops.eq(x, y), dtype=s), axes=t, keepdims=u),
        computed(_chosen),
        where=_chooses,
        grows=_WHY,
    ),
    Rule("neg_of_chosen", ops.neg(ops.select(x, y, 0)), ops.select(x, -y, 0)),
)
