"""Cotangents of window sums, several elements at a time.

    window_sum_tiles   dy [.., count, ..] -> dx [.., n, ..]

Every element takes the cotangents of the windows it lies in. With strides, spreading the cotangent first puts zeros
between its elements, and each of them is asked for (69 us for f32[2,40,30,16], windows 3 x 3 every 2). Here a tile is
`stride` elements of dx per dimension, and which windows meet in each of them does not depend on the tile: what is
added is read where it lies, as in unpool_tiles.py.
"""

from __future__ import annotations

import itertools

import numpy as np

from kcompile.errors import DTypeError, ShapeError
from kcompile.forms.records import OUT, Buffer, Loops, Nest, Store, operand_buffers
from kcompile.forms.scalar import Expr, both, const, in_range, load, where
from kcompile.ir.op import OPS, Kind, Op, register
from kcompile.ir.types import Shape, Type, shape_text
from kcompile.ops.elementwise import draw
from kcompile.ops.unpool_tiles import Run, is_written_out, meeting, runs, total
from kcompile.ops.window_shapes import CASES, tap_offsets, window_shape


def _infer(dy: Type, *, window, strides, shape: Shape, dilation=()) -> Type:
    counts = window_shape("window_sum_tiles", shape, window, strides, dilation)
    if dy.shape != counts:
        raise ShapeError(f"window_sum_tiles: {dy} does not have the shape {shape_text(counts)} of the windows")
    if not dy.dtype.is_float:
        raise DTypeError(f"window_sum_tiles takes numbers of a floating dtype, received {dy}")
    return dy.with_shape(shape)


def _ref(dy, *, window, strides, shape, dilation=()):
    dy = np.asarray(dy)
    dx = np.zeros(shape, np.float32 if dy.dtype == np.float16 else dy.dtype)
    for _, offset in tap_offsets(window, dilation):
        dx[tuple(np.s_[o : o + (n - 1) * s + 1 : s] for o, n, s in zip(offset, dy.shape, strides))] += dy
    return dx.astype(dy.dtype)


def _lower(dy: Type, *, window, strides, shape, dilation=()) -> Loops:
    """dx[q * stride + o] = sum over windows q - e with an element at e * stride + o of dy[q - e]."""
    met = meeting(window, strides, dilation)
    every = (runs(n, *row) for n, row in enumerate(zip(shape, strides)))
    body = tuple(_tiles(found, dy, strides, met) for found in itertools.product(*every))
    return Loops((*operand_buffers((dy,)), Buffer("y", dy.with_shape(shape), OUT)), (), body, "window_sum_tiles")


def _tiles(found: tuple[Run, ...], dy: Type, strides, met) -> Nest:
    tile = tuple(t for _, t, _ in found)
    stores = []
    for offset in itertools.product(*(elements for _, _, elements in found)):
        terms = [_term(tile, back, dy) for back, _ in met.get(offset, ())]
        at = tuple(t * s + o for t, s, o in zip(tile, strides, offset))
        stores.append(Store("y", at, total(terms, dy)))
    return Nest(tuple(axis for axis, _, _ in found), tuple(stores))


def _term(tile, back: tuple[int, ...], dy: Type) -> Expr:
    """The cotangent of the window so many tiles back."""
    index = tuple(t - e for t, e in zip(tile, back))
    exists = both(*(in_range(i, count) for i, count in zip(index, dy.shape)))
    return where(exists, load("x0", index, dy.dtype), const(0, dy.dtype))


def _samples(rng):
    cases = [*CASES, ((2, 7, 6, 17), (1, 3, 3, 1), (1, 2, 2, 1), ()), ((1, 11, 2), (1, 5, 1), (1, 3, 1), ())]
    for n, (shape, window, strides, dilation) in enumerate(cases):
        if is_written_out(window, strides):
            counts = window_shape("window_sum_tiles", shape, window, strides, dilation)
            attrs = {"window": window, "strides": strides, "shape": shape, "dilation": dilation}
            yield (draw(rng, ("f32", "f64", "f16")[n % 3], counts),), attrs


def _vjp(g, y, dy, *, window, strides, shape, dilation=()):
    return (OPS["window_sum"](g, window=window, strides=strides, dilation=dilation),)


window_sum_tiles = register(Op("window_sum_tiles", Kind.TILES, _infer, _ref, _vjp, _lower, _samples, cost=4))
