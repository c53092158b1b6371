"""Which element of a window is the largest, and a cotangent sent there.

window_argmax gives the row-major position of the winner inside its window, in a byte where that suffices.
window_unpool sends each cotangent there. Both read instead of scatter, so every element is written once,
by one iteration.

The winner is what a walk through the window in row-major order ends with if it moves on only from an element
that is not at least as large as the next one: the first maximum. A NaN is at least as large as nothing, so
behind one the walk starts anew. The same rule is XLA's for select-and-scatter with `>=`.
"""

from __future__ import annotations

import math

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
    indices,
    operand_buffers,
)
from kcompile.forms.scalar import Expr, call, const, in_range
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, bf16, boolean, f16, f32, i32, shape_text, u8
from kcompile.ops.elementwise import draw, eq, select
from kcompile.ops.shape import slice
from kcompile.ops.window_shapes import (
    CASES,
    attrs_of,
    element_place,
    flat_position,
    samples,
    tap_offsets,
    window_shape,
    window_view,
)

BYTE = 256  # positions a byte can name
MOST_WALKED = 32  # elements of a window compared one after the other in one expression

# argmax ----------------------------------------------------------------------------------------


def _argmax_infer(x: Type, *, window, strides, dilation=()) -> Type:
    if x.dtype is boolean:
        raise DTypeError(f"window_argmax takes numbers, received {x}")
    counts = window_shape("window_argmax", x.shape, window, strides, dilation)
    return Type(u8 if math.prod(window) <= BYTE else i32, counts)


def _argmax_ref(x, *, window, strides, dilation=()):
    x = np.asarray(x)
    windows = window_view(x, window, strides, dilation)
    flat = windows.reshape(*windows.shape[: x.ndim], math.prod(window))
    best, found = flat[..., 0], np.zeros(windows.shape[: x.ndim], np.uint8 if flat.shape[-1] <= BYTE else np.int32)
    for n in range(1, flat.shape[-1]):
        stays = best >= flat[..., n]
        best, found = np.where(stays, best, flat[..., n]), np.where(stays, found, found.dtype.type(n))
    return np.asarray(found)


def _argmax_lower(x: Type, *, window, strides, dilation=()) -> Loops:
    """The walk, written out if it is short."""
    result = _argmax_infer(x, window=window, strides=strides, dilation=dilation)
    outer = axes_for(result.shape)
    at = indices(outer)
    buffers = (*operand_buffers((x,)), Buffer("y", result, OUT))
    if math.prod(window) <= MOST_WALKED:
        elements = [
            scalar.load("x0", tuple(i * s + o for i, s, o in zip(at, strides, offset)), x.dtype)
            for _, offset in tap_offsets(window, dilation)
        ]
        found = const(0, result.dtype)
        for n, (stays, _) in enumerate(walk(elements), 1):
            found = call("select", stays, found, const(n, result.dtype))
        return Loops(buffers=buffers, outer=outer, body=(Store("y", at, found),), name="window_argmax")
    taps, place = element_place(at, window, strides, dilation)
    element, position = scalar.load("x0", place, x.dtype), flat_position(window, _tap_indices(window))
    locals_, body = _searched(x, element, scalar.index(position, i32), math.prod(window), taps)
    body += (Store("y", at, scalar.cast(scalar.load("found", (), i32), result.dtype)),)
    return Loops(buffers=(*buffers, *locals_), outer=outer, body=body, name="window_argmax")


def walk(elements: list[Expr]) -> list[tuple[Expr, Expr]]:
    """For every element but the first: whether the walk stays where it was, and the value it then stands at."""
    best, steps = elements[0], []
    for element in elements[1:]:
        stays = call("ge", best, element)
        best = call("select", stays, best, element)
        steps.append((stays, best))
    return steps


def _tap_indices(window) -> list[DimLike]:
    return [dim.of(Axis(f"w{n}", k)) for n, k in enumerate(window)]


def _searched(x: Type, element: Expr, position: Expr, count: int, taps) -> tuple[tuple[Buffer, ...], tuple]:
    """Where the walk of a large window ends: at the first maximum behind the last NaN, or at that."""
    found, best, last = (scalar.load(n, (), t) for n, t in (("first", i32), ("best", x.dtype), ("last", i32)))
    nowhere, before = const(count, i32), const(-1, i32)
    broken = call("isnan", element) if x.dtype.is_float else const(False, boolean)
    behind = call("gt", position, last)
    value = call("select", behind, element, const(identity("max", x.dtype), x.dtype))
    holds = call("and", behind, call("eq", element, best))
    body = (
        Nest(taps, (Accumulate("last", (), "max", call("select", broken, position, before)),)),
        Nest(taps, (Accumulate("best", (), "max", value),)),
        Nest(taps, (Accumulate("first", (), "min", call("select", holds, position, nowhere)),)),
        Store("found", (), call("select", call("eq", found, nowhere), last, found)),
    )
    types = {"last": i32, "best": x.dtype, "first": i32, "found": i32}
    return tuple(Buffer(n, Type(t, ()), LOCAL) for n, t in types.items()), body


def _argmax_samples(rng):
    yield from samples(rng)
    yield (np.asarray([[1, 1], [1, 0], [0, np.nan], [np.nan, 2]], np.float32),), attrs_of((2, 1), (2, 1), ())
    many = draw(rng, "f32", (2, MOST_WALKED + 3)).round(0)
    many[0, 5], many[1, -1] = np.nan, np.nan
    yield (many,), attrs_of((1, MOST_WALKED + 1), (1, 2), ())
    yield (draw(rng, "i32", (BYTE + 2, 2)),), attrs_of((BYTE + 1, 1), (1, 1), ())


window_argmax = register(
    Op(
        "window_argmax",
        Kind.WINDOW,
        _argmax_infer,
        _argmax_ref,
        None,
        _argmax_lower,
        _argmax_samples,
        cost=4,
        differentiable=False,
    )
)


# unpool ----------------------------------------------------------------------------------------


def _unpool_infer(dy: Type, arg: Type, *, window, strides, shape, dilation=()) -> Type:
    counts = window_shape("window_unpool", shape, window, strides, dilation)
    if dy.shape != counts or arg.shape != counts:
        raise ShapeError(f"window_unpool: {dy} and {arg} do not have the shape {shape_text(counts)} of the windows")
    if not arg.dtype.is_integer:
        raise DTypeError(f"window_unpool expects integer positions, received {arg}")
    return Type(dy.dtype, shape)


def _unpool_ref(dy, arg, *, window, strides, shape, dilation=()):
    dy, arg = np.asarray(dy), np.asarray(arg)
    result = np.zeros(shape, np.float32 if dy.dtype == np.float16 else dy.dtype)
    for flat, offset in tap_offsets(window, dilation):
        spots = [np.s_[o : o + (n - 1) * s + 1 : s] if n else np.s_[:0] for o, n, s in zip(offset, dy.shape, strides)]
        result[tuple(spots)] += np.where(arg == flat, dy, 0)
    return result.astype(dy.dtype)


def picked(g, arg, *, window, strides, dilation=()):
    """The element of g at each window's position `arg`."""
    total = None
    for flat, offset in tap_offsets(window, dilation):
        spot = slice(g, starts=offset, sizes=tuple(arg.shape), strides=strides)
        part = select(eq(arg, flat), spot, 0.0)
        total = part if total is None else total + part
    return total


def _unpool_vjp(g, y, dy, arg, *, window, strides, shape, dilation=()):
    return picked(g, arg, window=window, strides=strides, dilation=dilation), None


def _candidates(n: int, i: DimLike, k: int, stride: int, gap: int, count: DimLike):
    """The windows that may hold place `i` of dimension n: (axis, window index, tap, conditions)."""
    if k == 1 or gap == 1:
        axis = Axis(f"w{n}", -(-k // stride))
        home = dim.floordiv(i, stride)
        index = home - dim.of(axis)
        tap = i - index * stride
        conditions = [in_range(index, count)]
        if k % stride:  # the last candidate may end before i
            conditions.append(in_range(tap, k))
        return axis, index, tap, conditions
    # dilated: try every tap; the window must start at a multiple of the stride
    axis = Axis(f"w{n}", k)
    reach = (k - 1) * gap
    shift = -(-reach // stride)
    start = i - dim.of(axis) * gap + shift * stride  # never negative
    index = dim.floordiv(start, stride) - shift
    conditions = [in_range(index, count)]
    if stride != 1:
        exact = start - dim.floordiv(start, stride) * stride
        conditions.append(call("eq", scalar.index(exact), scalar.index(0)))
    return axis, index, dim.of(axis), conditions


def _unpool_lower(dy: Type, arg: Type, *, window, strides, shape, dilation=()) -> Loops:
    """y[p] = sum over the windows i that hold p of dy[i] where arg[i] is p's position in them."""
    result = _unpool_infer(dy, arg, window=window, strides=strides, shape=shape, dilation=dilation)
    outer = axes_for(result.shape)
    at = indices(outer)
    rows = [
        _candidates(n, *row) for n, row in enumerate(zip(at, window, strides, dilation or (1,) * len(window), dy.shape))
    ]
    index = tuple(row[1] for row in rows)
    position = scalar.index(flat_position(window, [row[2] for row in rows]), i32)
    chosen = scalar.cast(scalar.load("x1", index, arg.dtype), i32)
    zero = const(0, dy.dtype)
    hit = call("select", call("eq", chosen, position), scalar.load("x0", index, dy.dtype), zero)
    value = scalar.where(scalar.both(*(c for row in rows for c in row[3])), hit, zero)
    taps = tuple(row[0] for row in rows if row[0].extent != 1)
    buffers = (*operand_buffers((dy, arg)), Buffer("y", result, OUT))
    if not taps:
        body: tuple = (Store("y", at, value),)
    elif dy.dtype in (f16, bf16):
        buffers += (Buffer("total", Type(f32, ()), LOCAL),)
        adding = Accumulate("total", (), "sum", scalar.cast(value, f32))
        body = (Nest(taps, (adding,)), Store("y", at, scalar.cast(scalar.load("total", (), f32), dy.dtype)))
    else:
        body = (Nest(taps, (Accumulate("y", at, "sum", value),)),)
    return Loops(buffers=buffers, outer=outer, body=body, name="window_unpool")


def unpool_samples(rng):
    for n, (shape, *rest) in enumerate(CASES):
        attrs = attrs_of(*rest)
        counts = window_shape("window_unpool", shape, *rest)
        positions = rng.integers(0, np.prod(attrs["window"]), counts).astype(np.int32)
        yield (draw(rng, ("f64", "f32")[n % 2], counts), positions), {**attrs, "shape": shape}


window_unpool = register(
    Op(
        "window_unpool",
        Kind.WINDOW,
        _unpool_infer,
        _unpool_ref,
        _unpool_vjp,
        _unpool_lower,
        unpool_samples,
        cost=4,
    )
)
