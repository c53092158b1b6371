"""random_bits: counter-based random numbers, so results do not depend on loop order or threads.

Element n of a call is the first word of Philox-2x32-10 with the counter (n mod 2**32, n div 2**32
xor seed[1]) and the key seed[0]. Uniform, normal and Bernoulli numbers are composed from the bits.
With a second operand, a number r, the elements are a part of a larger call: n starts at r times `unit`, the size
of the part unless given.

Source: Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.3;
multiplier, key increment and number of rounds are theirs.
"""

from __future__ import annotations

import math

import numpy as np

from kcompile.errors import DTypeError
from kcompile.forms import numeric, scalar
from kcompile.forms.records import map_form, operand
from kcompile.forms.scalar import Expr
from kcompile.ir import dim
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, i32, i64, u32, u64
from kcompile.ops.elementwise import s
from kcompile.ops.shape import flat_index

MULTIPLIER = 0xD256D193
KEY_INCREMENT = 0x9E3779B9  # the golden ratio's fraction in 32 bits
NEAR = 1 << 14  # numbers drawn at a time by the reference
ROUNDS = 10


def _philox_wide(low: Expr, high: Expr, key: Expr) -> Expr:
    """The first word, in 64-bit lanes: a product holds both of its words, and what lies above 32 bits is ignored.

    Vector units multiply the lower halves of such lanes; no word has to be brought to its place.
    """
    lower, multiplier = scalar.const(0xFFFFFFFF, u64), scalar.const(MULTIPLIER, u64)
    for turn in range(ROUNDS):
        if turn:
            key = s.add(key, scalar.const(KEY_INCREMENT, u32))
        product = s.mul(s.bitand(low, lower), multiplier)
        upper = scalar.call("shr", product, scalar.const(32, u64))
        low, high = s.bitxor(s.bitxor(upper, scalar.cast(key, u64)), high), product
    return scalar.cast(low, u32)


def philox_arrays(low: np.ndarray, high: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both output words for u32 arrays of counters and keys: ten rounds, the arithmetic wraps in 32 bits."""
    low, high, key, multiplier, increment = (
        np.asarray(word, np.uint32) for word in (low, high, key, MULTIPLIER, KEY_INCREMENT)
    )
    with np.errstate(over="ignore"):
        for turn in range(ROUNDS):
            if turn:
                key = key + increment
            low, high = numeric.mulhi(low, multiplier) ^ key ^ high, low * multiplier
    return low, high


def _infer(seed: Type, part: Type | None = None, *, shape, unit=None) -> Type:
    if part is not None and (part.dtype is not i32 or part.rank):
        raise DTypeError(f"random_bits expects the number of a part as i32[], received {part}")
    if seed.dtype is not u32 or seed.shape != (2,):
        raise DTypeError(f"random_bits expects a seed u32[2], received {seed}")
    return Type(u32, shape)


def _ref(seed, part=0, *, shape, unit=None):
    seed, size = np.asarray(seed), math.prod(shape)
    first = int(part) * (size if unit is None else unit)
    found = np.empty(size, np.uint32)
    for start in range(0, size, NEAR):  # a piece stays in the near caches through all rounds
        piece = found[start : start + NEAR]
        position = np.arange(first + start, first + start + len(piece), dtype=np.uint64)
        low = (position & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        high = (position >> np.uint64(32)).astype(np.uint32) ^ seed[1]
        piece[...] = philox_arrays(low, high, seed[0])[0]
    return found.reshape(shape)


def _lower(seed: Type, part: Type | None = None, *, shape, unit=None):
    result = _infer(seed, part, shape=shape)

    def value_at(at) -> Expr:
        position = scalar.index(flat_index(at, shape))
        if part is not None:
            first = s.mul(scalar.cast(operand(1, (), part), i64), scalar.index(result.size if unit is None else unit))
            position = s.add(first, position)
        position = scalar.cast(position, u64)
        high = scalar.cast(operand(0, (1,), seed), u64)
        if part is not None or not dim.is_nonnegative(2**32 - result.size):  # else the counter's high word is always 0
            high = s.bitxor(high, scalar.call("shr", position, scalar.const(32, u64)))
        return _philox_wide(position, high, operand(0, (0,), seed))

    return map_form(result, (seed,) if part is None else (seed, part), value_at, "random_bits")


def _samples(rng):
    for shape in ((3, 5), (7,), (), (0, 2), (1, 1, 4)):
        yield (rng.integers(0, 2**32, (2,), dtype=np.uint32),), {"shape": shape}
    yield (rng.integers(0, 2**32, (2,), dtype=np.uint32), np.int32(3) + np.zeros((), np.int32)), {"shape": (4, 5)}
    part = np.int32(7) + np.zeros((), np.int32)
    yield (rng.integers(0, 2**32, (2,), dtype=np.uint32), part), {"shape": (4, 5), "unit": 5}


random_bits = register(
    Op("random_bits", Kind.RANDOM, _infer, _ref, None, _lower, _samples, cost=5 * ROUNDS, differentiable=False)
)
