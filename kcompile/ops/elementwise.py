"""Elementwise primitives: arithmetic, comparison, transcendental, bits, select, cast.

`elementwise` makes a whole op from one row: the type rule is broadcasting over one dtype, the
reference is the scalar operation's NumPy meaning (or `ref`), and `body`, an expression over
scalars, becomes the Loops form. A vjp is written with ops, ignores broadcasting (autodiff sums a
cotangent back to its input's shape), and follows JAX where a derivative is a convention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from kcompile.errors import DTypeError, ShapeError
from kcompile.forms import numeric, scalar
from kcompile.forms.records import map_form, operand
from kcompile.forms.scalar import SCALAR_OPS, Expr, call, const, load
from kcompile.ir import types
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import DTYPES, DType, Type, boolean, broadcast_shapes

_FLOATS = ("float",)
_INTEGERS = ("int", "uint")
ACCEPTS: dict[str, tuple[str, ...]] = {
    "floats": _FLOATS,
    "integers": _INTEGERS,
    "numbers": _FLOATS + _INTEGERS,
    "bools": ("bool",),
    "any dtype": (*_FLOATS, *_INTEGERS, "bool"),
}
COMMUTATIVE = {"commutative": True}


# scalar bodies ---------------------------------------------------------------------------------


def _applier(fn: str) -> Callable[..., Expr]:
    def apply(*args) -> Expr:
        """Apply the scalar operation; Python numbers take the dtype of the expressions beside them."""
        kind = next(a.dtype for a in reversed(args) if isinstance(a, Expr))
        return call(fn, *(a if isinstance(a, Expr) else const(a, kind) for a in args))

    return apply


s = SimpleNamespace(**{name: _applier(name) for name in (*SCALAR_OPS, "select")})


# making an op from a row -----------------------------------------------------------------------


def elementwise(
    name: str,
    *,
    vjp: Callable[..., Sequence[Any]] | None = None,
    body: str | Callable[..., Expr],
    ref: Callable[..., np.ndarray] | None = None,
    takes: str = "floats",
    domain: tuple[float, float] = (-2.0, 2.0),
    result: DType | None = None,
    arity: int | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Op:
    """Make and register an elementwise op.

    Args:
        vjp: cotangents from (g, y, *inputs); None stops gradients.
        body: the name of one scalar operation, or a function of scalar expressions.
        ref: NumPy formula; by default what the scalar operation `body` means.
        takes: which dtypes, a row of ACCEPTS; all operands share one.
        domain: where the samples are drawn, for functions with a limited one.
        result: dtype of the result where it is not the operands'.
    """
    if isinstance(body, str):
        arity = SCALAR_OPS[body].arity
        ref = ref or numeric.NUMPY[body]
        result = boolean if SCALAR_OPS[body].result == "bool" else result
        body = getattr(s, body)
    arity = arity or body.__code__.co_argcount

    def infer(*operands: Type) -> Type:
        _check_operands(name, operands, arity, takes)
        return Type(result or operands[0].dtype, broadcast_shapes(*(t.shape for t in operands)))

    def reference(*operands) -> np.ndarray:
        arrays = as_arrays(operands)
        return numeric.compute(ref, arrays, result or types.dtype(arrays[0].dtype))

    def lower(*operands: Type):
        return map_form(
            infer(*operands), operands, lambda at: body(*(operand(n, at, t) for n, t in enumerate(operands))), name
        )

    return register(
        Op(
            name,
            Kind.ELEMENTWISE,
            infer,
            reference,
            vjp,
            lower,
            lambda rng: _samples(rng, arity, takes, domain),
            cost=_cost(body, arity, takes),
            differentiable=vjp is not None,
            facts=facts or {},
        )
    )


def as_arrays(operands: Sequence[Any]) -> list[np.ndarray]:
    """Operands as plain arrays; Python numbers take the dtype of the first number array beside them."""
    for value in operands:
        if type(value) is not np.ndarray:
            break
    else:
        return list(operands)
    given = [o.dtype for o in operands if hasattr(o, "dtype")]
    like = next((d for d in given if d != np.bool_), given[0] if given else None)
    arrays = []
    for value in operands:
        weak = isinstance(value, (int, float)) and not isinstance(value, bool) and not hasattr(value, "dtype")
        fits = weak and like is not None and (like.kind == "f" or (isinstance(value, int) and like.kind in "iu"))
        array = np.asarray(value, like if fits else None)
        if not hasattr(value, "dtype") and not fits:  # Python numbers are 32 bits wide, as in a graph
            array = array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))
        arrays.append(array)
    return arrays


def _check_operands(name: str, operands: Sequence[Type], arity: int, takes: str) -> None:
    if len(operands) != arity:
        raise ShapeError(f"{name} expects {arity} operands, received {len(operands)}")
    for t in operands:
        if t.dtype.category not in ACCEPTS[takes]:
            raise DTypeError(f"{name} takes {takes}, received {t.dtype}; cast it first")
        if t.dtype is not operands[0].dtype:
            raise DTypeError(f"{name} expects operands of one dtype, received {', '.join(str(t) for t in operands)}")


def _cost(body: Callable[..., Expr], arity: int, takes: str) -> int:
    """Simple operations per element, loads not counted."""
    kind = DTYPES[{"integers": "u32", "bools": "bool"}.get(takes, "f32")]
    loads = [load(f"x{n}", (), kind) for n in range(arity)]
    return max(1, scalar.cost(body(*loads)) - arity)


# samples ---------------------------------------------------------------------------------------

SAMPLE_DTYPES = {
    "floats": ("f32", "f64", "f16"),
    "integers": ("i32", "u32", "u8", "i64"),
    "numbers": ("f32", "f64", "i32", "u8", "f16"),
    "bools": ("bool",),
    "any dtype": ("f32", "i64", "bool"),
}
SAMPLE_SHAPES = {
    1: (((3, 5),), ((),), ((2, 1, 7),), ((0, 4),)),
    2: (((3, 5), (3, 5)), ((2, 1, 4), (3, 1)), ((), (5,)), ((1,), (7, 1)), ((3, 0), (1,))),
    3: (((3, 5), (3, 5), (3, 5)), ((2, 1, 4), (3, 1), ())),
}


def draw(rng: np.random.Generator, kind: str, shape, domain: tuple[float, float] = (-2.0, 2.0)) -> np.ndarray:
    """Random sample values of dtype `kind`: reals in `domain`, small integers, or bools."""
    row = DTYPES[kind]
    if row.is_float:
        return np.asarray(rng.uniform(*domain, shape)).astype(row.numpy)
    if row.category == "bool":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    return np.asarray(rng.integers(-5 if row.category == "int" else 0, 9, shape)).astype(row.numpy)


def _samples(rng, arity: int, takes: str, domain: tuple[float, float]):
    first, *others = SAMPLE_DTYPES[takes]
    shapes = SAMPLE_SHAPES[arity]
    for row in shapes:
        yield tuple(draw(rng, first, shape, domain) for shape in row), {}
    for kind in others:
        yield tuple(draw(rng, kind, shape, domain) for shape in shapes[min(1, len(shapes) - 1)]), {}


# one operand -----------------------------------------------------------------------------------

neg = elementwise("neg", body="neg", takes="numbers", vjp=lambda g, y, x: (-g,))
abs = elementwise("abs", body="abs", takes="numbers", vjp=lambda g, y, x: (g * sign(x),))
sign = elementwise("sign", body="sign", takes="numbers")
square = elementwise("square", body="square", takes="numbers", vjp=lambda g, y, x: (g * (x * 2),))

exp = elementwise("exp", body="exp", vjp=lambda g, y, x: (g * y,))
exp2 = elementwise("exp2", body="exp2", vjp=lambda g, y, x: (g * (y * math.log(2)),))
expm1 = elementwise("expm1", body="expm1", vjp=lambda g, y, x: (g * (y + 1),))
log = elementwise("log", body="log", domain=(0.1, 4.0), vjp=lambda g, y, x: (g / x,))
log1p = elementwise("log1p", body="log1p", domain=(-0.9, 4.0), vjp=lambda g, y, x: (g / (x + 1),))
log2 = elementwise("log2", body="log2", domain=(0.1, 4.0), vjp=lambda g, y, x: (g / (x * math.log(2)),))
log10 = elementwise("log10", body="log10", domain=(0.1, 4.0), vjp=lambda g, y, x: (g / (x * math.log(10)),))

sqrt = elementwise("sqrt", body="sqrt", domain=(0.1, 4.0), vjp=lambda g, y, x: (g * 0.5 / y,))
rsqrt = elementwise("rsqrt", body="rsqrt", domain=(0.1, 4.0), vjp=lambda g, y, x: (g * -0.5 * (y / x),))
reciprocal = elementwise("reciprocal", body="reciprocal", domain=(0.3, 3.0), vjp=lambda g, y, x: (-g * (y * y),))

sin = elementwise("sin", body="sin", vjp=lambda g, y, x: (g * cos(x),))
cos = elementwise("cos", body="cos", vjp=lambda g, y, x: (-g * sin(x),))
tan = elementwise("tan", body="tan", domain=(-1.2, 1.2), vjp=lambda g, y, x: (g * (y * y + 1),))
asin = elementwise("asin", body="asin", domain=(-0.9, 0.9), vjp=lambda g, y, x: (g * rsqrt(1 - x * x),))
acos = elementwise("acos", body="acos", domain=(-0.9, 0.9), vjp=lambda g, y, x: (-g * rsqrt(1 - x * x),))
atan = elementwise("atan", body="atan", vjp=lambda g, y, x: (g / (x * x + 1),))
sinh = elementwise("sinh", body="sinh", vjp=lambda g, y, x: (g * cosh(x),))
cosh = elementwise("cosh", body="cosh", vjp=lambda g, y, x: (g * sinh(x),))
tanh = elementwise("tanh", body="tanh", vjp=lambda g, y, x: (g * (1 - y * y),))
asinh = elementwise("asinh", body="asinh", vjp=lambda g, y, x: (g * rsqrt(x * x + 1),))
# (x - 1)(x + 1) keeps the digits that x*x - 1 loses near 1
acosh = elementwise("acosh", body="acosh", domain=(1.2, 4.0), vjp=lambda g, y, x: (g * rsqrt((x - 1) * (x + 1)),))
atanh = elementwise("atanh", body="atanh", domain=(-0.9, 0.9), vjp=lambda g, y, x: (g / (1 - x * x),))
erf = elementwise("erf", body="erf", vjp=lambda g, y, x: (g * (exp(-(x * x)) * (2 / math.sqrt(math.pi))),))
erfc = elementwise("erfc", body="erfc", vjp=lambda g, y, x: (g * (exp(-(x * x)) * (-2 / math.sqrt(math.pi))),))
erfinv = elementwise(
    "erfinv", body="erfinv", domain=(-0.9, 0.9), vjp=lambda g, y, x: (g * (exp(y * y) * (math.sqrt(math.pi) / 2)),)
)
normcdf = elementwise(
    "normcdf", body="normcdf", vjp=lambda g, y, x: (g * (exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))),)
)

floor = elementwise("floor", body="floor")
ceil = elementwise("ceil", body="ceil")
round = elementwise("round", body="round")
trunc = elementwise("trunc", body="trunc")
isnan = elementwise("isnan", body="isnan")
isinf = elementwise("isinf", body="isinf")
isfinite = elementwise("isfinite", body="isfinite")
logical_not = elementwise("logical_not", body="not", takes="bools")
bitwise_not = elementwise("bitwise_not", body="bitnot", takes="integers")

relu = elementwise(
    "relu",
    takes="numbers",
    ref=lambda x: np.maximum(x, np.zeros((), x.dtype)),
    vjp=lambda g, y, x: (select(y > 0, g, 0.0),),  # y, not x: what comes after reads y already
    body=lambda x: s.max(x, 0),
)
sigmoid = elementwise(
    "sigmoid",
    ref=lambda x: 1 / (1 + np.exp(-x)),
    vjp=lambda g, y, x: (g * (y * (1 - y)),),
    body=lambda x: s.reciprocal(s.add(s.exp(s.neg(x)), 1)),
)
softplus = elementwise(
    "softplus",
    ref=lambda x: np.logaddexp(x, np.zeros((), x.dtype)),
    vjp=lambda g, y, x: (g * sigmoid(x),),
    body=lambda x: s.add(s.max(x, 0), s.log1p(s.exp(s.neg(s.abs(x))))),
)
stop_gradient = elementwise("stop_gradient", takes="any dtype", ref=lambda x: x, body=lambda x: x)


# two operands ----------------------------------------------------------------------------------

add = elementwise("add", body="add", takes="numbers", vjp=lambda g, y, a, b: (g, g), facts=COMMUTATIVE)
sub = elementwise("sub", body="sub", takes="numbers", vjp=lambda g, y, a, b: (g, -g))
mul = elementwise("mul", body="mul", takes="numbers", vjp=lambda g, y, a, b: (g * b, g * a), facts=COMMUTATIVE)
div = elementwise("div", body="div", vjp=lambda g, y, a, b: (g / b, -(g * y / b)), domain=(0.3, 3.0))
floordiv = elementwise("floordiv", body="floordiv", takes="numbers")
mod = elementwise("mod", body="mod", takes="numbers", vjp=lambda g, y, a, b: (g, -g * floordiv(a, b)))
atan2 = elementwise(
    "atan2",
    body="atan2",
    vjp=lambda g, y, a, b: (g * (b / (a * a + b * b)), -g * (a / (a * a + b * b))),
)


def _pow_vjp(g, y, a, b):
    """d(a**b): b·a**(b-1), taken as 0 where b is 0; and y·log(a), taken as 0 where a is 0, as JAX does."""
    over_base = b * pow(a, select(eq(b, 0.0), 1.0, b - 1))
    over_exponent = y * log(select(eq(a, 0.0), 1.0, a))
    return g * over_base, g * over_exponent


pow = elementwise("pow", body="pow", takes="numbers", vjp=_pow_vjp, domain=(0.3, 3.0))


def _shared(g, wins, ties):
    """The cotangent of an operand of maximum or minimum: all where it wins, half where both are equal."""
    return select(wins, g, select(ties, g * 0.5, 0.0))


maximum = elementwise(
    "maximum",
    body="max",
    takes="numbers",
    vjp=lambda g, y, a, b: (_shared(g, a > b, eq(a, b)), _shared(g, a < b, eq(a, b))),
    facts=COMMUTATIVE,
)
minimum = elementwise(
    "minimum",
    body="min",
    takes="numbers",
    vjp=lambda g, y, a, b: (_shared(g, a < b, eq(a, b)), _shared(g, a > b, eq(a, b))),
    facts=COMMUTATIVE,
)

eq = elementwise("eq", body="eq", takes="any dtype", facts=COMMUTATIVE)
ne = elementwise("ne", body="ne", takes="any dtype", facts=COMMUTATIVE)
lt = elementwise("lt", body="lt", takes="numbers")
le = elementwise("le", body="le", takes="numbers")
gt = elementwise("gt", body="gt", takes="numbers")
ge = elementwise("ge", body="ge", takes="numbers")
logical_and = elementwise("logical_and", body="and", takes="bools", facts=COMMUTATIVE)
logical_or = elementwise("logical_or", body="or", takes="bools", facts=COMMUTATIVE)
logical_xor = elementwise("logical_xor", body="xor", takes="bools", facts=COMMUTATIVE)
bitwise_and = elementwise("bitwise_and", body="bitand", takes="integers", facts=COMMUTATIVE)
bitwise_or = elementwise("bitwise_or", body="bitor", takes="integers", facts=COMMUTATIVE)
bitwise_xor = elementwise("bitwise_xor", body="bitxor", takes="integers", facts=COMMUTATIVE)
shift_left = elementwise("shift_left", body="shl", takes="integers")
shift_right = elementwise("shift_right", body="shr", takes="integers")


# with a type rule of their own -----------------------------------------------------------------


def _mulhi_infer(a: Type, b: Type) -> Type:
    if a.dtype is not types.u32 or b.dtype is not types.u32:
        raise DTypeError(f"mulhi takes u32, received {a.dtype} and {b.dtype}")
    return Type(types.u32, broadcast_shapes(a.shape, b.shape))


def _mulhi_samples(rng):
    yield tuple(rng.integers(0, 2**32, (3, 5), dtype=np.uint32) for _ in range(2)), {}
    yield (np.asarray(2**32 - 1, np.uint32), rng.integers(0, 2**32, (7,), dtype=np.uint32)), {}


mulhi = register(
    Op(
        "mulhi",
        Kind.ELEMENTWISE,
        _mulhi_infer,
        lambda a, b: numeric.apply("mulhi", *as_arrays((a, b))),
        None,
        lambda a, b: map_form(
            _mulhi_infer(a, b), (a, b), lambda at: s.mulhi(operand(0, at, a), operand(1, at, b)), "mulhi"
        ),
        _mulhi_samples,
        cost=3,
        differentiable=False,
        facts=COMMUTATIVE,
    )
)


def _select_infer(condition: Type, a: Type, b: Type) -> Type:
    if condition.dtype is not boolean:
        raise DTypeError(f"select expects a bool condition, received {condition.dtype}")
    if a.dtype is not b.dtype:
        raise DTypeError(f"select expects operands of one dtype, received {a} and {b}")
    return Type(a.dtype, broadcast_shapes(condition.shape, a.shape, b.shape))


def _select_samples(rng):
    for kind, shapes in (
        ("f32", ((3, 5), (3, 5), (3, 5))),
        ("f64", ((2, 1, 4), (3, 1), ())),
        ("i32", ((), (4,), (1,))),
        ("bool", ((0, 2), (2,), (2,))),
    ):
        yield (draw(rng, "bool", shapes[0]), *(draw(rng, kind, shape) for shape in shapes[1:])), {}


select = register(
    Op(
        "select",
        Kind.ELEMENTWISE,
        _select_infer,
        lambda condition, a, b: numeric.apply("select", *as_arrays((condition, a, b))),
        lambda g, y, condition, a, b: (None, select(condition, g, 0.0), select(condition, 0.0, g)),
        lambda condition, a, b: map_form(
            _select_infer(condition, a, b),
            (condition, a, b),
            lambda at: s.select(operand(0, at, condition), operand(1, at, a), operand(2, at, b)),
            "select",
        ),
        _select_samples,
    )
)


def _cast_infer(x: Type, *, dtype: str) -> Type:
    return x.with_dtype(types.dtype(dtype))


def _cast_ref(x, *, dtype: str) -> np.ndarray:
    return numeric.convert(as_arrays((x,))[0], types.dtype(dtype))


def _cast_vjp(g, y, x, *, dtype: str):
    to, back = types.dtype(dtype), types.dtype(x.dtype)
    return (cast(g, dtype=back.name) if to.is_float and back.is_float else None,)


def _cast_lower(x: Type, *, dtype: str):
    to = types.dtype(dtype)

    def value_at(at) -> Expr:
        value = operand(0, at, x)
        if to is boolean and x.dtype is not boolean:  # truth is "not zero", not the lowest bit
            return s.ne(value, 0)
        return scalar.cast(value, to)

    return map_form(_cast_infer(x, dtype=dtype), (x,), value_at, "cast")


def _cast_samples(rng):
    names = ("f32", "f64", "f16", "i32", "i64", "u8", "bool")
    for n, before in enumerate(names):
        for after in (names[(n + 1) % len(names)], names[(n + 3) % len(names)], before):
            yield (draw(rng, before, (3, 5), (-9.0, 9.0)),), {"dtype": after}
    yield (np.asarray([1e10, -1e10, np.nan, np.inf, -np.inf, 300.7, -0.5], np.float32),), {"dtype": "i32"}
    yield (np.asarray([1e10, -1e10, np.nan, np.inf, -np.inf, 300.7, -0.5], np.float32),), {"dtype": "u8"}
    yield (draw(rng, "f32", (0,)),), {"dtype": "i64"}
    yield (draw(rng, "f64", ()),), {"dtype": "f32"}


cast = register(Op("cast", Kind.ELEMENTWISE, _cast_infer, _cast_ref, _cast_vjp, _cast_lower, _cast_samples))
