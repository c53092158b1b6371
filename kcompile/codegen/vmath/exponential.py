"""exp, exp2, expm1 and the hyperbolic functions: x = n ln(2) + r, a polynomial in r, times 2**n.

Source: reduction with ln(2) in two parts and rounding by adding 1.5 * 2**p: Cody, Waite, "Software Manual
for the Elementary Functions", 1980.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import FLOAT, I32, lanes_of, vector
from kcompile.codegen.num import Num, at_least, at_most, fma, horner, where
from kcompile.codegen.vmath import coefficients as tables
from kcompile.codegen.vmath.formats import F32, Format, format_of

_R_BOUND = 0.375  # above ln(2)/2 and what rounding adds to it
_PARTS = 16  # of a power of two: numbers one permutation of AVX-512 chooses from


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


def _has_wide_instructions(x: Num) -> bool:
    """True for whole vectors of AVX-512: their functions below take and give 512 bits."""
    target, lanes = x.b.target, lanes_of(x.type)
    return target.arch == "x86_64" and target.vector_bytes == 64 and lanes is not None and lanes * x.bits % 512 == 0


def _wide(name: str, x: Num, *operands: Num | int, last: tuple[int, ...] = ()) -> Num:
    """An AVX-512 instruction on 512 bits after another: operands, nothing masked, then `last`."""
    b, lanes = x.b, 512 // x.bits
    suffix, mask = ("ps", ir.IntType(16)) if x.bits == 32 else ("pd", ir.IntType(8))
    values = [o for o in operands if isinstance(o, Num)]
    numbers = [I32(o) for o in operands if not isinstance(o, Num)]

    def apply(*pieces: ir.Value) -> ir.Value:
        arguments = [*pieces, *numbers, pieces[0], mask(-1), *(I32(n) for n in last)]
        fn = b.declare(f"llvm.x86.avx512.mask.{name}.{suffix}.512", pieces[0].type, [a.type for a in arguments])
        return b.call(fn, arguments)

    return Num(b, b.in_pieces(lanes, apply, x.value, *(v.value for v in values)))


_ROUNDING_AS_SET = 4  # an operand of AVX-512 instructions
_SMALLER_SIZE = 2  # of range: the operand nearer to 0, with the sign of the first


def in_range(x: Num, bounds: tuple[float, float]) -> Num:
    return at_least(at_most(x, bounds[1]), bounds[0])


def exp(x: Num) -> Num:
    """2**n (1 + p(r)). Out of range n alone decides, if the polynomial stays near 1: where one instruction scales
    by any n, r is bounded instead of x, which is one operation instead of two."""
    kind = format_of(x)
    wide = _has_wide_instructions(x)
    shifted, r = _reduced(x if wide else in_range(x, kind.exp_range), kind)
    if wide:
        r = _wide("range", r, r.like(_R_BOUND), _SMALLER_SIZE, last=(_ROUNDING_AS_SET,))
    y = fma(fma(r, horner(r, tables.EXP[kind.name]), 1.0), r, 1.0)
    return _times_power_of_two(y, shifted, kind)


def exp_by_table(x: Num) -> Num:
    """exp of whole f32 vectors of AVX-512: x = k/16 ln(2) + r, and 2**(k/16 - floor(k/16)) is one of 16 numbers.

    A permutation looks that up by the low bits of k, the polynomial is short, and scaling rounds k/16 down by itself.
    7 multiplications instead of 9, in a chain of 9 operations instead of 12. Within the bound of `exp`, not its bits.
    """
    return _by_table(x, format_of(x).ln2)


def exp_of_rounded(x: Num) -> Num:
    """`exp_by_table` of what an operation has just rounded, with one multiplication less: ln(2) as one number.

    That number is 1.9e-9 too large, which moves x by 2.8e-9 |x|: a tenth or less of what rounding has moved it by at
    most (3.0e-8 to 6.0e-8 |x|). As a function of the rounded x the error is up to 3.1 units, at -87 and 88.
    """
    return _by_table(x, (math.log(2),))


def _by_table(x: Num, ln2: Sequence[float]) -> Num:
    """ln2: parts that are subtracted one after the other."""
    kind = format_of(x)
    magic = kind.magic / _PARTS  # adding it rounds to a multiple of 1/16
    shifted = fma(x, 1 / math.log(2), magic)
    n = shifted - magic
    r = x
    for part in ln2:
        r = fma(-n, part, r)
    r = _wide("range", r, r.like(_R_BOUND / _PARTS), _SMALLER_SIZE, last=(_ROUNDING_AS_SET,))
    part = _looked_up([2 ** (j / _PARTS) for j in range(_PARTS)], shifted.as_int())
    y = fma(part * r, horner(r, (1.0, *tables.EXP_SHORT[kind.name])), part)
    return _wide("scalef", y, n, last=(_ROUNDING_AS_SET,))


def has_table(x: ir.Type, b: KernelBuilder) -> bool:
    """True for vectors that `exp_by_table` takes."""
    return lanes_of(x) is not None and x.element == FLOAT and _has_wide_instructions(Num(b, ir.Constant(x, None)))


def _looked_up(numbers: Sequence[float], places: Num) -> Num:
    """numbers[place mod 16] in every lane."""
    b = places.b
    table = ir.Constant(vector(FLOAT, len(numbers)), [FLOAT(n) for n in numbers])

    def look_up(piece: ir.Value) -> ir.Value:
        fn = b.declare("llvm.x86.avx512.permvar.sf.512", table.type, [table.type, piece.type])
        return b.call(fn, [table, piece])

    return Num(b, b.in_pieces(len(numbers), look_up, places.value))


def _times_power_of_two(y: Num, shifted: Num, kind: Format) -> Num:
    """y * 2**n of magic + n."""
    if _has_wide_instructions(y):
        return _wide("scalef", y, shifted - kind.magic, last=(_ROUNDING_AS_SET,))
    return scaled(y, shifted.as_int() - kind.magic_bits)


def times_exp_of_square(y: Num, x: Num, factor: float) -> Num:
    """y * exp(factor * x*x) for |y| <= 1; `factor` is minus a power of two, the exponent within exp_range.

    The square enters the reduction before it is rounded: a large exponent keeps its digits.
    """
    kind = format_of(x)
    shifted = fma(x * x, factor / math.log(2), kind.magic)
    n = shifted - kind.magic
    r = fma(n, -kind.ln2[1] / factor, _square_plus(x, n * (-kind.ln2[0] / factor)))
    powers = (1.0, 1.0, *tables.EXP[kind.name])
    return _times_power_of_two(y * horner(r, [c * factor**k for k, c in enumerate(powers)]), shifted, kind)


def _square_plus(x: Num, c: Num) -> Num:
    """x*x + c, the square not rounded, for c near -x*x."""
    if x.b.target.fma:
        return fma(x, x, c)
    upper = (x.as_int() & -(1 << (format_of(x).mantissa_bits // 2 + 1))).as_float()
    return (upper * upper + c) + (x - upper) * (x + upper)


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
