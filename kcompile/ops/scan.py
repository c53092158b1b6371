"""Running reductions along one axis: cumsum.

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
from kcompile.ir.dim import of
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, boolean, f32
from kcompile.ops.elementwise import draw
from kcompile.ops.shape import reverse


def _infer(x: Type, *, axis: int) -> Type:
    if not 0 <= axis < x.rank:
        raise ShapeError(f"cumsum: axis {axis} is not an axis of {x}")
    if x.dtype is boolean:
        raise DTypeError("cumsum takes numbers, received bool; cast it first")
    return x


def _ref(x, *, axis: int) -> np.ndarray:
    x = np.asarray(x)
    wide = np.float32 if x.dtype == np.float16 else x.dtype
    with np.errstate(all="ignore"):
        return np.cumsum(x, axis, dtype=wide).astype(x.dtype)


def _vjp(g, y, x, *, axis: int):
    """Each element counts in all sums from its own place on."""
    return (reverse(cumsum(reverse(g, axes=(axis,)), axis=axis), axes=(axis,)),)


def _lower(x: Type, *, axis: int) -> Loops:
    # half precision accumulates in f32 and rounds each result once
    total = f32 if x.dtype.is_float and x.dtype.size_bytes < 4 else x.dtype
    axes = axes_for(x.shape)
    at = tuple(of(a) for a in axes)
    step = (
        Accumulate("total", (), "sum", scalar.cast(operand(0, at, x), total)),
        Store("y", at, scalar.cast(load("total", (), total), x.dtype)),
    )
    return Loops(
        (*operand_buffers((x,)), Buffer("total", Type(total, ()), LOCAL), Buffer("y", _infer(x, axis=axis), OUT)),
        tuple(a for n, a in enumerate(axes) if n != axis),
        (Nest((axes[axis],), step),),
        "cumsum",
    )


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


# nothing fuses into it: its points depend on the ones before
cumsum = register(Op("cumsum", Kind.OPAQUE, _infer, _ref, _vjp, _lower, _samples))
