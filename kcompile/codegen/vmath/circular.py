"""sin, cos, tan and their inverses: reduction by multiples of pi/2, polynomials on [-pi/4, pi/4].

The inverse functions and tan are written for f64; f32 uses them through f64.
Source of the reduction: Cody, Waite, "Software Manual for the Elementary Functions", 1980.
"""

from __future__ import annotations

import math

from llvmlite import ir

from kcompile.codegen.llvm_types import DOUBLE, FLOAT
from kcompile.codegen.num import Num, fma, horner, where
from kcompile.codegen.vmath import coefficients as tables
from kcompile.codegen.vmath.exponential import in_range
from kcompile.codegen.vmath.formats import F32, F64, INF, format_of

# pi/2 in three parts. Short ones leave room for an exact product with n < 2**20 without FMA.
_HALF_PI_FMA = tuple(
    float.fromhex(h) for h in ("0x1.921fb54442d18p+0", "0x1.1a62633145c07p-54", "-0x1.f1976b7ed8fbcp-110")
)
_HALF_PI_SHORT = tuple(
    float.fromhex(h) for h in ("0x1.921fb54400000p+0", "0x1.0b4611a600000p-34", "0x1.3198a2e037073p-69")
)


def _reduced(size: Num) -> tuple[Num, Num, Num]:
    """Return (quadrant, r, low): size = quadrant * pi/2 + r + low, |r| <= pi/4, low below r's last bit.

    Reduced in f64 whatever the format. Good for the stated ulp up to 2**45 (f32) and 2**30 (f64), and
    without FMA up to 2**20. Beyond, the quadrant is unreliable, but r stays within [-1, 1] and with it
    sine and cosine within their bounds.
    """
    x = size.to(DOUBLE)
    first, second, third = _HALF_PI_FMA if x.b.target.fma else _HALF_PI_SHORT
    shifted = fma(x, 2 / math.pi, F64.magic)
    n = shifted - F64.magic
    r_first = fma(-n, first, x)  # exact
    r = fma(-n, second, r_first)
    quadrant = shifted.as_int().to(ir.IntType(size.bits))
    if size.bits == 32:
        if not x.b.target.fma:
            r = r - n * third
        return quadrant, in_range(r, (-1.0, 1.0)).to(FLOAT), size.like(0.0)
    lost = fma(-n, second, r_first - r)
    low = lost - n * third
    return quadrant, in_range(r, (-1.0, 1.0)), in_range(low, (-1e-8, 1e-8))


def _sin_cos_polynomials(r: Num, low: Num) -> tuple[Num, Num]:
    """Return sin(r + low), cos(r + low); `low` counts for f64 only."""
    kind = format_of(r)
    z = r * r
    sine_tail, cosine_tail = r * z * horner(z, tables.SIN[kind.name]), z * z * horner(z, tables.COS[kind.name])
    if kind is F32:
        return r + sine_tail, fma(z, -0.5, 1.0) + cosine_tail
    half = z * 0.5
    top = 1 - half
    return r + (sine_tail + low), top + (((1 - top) - half) + fma(-r, low, cosine_tail))


def _sign_from(bit_1: Num, y: Num, extra_sign: Num | None = None) -> Num:
    """Flip the sign of y where bit 1 of an integer is set, and where `extra_sign` is negative."""
    top = y.bits - 1
    flip = (bit_1 & 2) << (top - 1)
    if extra_sign is not None:
        flip = flip ^ (extra_sign.as_int() & (-1 << top))
    return (y.as_int() ^ flip).as_float()


def sin(x: Num) -> Num:
    quadrant, r, low = _reduced(abs(x))
    sine, cosine = _sin_cos_polynomials(r, low)
    return _sign_from(quadrant, where((quadrant & 1) == 0, sine, cosine), x)


def cos(x: Num) -> Num:
    quadrant, r, low = _reduced(abs(x))
    sine, cosine = _sin_cos_polynomials(r, low)
    return _sign_from(quadrant + 1, where((quadrant & 1) == 0, cosine, sine))


def tan(x: Num) -> Num:
    quadrant, r, low = _reduced(abs(x))
    odd = (quadrant & 1) != 0
    sine, cosine = _sin_cos_polynomials(r, low)
    y = where(odd, -cosine, sine) / where(odd, sine, cosine)
    return _sign_from(y.as_int().like(0), y, x)


# inverse functions; written for f64 ---------------------------------------------------------------

_PI = float.fromhex("0x1.921fb54442d18p+1")
_PI_LOW = float.fromhex("0x1.1a62633145c07p-53")


def _asin_core(size: Num) -> tuple[Num, Num, Num]:
    """Return (large, s, tail): asin(s) = s + tail, where s = size, or sqrt((1-size)/2) if size > 1/2."""
    large = size > 0.5
    z = where(large, fma(size, -0.5, 0.5), size * size)
    s = where(large, z.sqrt(), size)
    return large, s, s * z * horner(z, tables.ASIN["f64"])


def asin(x: Num) -> Num:
    large, s, tail = _asin_core(abs(x))
    folded = (_PI / 2 - 2 * s) - (2 * tail - _PI_LOW / 2)
    return where(large, folded, s + tail).copysign(x)


def acos(x: Num) -> Num:
    large, s, tail = _asin_core(abs(x))
    negative = x < 0
    near_end = 2 * s + 2 * tail
    near_end = where(negative, _PI - (near_end - _PI_LOW), near_end)
    middle = _PI / 2 - (x - (_PI_LOW / 2 - where(negative, -tail, tail)))
    return where(large, near_end, middle)


def _atan_ratio(ratio: Num) -> Num:
    """atan(ratio) for 0 <= ratio <= 1."""
    large = ratio > math.sqrt(2) - 1  # tan(pi/8): turn by pi/4
    t = where(large, (ratio - 1) / (ratio + 1), ratio)
    z = t * t
    tail = t * z * horner(z, tables.ATAN["f64"])
    turned = _PI / 4 + (t + (tail + _PI_LOW / 4))
    return where(large, turned, t + tail)


def atan(x: Num) -> Num:
    size = abs(x)
    beyond = size > 1
    angle = _atan_ratio(where(beyond, 1.0 / size, size))
    return where(beyond, _PI / 2 - (angle - _PI_LOW / 2), angle).copysign(x)


def atan2(y: Num, x: Num) -> Num:
    height, width = abs(y), abs(x)
    steep = height > width
    over, under = where(steep, width, height), where(steep, height, width)
    ratio = where(under == 0, 0.0, over / under)
    ratio = where(over == INF, 1.0, ratio)
    angle = _atan_ratio(ratio)
    angle = where(steep, _PI / 2 - (angle - _PI_LOW / 2), angle)
    left = x.like(1.0).copysign(x) < 0  # -0 counts as left
    angle = where(left, _PI - (angle - _PI_LOW), angle).copysign(y)
    return where(x.is_nan(), x, where(y.is_nan(), y, angle))
