"""exp, exp2, expm1 and the hyperbolic functions: x = n ln(2) + r, a polynomial in r, times 2**n.

Source: reduction with ln(2) in two parts and rounding by adding 1.5 * 2**p: Cody, Waite, "Software Manual
for the Elementary Functions", 1980.
"""

from __future__ import annotations

import math

from llvmlite import ir

from kcompile.codegen.build import I32, lanes_of
from kcompile.codegen.num import Num, at_least, at_most, fma, horner, where
from kcompile.codegen.vmath import coefficients as tables
from kcompile.codegen.vmath.formats import F32, Format, format_of


def exp_parts(x: Num) -> tuple[Num, Num]:
    """Return (n, p) with exp(x) = 2**n * (1 + p) and |p| < 0.42; n an integer. x must be in range."""
    kind = format_of(x)
    shifted, r = _reduced(x, kind)
    return shifted.as_int() - kind.magic_bits, _expm1_small(r)


def _reduced(x: Num, kind: Format) -> tuple[Num, Num]:
    """Return (magic + n, r) with x = n ln(2) + r."""
    shifted = fma(x, 1 / math.log(2), kind.magic)
    n = shifted - kind.magic
    r = fma(-n, kind.ln2[0], x)
    return shifted, fma(-n, kind.ln2[1], r)


def _expm1_small(r: Num) -> Num:
    """exp(r) - 1 for |r| <= ln(2)/2."""
    return fma(r * r, horner(r, tables.EXP[format_of(r).name]), r)


def power_of_two(n: Num, kind: Format) -> Num:
    """2**n as a float, for n in the range of normal numbers."""
    return ((n + kind.bias) << kind.mantissa_bits).as_float()


def scaled(y: Num, n: Num) -> Num:
    """y * 2**n with one rounding, for |y| near 1 and any n down to the denormals."""
    target, kind = y.b.target, format_of(y)
    if target.arch == "x86_64" and target.vector_bytes == 64:
        places = n.to(I32)  # one instruction of AVX-512; elsewhere ldexp would be a library call
        return Num(y.b, y.b.intrinsic("llvm.ldexp", y.type, [y.value, places.value], [y.type, places.type]))
    half = n.arithmetic_shift(1) if kind is F32 else n.to(I32).arithmetic_shift(1).to(n.element)
    return y * power_of_two(half, kind) * power_of_two(n - half, kind)


def _scaled_by_float(y: Num, n: Num) -> Num | None:
    """`scaled` for an n held as a float, where a whole vector of it is one instruction; or None."""
    target, lanes = y.b.target, lanes_of(y.type)
    if target.arch != "x86_64" or lanes is None or lanes * y.bits != 512 or target.vector_bytes != 64:
        return None
    name, mask = ("ps", ir.IntType(16)) if y.bits == 32 else ("pd", ir.IntType(8))
    scalef = f"llvm.x86.avx512.mask.scalef.{name}.512"
    as_in_the_register = I32(4)  # rounding mode
    arguments = [y.value, n.value, y.value, mask(-1), as_in_the_register]
    fn = y.b.declare(scalef, y.type, [a.type for a in arguments])
    return Num(y.b, y.b.call(fn, arguments))


def in_range(x: Num, bounds: tuple[float, float]) -> Num:
    return at_least(at_most(x, bounds[1]), bounds[0])


def exp(x: Num) -> Num:
    kind = format_of(x)
    shifted, r = _reduced(in_range(x, kind.exp_range), kind)
    y = fma(fma(r, horner(r, tables.EXP[kind.name]), 1.0), r, 1.0)
    found = _scaled_by_float(y, shifted - kind.magic)
    return scaled(y, shifted.as_int() - kind.magic_bits) if found is None else found


def exp2(x: Num) -> Num:
    kind = format_of(x)
    x = in_range(x, kind.exp2_range)
    shifted = x + kind.magic
    r = (x - (shifted - kind.magic)) * math.log(2)
    return scaled(_expm1_small(r) + 1, shifted.as_int() - kind.magic_bits)


def expm1(x: Num) -> Num:
    kind = format_of(x)
    n, p = exp_parts(in_range(x, (kind.expm1_low, kind.exp_range[1])))
    # half of 2**n: at the upper end 2**n itself is not a number any more
    scale = power_of_two(n - 1, kind)
    y = fma(scale, p, scale - 0.5) * 2
    return where(abs(x) < kind.min_normal, x, y)  # halving would cost a denormal its last bit, -0 its sign


def tanh(x: Num) -> Num:
    """A polynomial near 0, elsewhere 1 - 2 / (exp(2|x|) + 1)."""
    kind = format_of(x)
    size = at_most(abs(x), kind.tanh_high)
    n, p = exp_parts(size + size)
    scale = power_of_two(n, kind)
    large = 1 - 2.0 / (fma(scale, p, scale) + 1)
    z = size * size
    small = fma(size * z, horner(z, tables.TANH[kind.name]), size)
    return where(size < 0.55, small, large).copysign(x)


def _half_exp(size: Num) -> Num:
    """exp(size) / 2 for size >= 0: does not overflow where sinh and cosh do not."""
    kind = format_of(size)
    n, p = exp_parts(at_most(size, kind.exp_range[1] + 1))
    return scaled(p + 1, n - 1)


def sinh(x: Num) -> Num:
    size = abs(x)
    half = _half_exp(size)
    z = x * x
    small = fma(size * z, horner(z, tables.SINH[format_of(x).name]), size)
    return where(size < 1.0, small, half - 0.25 / half).copysign(x)


def cosh(x: Num) -> Num:
    half = _half_exp(abs(x))
    return half + 0.25 / half
