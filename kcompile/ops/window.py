"""Windows of any rank: maximum, minimum and sum over them (see window_shapes.py for their attributes).

The gradient of a maximum goes to the first one. Where no two windows share an element it is found again by
comparing (`window_max_gradient`): the operand is mostly in memory anyway, and nothing is kept from the forward
pass. Where they overlap, every element would compare all windows it lies in, each with all of its elements, which
took five times as long for 3 x 3 every 2 (465 us, not 35 + 50, for f32[32,26,26,32]): there the forward pass keeps
the place of each maximum, a byte per window (`window_argmax`, `window_unpool_tiles`; large windows `window_unpool`).
"""

from __future__ import annotations

import numpy as np

from kcompile.errors import DTypeError
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
    indices,
    operand_buffers,
)
from kcompile.ir.dim import DimLike
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, bf16, boolean, f16, f32
from kcompile.ops.pool_gradient import is_found_by_comparing, window_max_gradient
from kcompile.ops.shape import broadcast_to, pad, reshape
from kcompile.ops.sum_tiles import window_sum_tiles
from kcompile.ops.unpool import window_argmax, window_unpool
from kcompile.ops.unpool_tiles import is_written_out, window_unpool_tiles
from kcompile.ops.window_shapes import element_place, samples, window_shape, window_view


def _infer(name: str):
    def infer(x: Type, *, window, strides, dilation=()) -> Type:
        if x.dtype is boolean:
            raise DTypeError(f"{name} takes numbers, received {x}")
        return x.with_shape(window_shape(name, x.shape, window, strides, dilation))

    return infer


def _ref(reduce):
    def ref(x, *, window, strides, dilation=()):
        x = np.asarray(x)
        wide = np.float32 if x.dtype == np.float16 else x.dtype
        taps = tuple(range(x.ndim, 2 * x.ndim))
        return np.asarray(reduce(window_view(x, window, strides, dilation).astype(wide), axis=taps)).astype(x.dtype)

    return ref


def _lower(name: str, how: str):
    infer = _infer(name)

    def lower(x: Type, *, window, strides, dilation=()) -> Loops:
        """y[i] = how over r of x[i * stride + r * dilation]; narrow floats are summed in float32."""
        result = infer(x, window=window, strides=strides, dilation=dilation)
        outer = axes_for(result.shape)
        at = indices(outer)
        taps, place = element_place(at, window, strides, dilation)
        element = scalar.load("x0", place, x.dtype)
        buffers = (*operand_buffers((x,)), Buffer("y", result, OUT))
        if not taps:
            body: tuple = (Store("y", at, element),)
        elif how == "sum" and x.dtype in (f16, bf16):
            buffers += (Buffer("total", Type(f32, ()), LOCAL),)
            adding = Accumulate("total", (), how, scalar.cast(element, f32))
            body = (Nest(taps, (adding,)), Store("y", at, scalar.cast(scalar.load("total", (), f32), x.dtype)))
        else:
            body = (Nest(taps, (Accumulate("y", at, how, element),)),)
        return Loops(buffers=buffers, outer=outer, body=body, name=name)

    return lower


def _max_vjp(g, y, x, *, window, strides, dilation=()):
    attrs = {"window": window, "strides": strides, "dilation": dilation}
    if is_found_by_comparing(tuple(x.shape), window, strides, dilation):
        return (window_max_gradient(x, g, **attrs),)
    unpool = window_unpool_tiles if is_written_out(window, strides) else window_unpool
    return (unpool(g, window_argmax(x, **attrs), **attrs, shape=tuple(x.shape)),)


def _min_vjp(g, y, x, *, window, strides, dilation=()):
    return _max_vjp(g, y, -x, window=window, strides=strides, dilation=dilation)


def _sum_vjp(g, y, x, *, window, strides, dilation=()):
    """Every element takes the cotangents of the windows it lies in."""
    rank = len(window)
    dilation = dilation or (1,) * rank
    for axis in range(rank):
        if window[axis] == strides[axis] != 1 and dilation[axis] == 1:  # one window each: repeat
            g = _repeated(g, axis, window[axis])
            g = pad(g, **_edges(rank, axis, 0, x.shape[axis] - g.shape[axis], 0))
    rest = [n for n in range(rank) if not (window[n] == strides[n] and dilation[n] == 1)]
    strided = [n for n in rest if strides[n] != 1]

    def of(dims: list[int], full: tuple) -> tuple:
        return tuple(full[n] if n in dims else 1 for n in range(rank))

    if strided:  # those that a tile holds, at once or one dimension after another
        at_once = is_written_out(of(rest, window), of(rest, strides))
        for dims in [rest] if at_once else [[n] for n in strided]:
            attrs = {"window": of(dims, window), "strides": of(dims, strides), "dilation": of(dims, dilation)}
            if is_written_out(attrs["window"], attrs["strides"]):
                g = window_sum_tiles(
                    g, **attrs, shape=tuple(x.shape[n] if n in dims else g.shape[n] for n in range(rank))
                )
                rest = [n for n in rest if n not in dims]
    if not rest:
        return (g,)
    for n in rest:  # the others: a window sum over the spread cotangent
        reach = (window[n] - 1) * dilation[n]
        covered = (g.shape[n] - 1) * strides[n]
        g = pad(g, **_edges(rank, n, reach, x.shape[n] - 1 - covered, strides[n] - 1))
    return (
        window_sum(
            g,
            window=of(rest, window),
            strides=(1,) * rank,
            dilation=of(rest, dilation),
        ),
    )


def _edges(rank: int, axis: int, low: DimLike, high: DimLike, interior: int) -> dict:
    def at(n: DimLike) -> tuple:
        return tuple(n if i == axis else 0 for i in range(rank))

    return {"low": at(low), "high": at(high), "interior": at(interior), "value": 0}


def _repeated(x, axis: int, times: int):
    """Every element `times` times in a row along `axis`."""
    shape = tuple(x.shape)
    x = reshape(x, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :]))
    x = broadcast_to(x, shape=(*shape[: axis + 1], times, *shape[axis + 1 :]))
    return reshape(x, shape=(*shape[:axis], shape[axis] * times, *shape[axis + 1 :]))


def _row(name: str, how: str, reduce, vjp) -> Op:
    return register(Op(name, Kind.WINDOW, _infer(name), _ref(reduce), vjp, _lower(name, how), samples))


window_max = _row("window_max", "max", np.max, _max_vjp)
window_min = _row("window_min", "min", np.min, _min_vjp)
window_sum = _row("window_sum", "sum", np.sum, _sum_vjp)
