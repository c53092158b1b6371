"""Random graphs over the primitives, for comparing ways to run a graph.

`make(seed)` draws a graph and `arrays(graph, seed, sizes)` numbers for its sources. Values are kept near 1
(sums are divided by their length, products halved), so that rounding errors stay what they are in one
operation. Operations with jumps (floor, comparisons, arg reductions) take only values that every way
computes alike to the bit: sources, and what data movement makes of them; `_exact` holds these.

To add an operation, write a function of `Drawing` and give it a weight in `STEPS`; it returns a value, or
None if what it drew does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from kcompile import ops
from kcompile.autodiff import grad
from kcompile.errors import KcompileError
from kcompile.ir import dim
from kcompile.ir.graph import Graph, Value
from kcompile.ir.types import Type, boolean, f32, i32, u32

BATCH, TIME = dim.symbol("batch"), dim.symbol("time")
SIZES = (1, 2, 3, 4, 5, 7, 8, 16, 17)
LARGEST = 4000  # elements of a value, for the sizes that tests use; the form interpreter is slow
USUAL = {"batch": 5, "time": 3}


class Drawing:
    """A graph being drawn: its values so far, and the dice."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.graph = Graph(f"fuzz{seed}")
        self.pool: list[Value] = []
        self.exact: set[Value] = set()

    # dice --------------------------------------------------------------------------------------

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def among(self, low: int, high: int) -> int:
        """A number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def one_of(self, things):
        return things[int(self.rng.integers(len(things)))]

    def axes_of(self, rank: int) -> tuple[int, ...]:
        return tuple(n for n in range(rank) if self.chance(0.5)) or (self.among(0, rank - 1),)

    # values ------------------------------------------------------------------------------------

    def value(self, fits: Callable[[Value], bool] = lambda v: True, kind=f32) -> Value | None:
        """A value of a dtype, more likely a late one."""
        found = [v for v in self.pool if (kind is None or v.dtype is kind) and fits(v)]
        return found[min(int(self.rng.triangular(0, len(found), len(found))), len(found) - 1)] if found else None

    def source(self, shape, kind=f32, role: str = "input") -> Value:
        name = f"{role[0]}{len(self.graph.sources)}"
        made = self.graph.source(role, name, Type(kind, tuple(shape)))
        self.pool.append(made)
        self.exact.add(made)
        return made

    def parameter(self, *shape: int) -> Value:
        """A float source of known sizes: sometimes a piece of a flat arena, as in a training graph."""
        if not self.chance(0.3):
            return self.source(shape, role="parameter" if self.chance(0.7) else "input")
        size, start = math.prod(shape), self.among(0, 3) * 16
        arena = self.source((start + size + self.among(0, 20),), role="parameter")
        piece = ops.slice(arena, starts=(start,), sizes=(size,), strides=(1,))
        return self.moved(ops.reshape(piece, shape=tuple(shape)), arena)

    def moved(self, value: Value, *origins: Value) -> Value:
        """Note that a value only holds elements of others (or that its op is exact)."""
        if all(o in self.exact for o in origins):
            self.exact.add(value)
        return value


def usual(size) -> int:
    return dim.evaluate(size, USUAL)


def is_known(value: Value) -> bool:
    return all(dim.is_static(n) for n in value.shape)


# elementwise -----------------------------------------------------------------------------------

SMOOTH = (
    *("neg", "abs", "square", "exp", "expm1", "sin", "cos", "atan", "tanh", "asinh", "erf", "erfc", "normcdf"),
    *("relu", "sigmoid", "softplus", "stop_gradient"),
)
LIMITED = {  # ops with a limited domain, and what brings any number into it
    "log": lambda x: ops.add(ops.abs(x), 0.5),
    "log1p": ops.abs,
    "sqrt": lambda x: ops.add(ops.square(x), 0.25),
    "rsqrt": lambda x: ops.add(ops.square(x), 0.5),
    "reciprocal": lambda x: ops.add(ops.square(x), 0.5),
    "asin": lambda x: ops.mul(ops.tanh(x), 0.9),
    "exp2": ops.tanh,
    "sinh": ops.tanh,
    "cosh": ops.tanh,
}
EXACT_UNARY = ("neg", "abs", "relu", "sign", "floor", "ceil", "round", "trunc")


def unary(d: Drawing):
    x = d.value()
    if d.chance(0.25):
        name = d.one_of(tuple(LIMITED))
        return getattr(ops, name)(LIMITED[name](x))
    name = d.one_of(SMOOTH)
    x = ops.tanh(x) if name in ("exp", "expm1", "square") and x not in d.exact else x
    y = getattr(ops, name)(x)
    return d.moved(y, x) if name in EXACT_UNARY else y


def exact_unary(d: Drawing):
    x = d.value(lambda v: v in d.exact)
    return d.moved(getattr(ops, d.one_of(EXACT_UNARY))(x), x)


def partner(d: Drawing, x: Value) -> Value:
    """A value that broadcasts with x: an old one, a reduced x, or a new source."""

    def broadcasts(v: Value) -> bool:
        pairs = zip(reversed(v.shape), reversed(x.shape))
        return all(a == b or a == 1 or b == 1 for a, b in pairs)

    old = d.value(broadcasts)
    if old is not None and d.chance(0.6):
        return old
    if x.rank and d.chance(0.4):
        return ops.reduce_max(x, axes=d.axes_of(x.rank), keepdims=True)
    shape = [1 if d.chance(0.3) else n for n in x.shape][d.among(0, x.rank) if d.chance(0.5) else 0 :]
    return d.source(shape, role="input" if any(not dim.is_static(n) for n in shape) else "parameter")


def binary(d: Drawing):
    x = d.value()
    y = d.one_of((partner(d, x), 0.5, -1.5)) if d.chance(0.3) else partner(d, x)
    a, b = (y, x) if d.chance(0.5) else (x, y)
    name = d.one_of(("add", "sub", "mul", "div", "maximum", "minimum", "atan2", "pow"))
    if name == "div":
        return ops.div(a, ops.add(ops.square(b), 1.0)) if isinstance(b, Value) else ops.mul(a, 2.0)
    if name == "pow":
        return ops.pow(ops.add(ops.abs(x), 0.5), d.one_of((2.0, 0.5, -1.0, 3.0, 1.7)))
    if name == "atan2":
        return ops.atan2(a, ops.add(ops.square(x), 0.5))
    result = getattr(ops, name)(a, b)
    if name in ("maximum", "minimum"):
        return d.moved(result, *(v for v in (a, b) if isinstance(v, Value)))
    return ops.mul(result, 0.5)


def compare(d: Drawing):
    x = d.value(lambda v: v in d.exact)
    y = 0.0 if d.chance(0.5) else d.value(lambda v: v in d.exact and v.shape == x.shape)
    return d.moved(getattr(ops, d.one_of(("eq", "ne", "lt", "le", "gt", "ge")))(x, y), x)


def logic(d: Drawing):
    a = d.value(kind=boolean)
    if a is None:
        return compare(d)
    if d.chance(0.3):
        return d.moved(ops.logical_not(a), a)
    b = d.value(lambda v: v.shape == a.shape, boolean)
    return d.moved(getattr(ops, d.one_of(("logical_and", "logical_or", "logical_xor")))(a, b), a)


def choose(d: Drawing):
    condition = d.value(kind=boolean)
    if condition is None:
        condition = compare(d)
    a = partner(d, condition)
    b = d.value(lambda v: v.shape == condition.shape) if d.chance(0.6) else d.one_of((0.0, -1.0))
    a, b = (a, b) if d.chance(0.5) else (b, a)
    return d.moved(ops.select(condition, a, b), *(v for v in (a, b) if isinstance(v, Value)))


def cast(d: Drawing):
    x = d.value(lambda v: v in d.exact, kind=None)
    if x.dtype is u32:
        return d.moved(ops.mul(ops.cast(ops.shift_right(x, 8), dtype="f32"), 2.0**-24), x)
    if x.dtype is i32:
        return ops.mul(ops.cast(x, dtype="f32"), 0.25)
    return d.moved(ops.cast(x, dtype="f32" if x.dtype is boolean else "i32"), x)


def integer(d: Drawing):
    x = d.value(kind=i32)
    if x is None:
        return None
    name = d.one_of(("add", "mul", "maximum", "mod", "floordiv", "bitwise_xor", "shift_right", "reduce_sum"))
    if name == "reduce_sum":
        return ops.mod(ops.reduce_sum(x, axes=d.axes_of(x.rank), keepdims=d.chance(0.5)), 11) if x.rank else None
    result = getattr(ops, name)(x, d.among(1, 5))
    return d.moved(ops.mod(result, 13) if name in ("add", "mul") else result, x)


# movement --------------------------------------------------------------------------------------


def reshape(d: Drawing):
    x = d.value(lambda v: v.rank > 0, kind=None if d.chance(0.2) else f32)
    if x is None:
        return None
    shape = list(x.shape)
    axis = d.among(0, x.rank - 1)
    way = d.among(0, 3)
    if way == 0 and axis + 1 < x.rank:  # join two
        shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
    elif way == 1 and dim.is_static(shape[axis]) and shape[axis] > 3:  # split one
        factor = next((k for k in (2, 3, 4, 5) if shape[axis] % k == 0), None)
        if factor:
            split = [factor, shape[axis] // factor]
            shape[axis : axis + 1] = split if d.chance(0.5) else split[::-1]
    elif way == 2:
        shape.insert(axis, 1)
    elif way == 3 and is_known(x):  # mixed: all axes into one, and two new ones
        total = math.prod(shape)
        factor = next((k for k in (4, 3, 2, 5, 7) if total % k == 0), 1)
        shape = [factor, total // factor]
    return d.moved(ops.reshape(x, shape=tuple(shape)), x) if len(shape) <= 5 else None


def transpose(d: Drawing):
    x = d.value(lambda v: v.rank > 1, kind=None if d.chance(0.2) else f32)
    return None if x is None else d.moved(ops.transpose(x, perm=tuple(d.rng.permutation(x.rank).tolist())), x)


def slice_(d: Drawing):
    x = d.value(lambda v: v.rank > 0)
    if x is None:
        return None
    rows = []
    for n in x.shape:
        if not dim.is_static(n) or n < 2 or d.chance(0.3):
            rows.append((0, n, 1))
            continue
        start, stride = d.among(0, n - 1), d.among(1, 3)
        rows.append((start, d.among(1, (n - 1 - start) // stride + 1), stride))
    starts, sizes, strides = zip(*rows)
    return d.moved(ops.slice(x, starts=starts, sizes=sizes, strides=strides), x)


def pad(d: Drawing):
    x = d.value(lambda v: v.rank > 0)
    if x is None:
        return None
    rows = []
    for n in x.shape:
        crops = dim.is_static(n) and n >= 4
        least = -1 if crops else 0
        rows.append((d.among(least, 2), d.among(least, 2), d.among(0, 1)) if d.chance(0.6) else (0, 0, 0))
    low, high, interior = zip(*rows)
    return d.moved(ops.pad(x, low=low, high=high, interior=interior, value=d.one_of((0, 1.5))), x)


def reverse(d: Drawing):
    x = d.value(lambda v: v.rank > 0)
    return None if x is None else d.moved(ops.reverse(x, axes=d.axes_of(x.rank)), x)


def concat(d: Drawing):
    x = d.value(lambda v: v.rank > 0)
    if x is None:
        return None
    axis = d.among(0, x.rank - 1)

    def fits(v: Value) -> bool:
        return v.rank == x.rank and all(a == b for n, (a, b) in enumerate(zip(v.shape, x.shape)) if n != axis)

    parts = [x, *(d.value(fits) for _ in range(d.among(1, 2)))]
    return d.moved(ops.concat(*parts, axis=axis), *parts)


def broadcast(d: Drawing):
    x = d.value(lambda v: v.rank < 4)
    if x is None:
        return None
    shape = [d.among(2, 4) if n == 1 and d.chance(0.6) else n for n in x.shape]
    return d.moved(ops.broadcast_to(x, shape=(*([d.among(1, 3)] if d.chance(0.5) else []), *shape)), x)


def pack(d: Drawing):
    parts = [d.value(is_known) for _ in range(d.among(1, 3))]
    if None in parts:
        return None
    offsets, end = [], 0
    for part in parts:
        offsets.append(end + d.among(0, 3))
        end = offsets[-1] + math.prod(part.shape)
    return d.moved(ops.pack(*parts, offsets=tuple(offsets), size=end + d.among(0, 4)), *parts)


# sums ------------------------------------------------------------------------------------------


def reduce(d: Drawing):
    x = d.value(lambda v: v.rank > 0)
    if x is None:
        return None
    axes, keep = d.axes_of(x.rank), d.chance(0.5)
    name = d.one_of(("reduce_sum", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod"))
    if name == "reduce_prod":
        return ops.reduce_prod(ops.add(ops.mul(ops.tanh(x), 0.1), 1.0), axes=axes, keepdims=keep)
    y = getattr(ops, name)(x, axes=axes, keepdims=keep)
    if name != "reduce_sum":
        return d.moved(y, x)
    return ops.div(y, ops.size(y, value=dim.product([x.shape[a] for a in axes]), dtype="f32"))


def reduce_bool(d: Drawing):
    x = d.value(lambda v: v.rank > 0, boolean)
    if x is None:
        return None
    return d.moved(d.one_of((ops.reduce_any, ops.reduce_all))(x, axes=d.axes_of(x.rank), keepdims=d.chance(0.5)), x)


def arg_reduce(d: Drawing):
    x = d.value(lambda v: v.rank > 0 and v in d.exact)
    if x is None:
        return None
    return d.moved(d.one_of((ops.argmax, ops.argmin))(x, axis=d.among(0, x.rank - 1)), x)


def cumsum(d: Drawing):
    x = d.value(lambda v: v.rank > 0)
    return None if x is None else ops.mul(ops.cumsum(x, axis=d.among(0, x.rank - 1)), 0.1)


def softmax(d: Drawing):
    x = d.value(lambda v: v.rank > 0)
    if x is None:
        return None
    axes = (d.among(0, x.rank - 1),)
    e = ops.exp(ops.sub(x, ops.reduce_max(x, axes=axes, keepdims=True)))
    return ops.div(e, ops.reduce_sum(e, axes=axes, keepdims=True))


def normalised(d: Drawing):
    x = d.value(lambda v: v.rank > 0)
    if x is None:
        return None
    axes = d.axes_of(x.rank)
    count = ops.size(x, value=dim.product([x.shape[a] for a in axes]), dtype="f32")
    centred = ops.sub(x, ops.div(ops.reduce_sum(x, axes=axes, keepdims=True), count))
    variance = ops.div(ops.reduce_sum(ops.square(centred), axes=axes, keepdims=True), count)
    return ops.mul(centred, ops.rsqrt(ops.add(variance, 0.5)))


def matmul(d: Drawing):
    x = d.value(lambda v: v.rank >= 2 and dim.is_static(v.shape[-1]))
    if x is None:
        return None
    k = x.shape[-1]
    way = d.among(0, 2)
    if way == 0 and x.rank > 2 and all(dim.is_static(n) for n in x.shape[:-2]):
        other = d.parameter(*x.shape[:-2], k, d.one_of(SIZES))
    elif way == 1:  # with itself: sums over the sizes that may be symbolic
        letters = "abcdefgh"[: x.rank]
        y = ops.einsum(f"{letters},{letters[:-1]}z->{letters[-1]}z", x, x)
        return ops.div(y, ops.size(y, value=dim.product(x.shape[:-1]), dtype="f32"))
    else:
        other = d.parameter(k, d.one_of(SIZES))
    return ops.mul(ops.matmul(x, other), 1.0 / k)


def conv(d: Drawing):
    x = d.value(lambda v: v.rank in (3, 4) and dim.is_static(v.shape[-1]))
    if x is None:
        return None
    rank = x.rank - 2
    groups = d.one_of([g for g in (1, 1, 2, 3) if x.shape[-1] % g == 0])
    window = tuple(d.among(1, 3) for _ in range(rank))
    out = groups * d.among(1, 9)
    strides, gaps = (tuple(d.among(1, 2) for _ in range(rank)) for _ in range(2))
    padding = d.one_of(("valid", "same", "same"))
    sizes = x.shape[1:-1]
    fits = all(dim.is_static(n) and n > (k - 1) * g for n, k, g in zip(sizes, window, gaps))
    padding = padding if fits else "same"
    per_group = x.shape[-1] // groups
    w = d.parameter(*window, per_group, out)
    scale = 1.0 / (math.prod(window) * per_group)
    return ops.mul(ops.conv(x, w, strides=strides, padding=padding, dilation=gaps, groups=groups), scale)


def window(d: Drawing):
    x = d.value(lambda v: v.rank > 1)
    if x is None:
        return None
    rows = []
    for n in x.shape:
        if dim.is_static(n) and n > 1 and d.chance(0.7):
            k = d.among(1, min(3, n))
            rows.append((k, d.among(1, 3), d.among(1, 2) if 2 * (k - 1) < n else 1))
        else:
            rows.append((1, 1, 1))
    sizes, strides, gaps = zip(*rows)
    name = d.one_of(("window_max", "window_max", "window_min", "window_sum"))
    y = getattr(ops, name)(x, window=sizes, strides=strides, dilation=gaps)
    return ops.mul(y, 1.0 / math.prod(sizes)) if name == "window_sum" else d.moved(y, x)


def gather(d: Drawing):
    x = d.value(lambda v: v.rank > 0)
    if x is None:
        return None
    places = d.value(lambda v: v.rank < 3, i32)
    if places is None or d.chance(0.5):
        places = d.source((BATCH, *((d.among(1, 4),) if d.chance(0.5) else ())), i32)
    return d.moved(ops.gather(x, places, axis=d.among(0, x.rank - 1)), x) if x.rank + places.rank < 6 else None


def scatter(d: Drawing):
    rows = d.value(lambda v: v.rank > 0)
    if rows is None:
        return None
    places = d.source((rows.shape[0],), i32)
    zeros = ops.broadcast_to(d.graph.constant(0.0, f32), shape=(d.among(1, 8), *rows.shape[1:]))
    return ops.mul(ops.scatter_add(zeros, places, rows), 0.5)


def bits(d: Drawing):
    shape = d.value().shape
    seed = next((v for v in d.pool if v.dtype is u32 and v.shape == (2,)), None)
    seed = d.source((2,), u32) if seed is None else seed
    return d.moved(ops.random_bits(seed, shape=shape), seed)


def iota(d: Drawing):
    like = d.value(lambda v: v.rank > 0)
    if like is None:
        return None
    return d.moved(ops.iota(like, shape=like.shape, axis=d.among(0, like.rank - 1), dtype="i32"))


STEPS: dict[Callable[[Drawing], Value | None], int] = {
    **{unary: 6, exact_unary: 2, binary: 8, compare: 1, logic: 1, choose: 2, cast: 2, integer: 2},
    **{reshape: 4, transpose: 4, slice_: 3, pad: 3, reverse: 2, concat: 3, broadcast: 2, pack: 1},
    **{reduce: 5, reduce_bool: 1, arg_reduce: 1, cumsum: 1, softmax: 2, normalised: 2},
    **{matmul: 4, conv: 4, window: 3, gather: 2, scatter: 1, bits: 1, iota: 1},
}


# whole graphs ----------------------------------------------------------------------------------


def make(seed: int) -> Graph:
    """Draw a graph: a few sources, up to 20 steps, outputs, sometimes gradients and assignments."""
    d = Drawing(seed)
    for _ in range(d.among(1, 3)):
        shape = [d.one_of(SIZES) for _ in range(d.among(0, 3))]
        front = d.one_of(((BATCH,), (BATCH,), (BATCH, TIME), ()))
        d.source((*front, *shape))
    steps, weights = list(STEPS), np.array(list(STEPS.values()), float)
    wanted = len(d.pool) + d.among(3, 20)
    while len(d.pool) < wanted:
        found = steps[int(d.rng.choice(len(steps), p=weights / weights.sum()))]
        try:
            value = found(d)
        except KcompileError:  # shapes that do not fit, found by the type rules
            continue
        if value is not None and math.prod(usual(n) for n in value.shape) <= LARGEST:
            d.pool.append(value)
    _results(d)
    return d.graph


def _results(d: Drawing) -> None:
    graph = d.graph
    read = {v for node in graph.live_nodes() for v in node.inputs}
    ends = [v for v in d.pool if v not in read and not v.node.is_source] or d.pool[-1:]
    for n, value in enumerate(ends[-4:]):
        graph.output(f"y{n}", value)
    floats = [v for v in d.pool if v.dtype is f32 and not v.node.is_source]
    if floats and d.chance(0.5):
        loss = 0.0
        for value in [v for v in ends if v.dtype is f32][-3:] or floats[-1:]:
            total = ops.reduce_sum(ops.square(value), axes=tuple(range(value.rank)), keepdims=False)
            loss = ops.add(loss, ops.div(total, ops.size(total, value=dim.product(value.shape), dtype="f32")))
        graph.output("loss", loss)
        wrt = [v for v in graph.sources.values() if v.node.role == "parameter"]
        wrt += [v for v in graph.sources.values() if v.node.role == "input" and v.dtype is f32][:1]
        for value, slope in zip(wrt, grad(loss, wrt)):
            if value.node.role == "parameter":
                graph.assign(value, ops.sub(value, ops.mul(slope, 0.1)))
            else:
                graph.output(f"d_{value.node.name}", slope)
    known = [v for v in floats if is_known(v)]
    if known and d.chance(0.5):
        value = d.one_of(known)
        average = graph.source("state", "average", Type(f32, value.shape))
        graph.assign(average, ops.add(ops.mul(average, 0.9), ops.mul(value, 0.1)))


def arrays(graph: Graph, seed: int, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Draw an array for every source."""
    rng = np.random.default_rng(seed)
    made = {}
    for name, value in graph.sources.items():
        shape = tuple(dim.evaluate(n, sizes) for n in value.shape)
        if value.dtype is f32:
            made[name] = np.asarray(rng.uniform(-1.5, 1.5, shape), np.float32)
        else:  # indices, out of range on both sides too; seeds
            low, high = (0, 2**32) if value.dtype is u32 else (-1, 6)
            made[name] = np.asarray(rng.integers(low, high, shape), value.dtype.numpy)
    return made
