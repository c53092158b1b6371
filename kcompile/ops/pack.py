"""pack: operands side by side in one flat buffer, the arena a group of gradients is written to.

The memory planner usually lets the operands' kernels write straight into the arena; the form here
copies, for operands that also live elsewhere.
"""

from __future__ import annotations

import numpy as np

from kcompile.errors import DTypeError, ShapeError
from kcompile.forms.records import OUT, Buffer, Loops, Nest, Store, indices, operand, operand_buffers
from kcompile.forms.scalar import const
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, of
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type
from kcompile.ops.elementwise import draw
from kcompile.ops.shape import flat_index, reshape, slice


def gaps(sizes, offsets, size: DimLike) -> list[tuple[DimLike, DimLike]]:
    """The (start, length) runs of [0, size) that no operand covers; offsets ascend."""
    runs: list[tuple[DimLike, DimLike]] = []
    end: DimLike = 0
    for offset, count in zip(offsets, sizes, strict=True):
        runs.append((end, offset - end))
        end = offset + count
    runs.append((end, size - end))
    return [(start, count) for start, count in runs if count != 0]


def _infer(*xs: Type, offsets, size: DimLike) -> Type:
    if not xs or len(offsets) != len(xs):
        raise ShapeError(f"pack: {len(xs)} operands and {len(offsets)} offsets")
    if any(x.dtype is not xs[0].dtype for x in xs):
        raise DTypeError(f"pack expects operands of one dtype, received {', '.join(map(str, xs))}")
    for start, count in gaps([x.size for x in xs], offsets, size):
        if not dim.is_nonnegative(count):
            raise ShapeError(f"pack: operands overlap at {start + count} or reach past {size}")
    return Type(xs[0].dtype, (size,))


def _ref(*xs, offsets, size):
    flat = np.zeros(size, np.asarray(xs[0]).dtype)
    for x, offset in zip(xs, offsets, strict=True):
        flat[offset : offset + np.size(x)] = np.ravel(x)
    return flat


def _vjp(g, y, *xs, offsets, size):
    return tuple(
        reshape(
            slice(g, starts=(offset,), sizes=(dim.product(x.shape),), strides=(1,)),
            shape=tuple(x.shape),
        )
        for x, offset in zip(xs, offsets, strict=True)
    )


def _lower(*xs: Type, offsets, size: DimLike):
    result = _infer(*xs, offsets=offsets, size=size)
    body = []
    for n, (x, offset) in enumerate(zip(xs, offsets, strict=True)):
        axes = tuple(Axis(f"p{n}_{d}", extent) for d, extent in enumerate(x.shape))
        at = indices(axes)
        body.append(Nest(axes, (Store("y", (offset + flat_index(at, x.shape),), operand(n, at, x)),)))
    for n, (start, count) in enumerate(gaps([x.size for x in xs], offsets, size)):
        gap = Axis(f"gap{n}", count)
        body.append(Nest((gap,), (Store("y", (start + of(gap),), const(0, result.dtype)),)))
    return Loops((*operand_buffers(xs), Buffer("y", result, OUT)), (), tuple(body), "pack")


def _samples(rng):
    yield (draw(rng, "f32", (2, 3)), draw(rng, "f32", (5,))), {"offsets": (0, 6), "size": 11}
    yield (
        (draw(rng, "f64", (3,)), draw(rng, "f64", ()), draw(rng, "f64", (1, 2))),
        {
            "offsets": (2, 8, 16),
            "size": 20,
        },
    )
    yield (draw(rng, "f32", (0, 2)), draw(rng, "f32", (1,))), {"offsets": (0, 0), "size": 1}


pack = register(Op("pack", Kind.PACK, _infer, _ref, _vjp, _lower, _samples))
