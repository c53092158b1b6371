"""keras.ops functions that work element by element: arithmetic, comparison, logic, transcendental.

Most are one row of a table: public name, primitive, and the dtype rule. Rules:
same      integers stay integers          float     integers become floatx
number    as same, but bool becomes int32 bool      operands become bool
"""

from __future__ import annotations

import math
from collections.abc import Callable

from kcompile import ops as prim
from kcompile.ir import op as op_table
from kcompile.keras.ops.function import cast, dtype_key, floating, promote, public, tensor
from kcompile.keras.ops.indexing import nonzero
from kcompile.keras.tracing.dtypes import is_float, is_int, limits

# name: (primitive, rule, meaning)
_UNARY = {
    "negative": ("neg", "number", "-x"),
    "absolute": ("abs", "same", "|x|"),
    "abs": ("abs", "same", "|x|"),
    "sign": ("sign", "number", "-1, 0 or 1"),
    "square": ("square", "number", "x²"),
    "exp": ("exp", "float", "eˣ"),
    "exp2": ("exp2", "float", "2ˣ"),
    "expm1": ("expm1", "float", "eˣ - 1, exact near 0"),
    "log": ("log", "float", "the natural logarithm"),
    "log1p": ("log1p", "float", "log(1 + x), exact near 0"),
    "log2": ("log2", "float", "the logarithm to base 2"),
    "log10": ("log10", "float", "the logarithm to base 10"),
    "sqrt": ("sqrt", "float", "the square root"),
    "rsqrt": ("rsqrt", "float", "1 / √x"),
    "reciprocal": ("reciprocal", "float", "1 / x"),
    "sin": ("sin", "float", "the sine"),
    "cos": ("cos", "float", "the cosine"),
    "tan": ("tan", "float", "the tangent"),
    "arcsin": ("asin", "float", "the inverse sine"),
    "arccos": ("acos", "float", "the inverse cosine"),
    "arctan": ("atan", "float", "the inverse tangent"),
    "sinh": ("sinh", "float", "the hyperbolic sine"),
    "cosh": ("cosh", "float", "the hyperbolic cosine"),
    "tanh": ("tanh", "float", "the hyperbolic tangent"),
    "arcsinh": ("asinh", "float", "the inverse hyperbolic sine"),
    "arccosh": ("acosh", "float", "the inverse hyperbolic cosine"),
    "arctanh": ("atanh", "float", "the inverse hyperbolic tangent"),
    "erf": ("erf", "float", "the error function"),
    "erfc": ("erfc", "float", "1 - erf(x), to rounding also where it is small"),
    "erfinv": ("erfinv", "float", "the inverse error function"),
    "floor": ("floor", "float", "the largest integer not above x"),
    "ceil": ("ceil", "float", "the smallest integer not below x"),
    "isnan": ("isnan", "float", "whether x is not a number"),
    "isinf": ("isinf", "float", "whether x is infinite"),
    "isfinite": ("isfinite", "float", "whether x is neither infinite nor NaN"),
    "logical_not": ("logical_not", "bool", "whether x is zero"),
    "bitwise_not": ("bitwise_not", "same", "x with all bits flipped"),
}
_BINARY = {
    "add": ("add", "same", "x1 + x2"),
    "subtract": ("sub", "number", "x1 - x2"),
    "multiply": ("mul", "same", "x1 · x2"),
    "true_divide": ("div", "float", "x1 / x2"),
    "divide": ("div", "float", "x1 / x2"),
    "floor_divide": ("floordiv", "number", "the largest integer not above x1 / x2"),
    "mod": ("mod", "number", "the remainder of x1 / x2, with the sign of x2"),
    "power": ("pow", "number", "x1 to the power x2"),
    "maximum": ("maximum", "same", "the larger of x1 and x2"),
    "minimum": ("minimum", "same", "the smaller of x1 and x2"),
    "arctan2": ("atan2", "float", "the angle of the point (x2, x1)"),
    "equal": ("eq", "same", "x1 == x2"),
    "not_equal": ("ne", "same", "x1 != x2"),
    "less": ("lt", "same", "x1 < x2"),
    "less_equal": ("le", "same", "x1 <= x2"),
    "greater": ("gt", "same", "x1 > x2"),
    "greater_equal": ("ge", "same", "x1 >= x2"),
    "logical_and": ("logical_and", "bool", "x1 and x2"),
    "logical_or": ("logical_or", "bool", "x1 or x2"),
    "logical_xor": ("logical_xor", "bool", "exactly one of x1 and x2"),
    "bitwise_and": ("bitwise_and", "same", "x1 & x2"),
    "bitwise_or": ("bitwise_or", "same", "x1 | x2"),
    "bitwise_xor": ("bitwise_xor", "same", "x1 ^ x2"),
    "left_shift": ("shift_left", "same", "x1 << x2"),
    "right_shift": ("shift_right", "same", "x1 >> x2"),
}
_LOGIC_ON_BOOL = {
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
    "bitwise_not": "logical_not",
    "add": "logical_or",
    "multiply": "logical_and",
    "maximum": "logical_or",
    "minimum": "logical_and",
}


def _operands(rule: str, *xs):
    if rule == "bool":
        return [cast(tensor(x), "bool") for x in xs]
    if rule == "float":
        return promote(*xs, floating=True)
    return promote(*xs, extra=(int,) if rule == "number" else ())


def _primitive(name: str, default: str, operand):
    if name in _LOGIC_ON_BOOL and dtype_key(operand) == "bool":
        return op_table.get(_LOGIC_ON_BOOL[name])
    return op_table.get(default)


def _unary(name: str, primitive: str, rule: str, meaning: str) -> Callable:
    def function(x):
        (operand,) = _operands(rule, x)
        if name == "absolute" or name == "abs":
            if dtype_key(operand) == "bool" or dtype_key(operand).startswith("uint"):
                return operand
        return _primitive(name, primitive, operand)(operand)

    return _named(function, name, f"Return {meaning}, element by element.\n\n    Shapes: any -> same.")


def _binary(name: str, primitive: str, rule: str, meaning: str) -> Callable:
    def function(x1, x2):
        a, b = _operands(rule, x1, x2)
        return _primitive(name, primitive, a)(a, b)

    text = f"Return {meaning}, element by element, broadcasting as NumPy does."
    if name.startswith("bitwise") or name.endswith("shift"):  # Keras calls their operands so
        return _named(lambda x, y: function(x, y), name, text)
    return _named(function, name, text)


def _named(function: Callable, name: str, text: str) -> Callable:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    function.__module__ = __name__
    return public(function)


for _name, _row in _UNARY.items():
    globals()[_name] = _unary(_name, *_row)
for _name, _row in _BINARY.items():
    globals()[_name] = _binary(_name, *_row)

bitwise_left_shift = globals()["left_shift"]
bitwise_right_shift = globals()["right_shift"]
bitwise_invert = globals()["bitwise_not"]


@public
def round(x, decimals=0):
    """Round half to even, to `decimals` places; integers change where these are negative."""
    x = tensor(x)
    if not is_float(dtype_key(x)):
        return x if decimals >= 0 or dtype_key(x) == "bool" else _rounded_integers(x, 10**-decimals)
    if decimals == 0:
        return prim.round(x)
    (scale,) = promote(10.0**decimals, dtype=dtype_key(x))
    return prim.div(prim.round(prim.mul(x, scale)), scale)


def _rounded_integers(x, unit: int):
    """The multiples of `unit` nearest to integers, halves to even ones."""
    wide, unit, two = promote(cast(x, "int64"), unit, 2, dtype="int64")
    count, rest = prim.floordiv(wide, unit), prim.mul(prim.mod(wide, unit), two)
    is_half_of_odd = prim.logical_and(prim.eq(rest, unit), prim.ne(prim.mod(count, two), tensor(0, "int64")))
    up = prim.logical_or(prim.gt(rest, unit), is_half_of_odd)
    return cast(prim.mul(prim.add(count, cast(up, "int64")), unit), dtype_key(x))


@public
def trunc(x):
    """Return x without its fraction; integers stay as they are."""
    x = tensor(x)
    return prim.trunc(x) if is_float(dtype_key(x)) else floating(x) if dtype_key(x) == "bool" else x


@public
def clip(x, x_min, x_max):
    """Limit x to the range x_min..x_max."""
    x, low, high = promote(x, x_min, x_max)
    return prim.minimum(prim.maximum(x, low), high)


@public
def where(condition, x1=None, x2=None):
    """Return x1 where the condition holds and x2 elsewhere."""
    if x1 is None and x2 is None:
        return nonzero(condition)
    a, b = promote(x1, x2)
    return prim.select(cast(tensor(condition), "bool"), a, b)


@public
def divide_no_nan(x1, x2):
    """Return x1 / x2, and 0 where x2 is 0."""
    a, b = promote(x1, x2, floating=True)
    zero, one = promote(0.0, 1.0, dtype=dtype_key(a))
    empty = prim.eq(b, zero)
    return prim.select(empty, zero, prim.div(a, prim.select(empty, one, b)))


@public
def logaddexp(x1, x2):
    """Return log(exp(x1) + exp(x2)) without overflow."""
    a, b = promote(x1, x2, floating=True)
    return prim.add(prim.maximum(a, b), prim.log1p(prim.exp(prim.neg(distance(a, b)))))


def distance(a, b):
    """Return |a - b|, which is 0 between equal infinities."""
    same, zero = prim.eq(a, b), tensor(0.0, dtype_key(a))
    return prim.abs(prim.sub(prim.select(same, zero, a), prim.select(same, zero, b)))


@public
def hypot(x1, x2):
    """Return √(x1² + x2²) without overflow; infinite if one of them is, as C's function."""
    a, b = promote(x1, x2, floating=True)
    a, b = prim.abs(a), prim.abs(b)
    big, small = prim.maximum(a, b), prim.minimum(a, b)
    zero, one = promote(0.0, 1.0, dtype=dtype_key(a))
    ratio = prim.div(small, prim.select(prim.eq(big, zero), one, big))
    found = prim.mul(big, prim.sqrt(prim.add(one, prim.square(ratio))))
    infinite = tensor(math.inf, dtype_key(a))
    return prim.select(prim.logical_or(prim.eq(a, infinite), prim.eq(b, infinite)), infinite, found)


@public
def heaviside(x1, x2):
    """Return 0 for x1 < 0, x2 for x1 = 0, 1 for x1 > 0."""
    a, b = promote(x1, x2, floating=True)
    zero, one = promote(0.0, 1.0, dtype=dtype_key(a))
    return prim.select(prim.lt(a, zero), zero, prim.select(prim.gt(a, zero), one, b))


@public
def nan_to_num(x, nan=0.0, posinf=None, neginf=None):
    """Replace NaN by `nan` and infinities by the largest numbers, or by those given."""
    x = tensor(x)
    kind = dtype_key(x)
    if not is_float(kind):
        return x
    bounds = limits(kind)
    zero, fill, top, bottom = promote(
        0.0, float(nan), float(bounds.max if posinf is None else posinf),
        float(bounds.min if neginf is None else neginf), dtype=kind,
    )  # fmt: skip
    finite = prim.select(prim.isinf(x), prim.select(prim.gt(x, zero), top, bottom), x)
    return prim.select(prim.isnan(x), fill, finite)


@public
def deg2rad(x):
    """Convert degrees to radians."""
    (x, factor) = promote(floating(x), math.pi / 180.0)
    return prim.mul(x, factor)


@public
def rad2deg(x):
    """Convert radians to degrees."""
    (x, factor) = promote(floating(x), 180.0 / math.pi)
    return prim.mul(x, factor)


@public
def isclose(x1, x2, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Return whether |x1 - x2| <= atol + rtol · |x2|."""
    a, b = promote(x1, x2, floating=True)
    relative, absolute = promote(float(rtol), float(atol), dtype=dtype_key(a))
    near = prim.le(prim.abs(prim.sub(a, b)), prim.add(absolute, prim.mul(relative, prim.abs(b))))
    near = prim.logical_or(prim.logical_and(near, prim.isfinite(b)), prim.eq(a, b))
    return prim.logical_or(near, prim.logical_and(prim.isnan(a), prim.isnan(b))) if equal_nan else near


@public
def isposinf(x):
    """Return whether x is +infinity."""
    x = floating(x)
    return prim.eq(x, tensor(math.inf, dtype_key(x)))


@public
def isneginf(x):
    """Return whether x is -infinity."""
    x = floating(x)
    return prim.eq(x, tensor(-math.inf, dtype_key(x)))


@public
def stop_gradient(variable):
    """Return x; gradients do not flow through it."""
    x = tensor(variable)
    return prim.stop_gradient(x) if not is_int(dtype_key(x)) else x


__all__ = [
    *_UNARY,
    *_BINARY,
    "bitwise_invert",
    "bitwise_left_shift",
    "bitwise_right_shift",
    "clip",
    "deg2rad",
    "divide_no_nan",
    "heaviside",
    "hypot",
    "isclose",
    "isneginf",
    "isposinf",
    "logaddexp",
    "nan_to_num",
    "rad2deg",
    "round",
    "stop_gradient",
    "trunc",
    "where",
]
