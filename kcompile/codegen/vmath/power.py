"""pow: exp(y log(x)), with the logarithm and the product as unevaluated sums of two f64 (f32: in f64).

Source: error-free sums and products: Dekker, Numer. Math. 18, 1971; Knuth, TAOCP 2, section 4.2.2.
"""

from __future__ import annotations

from kcompile.codegen.llvm_types import DOUBLE, FLOAT
from kcompile.codegen.num import Num, fma, horner, where
from kcompile.codegen.vmath import coefficients as tables
from kcompile.codegen.vmath.exponential import exp, exp_parts, in_range, scaled
from kcompile.codegen.vmath.formats import F64, INF, NAN
from kcompile.codegen.vmath.logarithm import log, log_parts

Pair = tuple[Num, Num]  # an unevaluated sum, the second part below half an ulp of the first


def _two_sum(a: Num, b: Num) -> Pair:
    """a + b exactly. Source: Knuth."""
    s = a + b
    part = s - a
    return s, (a - (s - part)) + (b - part)


def quick_two_sum(a: Num, b: Num) -> Pair:
    """a + b exactly, for |a| >= |b|. Source: Dekker."""
    s = a + b
    return s, b - (s - a)


def two_product(a: Num, b: Num) -> Pair:
    """a * b exactly. Source: Dekker (without FMA), one FMA otherwise."""
    p = a * b
    if a.b.target.fma:
        return p, fma(a, b, -p)

    def split(v: Num) -> Pair:
        wide = v * (2.0**27 + 1)
        high = wide - (wide - v)
        return high, v - high

    (a_high, a_low), (b_high, b_low) = split(a), split(b)
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _pair_product(a: Pair, b: Pair) -> Pair:
    high, low = two_product(a[0], b[0])
    return quick_two_sum(high, low + (a[0] * b[1] + a[1] * b[0]))


def _log_pair(x: Num) -> Pair:
    """log(x) to about 2**-66, for finite x > 0 in f64."""
    e, f = log_parts(x)
    under, under_low = quick_two_sum(f.like(2.0), f)
    s_high = f / under
    product, product_low = two_product(s_high, under)
    s_low = ((f - product) - product_low - s_high * under_low) / under
    s: Pair = (s_high, s_low)
    z = _pair_product(s, s)
    # log(1+f) = 2 s + s**3 (2/3 + z (2/5 + ...)): the first coefficient needs two parts, the rest one
    rest = z[0] * horner(z[0], tables.LOG_ODD_TAIL["f64"])
    factor = quick_two_sum(s_high.like(2 / 3), rest + 2.0**-55 * (4 / 3))
    cubic = _pair_product(_pair_product(s, z), factor)
    high, low = _two_sum(e * _LN2_LONG[0], 2 * s_high)
    tail, tail_low = _two_sum(cubic[0], 2 * s_low)
    low = low + (e * _LN2_LONG[1] + (cubic[1] + tail_low))
    high, rest_low = _two_sum(high, tail)
    return quick_two_sum(high, rest_low + low)


# ln(2) with a first part of 42 bits: exact times any exponent
_LN2_LONG = (float.fromhex("0x1.62e42fefa3800p-1"), float.fromhex("0x1.ef35793c76730p-45"))


def _positive_power(size: Num, y: Num) -> Num:
    """size ** y for size >= 0 in f64; NaN only where C's pow has it."""
    inside = (size > 0) & (size < INF)
    high, low = _log_pair(where(inside, size, 1.0))
    limit = where(size == 0, -INF, size)  # log(0), log(infinity), NaN
    bounded = in_range(y, (-(2.0**70), 2.0**70))  # keeps the error term finite; far beyond over- and underflow
    product, error = two_product(high, bounded)
    error = fma(low, bounded, error)
    exponent = where(inside, product, limit * y)
    error = where(inside & (abs(product) < 1000), error, 0.0)
    n, p = exp_parts(in_range(exponent, F64.exp_range))
    return scaled(1 + (p + fma(p, error, error)), n)


def pow_(x: Num, y: Num) -> Num:
    size = abs(x)
    if x.bits == 32:
        power = _pow_single(size.to(DOUBLE), y.to(DOUBLE)).to(FLOAT)
    else:
        power = _positive_power(size, y)
    whole = y.trunc() == y
    half = y * 0.5
    odd = whole & (half.trunc() != half)
    negative = x.like(1.0).copysign(x) < 0
    power = where(negative & odd, -power, power)
    power = where((x < 0) & (x > -INF) & ~whole, NAN, power)
    power = where((size == 1) & (abs(y) == INF), 1.0, power)  # (-1) ** infinity; 1 ** anything comes next
    return where((x == 1) | (y == 0), 1.0, power)


def _pow_single(size: Num, y: Num) -> Num:
    """size ** y in f64 to f32's precision, for size >= 0."""
    return exp(log(size) * y)
