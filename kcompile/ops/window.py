"""Windows of any rank: maximum, minimum and sum over them, and the gradient of the maximum.

`window`, `strides` and `dilation` have an entry per dimension, 1 where nothing is pooled; an empty
`dilation` is all ones. Windows lie inside the operand: padding is an op of its own.

window_argmax gives the row-major position of the first maximum inside its window (a NaN counts as
the maximum), window_unpool sends each cotangent there. Both read instead of scatter, so every
element is written once, by one iteration. The first maximum takes all, as in XLA's
select-and-scatter and in TensorFlow.
"""

from __future__ import annotations

import itertools

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
    indices,
    operand_buffers,
)
from kcompile.forms.scalar import call, const, in_range
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Shape, Type, bf16, boolean, f16, f32, i32
from kcompile.ops.elementwise import draw, eq, select
from kcompile.ops.shape import broadcast_to, pad, reshape, slice

# sizes -----------------------------------------------------------------------------------------


def window_shape(name: str, shape: Shape, window, strides, dilation) -> Shape:
    """The number of windows along every dimension. Raises: ShapeError if one does not fit."""
    dilation = dilation or (1,) * len(shape)
    for attr, given in (("window", window), ("strides", strides), ("dilation", dilation)):
        if len(given) != len(shape) or any(n < 1 for n in given):
            raise ShapeError(f"{name}: {attr} {tuple(given)} for an operand of shape {_text(shape)}")
    result = []
    for size, k, stride, gap in zip(shape, window, strides, dilation):
        count = dim.floordiv(size - (k - 1) * gap - 1, stride) + 1
        if dim.is_static(count) and count < (1 if size else 0):
            raise ShapeError(f"{name}: windows {tuple(window)} do not fit an operand of shape {_text(shape)}")
        result.append(count)
    return tuple(result)


def _text(shape) -> str:
    return "(" + ", ".join(str(n) for n in shape) + ")"


def _windows(x: np.ndarray, window, strides, dilation) -> np.ndarray:
    """A view with the axes of the result, then those of the window."""
    dilation = dilation or (1,) * x.ndim
    shape = window_shape("window", x.shape, window, strides, dilation)
    steps = [a * b for a, b in zip(x.strides, strides)] + [a * b for a, b in zip(x.strides, dilation)]
    return np.lib.stride_tricks.as_strided(x, (*shape, *window), steps, writeable=False)


def _places(at, window, strides, dilation) -> tuple[tuple[Axis, ...], tuple[DimLike, ...]]:
    """Axes over the window, those of extent 1 left out, and the element's place in the operand."""
    taps = tuple(Axis(f"w{n}", k) for n, k in enumerate(window))
    place = tuple(i * s + dim.of(t) * d for i, s, t, d in zip(at, strides, taps, dilation or (1,) * len(window)))
    return tuple(t for t in taps if t.extent != 1), place


def _position(window, taps) -> DimLike:
    """The row-major place inside the window."""
    flat: DimLike = 0
    for size, place in zip(window, taps):
        flat = flat * size + place
    return flat


# max, min, sum ---------------------------------------------------------------------------------


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
        return np.asarray(reduce(_windows(x, window, strides, dilation).astype(wide), axis=taps)).astype(x.dtype)

    return ref


def _lower(name: str, how: str):
    infer = _infer(name)

    def lower(x: Type, *, window, strides, dilation=()) -> Loops:
        """y[i] = how over r of x[i * stride + r * dilation]; narrow floats are summed in float32."""
        result = infer(x, window=window, strides=strides, dilation=dilation)
        outer = axes_for(result.shape)
        at = indices(outer)
        taps, place = _places(at, window, strides, dilation)
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


_SHAPES = (
    ((2, 6, 6, 3), (1, 2, 2, 1), (1, 2, 2, 1), ()),
    ((1, 7, 5, 2), (1, 3, 2, 1), (1, 2, 1, 1), (1, 1, 1, 1)),
    ((2, 9, 3), (1, 3, 1), (1, 2, 1), (1, 2, 1)),
    ((1, 8, 2), (1, 2, 1), (1, 3, 1), ()),
    ((2, 5, 4, 5, 2), (1, 2, 2, 3, 1), (1, 2, 1, 2, 1), ()),
    ((4, 3), (1, 1), (2, 1), ()),
    ((5,), (5,), (1,), ()),
    ((0, 4, 2), (1, 2, 1), (1, 2, 1), ()),
)


def _attrs(window, strides, dilation) -> dict:
    return {"window": window, "strides": strides, "dilation": dilation}


def _samples(rng):
    for n, (shape, *rest) in enumerate(_SHAPES):
        yield (draw(rng, ("f32", "f64", "f32")[n % 3], shape),), _attrs(*rest)
    yield (draw(rng, "f16", (1, 6, 2)),), _attrs((1, 3, 1), (1, 1, 1), ())
    yield (draw(rng, "i32", (1, 6, 2)),), _attrs((1, 2, 1), (1, 2, 1), ())


def _max_vjp(g, y, x, *, window, strides, dilation=()):
    best = window_argmax(x, window=window, strides=strides, dilation=dilation)
    return (window_unpool(g, best, window=window, strides=strides, dilation=dilation, shape=tuple(x.shape)),)


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
    if not rest:
        return (g,)
    for n in rest:  # the others: a window sum over the spread cotangent
        reach = (window[n] - 1) * dilation[n]
        covered = (g.shape[n] - 1) * strides[n]
        g = pad(g, **_edges(rank, n, reach, x.shape[n] - 1 - covered, strides[n] - 1))
    return (
        window_sum(
            g,
            window=tuple(window[n] if n in rest else 1 for n in range(rank)),
            strides=(1,) * rank,
            dilation=tuple(dilation[n] if n in rest else 1 for n in range(rank)),
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
    return register(Op(name, Kind.WINDOW, _infer(name), _ref(reduce), vjp, _lower(name, how), _samples))


window_max = _row("window_max", "max", np.max, _max_vjp)
window_min = _row("window_min", "min", np.min, _min_vjp)
window_sum = _row("window_sum", "sum", np.sum, _sum_vjp)


# argmax ----------------------------------------------------------------------------------------


def _argmax_infer(x: Type, *, window, strides, dilation=()) -> Type:
    if x.dtype is boolean:
        raise DTypeError(f"window_argmax takes numbers, received {x}")
    return Type(i32, window_shape("window_argmax", x.shape, window, strides, dilation))


def _argmax_ref(x, *, window, strides, dilation=()):
    x = np.asarray(x)
    windows = _windows(x, window, strides, dilation)
    flat = windows.reshape(*windows.shape[: x.ndim], int(np.prod(window)))
    return np.argmax(flat, axis=-1).astype(np.int32)


def _argmax_lower(x: Type, *, window, strides, dilation=()) -> Loops:
    """First the maximum of the window, then the smallest position that holds it."""
    result = _argmax_infer(x, window=window, strides=strides, dilation=dilation)
    outer = axes_for(result.shape)
    at = indices(outer)
    taps, place = _places(at, window, strides, dilation)
    buffers = (*operand_buffers((x,)), Buffer("y", result, OUT))
    if not taps:
        return Loops(buffers=buffers, outer=outer, body=(Store("y", at, const(0, i32)),), name="window_argmax")
    element, best = scalar.load("x0", place, x.dtype), scalar.load("best", (), x.dtype)
    holds = call("eq", element, best)
    if x.dtype.is_float:  # NaN is the maximum of its window and equals nothing
        holds = call("or", holds, call("isnan", element))
    position = _position(window, [dim.of(Axis(f"w{n}", k)) for n, k in enumerate(window)])
    nowhere = const(int(np.prod(window)), i32)
    return Loops(
        buffers=(*buffers, Buffer("best", Type(x.dtype, ()), LOCAL)),
        outer=outer,
        body=(
            Nest(taps, (Accumulate("best", (), "max", element),)),
            Nest(taps, (Accumulate("y", at, "min", call("select", holds, scalar.index(position, i32), nowhere)),)),
        ),
        name="window_argmax",
    )


def _argmax_samples(rng):
    yield from _samples(rng)
    yield (np.asarray([[1, 1], [1, 0], [0, np.nan], [np.nan, 2]], np.float32),), _attrs((2, 1), (2, 1), ())


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
        raise ShapeError(f"window_unpool: {dy} and {arg} do not have the shape {_text(counts)} of the windows")
    if not arg.dtype.is_integer:
        raise DTypeError(f"window_unpool expects integer positions, received {arg}")
    return Type(dy.dtype, shape)


def _taps(window, dilation):
    """(position, offset per dimension) of every element of a window."""
    for flat, taps in enumerate(itertools.product(*(range(k) for k in window))):
        yield flat, tuple(t * d for t, d in zip(taps, dilation or (1,) * len(window)))


def _unpool_ref(dy, arg, *, window, strides, shape, dilation=()):
    dy, arg = np.asarray(dy), np.asarray(arg)
    result = np.zeros(shape, np.float32 if dy.dtype == np.float16 else dy.dtype)
    for flat, offset in _taps(window, dilation):
        spots = [np.s_[o : o + (n - 1) * s + 1 : s] if n else np.s_[:0] for o, n, s in zip(offset, dy.shape, strides)]
        result[tuple(spots)] += np.where(arg == flat, dy, 0)
    return result.astype(dy.dtype)


def _unpool_vjp(g, y, dy, arg, *, window, strides, shape, dilation=()):
    """The element of g that each window's cotangent went to."""
    total = None
    for flat, offset in _taps(window, dilation):
        spot = slice(g, starts=offset, sizes=tuple(dy.shape), strides=strides)
        part = select(eq(arg, flat), spot, 0.0)
        total = part if total is None else total + part
    return total, None


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
    position = scalar.index(_position(window, [row[2] for row in rows]), i32)
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


def _unpool_samples(rng):
    for n, (shape, *rest) in enumerate(_SHAPES):
        attrs = _attrs(*rest)
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
        _unpool_samples,
        cost=4,
    )
)
