"""Cotangents sent to kept places, several elements at a time.

    window_unpool_tiles   dy [.., count, ..], places [.., count, ..] -> dx [.., n, ..]

The same as window_unpool, for windows that are written out: a tile is `stride` elements of dx per dimension, and
which elements of which windows meet in each of them does not depend on the tile. So the window's size is the
number of comparisons with constants per tile, and nothing is asked twice. Windows that do not exist, in front of the
first and behind the last one, are conditions on rows alone.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from kcompile.forms.records import OUT, Buffer, Loops, Nest, Store, operand_buffers
from kcompile.forms.scalar import Expr, both, call, cast, const, in_range, load, where
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, bf16, f16, f32
from kcompile.ops.unpool import (
    picked,
    unpool_samples,
    window_unpool,
)
from kcompile.ops.window_shapes import tap_offsets

MOST_WRITTEN = 9  # elements of a window or a tile: a kernel holds a version of them for each answer of its conditions
MOST_POOLED = 2  # dimensions


def is_written_out(window, strides) -> bool:
    """True if windows and tiles are small enough for it, and rows have few conditions: two per dimension."""
    pooled = sum((k, s) != (1, 1) for k, s in zip(window, strides))
    return max(math.prod(window), math.prod(strides)) <= MOST_WRITTEN and pooled <= MOST_POOLED


def _vjp(g, y, dy, places, *, window, strides, shape, dilation=()):
    return picked(g, places, window=window, strides=strides, dilation=dilation), None


Run = "tuple[Axis, DimLike, range]"  # an axis over tiles, which tile it means, the elements of it that exist


def runs(n: int, size: DimLike, stride: int) -> list[Run]:
    """Whole tiles, then the last one if it is cut short: as one if it is known by how much, else by elements."""
    whole = dim.floordiv(size, stride)
    axis = Axis(f"t{n}", whole)
    found: list[Run] = [(axis, dim.of(axis), range(stride))]
    if dim.is_static(size):
        rest = size - whole * stride
        last = [(Axis(f"t{n}", 1), whole, range(rest))] if rest else []
        return [*found, *last] if whole or not rest else last
    for o in range(stride - 1):
        more = Axis(f"t{n}", dim.floordiv(size - o + stride - 1, stride) - whole)  # 1 if there is such an element
        found.append((more, whole + dim.of(more), range(o, o + 1)))
    return found


def _lower(dy: Type, places: Type, *, window, strides, shape, dilation=()) -> Loops:
    """dx[q * stride + o] = sum over windows q - e with an element t at e * stride + o of dy[q - e] where it is t."""
    result = window_unpool.infer(dy, places, window=window, strides=strides, shape=shape, dilation=dilation)
    met = meeting(window, strides, dilation)
    body = [
        _tiles(found, dy, places, strides, met)
        for found in itertools.product(*(runs(n, *row) for n, row in enumerate(zip(shape, strides))))
    ]
    return Loops((*operand_buffers((dy, places)), Buffer("y", result, OUT)), (), tuple(body), "window_unpool_tiles")


def meeting(window, strides, dilation) -> dict[tuple[int, ...], list[tuple[tuple[int, ...], int]]]:
    """For each element of a tile: how many tiles before it a window begins that holds it, and at which place."""
    found: dict = {}
    for place, offset in tap_offsets(window, dilation):
        steps = tuple(divmod(o, s) for o, s in zip(offset, strides))
        found.setdefault(tuple(o for _, o in steps), []).append((tuple(e for e, _ in steps), place))
    return found


def _tiles(found: tuple[Run, ...], dy: Type, places: Type, strides, met) -> Nest:
    tile = tuple(t for _, t, _ in found)
    stores = []
    for offset in itertools.product(*(elements for _, _, elements in found)):
        terms = [_term(tile, back, place, dy, places) for back, place in met.get(offset, ())]
        at = tuple(t * s + o for t, s, o in zip(tile, strides, offset))
        stores.append(Store("y", at, total(terms, dy)))
    return Nest(tuple(axis for axis, _, _ in found), tuple(stores))


def _term(tile, back: tuple[int, ...], place: int, dy: Type, places: Type) -> Expr:
    """What the window so many tiles back sends to its element `place`."""
    index = tuple(t - e for t, e in zip(tile, back))
    zero = const(0, dy.dtype)
    chosen = call("eq", load("x1", index, places.dtype), const(place, places.dtype))
    sent = call("select", chosen, load("x0", index, dy.dtype), zero)
    return where(both(*(in_range(i, count) for i, count in zip(index, dy.shape))), sent, zero)


def total(terms: list[Expr], dy: Type) -> Expr:
    """The sum of what meets in an element, narrow floats in float32."""
    narrow = dy.dtype in (f16, bf16)
    found: Expr | None = None
    for term in (cast(t, f32) if narrow else t for t in terms):
        found = term if found is None else call("add", found, term)
    if found is None:
        return const(0, dy.dtype)
    return cast(found, dy.dtype) if narrow else found


def _samples(rng):
    for arrays, attrs in unpool_samples(rng):
        if is_written_out(attrs["window"], attrs["strides"]):
            yield arrays, attrs
            yield (arrays[0], arrays[1].astype(np.uint8)), attrs
    attrs = {"window": (1, 3, 3, 1), "strides": (1, 2, 2, 1), "shape": (2, 7, 6, 17)}
    yield (
        (rng.standard_normal((2, 3, 2, 17)).astype(np.float32), rng.integers(0, 9, (2, 3, 2, 17)).astype(np.uint8)),
        attrs,
    )


window_unpool_tiles = register(
    Op(
        "window_unpool_tiles",
        Kind.TILES,
        window_unpool.infer,
        window_unpool.ref,
        _vjp,
        _lower,
        _samples,
        cost=4,
        facts={"computes_operands": True},
    )
)
