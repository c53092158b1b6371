"""How each scalar operation is computed with NumPy: the one table of their meaning.

`NUMPY[name]` takes arrays and returns an array; `apply` runs it without warnings and with exactly
the dtype the operation promises. The form interpreter and the ops' references both read this table,
so an operation's meaning is written once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from kcompile.errors import CompilerBug
from kcompile.forms.quantile import erfinv
from kcompile.forms.scalar import result_dtype
from kcompile.ir.types import DType, bf16, boolean, dtype

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def power(base: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """`base ** exponent`; an integer to a negative power, which NumPy refuses, is 0."""
    if base.dtype.kind != "i":
        return np.power(base, exponent)
    return np.where(exponent < 0, 0, np.power(base, np.maximum(exponent, 0)))


def mulhi(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """High 32 bits of the product of two u32."""
    return ((a.astype(np.uint64) * b.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)


def convert(x: np.ndarray, to: DType) -> np.ndarray:
    """Convert to another dtype: float to integer truncates and saturates, NaN gives 0."""
    x = np.asarray(x)
    if to is boolean:
        return np.asarray(x != 0)
    if to is bf16:  # has no NumPy dtype: held as float32 of bfloat16 precision, half to even
        return _rounded_to_bf16(x.astype(np.float32))
    with np.errstate(all="ignore"):
        if x.dtype.kind != "f" or to.is_float:
            return x.astype(to.numpy)
        limits = np.iinfo(to.numpy)
        # limits.max + 1 is a power of two: exact in every float format wide enough to reach it
        high = x >= float(limits.max + 1)
        low = x <= float(limits.min)
        inside = np.where(high | low | np.isnan(x), np.zeros((), x.dtype), x).astype(to.numpy)
        return np.where(high, to.numpy.type(limits.max), np.where(low, to.numpy.type(limits.min), inside))


def _rounded_to_bf16(x: np.ndarray) -> np.ndarray:
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return np.where(np.isnan(x), x, rounded.astype(np.uint32).view(np.float32))


# NumPy semantics are the project's: NaN propagates through max and min, mod follows the divisor,
# rounding is half to even, integers wrap and divide by zero to 0.
NUMPY: dict[str, Callable[..., np.ndarray]] = {
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "trunc": np.trunc,
    "square": np.square,
    "bitnot": np.invert,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "log1p": np.log1p,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": _erf,
    "erfc": _erfc,
    "erfinv": erfinv,
    "normcdf": lambda x: _erfc(np.asarray(x, np.float64) * -math.sqrt(0.5)) / 2,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "not": np.logical_not,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "max": lambda *x: functools.reduce(np.maximum, x),
    "min": lambda *x: functools.reduce(np.minimum, x),
    "div": np.divide,
    "floordiv": np.floor_divide,
    "mod": np.mod,
    "pow": power,
    "atan2": np.arctan2,
    "bitand": np.bitwise_and,
    "bitor": np.bitwise_or,
    "bitxor": np.bitwise_xor,
    "shl": np.left_shift,
    "shr": np.right_shift,
    "mulhi": mulhi,
    "bits": lambda x: x.view(np.dtype(f"u{x.itemsize}")),
    "frombits": lambda x: x.view(np.dtype(f"f{x.itemsize}")),
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "fma": lambda a, b, c: a * b + c,
    "select": np.where,
}


def apply(fn: str, *operands: np.ndarray) -> np.ndarray:
    """Compute scalar operation `fn` on arrays of one dtype, elementwise with broadcasting."""
    if fn not in NUMPY:
        raise CompilerBug(f"no NumPy meaning of scalar operation {fn!r} is known; known: {sorted(NUMPY)}")
    return compute(NUMPY[fn], operands, result_dtype(fn, dtype(operands[-1].dtype)))


def compute(formula: Callable[..., np.ndarray], operands, result: DType) -> np.ndarray:
    """Run a NumPy formula without warnings; float16 is computed in float32 and rounded once."""
    wide = [x.astype(np.float32) if x.dtype.char == "e" else x for x in operands]
    with np.errstate(all="ignore"):
        found = np.asarray(formula(*wide))
        is_new = found.base is None
        for x in operands:
            is_new = is_new and found is not x
        return found if is_new and found.dtype is result.numpy else found.astype(result.numpy)
