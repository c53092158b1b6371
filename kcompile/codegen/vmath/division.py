"""Remainder and floored quotient with the divisor's sign, as Python and NumPy define them; in f64."""

from __future__ import annotations

from kcompile.codegen.num import Num, where
from kcompile.codegen.vmath.formats import INF
from kcompile.codegen.vmath.power import two_product


def _remainder(x: Num, y: Num) -> Num:
    """x - y * trunc(x / y) with the sign of x, exact while |x / y| < 2**104 (beyond: 0)."""
    rest, divisor = abs(x), abs(y)
    for _ in range(2):  # each pass takes 52 bits off the quotient
        quotient = (rest / divisor).trunc()
        product, error = two_product(quotient, divisor)
        rest = (rest - product) - error
        rest = where(rest < 0, rest + divisor, rest)  # the division had rounded up
    rest = where(rest >= divisor, 0.0, rest)
    rest = where((divisor == INF) & (abs(x) < INF), abs(x), rest)
    return rest.copysign(x)


def mod(x: Num, y: Num) -> Num:
    """The remainder with the sign of y; NaN for y = 0 and for infinite x."""
    rest = _remainder(x, y)
    other_side = (rest != 0) & ((rest < 0) ^ (y < 0))
    return where(rest == 0, rest.like(0.0).copysign(y), where(other_side, rest + y, rest))


def floordiv(x: Num, y: Num) -> Num:
    """floor(x / y) without the rounding of the quotient; x / y where y = 0."""
    rest = _remainder(x, y)
    other_side = (rest != 0) & ((rest < 0) ^ (y < 0))
    quotient = (x - rest) / y  # whole, up to one rounding
    quotient = where(other_side, quotient - 1, quotient)
    floor = quotient.floor()
    floor = where(quotient - floor > 0.5, floor + 1, floor)
    plain = x / y
    return where(y == 0, plain, where(quotient == 0, quotient.like(0.0).copysign(plain), floor))
