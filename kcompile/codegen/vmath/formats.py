"""The two formats functions are written for, and what their formulas need to know of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kcompile.codegen.num import Num

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
    erfc_high: float  # above, erfc is 0

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
    erfc_high=10.2,
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
    erfc_high=27.3,
)


def format_of(x: Num) -> Format:
    return F32 if x.bits == 32 else F64
