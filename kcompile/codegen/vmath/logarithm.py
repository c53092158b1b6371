"""log and its relatives: x = 2**e (1+f), a polynomial in f (f32) or in s = f/(2+f) (f64).

Source of s: Tang, "Table-driven implementation of the logarithm function", ACM TOMS 16, 1990.
"""

from __future__ import annotations

import math

from kcompile.codegen.num import Num, fma, horner, where
from kcompile.codegen.vmath import coefficients as tables
from kcompile.codegen.vmath.formats import F32, INF, NAN, Format, format_of


def log_parts(x: Num) -> tuple[Num, Num]:
    """Return (e, f) with x = 2**e * (1 + f), sqrt(1/2) <= 1+f < sqrt(2); e a float. x > 0, finite."""
    kind = format_of(x)
    tiny = x < kind.min_normal
    scaled = where(tiny, x * 2.0 ** (kind.mantissa_bits + 1), x)
    bits = scaled.as_int()
    sqrt_half = _bits_of(math.sqrt(0.5), kind)
    e = (bits + (kind.one_bits - sqrt_half)) >> kind.mantissa_bits  # biased, so never negative
    f = (bits - (e << kind.mantissa_bits) + kind.one_bits).as_float() - 1
    # an integer in the low bits of the magic number, instead of a conversion AVX2 lacks for 64 bits
    e_float = (e + kind.magic_bits).as_float() - (kind.magic + kind.bias)
    return where(tiny, e_float - (kind.mantissa_bits + 1.0), e_float), f


def _bits_of(value: float, kind: Format) -> int:
    """The bits of a number in [0.5, 1)."""
    mantissa = math.floor((2 * value - 1) * 2**kind.mantissa_bits)
    return ((kind.bias - 1) << kind.mantissa_bits) + mantissa


def log_sum(e: Num, f: Num, extra: Num | None = None) -> Num:
    """e * ln(2) + log(1+f) + extra, the small terms first."""
    kind = format_of(f)
    if kind is F32:
        z = f * f
        low = fma(e, kind.ln2[1], f * z * horner(f, tables.LOG["f32"]))
        if extra is not None:
            low = low + extra
        return fma(e, kind.ln2[0], f + fma(z, -0.5, low))
    half_square = f * f * 0.5
    s = f / (f + 2)
    z = s * s
    low = fma(s, half_square + z * horner(z, tables.LOG_ODD["f64"]), e * kind.ln2[1])
    if extra is not None:
        low = low + extra
    return fma(e, kind.ln2[0], f - (half_square - low))


def log_limits(x: Num, y: Num) -> Num:
    """Put right what a logarithm's formula gives outside 0 < x < infinity."""
    y = where(x < INF, y, x)  # infinity and NaN
    y = where(x < 0, NAN, y)
    return where(x == 0, -INF, y)


def log(x: Num) -> Num:
    return log_limits(x, log_sum(*log_parts(x)))


def log1p(x: Num) -> Num:
    u = x + 1
    part = u - 1
    lost = (1 - (u - part)) + (x - part)  # Knuth's two-sum: u + lost = 1 + x exactly
    y = log_limits(u, log_sum(*log_parts(u), lost / u))
    return where(x == 0, x, y)


def _log_base(x: Num, hi_lo: tuple[float, float], e_scale: tuple[float, float]) -> Num:
    """e * e_scale + log(1+f) * hi_lo, each factor in two parts."""
    e, f = log_parts(x)
    y = log_sum(e.like(0.0), f)
    low = fma(y, hi_lo[1], e * e_scale[1])
    return log_limits(x, fma(e, e_scale[0], fma(y, hi_lo[0], low)))


_LOG2_E = {
    "f32": (1.4426950216293335, 1.9259629911266175e-08),
    "f64": (float.fromhex("0x1.71547652b82fep+0"), float.fromhex("0x1.777d0ffda0d24p-56")),
}
_LOG10_E = {
    "f32": (0.4342944920063019, -1.0103050052231683e-08),
    "f64": (float.fromhex("0x1.bcb7b1526e50ep-2"), float.fromhex("0x1.95355baaafad3p-57")),
}
_LOG10_2 = {
    "f32": (0.3010300099849701, -1.4320988897559699e-08),
    "f64": (float.fromhex("0x1.34413509f79ffp-2"), float.fromhex("-0x1.9dc1da994fd21p-59")),
}


def log2(x: Num) -> Num:
    return _log_base(x, _LOG2_E[format_of(x).name], (1.0, 0.0))


def log10(x: Num) -> Num:
    name = format_of(x).name
    return _log_base(x, _LOG10_E[name], _LOG10_2[name])


# inverse hyperbolic functions; written for f64 ---------------------------------------------------


def asinh(x: Num) -> Num:
    size = abs(x)
    huge = size > 2.0**500
    inside = where(huge, 0.0, size)
    z = inside * inside
    argument = where(huge, size, inside + z / ((z + 1).sqrt() + 1))
    y = log1p(argument) + where(huge, x.like(math.log(2)), x.like(0.0))
    return y.copysign(x)


def acosh(x: Num) -> Num:
    huge = x > 2.0**500
    t = where(huge, 0.0, x - 1)
    argument = where(huge, x, t + (t * (t + 2)).sqrt())
    y = log1p(argument) + where(huge, x.like(math.log(2)), x.like(0.0))
    return where(x < 1, NAN, y)


def atanh(x: Num) -> Num:
    size = abs(x)
    return (log1p(2 * size / (1 - size)) * 0.5).copysign(x)
