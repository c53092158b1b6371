"""Mathematical functions as LLVM IR: branch-free polynomials for scalars and vectors, f32 and f64.

Each function is written once over `Num` and becomes an internal function that is always inlined, so
a loop that uses it holds no call and LLVM's vectoriser can widen it; given a vector it is emitted on
vectors. No function needs libm. Results do not depend on the vector width.

The plan of each: reduce the argument so that a short polynomial suffices, evaluate it, undo the
reduction, then put right what the formulas cannot give (0, infinities, NaN) with selects.

Coefficients are our own minimax fits (Remez exchange in 40-digit arithmetic, low orders rounded
first); the name of a table says what it approximates. Ideas, with our own constants:
  - two- and three-part constants for argument reduction: Cody, Waite, "Software Manual for the
    Elementary Functions" (1980); rounding by adding 1.5*2**(p-1): the same, and Hart et al. (1968)
  - log from s = f/(2+f), compensated: Tang, ACM TOMS 16 (1990)
  - error-free sums and products in pow: Dekker, Numer. Math. 18 (1971); Knuth, TAOCP 2, 4.2.2
  - erfinv by w = -log(1-x*x): Giles, "Approximating the erfinv function", GPU Computing Gems (2011)

Error bounds, measured (tests/codegen/test_vmath.py keeps them), are in ULP_BOUNDS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from kcompile.codegen.build import DOUBLE, FLOAT, I32, KernelBuilder, lanes_of
from kcompile.codegen.num import Num, at_least, at_most, fma, horner, where
from kcompile.errors import CompilerBug

INF, NAN = math.inf, math.nan


@dataclass(frozen=True)
class Format:
    """What differs between the two formats: widths, limits, reduction constants."""

    name: str
    mantissa_bits: int
    bias: int
    magic: float  # 1.5 * 2**mantissa_bits: adding it rounds to an integer, held in the low bits
    min_normal: float
    ln2_hi: float  # short, so that n * ln2_hi is exact
    ln2_lo: float
    exp_low: float  # below: exp is 0
    exp_high: float  # above: exp is infinite
    exp2_low: float
    exp2_high: float
    expm1_low: float  # below: expm1 is -1
    expm1_high: float  # above: expm1 is infinite; n still fits

    @property
    def one_bits(self) -> int:
        return self.bias << self.mantissa_bits


F32 = Format(
    name="f32",
    mantissa_bits=23,
    bias=127,
    magic=1.5 * 2.0**23,
    min_normal=2.0**-126,
    ln2_hi=0.693359375,
    ln2_lo=-2.12194440e-4,
    exp_low=-104.0,
    exp_high=89.0,
    exp2_low=-151.0,
    exp2_high=128.5,
    expm1_low=-18.0,
    expm1_high=89.0,
)
F64 = Format(
    name="f64",
    mantissa_bits=52,
    bias=1023,
    magic=1.5 * 2.0**52,
    min_normal=2.0**-1022,
    ln2_hi=float.fromhex("0x1.62e42fee00000p-1"),
    ln2_lo=float.fromhex("0x1.a39ef35793c76p-33"),
    exp_low=-746.0,
    exp_high=710.0,
    exp2_low=-1076.0,
    exp2_high=1024.5,
    expm1_low=-38.0,
    expm1_high=710.0,
)

# (e**r - 1 - r) / r**2 on |r| <= ln(2)/2
EXP = {
    "f32": (0.49999997, 0.16666538, 0.04166774, 0.00836732, 0.00138378),
    "f64": (0.0,),
}
