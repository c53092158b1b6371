"""Every operation of forms/scalar.py as instructions, on scalars and on vectors.

One row per operation; `emit` picks the row, `cast` converts between dtypes. Semantics are NumPy's (see
forms/scalar.py). f16 and bf16 are computed as float and rounded after each operation.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from kcompile.codegen import vmath
from kcompile.codegen.build import KernelBuilder, constant, value_type, with_element
from kcompile.errors import CompilerBug
from kcompile.ir.types import DType, boolean

Emitter = Callable[..., ir.Value]
I1 = ir.IntType(1)


def emit(b: KernelBuilder, fn: str, dtype: DType, *args: ir.Value) -> ir.Value:
    """Apply operation `fn` to values of `dtype` (select: condition, then two values of dtype).

    Raises: CompilerBug for an operation that has no meaning on this dtype.
    """
    if fn == "select":
        return b.ll.select(*args)
    family = "float" if dtype.is_float else dtype.category
    emitter = _TABLES[family].get(fn)
    if emitter is None:
        raise CompilerBug(f"codegen: no scalar operation {fn} on {dtype}")
    result = emitter(b, *args)
    return b.round_to(dtype, result) if dtype.is_float and result.type == args[0].type else result


def cast(b: KernelBuilder, value: ir.Value, source: DType, target: DType) -> ir.Value:
    """Convert between dtypes; float to integer truncates and saturates, NaN gives 0."""
    if source is target:
        return value
    kind = with_element(value.type, value_type(target)) if isinstance(value.type, ir.VectorType) else value_type(target)
    if target is boolean:
        zero = constant(value.type, 0)
        return b.ll.fcmp_unordered("!=", value, zero) if source.is_float else b.ll.icmp_unsigned("!=", value, zero)
    if source.is_float and target.is_float:
        if value.type != kind:
            value = b.ll.fpext(value, kind) if target.name == "f64" else b.ll.fptrunc(value, kind)
        return b.round_to(target, value)
    if source.is_float:
        name = "llvm.fptoui.sat" if target.category == "uint" else "llvm.fptosi.sat"
        return b.intrinsic(name, kind, [value], [kind, value.type])
    unsigned = source.category in ("uint", "bool")
    if target.is_float:
        return b.round_to(target, b.ll.uitofp(value, kind) if unsigned else b.ll.sitofp(value, kind))
    wide, narrow = target.size_bytes * 8, 1 if source is boolean else source.size_bytes * 8
    if wide == narrow:
        return value
    if wide < narrow:
        return b.ll.trunc(value, kind)
    return b.ll.zext(value, kind) if unsigned else b.ll.sext(value, kind)


# floats ----------------------------------------------------------------------------------------


def _unary_intrinsic(name: str) -> Emitter:
    return lambda b, x: b.intrinsic(name, x.type, [x], [x.type])


def _function(name: str) -> Emitter:
    return lambda b, *args: vmath.emit(b, name, *args)


def _fcmp(op: str) -> Emitter:
    ordered = op != "!="  # NaN differs from everything
    return lambda b, x, y: (b.ll.fcmp_ordered if ordered else b.ll.fcmp_unordered)(op, x, y)


def _isnan(b: KernelBuilder, x: ir.Value) -> ir.Value:
    return b.ll.fcmp_unordered("uno", x, x)


def _fabs(b: KernelBuilder, x: ir.Value) -> ir.Value:
    return b.intrinsic("llvm.fabs", x.type, [x], [x.type])


def _infinite(b: KernelBuilder, x: ir.Value) -> ir.Constant:
    return constant(x.type, float("inf"))


def _pick(op: str) -> Emitter:
    """max or min that gives NaN if either operand is NaN: one compare picks b for a NaN in b."""

    def emitter(b: KernelBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
        return b.ll.select(_isnan(b, x), x, b.ll.select(b.ll.fcmp_ordered(op, x, y), x, y))

    return emitter


def _fsign(b: KernelBuilder, x: ir.Value) -> ir.Value:
    zero, one = constant(x.type, 0.0), constant(x.type, 1.0)
    negative = b.ll.select(b.ll.fcmp_ordered("<", x, zero), constant(x.type, -1.0), x)  # NaN and zeros stay
    return b.ll.select(b.ll.fcmp_ordered(">", x, zero), one, negative)


def _quotient(b: KernelBuilder, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    """floor(x / y) and the remainder, the quotient corrected where rounding carried it past an integer."""
    zero = constant(x.type, 0.0)
    quotient = b.intrinsic("llvm.floor", x.type, [b.ll.fdiv(x, y)], [x.type])
    rest = b.fma(b.ll.fneg(quotient), y, x)
    wrong = b.ll.xor(b.ll.fcmp_ordered("<", rest, zero), b.ll.fcmp_ordered("<", y, zero))
    wrong = b.ll.and_(wrong, b.ll.fcmp_ordered("!=", rest, zero))
    quotient = b.ll.select(wrong, b.ll.fsub(quotient, constant(x.type, 1.0)), quotient)
    return quotient, b.ll.select(wrong, b.ll.fadd(rest, y), rest)


def _ffloordiv(b: KernelBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return _quotient(b, x, y)[0]


def _fmod(b: KernelBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    rest = _quotient(b, x, y)[1]
    # an infinite divisor: x itself if the signs agree, else the divisor
    infinite = b.ll.fcmp_ordered("==", _fabs(b, y), _infinite(b, y))
    toward = b.intrinsic("llvm.copysign", x.type, [constant(x.type, 1.0), y], [x.type])
    agree = b.ll.fcmp_ordered(">=", b.ll.fmul(x, toward), constant(x.type, 0.0))
    finite = b.ll.fcmp_ordered("<", _fabs(b, x), _infinite(b, x))
    return b.ll.select(b.ll.and_(infinite, finite), b.ll.select(agree, x, y), rest)


_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_INTRINSICS = {"abs": "fabs", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "roundeven", "sqrt": "sqrt"}

_FLOAT: dict[str, Emitter] = {
    "neg": lambda b, x: b.fneg(x),
    "add": lambda b, x, y: b.fadd(x, y),
    "sub": lambda b, x, y: b.fsub(x, y),
    "mul": lambda b, x, y: b.fmul(x, y),
    "div": lambda b, x, y: b.fdiv(x, y),
    "fma": lambda b, x, y, z: b.fma(x, y, z),
    "square": lambda b, x: b.fmul(x, x),
    "reciprocal": lambda b, x: b.fdiv(constant(x.type, 1.0), x),
    "sign": _fsign,
    "max": _pick(">"),
    "min": _pick("<"),
    "floordiv": _ffloordiv,
    "mod": _fmod,
    "isnan": _isnan,
    "isinf": lambda b, x: b.ll.fcmp_ordered("==", _fabs(b, x), _infinite(b, x)),
    "isfinite": lambda b, x: b.ll.fcmp_ordered("<", _fabs(b, x), _infinite(b, x)),
    "not": lambda b, x: b.ll.fcmp_ordered("==", x, constant(x.type, 0.0)),
    **{fn: _unary_intrinsic(f"llvm.{name}") for fn, name in _INTRINSICS.items()},
    **{fn: _fcmp(op) for fn, op in _COMPARE.items()},
    **{fn: _function(fn) for fn in vmath.FUNCTIONS},
}


# integers and booleans -------------------------------------------------------------------------


def _icmp(op: str, signed: bool) -> Emitter:
    return lambda b, x, y: (b.ll.icmp_signed if signed else b.ll.icmp_unsigned)(op, x, y)


def _safe_divisor(b: KernelBuilder, x: ir.Value, y: ir.Value, signed: bool) -> tuple[ir.Value, ir.Value]:
    """The divisor with 1 in place of what would trap (0, and -1 under the smallest number); where it was 0."""
    zero, one = constant(y.type, 0), constant(y.type, 1)
    is_zero = b.ll.icmp_unsigned("==", y, zero)
    trap = is_zero
    if signed:
        width = (y.type.element if isinstance(y.type, ir.VectorType) else y.type).width
        smallest = b.ll.icmp_signed("==", x, constant(x.type, -(1 << (width - 1))))
        trap = b.ll.or_(trap, b.ll.and_(smallest, b.ll.icmp_signed("==", y, constant(y.type, -1))))
    return b.ll.select(trap, one, y), is_zero


def _idivision(signed: bool, remainder: bool) -> Emitter:
    def emitter(b: KernelBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
        zero = constant(x.type, 0)
        divisor, was_zero = _safe_divisor(b, x, y, signed)
        if not signed:
            result = b.ll.urem(x, divisor) if remainder else b.ll.udiv(x, divisor)
            return b.ll.select(was_zero, zero, result)
        quotient, rest = b.ll.sdiv(x, divisor), b.ll.srem(x, divisor)
        below = b.ll.icmp_signed("<", b.ll.xor(rest, divisor), zero)  # signs differ
        below = b.ll.and_(below, b.ll.icmp_signed("!=", rest, zero))
        if remainder:
            result = b.ll.add(rest, b.ll.select(below, divisor, zero))
        else:
            result = b.ll.sub(quotient, b.ll.select(below, constant(x.type, 1), zero))
        return b.ll.select(was_zero, zero, result)

    return emitter


def _iabs(b: KernelBuilder, x: ir.Value) -> ir.Value:
    return b.ll.select(b.ll.icmp_signed("<", x, constant(x.type, 0)), b.ll.neg(x), x)


def _isign(signed: bool) -> Emitter:
    def emitter(b: KernelBuilder, x: ir.Value) -> ir.Value:
        zero = constant(x.type, 0)
        other = zero if not signed else b.ll.select(b.ll.icmp_signed("<", x, zero), constant(x.type, -1), zero)
        above = b.ll.icmp_signed(">", x, zero) if signed else b.ll.icmp_unsigned("!=", x, zero)
        return b.ll.select(above, constant(x.type, 1), other)

    return emitter


def _ipick(op: str, signed: bool) -> Emitter:
    return lambda b, x, y: b.ll.select(_icmp(op, signed)(b, x, y), x, y)


def _shift(name: str) -> Emitter:
    """Shifts by the width or more give 0, or the sign, instead of an undefined value."""

    def emitter(b: KernelBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
        width = (y.type.element if isinstance(y.type, ir.VectorType) else y.type).width
        far = b.ll.icmp_unsigned(">=", y, constant(y.type, width))
        kept = b.ll.select(far, constant(y.type, width - 1 if name == "ashr" else 0), y)
        result = getattr(b.ll, name)(x, kept)
        return result if name == "ashr" else b.ll.select(far, constant(x.type, 0), result)

    return emitter


def _mulhi(b: KernelBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    wide = with_element(x.type, ir.IntType(64))
    product = b.ll.mul(b.ll.zext(x, wide), b.ll.zext(y, wide))
    return b.ll.trunc(b.ll.lshr(product, constant(wide, 32)), x.type)


def _true(b: KernelBuilder, x: ir.Value) -> ir.Value:
    return constant(with_element(x.type, I1), True)


def _integer_table(signed: bool) -> dict[str, Emitter]:
    return {
        "neg": lambda b, x: b.ll.neg(x),
        "abs": _iabs if signed else lambda b, x: x,
        "sign": _isign(signed),
        "square": lambda b, x: b.ll.mul(x, x),
        "add": lambda b, x, y: b.ll.add(x, y),
        "sub": lambda b, x, y: b.ll.sub(x, y),
        "mul": lambda b, x, y: b.ll.mul(x, y),
        "fma": lambda b, x, y, z: b.ll.add(b.ll.mul(x, y), z),
        "div": _idivision(signed, remainder=False),
        "floordiv": _idivision(signed, remainder=False),
        "mod": _idivision(signed, remainder=True),
        "max": _ipick(">", signed),
        "min": _ipick("<", signed),
        "pow": _ipow,
        **{fn: _icmp(op, signed) for fn, op in _COMPARE.items()},
        "bitand": lambda b, x, y: b.ll.and_(x, y),
        "bitor": lambda b, x, y: b.ll.or_(x, y),
        "bitxor": lambda b, x, y: b.ll.xor(x, y),
        "bitnot": lambda b, x: b.ll.not_(x),
        "shl": _shift("shl"),
        "shr": _shift("ashr" if signed else "lshr"),
        "mulhi": _mulhi,
        **dict.fromkeys(("floor", "ceil", "round", "trunc"), lambda b, x: x),
        "not": lambda b, x: b.ll.icmp_unsigned("==", x, constant(x.type, 0)),
        **dict.fromkeys(("isnan", "isinf"), lambda b, x: constant(with_element(x.type, I1), False)),
        "isfinite": _true,
    }


def _ipow(b: KernelBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """Square and multiply over the bits of y, branch-free; a negative power of anything gives 0."""
    width = (y.type.element if isinstance(y.type, ir.VectorType) else y.type).width
    result, base = constant(x.type, 1), x
    for bit in range(min(width - 1, 31)):
        taken = b.ll.icmp_unsigned("!=", b.ll.and_(y, constant(y.type, 1 << bit)), constant(y.type, 0))
        result = b.ll.select(taken, b.ll.mul(result, base), result)
        base = b.ll.mul(base, base)
    return b.ll.select(b.ll.icmp_signed("<", y, constant(y.type, 0)), constant(x.type, 0), result)


_BOOL: dict[str, Emitter] = {
    **dict.fromkeys(("and", "mul", "min", "bitand"), lambda b, x, y: b.ll.and_(x, y)),
    **dict.fromkeys(("or", "add", "max", "bitor"), lambda b, x, y: b.ll.or_(x, y)),
    **dict.fromkeys(("xor", "ne", "bitxor", "sub"), lambda b, x, y: b.ll.xor(x, y)),
    "eq": lambda b, x, y: b.ll.not_(b.ll.xor(x, y)),
    **{fn: _icmp(op, signed=False) for fn, op in _COMPARE.items() if fn not in ("eq", "ne")},
    **dict.fromkeys(("not", "bitnot"), lambda b, x: b.ll.not_(x)),
    **dict.fromkeys(("abs", "sign", "square"), lambda b, x: x),
    **dict.fromkeys(("isnan", "isinf"), lambda b, x: constant(x.type, False)),
    "isfinite": _true,
}

_TABLES = {"float": _FLOAT, "int": _integer_table(True), "uint": _integer_table(False), "bool": _BOOL}
