"""One element of every row, at a place each row names: `pick`.

    y[.., 0, ..] = x[.., places[.., 0, ..], ..]      along `axis`, which stays as 1

Unlike `gather`, row and place belong together, so a kernel over rows can pick in the row it holds. Places are
clamped as everywhere (see index.py).
"""

from __future__ import annotations

import numpy as np

from kcompile.errors import ShapeError
from kcompile.forms.records import map_form, operand
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, broadcast_shapes
from kcompile.ops.elementwise import draw, eq, maximum, minimum, select
from kcompile.ops.index import check_indices, clamped, iota
from kcompile.ops.shape import size


def _infer(x: Type, places: Type, *, axis: int) -> Type:
    check_indices("pick", places)
    if not 0 <= axis < x.rank or places.rank != x.rank or places.shape[axis] != 1:
        raise ShapeError(f"pick: one place per row of {x} along axis {axis} is needed, received {places}")
    if x.shape[axis] == 0:
        raise ShapeError(f"pick: axis {axis} of {x} has no elements")
    rows = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    return x.with_shape(broadcast_shapes(rows, places.shape))


def _ref(x, places, *, axis: int):
    x, places = np.asarray(x), np.asarray(places)
    rows = np.broadcast_shapes((*x.shape[:axis], 1, *x.shape[axis + 1 :]), places.shape)
    wide = np.broadcast_to(x, (*rows[:axis], x.shape[axis], *rows[axis + 1 :]))
    inside = np.clip(places.astype(np.int64), 0, x.shape[axis] - 1)
    return np.take_along_axis(wide, np.broadcast_to(inside, rows), axis)


def _vjp(g, y, x, places, *, axis: int):
    """The cotangent of a row goes to the element it picked."""
    extent = tuple(n if k == axis else 1 for k, n in enumerate(x.shape))
    count = iota(places, shape=extent, axis=axis, dtype=places.dtype.name)
    last = size(places, value=x.shape[axis] - 1, dtype=places.dtype.name)
    inside = maximum(minimum(places, last), 0)
    return select(eq(inside, count), g, 0.0), None


def _lower(x: Type, places: Type, *, axis: int):
    result = _infer(x, places, axis=axis)

    def value_at(at):
        place = clamped(operand(1, at, places), x.shape[axis])
        return operand(0, (*at[:axis], place, *at[axis + 1 :]), x)

    return map_form(result, (x, places), value_at, "pick")


def _samples(rng):
    for kind, shape, places, axis in (
        ("f32", (5, 7), (5, 1), 1),
        ("f64", (3, 4, 2), (3, 1, 2), 1),
        ("i32", (4, 3), (1, 3), 0),
        ("f32", (1, 6), (5, 1), 1),
        ("f32", (5, 6), (1, 1), 1),
        ("f32", (3, 1), (3, 1), 1),
        ("f32", (0, 4), (0, 1), 1),
    ):
        yield (draw(rng, kind, shape), rng.integers(0, shape[axis], places).astype(np.int32)), {"axis": axis}
    yield (draw(rng, "f32", (3, 2)), np.asarray([[-1], [0], [7]], np.int32)), {"axis": 1}  # clamps


pick = register(Op("pick", Kind.INDEX, _infer, _ref, _vjp, _lower, _samples, cost=3))
