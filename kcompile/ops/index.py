"""Elements at loaded places: gather, its gradient scatter_add, the like for extremes, and iota.

All clamp an index that is out of range to the nearest element, so native code never leaves an
array; the front checks ranges where it can tell the user.
"""

from __future__ import annotations

import numpy as np

from kcompile.errors import DTypeError, ShapeError
from kcompile.forms import scalar
from kcompile.forms.records import OUT, Accumulate, Buffer, Loops, Nest, Store, indices, map_form, operand
from kcompile.forms.records import operand_buffers as buffers_of
from kcompile.forms.scalar import Expr, loaded
from kcompile.ir import types
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, i64
from kcompile.ops.elementwise import cast, draw, eq, s, select
from kcompile.ops.shape import inverse_permutation, transpose, zeros_like


def check_indices(name: str, given: Type) -> None:
    if not given.dtype.is_integer:
        raise DTypeError(f"{name} expects integer indices, received {given}")


def clamped(place: Expr, extent: DimLike) -> DimLike:
    """A loaded integer as an index in [0, extent)."""
    whole = scalar.cast(place, i64)
    return loaded(s.max(s.min(whole, scalar.index(extent - 1)), 0), extent)


# gather ----------------------------------------------------------------------------------------


def _gather_infer(x: Type, places: Type, *, axis: int) -> Type:
    check_indices("gather", places)
    if not 0 <= axis < x.rank:
        raise ShapeError(f"gather: axis {axis} is not an axis of {x}")
    if x.shape[axis] == 0 and places.size != 0:
        raise ShapeError(f"gather: axis {axis} of {x} has no elements")
    return x.with_shape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


def _gather_ref(x, places, *, axis: int):
    x, places = np.asarray(x), np.asarray(places)
    return np.take(x, np.clip(places.astype(np.int64), 0, max(x.shape[axis] - 1, 0)), axis)


def _gather_vjp(g, y, x, places, *, axis: int):
    """Add each cotangent row to the row it came from, with `axis` brought to the front and back."""
    rank, middle = len(x.shape), len(places.shape)
    order = (*range(axis, axis + middle), *range(axis), *range(axis + middle, rank - 1 + middle))
    rows = transpose(g, perm=order) if axis else g
    front = (axis, *(n for n in range(rank) if n != axis))
    moved = transpose(x, perm=front) if axis else x
    summed = scatter_add(zeros_like(moved), places, rows)
    return (transpose(summed, perm=inverse_permutation(front)) if axis else summed), None


def _gather_lower(x: Type, places: Type, *, axis: int):
    result = _gather_infer(x, places, axis=axis)
    end = axis + places.rank

    def value_at(at) -> Expr:
        if result.size == 0:  # no element is ever computed
            return scalar.const(0, x.dtype)
        place = clamped(operand(1, at[axis:end], places), x.shape[axis])
        return operand(0, (*at[:axis], place, *at[end:]), x)

    return map_form(result, (x, places), value_at, "gather")


def _gather_samples(rng):
    for kind, index_kind, shape, places, axis in (
        ("f32", "i32", (5, 3), (4,), 0),
        ("f32", "i64", (5, 3), (2, 2), 0),
        ("f64", "i32", (2, 5, 3), (4,), 1),
        ("i32", "u8", (6,), (3, 1), 0),
        ("f32", "i32", (1, 2), (3,), 0),
        ("f32", "i32", (3, 4), (0,), 1),
        ("f32", "i32", (4, 2), (), 0),
    ):
        yield (
            (draw(rng, kind, shape), rng.integers(0, shape[axis], places).astype(types.dtype(index_kind).numpy)),
            {"axis": axis},
        )
    yield (draw(rng, "f32", (3, 2)), np.asarray([-1, 0, 7], np.int32)), {"axis": 0}  # clamps


gather = register(
    Op("gather", Kind.INDEX, _gather_infer, _gather_ref, _gather_vjp, _gather_lower, _gather_samples, cost=3)
)


# scatter_add and its kin -----------------------------------------------------------------------


def _scatter(name: str, how: str, ufunc: np.ufunc, vjp) -> Op:
    """Make and register an op that combines rows of updates with the rows of x at loaded places."""

    def infer(x: Type, places: Type, updates: Type) -> Type:
        check_indices(name, places)
        if x.rank == 0 or updates.shape != (*places.shape, *x.shape[1:]):
            raise ShapeError(
                f"{name}: rows of {x} at indices {places} need updates of shape "
                f"{(*places.shape, *x.shape[1:])}, received {updates}"
            )
        if x.dtype is not updates.dtype or x.dtype is types.boolean:
            raise DTypeError(f"{name} takes numbers of one dtype, received {x} and {updates}")
        if x.shape[0] == 0 and updates.size != 0:
            raise ShapeError(f"{name}: {x} has no rows")
        return x

    def ref(x, places, updates):
        y = np.array(x)
        if y.size:
            with np.errstate(all="ignore"):
                ufunc.at(y, np.clip(np.asarray(places).astype(np.int64), 0, len(y) - 1), updates)
        return y

    def lower(x: Type, places: Type, updates: Type):
        result = infer(x, places, updates)
        copy = tuple(Axis(f"c{n}", size) for n, size in enumerate(x.shape))
        over = tuple(Axis(f"u{n}", size) for n, size in enumerate(updates.shape))
        at, start = indices(over), indices(copy)
        body = [Nest(copy, (Store("y", start, operand(0, start, x)),))]
        if updates.size != 0:
            row = clamped(operand(1, at[: places.rank], places), x.shape[0])
            target = tuple(0 if size == 1 else i for i, size in zip(at[places.rank :], x.shape[1:]))
            body.append(Nest(over, (Accumulate("y", (row, *target), how, operand(2, at, updates)),)))
        return Loops((*buffers_of((x, places, updates)), Buffer("y", result, OUT)), (), tuple(body), name)

    return register(
        Op(name, Kind.SCATTER, infer, ref, vjp, lower, _scatter_samples, cost=3, differentiable=vjp is not None)
    )


def _scatter_samples(rng):
    for kind, shape, places in (
        ("f32", (5, 3), (4,)),
        ("f64", (3, 2), (2, 3)),
        ("i32", (4,), (6,)),
        ("f32", (5, 3), (5,)),  # as many updates as rows: their loops look alike
        ("f32", (1, 2), (3,)),
        ("f32", (3, 2), (0,)),
        ("f32", (3, 2), ()),
    ):
        yield (
            (
                draw(rng, kind, shape),
                rng.integers(0, shape[0], places).astype(np.int32),
                draw(rng, kind, (*places, *shape[1:])),
            ),
            {},
        )


def _scatter_add_vjp(g, y, x, places, updates):
    return g, None, gather(g, places, axis=0)


def _scatter_extreme_vjp(g, y, x, places, updates):
    """The cotangent is shared equally among the element and the updates that attain the extreme."""
    kind = types.dtype(x.dtype).name
    kept, won = (cast(eq(a, b), dtype=kind) for a, b in ((x, y), (updates, gather(y, places, axis=0))))
    share = g / scatter_add(kept, places, won)
    return kept * share, None, won * gather(share, places, axis=0)


def _scatter_mul_vjp(g, y, x, places, updates):
    """Each factor takes the product of the others: with one zero among them only its own is non-zero."""
    kind = types.dtype(x.dtype).name
    zero_x, zero_u = eq(x, 0.0), eq(updates, 0.0)
    product = scatter_mul(select(zero_x, 1.0, x), places, select(zero_u, 1.0, updates))
    zeros = scatter_add(cast(zero_x, dtype=kind), places, cast(zero_u, dtype=kind))

    def others(zero, factor, product, zeros):
        with_zero = select(eq(zeros, 1.0), product, 0.0)
        return select(zero, with_zero, select(eq(zeros, 0.0), product / select(zero, 1.0, factor), 0.0))

    mine = others(zero_u, updates, gather(product, places, axis=0), gather(zeros, places, axis=0))
    return g * others(zero_x, x, product, zeros), None, gather(g, places, axis=0) * mine


scatter_add = _scatter("scatter_add", "sum", np.add, _scatter_add_vjp)
scatter_max = _scatter("scatter_max", "max", np.maximum, _scatter_extreme_vjp)
scatter_min = _scatter("scatter_min", "min", np.minimum, _scatter_extreme_vjp)
scatter_mul = _scatter("scatter_mul", "prod", np.multiply, _scatter_mul_vjp)


# iota ------------------------------------------------------------------------------------------


def _iota_infer(like: Type, *, shape, axis: int, dtype: str) -> Type:
    if not 0 <= axis < len(shape):
        raise ShapeError(f"iota: axis {axis} is not an axis of shape {shape}")
    if types.dtype(dtype) is types.boolean:
        raise DTypeError("iota counts in numbers, received dtype bool")
    return Type(types.dtype(dtype), shape)


def _iota_ref(like, *, shape, axis: int, dtype: str):
    count = np.arange(shape[axis]).reshape([-1 if n == axis else 1 for n in range(len(shape))])
    return np.broadcast_to(count, shape).astype(types.dtype(dtype).numpy)


def _iota_samples(rng):
    like = draw(rng, "f32", (2,))
    yield (like,), {"shape": (5,), "axis": 0, "dtype": "i32"}
    yield (like,), {"shape": (3, 4), "axis": 1, "dtype": "f32"}
    yield (like,), {"shape": (3, 1, 2), "axis": 0, "dtype": "i64"}
    yield (like,), {"shape": (1, 3), "axis": 0, "dtype": "i32"}
    yield (like,), {"shape": (0, 3), "axis": 1, "dtype": "f64"}


iota = register(
    Op(
        "iota",
        Kind.SHAPE,
        _iota_infer,
        _iota_ref,
        None,
        lambda like, *, shape, axis, dtype: map_form(
            _iota_infer(like, shape=shape, axis=axis, dtype=dtype),
            (like,),
            lambda at: scalar.index(at[axis], types.dtype(dtype)),
            "iota",
        ),
        _iota_samples,
        differentiable=False,
    )
)
