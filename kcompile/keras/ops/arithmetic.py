"""keras.ops functions of numbers that are composed of others: cube roots, sinc, gcd, NaN-aware extremes, ...

Numbers are real: `real`, `imag`, `conj` and `angle` say what they are for a complex number without imaginary part.
"""

from __future__ import annotations

import builtins
import math

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError, DTypeError
from kcompile.ir.types import broadcast_shapes
from kcompile.keras.ops.core import fori_loop
from kcompile.keras.ops.elementwise import distance, isclose
from kcompile.keras.ops.function import broadcast, dtype_key, floating, promote, public, rank, tensor, with_numbers
from kcompile.keras.tracing.dtypes import is_float, is_int

_INTEGER_STEPS = {1: 12, 2: 24, 4: 47, 8: 92}  # Lamé: Euclid's algorithm takes no more for so many bytes


@public
def allclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Return whether all elements are close to each other (see isclose)."""
    near = tensor(isclose(x1, x2, rtol, atol, equal_nan))
    return prim.reduce_all(near, axes=tuple(range(rank(near))), keepdims=False)


@public
def select(condlist, choicelist, default=0):
    """Return, element by element, the choice of the first condition that holds, else `default`."""
    if len(condlist) != len(choicelist) or not condlist:
        raise ArgumentError(
            f"select: condlist and choicelist must have the same length, at least 1. Received {len(condlist)} and "
            f"{len(choicelist)}"
        )
    *choices, found = promote(*choicelist, default)
    for condition, choice in reversed(list(zip(condlist, choices))):
        found = prim.select(tensor(condition, "bool"), choice, found)
    return found


@public
def fabs(x):
    """Return |x| as a float."""
    return prim.abs(floating(x))


@public
def cbrt(x):
    """Return the cube root: of the power, improved by one step of Newton's method."""
    x, third, zero, one, three = with_numbers(x, 1 / 3, 0, 1, 3)
    size = prim.abs(x)
    plain = prim.logical_and(prim.gt(size, zero), prim.isfinite(size))  # the others are their own cube root
    safe = prim.select(plain, size, one)
    root = prim.pow(safe, third)
    root = prim.sub(root, prim.div(prim.sub(root, prim.div(safe, prim.square(root))), three))
    return prim.select(plain, prim.mul(prim.sign(x), root), x)


@public
def sinc(x):
    """Return sin(πx) / πx, and 1 at 0."""
    x, zero, one, pi = with_numbers(x, 0, 1, math.pi)
    at_zero = prim.eq(x, zero)
    angle = prim.mul(pi, prim.select(at_zero, one, x))
    return prim.select(at_zero, one, prim.div(prim.sin(angle), angle))


@public
def i0(x):
    """Return the modified Bessel function of the first kind of order 0, to rounding of float32.

    Source: Abramowitz, Stegun, Handbook of Mathematical Functions, 9.8.1 and 9.8.2.
    """
    x, edge = with_numbers(x, 3.75)
    kind = dtype_key(x)
    size = prim.abs(x)

    def series(t, terms):
        total = tensor(terms[-1], kind)
        for c in reversed(terms[:-1]):
            total = prim.add(tensor(c, kind), prim.mul(t, total))
        return total

    near = (1.0, 3.5156229, 3.0899424, 1.2067492, 0.2659732, 0.0360768, 0.0045813)
    far = (0.39894228, 0.01328592, 0.00225319, -0.00157565, 0.00916281)
    far += (-0.02057706, 0.02635537, -0.01647633, 0.00392377)
    is_near = prim.lt(size, edge)
    beyond = prim.select(is_near, edge, size)
    scaled = prim.mul(prim.exp(beyond), prim.rsqrt(beyond))
    outer = prim.mul(scaled, series(prim.div(edge, beyond), far))
    return prim.select(is_near, series(prim.square(prim.div(size, edge)), near), outer)


@public
def logaddexp2(x1, x2):
    """Return log2(2**x1 + 2**x2) without overflow."""
    a, b = promote(x1, x2, floating=True)
    scale = tensor(1 / math.log(2), dtype_key(a))
    rest = prim.log1p(prim.exp2(prim.neg(distance(a, b))))
    return prim.add(prim.maximum(a, b), prim.mul(rest, scale))


@public
def ldexp(x1, x2):
    """Return x1 · 2**x2 for integers x2."""
    power = tensor(x2)
    if not is_int(dtype_key(power)):
        raise DTypeError(f"ldexp exponent must be an integer type. Received: x2 dtype={dtype_key(power)}")
    x = floating(x1)
    return prim.mul(x, prim.exp2(tensor(power, dtype_key(x))))


def _ignoring_nan(primitive, x1, x2):
    a, b = promote(x1, x2)
    found = primitive(a, b)
    if not is_float(dtype_key(a)):
        return found
    return prim.select(prim.isnan(a), b, prim.select(prim.isnan(b), a, found))


@public
def fmax(x1, x2):
    """Return the larger of x1 and x2; a number wins over NaN."""
    return _ignoring_nan(prim.maximum, x1, x2)


@public
def fmin(x1, x2):
    """Return the smaller of x1 and x2; a number wins over NaN."""
    return _ignoring_nan(prim.minimum, x1, x2)


@public
def fmod(x1, x2):
    """Return the remainder of x1 / x2 with the sign of x1."""
    a, b = promote(x1, x2, extra=(int,))
    size = prim.mod(prim.abs(a), prim.abs(b))
    return prim.select(prim.lt(a, tensor(0, dtype_key(a))), prim.neg(size), size)


def _integers(name: str, x1, x2):
    a, b = promote(x1, x2)
    if not is_int(dtype_key(a)):
        raise DTypeError(f"{name} takes integers, received {dtype_key(a)}")
    return (a, b) if dtype_key(a).startswith("uint") else (prim.abs(a), prim.abs(b))


def _gcd(a, b):
    """Euclid's algorithm, as many steps as the dtype can need: their number does not depend on the numbers."""
    zero, one = tensor(0, dtype_key(a)), tensor(1, dtype_key(a))
    a, b = broadcast(a, broadcast_shapes(a.shape, b.shape)), broadcast(b, broadcast_shapes(a.shape, b.shape))

    def step(_, pair):
        a, b = (tensor(v) for v in pair)
        done = prim.eq(b, zero)
        return prim.select(done, a, b), prim.select(done, b, prim.mod(a, prim.select(done, one, b)))

    return tensor(fori_loop(0, _INTEGER_STEPS[np.dtype(dtype_key(a)).itemsize], step, (a, b))[0])


@public
def gcd(x1, x2):
    """Return the greatest common divisor of integers."""
    return _gcd(*_integers("gcd", x1, x2))


@public
def lcm(x1, x2):
    """Return the least common multiple of integers."""
    a, b = _integers("lcm", x1, x2)
    divisor = prim.maximum(_gcd(a, b), tensor(1, dtype_key(a)))
    return prim.mul(prim.floordiv(a, divisor), b)


# signs and complex numbers without imaginary part ---------------------------------------------------


@public
def signbit(x):
    """Return whether the sign bit is set (of -0.0 too)."""
    x = tensor(x)
    kind = dtype_key(x)
    if not is_float(kind):
        return prim.lt(tensor(x, "int32") if kind == "bool" else x, tensor(0, "int32" if kind == "bool" else kind))
    zero = tensor(0.0, kind)  # 1 / -0 is -inf
    return prim.logical_or(prim.lt(x, zero), prim.lt(prim.reciprocal(x), zero))


@public
def real(x):
    """Return the real part: x itself."""
    return tensor(x)


@public
def imag(x):
    """Return the imaginary part: zeros."""
    x = tensor(x)
    return prim.select(prim.eq(x, x), tensor(0, dtype_key(x)), tensor(0, dtype_key(x)))


@public
def conj(x):
    """Return the complex conjugate: x itself."""
    return tensor(x)


@public
def conjugate(x):
    """Return the complex conjugate: x itself."""
    return tensor(x)


@public
def angle(x):
    """Return the angle in the complex plane: 0, or π for negative numbers."""
    x, zero, pi = with_numbers(x, 0, math.pi)
    return prim.select(tensor(signbit(x)), pi, prim.select(prim.isnan(x), x, zero))


@public
def isreal(x):
    """Return whether the imaginary part is zero: always."""
    x = tensor(x)
    return prim.logical_or(prim.eq(x, x), prim.ne(x, x))


# windows --------------------------------------------------------------------------------------------


def _cosine_window(x, *weights):
    size = int(x)
    if size <= 1:
        return np.ones(builtins.max(size, 0), "float32")
    angle = 2 * math.pi * np.arange(size) / (size - 1)
    return sum(w * np.cos(k * angle) for k, w in enumerate(weights)).astype("float32")


@public
def hanning(x):
    """Return the Hann window of x points."""
    return _cosine_window(x, 0.5, -0.5)


@public
def hamming(x):
    """Return the Hamming window of x points."""
    return _cosine_window(x, 0.54, -0.46)


@public
def blackman(x):
    """Return the Blackman window of x points."""
    return _cosine_window(x, 0.42, -0.5, 0.08)


@public
def bartlett(x):
    """Return the triangular window of x points."""
    return np.bartlett(int(x)).astype("float32")


@public
def kaiser(x, beta):
    """Return the Kaiser window of x points."""
    return np.kaiser(int(x), float(beta)).astype("float32")
