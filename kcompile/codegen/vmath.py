"""Mathematical functions as LLVM IR: branch-free polynomials for scalars and vectors, f32 and f64.

Each function is written once over `Num` and becomes an internal function that is always inlined, so
a loop that uses it holds no call and LLVM's vectoriser can widen it; given a vector it is emitted on
vectors. No function needs libm, and no result depends on the vector width.

The plan of each: reduce the argument so that a short polynomial suffices (coefficients.py), undo the
reduction, then put right with selects what the formulas cannot give: 0, infinities, NaN, denormals.
Functions that training seldom uses are computed for f32 in f64, where the plain formula is enough.

Sources of the ideas (constants are our own):
  - constants in two or three parts for argument reduction, rounding by adding 1.5*2**p: Cody, Waite,
    "Software Manual for the Elementary Functions", 1980
  - log from s = f/(2+f): Tang, "Table-driven implementation of the logarithm function", TOMS 16, 1990
  - error-free sums and products: Dekker, Numer. Math. 18, 1971; Knuth, TAOCP 2, section 4.2.2
  - erfinv through w = -log(1-x*x): Giles, in "GPU Computing Gems", Jade edition, 2011

`ULP_BOUNDS` states the largest error of each; tests/codegen/test_vmath.py measures it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from kcompile.codegen import coefficients as tables
from kcompile.codegen.build import DOUBLE, FLOAT, I32, KernelBuilder, lanes_of
from kcompile.codegen.num import Num, at_least, at_most, fma, horner, where
from kcompile.errors import CompilerBug

INF, NAN = math.inf, math.nan


@dataclass(frozen=True)
class Format:
    """What differs between f32 and f64."""

    name: str
    mantissa_bits: int
    bias: int
    min_normal: float
    ln2: tuple[float, float]  # the first part is short: n times it is exact
    exp_range: tuple[float, float]  # outside, exp is 0 or infinite
    exp2_range: tuple[float, float]
    expm1_low: float  # below, expm1 is -1
    tanh_high: float  # above, tanh is 1

    @property
    def magic(self) -> float:
        """Adding it to a small number rounds that to an integer, which the low bits then hold."""
        return 1.5 * 2.0**self.mantissa_bits

    @property
    def magic_bits(self) -> int:
        return ((self.bias + self.mantissa_bits) << self.mantissa_bits) + (1 << (self.mantissa_bits - 1))

    @property
    def one_bits(self) -> int:
        return self.bias << self.mantissa_bits


F32 = Format(
    name="f32",
    mantissa_bits=23,
    bias=127,
    min_normal=2.0**-126,
    ln2=(0.693359375, -0.00021219444005469057),
    exp_range=(-104.0, 89.0),
    exp2_range=(-150.5, 128.0),
    expm1_low=-18.0,
    tanh_high=10.0,
)
F64 = Format(
    name="f64",
    mantissa_bits=52,
    bias=1023,
    min_normal=2.0**-1022,
    ln2=(float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33")),
    exp_range=(-746.0, 710.0),
    exp2_range=(-1075.5, 1024.0),
    expm1_low=-38.0,
    tanh_high=20.0,
)


def _format(x: Num) -> Format:
    return F32 if x.bits == 32 else F64


# exponential family ----------------------------------------------------------------------------


def _exp_parts(x: Num) -> tuple[Num, Num]:
    """Return (n, p) with exp(x) = 2**n * (1 + p) and |p| < 0.42; n an integer. x must be in range."""
    kind = _format(x)
    shifted = fma(x, 1 / math.log(2), kind.magic)
    n = shifted - kind.magic
    r = fma(-n, kind.ln2[0], x)
    r = fma(-n, kind.ln2[1], r)
    return shifted.as_int() - kind.magic_bits, _expm1_small(r)


def _expm1_small(r: Num) -> Num:
    """exp(r) - 1 for |r| <= ln(2)/2."""
    return fma(r * r, horner(r, tables.EXP[_format(r).name]), r)


def _power_of_two(n: Num, kind: Format) -> Num:
    """2**n as a float, for n in the range of normal numbers."""
    return ((n + kind.bias) << kind.mantissa_bits).as_float()


def _scaled(y: Num, n: Num) -> Num:
    """y * 2**n with one rounding, for |y| near 1 and any n down to the denormals."""
    target, kind = y.b.target, _format(y)
    if target.arch == "x86_64" and target.vector_bytes == 64:
        places = n.to(I32)  # one instruction of AVX-512; elsewhere ldexp would be a library call
        return Num(
            y.b, y.b.intrinsic("llvm.ldexp", y.type, [y.value, places.value], [y.type, places.type])
        )
    half = n.arithmetic_shift(1) if kind is F32 else n.to(I32).arithmetic_shift(1).to(n.element)
    return y * _power_of_two(half, kind) * _power_of_two(n - half, kind)


def _in_range(x: Num, bounds: tuple[float, float]) -> Num:
    return at_least(at_most(x, bounds[1]), bounds[0])


def _exp(x: Num) -> Num:
    n, p = _exp_parts(_in_range(x, _format(x).exp_range))
    return _scaled(p + 1, n)


def _exp2(x: Num) -> Num:
    kind = _format(x)
    x = _in_range(x, kind.exp2_range)
    shifted = x + kind.magic
    r = (x - (shifted - kind.magic)) * math.log(2)
    return _scaled(_expm1_small(r) + 1, shifted.as_int() - kind.magic_bits)


def _expm1(x: Num) -> Num:
    kind = _format(x)
    n, p = _exp_parts(_in_range(x, (kind.expm1_low, kind.exp_range[1])))
    # half of 2**n: at the upper end 2**n itself is not a number any more
    scale = _power_of_two(n - 1, kind)
    y = fma(scale, p, scale - 0.5) * 2
    return where(abs(x) < kind.min_normal, x, y)  # halving would cost a denormal its last bit, -0 its sign


def _tanh(x: Num) -> Num:
    """A polynomial near 0, elsewhere 1 - 2 / (exp(2|x|) + 1)."""
    kind = _format(x)
    size = at_most(abs(x), kind.tanh_high)
    n, p = _exp_parts(size + size)
    scale = _power_of_two(n, kind)
    large = 1 - 2.0 / (fma(scale, p, scale) + 1)
    z = size * size
    small = fma(size * z, horner(z, tables.TANH[kind.name]), size)
    return where(size < 0.55, small, large).copysign(x)


def _half_exp(size: Num) -> Num:
    """exp(size) / 2 for size >= 0: does not overflow where sinh and cosh do not."""
    kind = _format(size)
    n, p = _exp_parts(at_most(size, kind.exp_range[1] + 1))
    return _scaled(p + 1, n - 1)


def _sinh(x: Num) -> Num:
    size = abs(x)
    half = _half_exp(size)
    z = x * x
    small = fma(size * z, horner(z, tables.SINH[_format(x).name]), size)
    return where(size < 1.0, small, half - 0.25 / half).copysign(x)


def _cosh(x: Num) -> Num:
    half = _half_exp(abs(x))
    return half + 0.25 / half


# logarithms ------------------------------------------------------------------------------------


def _log_parts(x: Num) -> tuple[Num, Num]:
    """Return (e, f) with x = 2**e * (1 + f), sqrt(1/2) <= 1+f < sqrt(2); e a float. x > 0, finite."""
    kind = _format(x)
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


def _log_sum(e: Num, f: Num, extra: Num | None = None) -> Num:
    """e * ln(2) + log(1+f) + extra, the small terms first."""
    kind = _format(f)
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


def _log_limits(x: Num, y: Num) -> Num:
    """Put right what a logarithm's formula gives outside 0 < x < infinity."""
    y = where(x < INF, y, x)  # infinity and NaN
    y = where(x < 0, NAN, y)
    return where(x == 0, -INF, y)


def _log(x: Num) -> Num:
    return _log_limits(x, _log_sum(*_log_parts(x)))


def _log1p(x: Num) -> Num:
    u = x + 1
    part = u - 1
    lost = (1 - (u - part)) + (x - part)  # Knuth's two-sum: u + lost = 1 + x exactly
    y = _log_limits(u, _log_sum(*_log_parts(u), lost / u))
    return where(x == 0, x, y)


def _log_base(x: Num, hi_lo: tuple[float, float], e_scale: tuple[float, float]) -> Num:
    """e * e_scale + log(1+f) * hi_lo, each factor in two parts."""
    e, f = _log_parts(x)
    y = _log_sum(e.like(0.0), f)
    low = fma(y, hi_lo[1], e * e_scale[1])
    return _log_limits(x, fma(e, e_scale[0], fma(y, hi_lo[0], low)))


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


def _log2(x: Num) -> Num:
    return _log_base(x, _LOG2_E[_format(x).name], (1.0, 0.0))


def _log10(x: Num) -> Num:
    name = _format(x).name
    return _log_base(x, _LOG10_E[name], _LOG10_2[name])


# circular functions; the inverse ones are written for f64 ----------------------------------------

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
        return quadrant, _in_range(r, (-1.0, 1.0)).to(FLOAT), size.like(0.0)
    lost = fma(-n, second, r_first - r)
    low = lost - n * third
    return quadrant, _in_range(r, (-1.0, 1.0)), _in_range(low, (-1e-8, 1e-8))


def _sin_cos_polynomials(r: Num, low: Num) -> tuple[Num, Num]:
    """Return sin(r + low), cos(r + low); `low` counts for f64 only."""
    kind = _format(r)
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


def _sin(x: Num) -> Num:
    quadrant, r, low = _reduced(abs(x))
    sine, cosine = _sin_cos_polynomials(r, low)
    return _sign_from(quadrant, where((quadrant & 1) == 0, sine, cosine), x)


def _cos(x: Num) -> Num:
    quadrant, r, low = _reduced(abs(x))
    sine, cosine = _sin_cos_polynomials(r, low)
    return _sign_from(quadrant + 1, where((quadrant & 1) == 0, cosine, sine))


def _tan(x: Num) -> Num:
    quadrant, r, low = _reduced(abs(x))
    odd = (quadrant & 1) != 0
    sine, cosine = _sin_cos_polynomials(r, low)
    y = where(odd, -cosine, sine) / where(odd, sine, cosine)
    return _sign_from(y.as_int().like(0), y, x)


_PI = float.fromhex("0x1.921fb54442d18p+1")
_PI_LOW = float.fromhex("0x1.1a62633145c07p-53")


def _asin_core(size: Num) -> tuple[Num, Num, Num]:
    """Return (large, s, tail): asin(s) = s + tail, where s = size, or sqrt((1-size)/2) if size > 1/2."""
    large = size > 0.5
    z = where(large, fma(size, -0.5, 0.5), size * size)
    s = where(large, z.sqrt(), size)
    return large, s, s * z * horner(z, tables.ASIN["f64"])


def _asin(x: Num) -> Num:
    large, s, tail = _asin_core(abs(x))
    folded = (_PI / 2 - 2 * s) - (2 * tail - _PI_LOW / 2)
    return where(large, folded, s + tail).copysign(x)


def _acos(x: Num) -> Num:
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


def _atan(x: Num) -> Num:
    size = abs(x)
    beyond = size > 1
    angle = _atan_ratio(where(beyond, 1.0 / size, size))
    return where(beyond, _PI / 2 - (angle - _PI_LOW / 2), angle).copysign(x)


def _atan2(y: Num, x: Num) -> Num:
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


# inverse hyperbolic functions, error function ----------------------------------------------------


def _asinh(x: Num) -> Num:
    size = abs(x)
    huge = size > 2.0**500
    inside = where(huge, 0.0, size)
    z = inside * inside
    argument = where(huge, size, inside + z / ((z + 1).sqrt() + 1))
    y = _log1p(argument) + where(huge, x.like(math.log(2)), x.like(0.0))
    return y.copysign(x)


def _acosh(x: Num) -> Num:
    huge = x > 2.0**500
    t = where(huge, 0.0, x - 1)
    argument = where(huge, x, t + (t * (t + 2)).sqrt())
    y = _log1p(argument) + where(huge, x.like(math.log(2)), x.like(0.0))
    return where(x < 1, NAN, y)


def _atanh(x: Num) -> Num:
    size = abs(x)
    return (_log1p(2 * size / (1 - size)) * 0.5).copysign(x)


def _erf(x: Num) -> Num:
    kind = _format(x)
    size = abs(x)
    z = size * size
    small = fma(size, horner(z, tables.ERF[kind.name]), size)
    if kind is F32:
        far = at_most(size, 4.0)
        n, p = _exp_parts(horner(far, tables.LOG_ERFC["f32"]))
        scale = _power_of_two(n, kind)
        large = 1 - fma(scale, p, scale)
    else:
        far = at_most(size, 6.0)
        n, p = _exp_parts(-(far * far))
        scale = _power_of_two(n, kind)
        large = 1 - fma(scale, p, scale) * horner((far - 3) / (far + 3), tables.ERFC_SCALED["f64"])
    return where(size < 1.0, small, large).copysign(x)


def _erfinv(x: Num) -> Num:
    w = -_log((1 - x) * (1 + x))
    root = w.sqrt()
    ratio = horner(w - 3.125, tables.ERFINV_CENTRE["f64"])
    ratio = where(w > 6.25, horner(root - 3.25, tables.ERFINV_TAIL["f64"]), ratio)
    ratio = where(w > 16.0, horner(root - 5.082207202911377, tables.ERFINV_FAR_TAIL["f64"]), ratio)
    return where(abs(x) == 1, x * INF, x * ratio).copysign(x)


# powers ------------------------------------------------------------------------------------------

Pair = tuple[Num, Num]  # an unevaluated sum, the second part below half an ulp of the first


def _two_sum(a: Num, b: Num) -> Pair:
    """a + b exactly. Source: Knuth."""
    s = a + b
    part = s - a
    return s, (a - (s - part)) + (b - part)


def _quick_two_sum(a: Num, b: Num) -> Pair:
    """a + b exactly, for |a| >= |b|. Source: Dekker."""
    s = a + b
    return s, b - (s - a)


def _two_product(a: Num, b: Num) -> Pair:
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
    high, low = _two_product(a[0], b[0])
    return _quick_two_sum(high, low + (a[0] * b[1] + a[1] * b[0]))


def _log_pair(x: Num) -> Pair:
    """log(x) to about 2**-66, for finite x > 0 in f64."""
    e, f = _log_parts(x)
    under, under_low = _quick_two_sum(f.like(2.0), f)
    s_high = f / under
    product, product_low = _two_product(s_high, under)
    s_low = ((f - product) - product_low - s_high * under_low) / under
    s: Pair = (s_high, s_low)
    z = _pair_product(s, s)
    # log(1+f) = 2 s + s**3 (2/3 + z (2/5 + ...)): the first coefficient needs two parts, the rest one
    rest = z[0] * horner(z[0], tables.LOG_ODD_TAIL["f64"])
    factor = _quick_two_sum(s_high.like(2 / 3), rest + 2.0**-55 * (4 / 3))
    cubic = _pair_product(_pair_product(s, z), factor)
    high, low = _two_sum(e * _LN2_LONG[0], 2 * s_high)
    tail, tail_low = _two_sum(cubic[0], 2 * s_low)
    low = low + (e * _LN2_LONG[1] + (cubic[1] + tail_low))
    high, rest_low = _two_sum(high, tail)
    return _quick_two_sum(high, rest_low + low)


# ln(2) with a first part of 42 bits: exact times any exponent
_LN2_LONG = (float.fromhex("0x1.62e42fefa3800p-1"), float.fromhex("0x1.ef35793c76730p-45"))


def _pow_positive(size: Num, y: Num) -> Num:
    """size ** y for size >= 0 in f64; NaN only where C's pow has it."""
    inside = (size > 0) & (size < INF)
    high, low = _log_pair(where(inside, size, 1.0))
    limit = where(size == 0, -INF, size)  # log(0), log(infinity), NaN
    bounded = _in_range(y, (-(2.0**70), 2.0**70))  # keeps the error term finite; far beyond over- and underflow
    product, error = _two_product(high, bounded)
    error = fma(low, bounded, error)
    exponent = where(inside, product, limit * y)
    error = where(inside & (abs(product) < 1000), error, 0.0)
    n, p = _exp_parts(_in_range(exponent, F64.exp_range))
    return _scaled(1 + (p + fma(p, error, error)), n)


def _pow(x: Num, y: Num) -> Num:
    size = abs(x)
    if x.bits == 32:
        power = _pow_single(size.to(DOUBLE), y.to(DOUBLE)).to(FLOAT)
    else:
        power = _pow_positive(size, y)
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
    return _exp(_log(size) * y)


# the public side ---------------------------------------------------------------------------------


def _in_double(formula: Callable[..., Num]) -> Callable[..., Num]:
    """Evaluate in f64 whatever the format of the operands."""

    def formula_in_double(*operands: Num) -> Num:
        return formula(*(o.to(DOUBLE) for o in operands)).to(operands[0].element)

    return formula_in_double


def _rsqrt(x: Num) -> Num:
    return 1.0 / x.sqrt()


FUNCTIONS: dict[str, Callable[..., Num]] = {
    "exp": _exp,
    "exp2": _exp2,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "log2": _log2,
    "log10": _log10,
    "sin": _sin,
    "cos": _cos,
    "tan": _in_double(_tan),
    "asin": _in_double(_asin),
    "acos": _in_double(_acos),
    "atan": _in_double(_atan),
    "atan2": _in_double(_atan2),
    "sinh": _sinh,
    "cosh": _cosh,
    "tanh": _tanh,
    "asinh": _in_double(_asinh),
    "acosh": _in_double(_acosh),
    "atanh": _in_double(_atanh),
    "erf": _erf,
    "erfinv": _in_double(_erfinv),
    "pow": _pow,
    "rsqrt": _rsqrt,
}


def emit(b: KernelBuilder, name: str, *operands: ir.Value) -> ir.Value:
    """Apply a function of FUNCTIONS to float or double values, scalar or vector.

    Raises: CompilerBug for an unknown function or another type.
    """
    formula = FUNCTIONS.get(name)
    first = operands[0].type
    lanes = lanes_of(first)
    element = first.element if lanes else first
    if formula is None or element not in (FLOAT, DOUBLE):
        raise CompilerBug(f"codegen: no function {name} of {first}")
    suffix = ("f32" if element == FLOAT else "f64") + (f"x{lanes}" if lanes else "")

    def write(inner: KernelBuilder, *values: ir.Value) -> ir.Value:
        return formula(*(Num(inner, v) for v in values)).value

    return b.helper(f"kc.{name}.{suffix}", first, operands, write)
