"""argsort: the places of a line's elements in ascending (or descending) order, equal ones as they come.

Elements become unsigned keys of the same order, so that one mechanism sorts every dtype: the bits of a
float with the sign turned over (NaN the largest, -0 equal to 0), an integer moved to start at zero.

    short lines    ranks: element i goes to the number of elements before it, counted by comparing all pairs
    other lines    radix sort, lowest digit first: places are counted per digit, then moved stably.
                   Linear in the length, which may be symbolic; keys of 32 bits take four passes

Sorted values are a gather, so their gradient is that of a gather.

Source: Knuth, The Art of Computer Programming 3, sections 5.2 (comparison counting) and 5.2.5 (radix).
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
from kcompile.forms.scalar import Expr, const, load, loaded
from kcompile.ir import dim, types
from kcompile.ir.dim import Axis, of
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import DType, Type, boolean, i32, i64, u32, u64
from kcompile.ops.elementwise import draw, s

DIGIT_BITS = 8
DIGITS = 1 << DIGIT_BITS
RANKED = 96  # up to so many elements all pairs are compared: cheaper than clearing the digits' counters


def _infer(x: Type, *, axis: int, descending: bool = False) -> Type:
    if not 0 <= axis < x.rank:
        raise ShapeError(f"argsort: axis {axis} is not an axis of {x}")
    if x.dtype is boolean:
        raise DTypeError("argsort takes numbers, received bool; cast it first")
    return Type(i32, x.shape)


def _ref(x, *, axis: int, descending: bool = False) -> np.ndarray:
    x = np.asarray(x)
    if not descending:
        return np.argsort(x, axis, kind="stable").astype(np.int32)
    last = x.shape[axis] - 1  # from the back, equal elements stand the other way round
    found = np.argsort(np.flip(x, axis), axis, kind="stable")
    return (last - np.flip(found, axis)).astype(np.int32)


def key_dtype(x: DType) -> DType:
    """The unsigned integer that orders elements of `x`."""
    return u64 if x.size_bytes == 8 else u32


def _key(value: Expr, descending: bool) -> Expr:
    """An unsigned integer in the order of the values."""
    wide = key_dtype(value.dtype)
    top = 1 << (8 * wide.size_bytes - 1)
    if value.dtype.is_float:
        number = scalar.cast(value, types.f64 if wide is u64 else types.f32)
        bits = s.bits(s.add(number, 0.0))  # -0 + 0 is 0
        negative = s.ge(bits, top)
        key = s.select(negative, s.bitnot(bits), s.bitor(bits, top))
        key = s.select(s.isnan(number), const(2 * top - 1, wide), key)
    elif value.dtype.category == "int":
        signed = scalar.cast(value, i64 if wide is u64 else i32)
        key = s.bitxor(scalar.cast(signed, wide), top)
    else:
        key = scalar.cast(value, wide)
    return s.bitnot(key) if descending else key


def _lower(x: Type, *, axis: int, descending: bool = False) -> Loops:
    result = _infer(x, axis=axis)
    line = x.shape[axis]
    outer = tuple(a for n, a in enumerate(axes_for(x.shape)) if n != axis)
    at = [of(a) for a in outer]

    def place(along):
        return (*at[:axis], along, *at[axis:])

    def key_at(along) -> Expr:
        return _key(operand(0, place(along), x), descending)

    short = dim.is_static(line) and line <= RANKED
    body, local = (_ranks if short else _radix)(line, key_dtype(x.dtype), key_at, place)
    buffers = (*operand_buffers((x,)), *local, Buffer("y", result, OUT))
    return Loops(buffers, outer, body, "argsort")


def _ranks(line, wide: DType, key_at, place):
    a, z, j, i, e = (Axis(name, line) for name in ("key", "zero", "other", "mine", "each"))
    keys = Buffer("keys", Type(wide, (line,)), LOCAL)
    rank = Buffer("rank", Type(i32, (line,)), LOCAL)
    mine, other = load("keys", (of(i),), wide), load("keys", (of(j),), wide)
    equal_before = s.__dict__["and"](s.eq(other, mine), s.lt(scalar.index(of(j), i32), scalar.index(of(i), i32)))
    before = s.__dict__["or"](s.lt(other, mine), equal_before)
    body = (
        Nest((a,), (Store("keys", (of(a),), key_at(of(a))),)),
        Nest((z,), (Store("rank", (of(z),), const(0, i32)),)),
        Nest((j, i), (Accumulate("rank", (of(i),), "sum", scalar.cast(before, i32)),)),
        Nest((e,), (Store("y", place(loaded(load("rank", (of(e),), i32), line)), scalar.index(of(e), i32)),)),
    )
    return body, (keys, rank)


def _radix(line, wide: DType, key_at, place):
    """Keys and places go back and forth between two pairs of buffers; the last pass writes the places to y."""
    passes = 8 * wide.size_bytes // DIGIT_BITS
    local = [Buffer(f"keys{n}", Type(wide, (line,)), LOCAL) for n in range(2)]
    local += [Buffer(f"from{n}", Type(i32, (line,)), LOCAL) for n in range(2)]
    local += [Buffer("next", Type(i32, (DIGITS,)), LOCAL), Buffer("total", Type(i32, ()), LOCAL)]
    local += [Buffer("count", Type(i32, (DIGITS,)), LOCAL)]
    fill = Axis("i", line)
    here = of(fill)
    body: list = [
        Nest((fill,), (Store("keys0", (here,), key_at(here)), Store("from0", (here,), scalar.index(here, i32))))
    ]
    for n in range(passes):
        source, target, last = n % 2, 1 - n % 2, n == passes - 1
        zero, each = Axis(f"zero{n}", DIGITS), Axis(f"each{n}", DIGITS)
        counted, i = Axis(f"counted{n}", line), Axis(f"moved{n}", line)

        def digit_at(axis, source=source, n=n):
            key = load(f"keys{source}", (of(axis),), wide)
            shifted = s.shr(key, n * DIGIT_BITS) if n else key
            return loaded(scalar.cast(s.bitand(shifted, DIGITS - 1), i64), DIGITS)

        digit = digit_at(i)
        key = load(f"keys{source}", (of(i),), wide)
        to = loaded(load("next", (digit,), i32), line)
        origin = load(f"from{source}", (of(i),), i32)
        moves = (Store("y", place(to), origin),)
        if not last:
            moves = (Store(f"keys{target}", (to,), key), Store(f"from{target}", (to,), origin))
        body += [
            Nest((zero,), (Store("count", (of(zero),), const(0, i32)),)),
            Nest((counted,), (Accumulate("count", (digit_at(counted),), "sum", const(1, i32)),)),
            Store("total", (), const(0, i32)),
            Nest(
                (each,),
                (
                    Store("next", (of(each),), load("total", (), i32)),
                    Accumulate("total", (), "sum", load("count", (of(each),), i32)),
                ),
            ),
            Nest((i,), (*moves, Accumulate("next", (digit,), "sum", const(1, i32)))),
        ]
    return tuple(body), tuple(local)


def _samples(rng):
    for kind, shape, axis in (
        ("f32", (3, 5), 1),
        ("f64", (4, 3), 0),
        ("i32", (2, 9, 2), 1),  # small integers: many ties
        ("f16", (2, 7), 1),
        ("u8", (6,), 0),
        ("f32", (RANKED + 20,), 0),
        ("f64", (2, RANKED + 1), 1),
        ("i32", (RANKED + 30, 2), 0),
        ("i64", (1, RANKED + 2), 1),
        ("u8", (2, RANKED + 4), 1),
        ("f32", (2, 1), 1),
        ("f32", (3, 0), 1),
        ("f32", (0, 3), 1),
    ):
        for descending in (False, True):
            yield (draw(rng, kind, shape),), {"axis": axis, "descending": descending}
    odd = np.asarray([np.inf, 0.0, np.nan, -np.inf, -0.0, 1e-40, -1e-40, np.nan, -3e38, 3e38], np.float32)
    yield (np.tile(odd, 15),), {"axis": 0, "descending": False}
    yield (odd,), {"axis": 0, "descending": False}
    ends = np.asarray([2**31 - 1, -(2**31), 0, -1, 1], np.int32)
    yield (np.tile(ends, 30),), {"axis": 0, "descending": True}
    yield (np.asarray([[2**64 - 1, 0, 2**63]], np.uint64),), {"axis": 1, "descending": False}


argsort = register(Op("argsort", Kind.OPAQUE, _infer, _ref, None, _lower, _samples, cost=16, differentiable=False))
