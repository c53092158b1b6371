"""Running reductions along one axis: cumsum, cumprod.

One point of `outer` per line; a nest along the line accumulates into a local total and stores it at
every step.
"""

from __future__ import annotations

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
    operand,
    operand_buffers,
)
from kcompile.forms.scalar import load
from kcompile.ir import types
from kcompile.ir.dim import of
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, boolean, f32
from kcompile.ops.elementwise import cast, draw, eq, logical_and, select
from kcompile.ops.shape import reverse


def _running(name: str, how: str, ufunc: np.ufunc, vjp) -> Op:
    """Make and register the running form of a reduction. Nothing fuses into it: points depend on those before."""

    def infer(x: Type, *, axis: int) -> Type:
        if not 0 <= axis < x.rank:
            raise ShapeError(f"{name}: axis {axis} is not an axis of {x}")
        if x.dtype is boolean:
            raise DTypeError(f"{name} takes numbers, received bool; cast it first")
        return x

    def ref(x, *, axis: int) -> np.ndarray:
        x = np.asarray(x)
        wide = np.float32 if x.dtype == np.float16 else x.dtype
        with np.errstate(all="ignore"):
            return ufunc.accumulate(x, axis, dtype=wide).astype(x.dtype)

    def lower(x: Type, *, axis: int) -> Loops:
        # half precision accumulates in f32 and rounds each result once
        total = f32 if x.dtype.is_float and x.dtype.size_bytes < 4 else x.dtype
        axes = axes_for(x.shape)
        at = tuple(of(a) for a in axes)
        step = (
            Accumulate("total", (), how, scalar.cast(operand(0, at, x), total)),
            Store("y", at, scalar.cast(load("total", (), total), x.dtype)),
        )
        return Loops(
            (*operand_buffers((x,)), Buffer("total", Type(total, ()), LOCAL), Buffer("y", infer(x, axis=axis), OUT)),
            tuple(a for n, a in enumerate(axes) if n != axis),
            (Nest((axes[axis],), step),),
            name,
        )

    return register(Op(name, Kind.OPAQUE, infer, ref, vjp, lower, _samples))


def _samples(rng):
    for kind, shape, axis in (
        ("f32", (3, 5), 1),
        ("f64", (4, 3), 0),
        ("i32", (2, 3, 4), 1),
        ("f16", (2, 7), 1),
        ("f32", (6,), 0),
        ("f32", (2, 1), 1),
        ("f32", (3, 0), 1),
        ("u8", (0, 3), 1),
    ):
        yield (draw(rng, kind, shape),), {"axis": axis}
    yield (np.float32([[2, 0, 3, 4], [0, 1, 0, 2], [1, 2, 3, 0]]),), {"axis": 1}


def _from_here(g, axis: int):
    """The sum of all g from each place on."""
    return reverse(cumsum(reverse(g, axes=(axis,)), axis=axis), axes=(axis,))


def _cumsum_vjp(g, y, x, *, axis: int):
    """Each element counts in all sums from its own place on."""
    return (_from_here(g, axis),)


def _cumprod_vjp(g, y, x, *, axis: int):
    """Products without one factor: the product over the factor; without the line's first zero, as if it were 1."""
    kind = types.dtype(x.dtype).name
    zero = eq(x, 0.0)
    first = logical_and(zero, eq(cumsum(cast(zero, dtype=kind), axis=axis), 1.0))
    without = cumprod(select(first, 1.0, x), axis=axis)
    others = select(zero, 0.0, _from_here(g * y, axis) / select(zero, 1.0, x))
    return (select(first, _from_here(g * without, axis), others),)


cumsum = _running("cumsum", "sum", np.add, _cumsum_vjp)
cumprod = _running("cumprod", "prod", np.multiply, _cumprod_vjp)
