"""erf and its inverse.

Source of w = -log(1-x*x) in erfinv: Giles, in "GPU Computing Gems", Jade edition, 2011.
"""

from __future__ import annotations

from kcompile.codegen.num import Num, at_most, fma, horner, pairwise, where
from kcompile.codegen.vmath import coefficients as tables
from kcompile.codegen.vmath.exponential import exp_parts, power_of_two
from kcompile.codegen.vmath.formats import F32, INF, format_of
from kcompile.codegen.vmath.logarithm import log


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
