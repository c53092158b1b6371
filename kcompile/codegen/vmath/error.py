"""erf, its complement and its inverse; the distribution function of the normal distribution.

erfc(x) = exp(-x*x) / (x + 2) times a polynomial in (x - 2)/(x + 2), which maps all x >= 0 to a short interval: one
formula from 1 down to the denormals. With x / sqrt(2) for x it is the normal distribution's upper tail, twice.

Source of w = -log(1-x*x) in erfinv: Giles, in "GPU Computing Gems", Jade edition, 2011.
"""

from __future__ import annotations

import math

from kcompile.codegen.num import Num, at_most, fma, horner, pairwise, where
from kcompile.codegen.vmath import coefficients as tables
from kcompile.codegen.vmath.exponential import exp_parts, power_of_two, times_exp_of_square
from kcompile.codegen.vmath.formats import F32, INF, format_of
from kcompile.codegen.vmath.logarithm import log

ERFC_CENTRE = 2.0


def erf(x: Num) -> Num:
    kind = format_of(x)
    size = abs(x)
    z = size * size
    small = fma(size, horner(z, tables.ERF[kind.name]), size)
    if kind is F32:
        far = at_most(size, 4.0)
        n, p = exp_parts(horner(far, tables.LOG_ERFC["f32"]))
        scale = power_of_two(n, kind)
        large = 1 - fma(scale, p, scale)
    else:
        far = at_most(size, 6.0)
        n, p = exp_parts(-(far * far))
        scale = power_of_two(n, kind)
        large = 1 - fma(scale, p, scale) * horner((far - 3) / (far + 3), tables.ERFC_SCALED["f64"])
    return where(size < 1.0, small, large).copysign(x)


def erfc(x: Num) -> Num:
    tail = _gaussian_tail(x, -1.0, scale=1.0)
    return where(x < 0.0, 2 - tail, tail)


def normcdf(x: Num) -> Num:
    tail = _gaussian_tail(x, -0.5, scale=0.5)
    return where(x < 0.0, tail, 1 - tail)


def _gaussian_tail(x: Num, factor: float, scale: float) -> Num:
    """scale * erfc(sqrt(-factor) * |x|)."""
    kind = format_of(x)
    stretch = 1 / math.sqrt(-factor)
    size = at_most(abs(x), kind.erfc_high * stretch)
    share = 1.0 / (size + ERFC_CENTRE * stretch)
    mapped = fma(share, -2 * ERFC_CENTRE * stretch, 1.0)
    ratio = horner(mapped, [c * scale * stretch for c in tables.ERFC[kind.name]])
    return times_exp_of_square(share * ratio, size, factor)


def erfinv(x: Num) -> Num:
    w = -log((1 - x) * (1 + x))
    root = w.sqrt()
    if format_of(x) is F32:
        ratio = pairwise(w - 2.5, tables.ERFINV_CENTRE["f32"])
        ratio = where(w > 5.0, pairwise(root - 3, tables.ERFINV_TAIL["f32"]), ratio)
    else:
        ratio = horner(w - 3.125, tables.ERFINV_CENTRE["f64"])
        ratio = where(w > 6.25, horner(root - 3.25, tables.ERFINV_TAIL["f64"]), ratio)
        ratio = where(w > 16.0, horner(root - 5.082207202911377, tables.ERFINV_FAR_TAIL["f64"]), ratio)
    return where(abs(x) == 1, x * INF, x * ratio).copysign(x)
