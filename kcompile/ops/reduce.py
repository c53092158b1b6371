"""Reductions: sum, max, min, prod, any, all over axes; argmax and argmin along one.

A reduction is a Loops form: one point of `outer` per result element, a nest over the reduced axes
that accumulates into it. Half precision sums and products accumulate in f32 and round once. The arg
reductions take two nests: find the best value, then the smallest index that holds it (or a NaN).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kcompile.errors import DTypeError, ShapeError
from kcompile.forms import scalar
from kcompile.forms.records import (
    LOCAL,
    OUT,
    Accumulate,
    Buffer,
    Loops,
    Nest,
    Store,
    axes_for,
    identity,
    operand,
    operand_buffers,
)
from kcompile.forms.scalar import Expr, const, load
from kcompile.ir import types
from kcompile.ir.dim import Axis, DimLike, of
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, boolean, f32, i32
from kcompile.ops.elementwise import ACCEPTS, cast, draw, eq, s, select
from kcompile.ops.shape import broadcast_to, reshape


def reduced_shape(shape, axes: tuple[int, ...], keepdims: bool) -> tuple[DimLike, ...]:
    """The shape left after reducing `axes`."""
    if keepdims:
        return tuple(1 if n in axes else size for n, size in enumerate(shape))
    return tuple(size for n, size in enumerate(shape) if n not in axes)


def spread(reduced: Any, x: Any, axes: tuple[int, ...]) -> Any:
    """Repeat a reduced value along `axes` to the shape of `x`."""
    kept = reshape(reduced, shape=reduced_shape(tuple(x.shape), axes, True))
    return broadcast_to(kept, shape=tuple(x.shape))


def _check_axes(name: str, x: Type, axes: Sequence[int]) -> None:
    if any(not 0 <= a < x.rank for a in axes) or len(set(axes)) != len(axes):
        raise ShapeError(f"{name}: {tuple(axes)} are not distinct axes of {x}")


def reduction(
    name: str,
    *,
    how: str,
    ufunc: np.ufunc,
    vjp: Callable[..., Sequence[Any]] | None,
    takes: str = "numbers",
) -> Op:
    """Make and register a reduction that accumulates by `how` (sum, prod, max or min)."""

    def infer(x: Type, *, axes, keepdims: bool) -> Type:
        _check_axes(name, x, axes)
        if x.dtype.category not in ACCEPTS[takes]:
            raise DTypeError(f"{name} takes {takes}, received {x.dtype}; cast it first")
        return x.with_shape(reduced_shape(x.shape, axes, keepdims))

    def ref(x, *, axes, keepdims: bool) -> np.ndarray:
        x = np.asarray(x)
        wide = np.float32 if x.dtype == np.float16 else x.dtype
        start = np.asarray(identity(how, types.dtype(x.dtype)), wide)
        with np.errstate(all="ignore"):
            y = ufunc.reduce(x, axis=tuple(axes), dtype=wide, keepdims=keepdims, initial=start)
            return np.asarray(y).astype(x.dtype)

    return register(
        Op(
            name,
            Kind.REDUCE,
            infer,
            ref,
            vjp,
            lambda x, *, axes, keepdims: _lower(name, how, x, infer(x, axes=axes, keepdims=keepdims), axes, keepdims),
            lambda rng: _samples(rng, takes),
            differentiable=vjp is not None,
            facts={"picks": how in ("max", "min"), "adds": how == "sum"},  # picks: the result is one of the elements
        )
    )


def _split_axes(x: Type, axes, keepdims: bool):
    """Outer axes of the result, nest axes, the index into `x`, the index into the result."""
    over = {n: Axis(f"r{n}", x.shape[n]) for n in axes}
    outer = axes_for(reduced_shape(x.shape, tuple(axes), keepdims))
    at = tuple(of(a) for a in outer)
    kept = iter(at)
    place: list[DimLike] = []
    for n in range(x.rank):
        own = next(kept) if keepdims or n not in over else 0
        place.append(of(over[n]) if n in over else own)
    return outer, tuple(over[n] for n in sorted(over)), tuple(place), at


def _lower(name: str, how: str, x: Type, result: Type, axes, keepdims: bool) -> Loops:
    outer, over, place, at = _split_axes(x, axes, keepdims)
    value = operand(0, place, x)
    buffers = (*operand_buffers((x,)), Buffer("y", result, OUT))
    if not (how in ("sum", "prod") and x.dtype.is_float and x.dtype.size_bytes < 4):
        return Loops(buffers, outer, (Nest(over, (Accumulate("y", at, how, value),)),), name)
    wide = Buffer("wide", Type(f32, ()), LOCAL)
    return Loops(
        (*buffers, wide),
        outer,
        (
            Nest(over, (Accumulate("wide", (), how, scalar.cast(value, f32)),)),
            Store("y", at, scalar.cast(load("wide", (), f32), x.dtype)),
        ),
        name,
    )


def _samples(rng, takes: str):
    kinds = {"numbers": ("f32", "f64", "i32", "f16"), "bools": ("bool",)}[takes]
    for shape, axes, keepdims in (
        ((3, 5), (1,), False),
        ((3, 5), (0, 1), False),
        ((2, 3, 4), (0, 2), True),
        ((2, 3, 4), (1,), False),
        ((4,), (0,), True),
        ((3, 0), (1,), False),
        ((0, 2), (1,), False),
        ((2, 3), (), False),
        ((), (), False),
    ):
        yield (draw(rng, kinds[0], shape),), {"axes": axes, "keepdims": keepdims}
    for kind in kinds[1:]:
        yield (draw(rng, kind, (2, 3, 4)),), {"axes": (0, 2), "keepdims": False}


def _sum_vjp(g, y, x, *, axes, keepdims):
    return (spread(g, x, axes),)


def _extreme_vjp(g, y, x, *, axes, keepdims):
    """The cotangent is shared equally among the elements that attain the extreme."""
    attains = cast(eq(x, spread(y, x, axes)), dtype=types.dtype(x.dtype).name)
    count = reduce_sum(attains, axes=axes, keepdims=True)
    return (spread(g, x, axes) * attains / count,)


def _prod_vjp(g, y, x, *, axes, keepdims):
    """The product of the others: with one zero only its own is non-zero, with two all are zero."""
    zero = eq(x, 0.0)
    one_for_zero = select(zero, 1.0, x)
    product = reduce_prod(one_for_zero, axes=axes, keepdims=True)
    zeros = reduce_sum(cast(zero, dtype=types.dtype(x.dtype).name), axes=axes, keepdims=True)
    others = select(zero, select(eq(zeros, 1.0), product, 0.0), select(eq(zeros, 0.0), product / one_for_zero, 0.0))
    return (spread(g, x, axes) * others,)


reduce_sum = reduction("reduce_sum", how="sum", ufunc=np.add, vjp=_sum_vjp)
reduce_max = reduction("reduce_max", how="max", ufunc=np.maximum, vjp=_extreme_vjp)
reduce_min = reduction("reduce_min", how="min", ufunc=np.minimum, vjp=_extreme_vjp)
reduce_prod = reduction("reduce_prod", how="prod", ufunc=np.multiply, vjp=_prod_vjp)
reduce_any = reduction("reduce_any", how="max", ufunc=np.logical_or, vjp=None, takes="bools")
reduce_all = reduction("reduce_all", how="min", ufunc=np.logical_and, vjp=None, takes="bools")


# arg reductions --------------------------------------------------------------------------------


def arg_reduction(name: str, how: str, formula: Callable[..., np.ndarray]) -> Op:
    """Make and register argmax or argmin: the first index of the extreme, or of a NaN, as i32."""

    def infer(x: Type, *, axis: int) -> Type:
        _check_axes(name, x, (axis,))
        if x.dtype is boolean:
            raise DTypeError(f"{name} takes numbers, received bool; cast it first")
        if x.shape[axis] == 0:
            raise ShapeError(f"{name}: axis {axis} of {x} has no elements")
        return Type(i32, reduced_shape(x.shape, (axis,), False))

    def lower(x: Type, *, axis: int) -> Loops:
        outer, over, place, at = _split_axes(x, (axis,), False)
        value, best = operand(0, place, x), load("best", (), x.dtype)
        holds: Expr = s.eq(value, best)
        if x.dtype.is_float:
            holds = s.__dict__["or"](holds, s.isnan(value))
        candidate = s.select(holds, scalar.index(place[axis], i32), const(identity("min", i32), i32))
        return Loops(
            (
                *operand_buffers((x,)),
                Buffer("best", Type(x.dtype, ()), LOCAL),
                Buffer("y", infer(x, axis=axis), OUT),
            ),
            outer,
            (
                Nest(over, (Accumulate("best", (), how, value),)),
                Nest(over, (Accumulate("y", at, "min", candidate),)),
            ),
            name,
        )

    return register(
        Op(
            name,
            Kind.REDUCE,
            infer,
            lambda x, *, axis: np.asarray(formula(x, axis)).astype(np.int32),
            None,
            lower,
            _arg_samples,
            cost=3,
            differentiable=False,
        )
    )


def _arg_samples(rng):
    for kind, shape, axis in (
        ("f32", (3, 5), 1),
        ("f64", (2, 3, 4), 1),
        ("i32", (6, 4), 0),  # small integers: many ties
        ("u8", (5,), 0),
        ("f32", (1, 1), 0),
        ("f32", (0, 3), 1),
    ):
        yield (draw(rng, kind, shape),), {"axis": axis}
    yield (np.asarray([[1, np.nan, 3, np.nan], [np.inf, 2, np.inf, 1]], np.float32),), {"axis": 1}


argmax = arg_reduction("argmax", "max", np.argmax)
argmin = arg_reduction("argmin", "min", np.argmin)
