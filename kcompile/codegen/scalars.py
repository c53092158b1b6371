"""Every operation of forms/scalar.py as instructions, on scalars and on vectors.

One row per operation and family of dtypes; `emit` picks the row, `cast` converts between dtypes.

Semantics are NumPy's (see forms/scalar.py), with an answer where NumPy has none: integer division by
zero gives 0, the smallest integer divided by -1 gives itself, float to integer saturates and NaN gives
0, shifts beyond the width give 0 (or the sign), an integer to a negative power gives 0.
Nothing traps, nothing is poison, and no operation is a call that would keep a loop from vectorising.
f16 and bf16 are computed as float and rounded after each operation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from llvmlite import ir

from kcompile.codegen import vmath
from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import constant, element_of, mangled, value_type, with_element
from kcompile.codegen.num import Num, at_least, at_most, where
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


def emit_vector(b: KernelBuilder, fn: str, dtype: DType, *args: ir.Value, rounded: bool = False) -> ir.Value:
    """As `emit`, of vectors of neighbouring points: functions take the formula that is quickest for those.

    rounded: the operand is the result of an operation that rounds.
    """
    if dtype.is_float and fn in vmath.VECTOR_FUNCTIONS:
        return b.round_to(dtype, vmath.emit_vector(b, fn, *args, rounded=rounded))
    return emit(b, fn, dtype, *args)


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
        return _float_to_integer(b, value, target, kind)
    unsigned = source.category in ("uint", "bool")
    if target.is_float:
        return b.round_to(target, b.ll.uitofp(value, kind) if unsigned else b.ll.sitofp(value, kind))
    wide, narrow = target.size_bytes * 8, 1 if source is boolean else source.size_bytes * 8
    if wide == narrow:
        return value
    if wide < narrow:
        return b.ll.trunc(value, kind)
    return b.ll.zext(value, kind) if unsigned else b.ll.sext(value, kind)


def _float_to_integer(b: KernelBuilder, value: ir.Value, target: DType, kind: ir.Type) -> ir.Value:
    """Truncate, saturate; NaN gives 0. LLVM's own saturating conversion does not vectorise on x86."""
    x = Num(b, value)
    bits = 8 * target.size_bytes
    signed = target.category == "int"
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    precision = 24 if x.bits == 32 else 53
    unused_bits = max(0, high.bit_length() - precision)  # `high` itself may not be a number of the format
    inside = at_least(at_most(x, float(high >> unused_bits << unused_bits)), float(low))
    inside = where(x.is_nan(), 0.0, inside).value
    whole = b.ll.fptosi(inside, kind) if signed else b.ll.fptoui(inside, kind)
    if not unused_bits:
        return whole
    return b.ll.select((x >= float(high + 1)).value, constant(kind, high), whole)


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


def _pick(op: str, name: str) -> Emitter:
    """max or min of two or more that gives NaN if an operand is NaN."""

    def emitter(b: KernelBuilder, x: ir.Value, y: ir.Value, *more: ir.Value) -> ir.Value:
        if more:
            return _pick_of_many(b, op, emitter, [x, y, *more])
        if b.target.arch == "x86_64":  # its max gives the second operand for NaN: one instruction will do
            for number, other in ((x, y), (y, x)):
                if _is_plain_number(number):
                    return b.ll.select(b.ll.fcmp_ordered(op, number, other), number, other)
        full = b.declare(f"{name}.{mangled(x.type)}", x.type, [x.type, x.type])
        # nsz: which of -0 and 0 comes out is open, as in NumPy
        return b.ll.call(full, [x, y], fastmath=("nsz",))

    return emitter


def _pick_of_many(b: KernelBuilder, op: str, of_two: Emitter, xs: list[ir.Value]) -> ir.Value:
    """max or min of many, pairwise. On x86 one of two that keeps NaN takes three instructions, one of numbers one:
    there two operands are tested for NaN at a time (of nine: 8 + 5 instructions and a choice, not 24). What comes out
    is always the same NaN, and of two zeros the later one, whether or not a constant among the operands is known.
    """
    nothing = math.inf if op == "<" else -math.inf
    xs = [x for x in xs if _known(x) != nothing] or xs[:1]
    if b.target.arch != "x86_64":
        return _pairwise(xs, lambda x, y: of_two(b, x, y))
    total = _pairwise(xs, lambda x, y: b.ll.select(b.ll.fcmp_ordered(op, x, y), x, y))
    pairs = [(x, y) for x, y in zip(xs[::2], xs[1::2])] + ([(xs[-1], xs[-1])] if len(xs) % 2 else [])
    numbers = [b.ll.fcmp_ordered("ord", x, y) for x, y in pairs]
    return b.ll.select(functools.reduce(b.ll.and_, numbers), total, constant(total.type, math.nan))


def _pairwise(values: list, combine: Callable):
    while len(values) > 1:
        pairs = [combine(x, y) for x, y in zip(values[::2], values[1::2])]
        values = pairs + values[2 * len(pairs) :]
    return values[0]


def _known(value: ir.Value) -> float | int | None:
    """The number a constant holds, in every lane; None if it is not constant or lanes differ."""
    if not isinstance(value, ir.Constant):
        return None
    held = value.constant
    if isinstance(held, list | tuple):
        lanes = {getattr(lane, "constant", None) for lane in held}
        held = lanes.pop() if len(lanes) == 1 else None
    return held if isinstance(held, int | float) else None


def _is_plain_number(value: ir.Value) -> bool:
    held = _known(value)
    return held is not None and not math.isnan(held)


def _fsign(b: KernelBuilder, x: ir.Value) -> ir.Value:
    zero, one = constant(x.type, 0.0), constant(x.type, 1.0)
    other = b.ll.fadd(x, zero)  # NaN stays, -0 becomes 0 as in NumPy
    negative = b.ll.select(b.ll.fcmp_ordered("<", x, zero), constant(x.type, -1.0), other)
    return b.ll.select(b.ll.fcmp_ordered(">", x, zero), one, negative)


def _fpow(b: KernelBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """Small known exponents are products, correct to an ulp; the rest is exp(y log(x))."""
    small = {1: lambda: x, 2: lambda: b.fmul(x, x), 3: lambda: b.fmul(b.fmul(x, x), x), -1: lambda: _reciprocal(b, x)}
    return small.get(_known(y), lambda: vmath.emit(b, "pow", x, y))()


def _reciprocal(b: KernelBuilder, x: ir.Value) -> ir.Value:
    return b.fdiv(constant(x.type, 1.0), x)


def _truth(b: KernelBuilder, x: ir.Value, is_float: bool) -> ir.Value:
    """Whether a number is not zero; NaN counts as true."""
    zero = constant(x.type, 0)
    return b.ll.fcmp_unordered("!=", x, zero) if is_float else b.ll.icmp_unsigned("!=", x, zero)


def _logical(is_float: bool) -> dict[str, Emitter]:
    """and, or, xor, not of numbers: by their truth."""

    def binary(name: str) -> Emitter:
        return lambda b, x, y: getattr(b.ll, name)(_truth(b, x, is_float), _truth(b, y, is_float))

    return {
        "and": binary("and_"),
        "or": binary("or_"),
        "xor": binary("xor"),
        "not": lambda b, x: b.ll.not_(_truth(b, x, is_float)),
    }


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
    "reciprocal": _reciprocal,
    "sign": _fsign,
    "max": _pick(">", "llvm.maximum"),
    "min": _pick("<", "llvm.minimum"),
    "isnan": _isnan,
    "bits": lambda b, x: Num(b, x).as_int().value,
    "isinf": lambda b, x: b.ll.fcmp_ordered("==", _fabs(b, x), _infinite(b, x)),
    "isfinite": lambda b, x: b.ll.fcmp_ordered("<", _fabs(b, x), _infinite(b, x)),
    **_logical(is_float=True),
    **{fn: _unary_intrinsic(f"llvm.{name}") for fn, name in _INTRINSICS.items()},
    **{fn: _fcmp(op) for fn, op in _COMPARE.items()},
    **{fn: _function(fn) for fn in vmath.FUNCTIONS},
    "pow": _fpow,
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
        width = element_of(y.type).width
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
    compare = _icmp(op, signed)
    return lambda b, *xs: _pairwise(list(xs), lambda x, y: b.ll.select(compare(b, x, y), x, y))


def _shift(name: str) -> Emitter:
    """Shifts by the width or more give 0, or the sign, instead of an undefined value."""

    def emitter(b: KernelBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
        width = element_of(y.type).width
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
        "floordiv": _idivision(signed, remainder=False),
        "mod": _idivision(signed, remainder=True),
        "max": _ipick(">", signed),
        "min": _ipick("<", signed),
        "pow": _ipow(signed),
        **{fn: _icmp(op, signed) for fn, op in _COMPARE.items()},
        "bitand": lambda b, x, y: b.ll.and_(x, y),
        "bitor": lambda b, x, y: b.ll.or_(x, y),
        "bitxor": lambda b, x, y: b.ll.xor(x, y),
        "bitnot": lambda b, x: b.ll.not_(x),
        "shl": _shift("shl"),
        "shr": _shift("ashr" if signed else "lshr"),
        "mulhi": _mulhi,
        **({} if signed else {"frombits": lambda b, x: Num(b, x).as_float().value}),
        **dict.fromkeys(("floor", "ceil", "round", "trunc"), lambda b, x: x),
        **_logical(is_float=False),
        **dict.fromkeys(("isnan", "isinf"), lambda b, x: constant(with_element(x.type, I1), False)),
        "isfinite": _true,
    }


def _ipow(signed: bool) -> Emitter:
    """Square and multiply over the bits of the exponent, branch-free; overflow wraps."""

    def emitter(b: KernelBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
        def write(inner: KernelBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
            base, ll = x, inner.ll
            result, zero = constant(x.type, 1), constant(x.type, 0)
            for bit in range(width - 1 if signed else width):
                odd = ll.icmp_unsigned("!=", ll.and_(y, constant(y.type, 1 << bit)), zero)
                result = ll.select(odd, ll.mul(result, base), result)
                base = ll.mul(base, base)
            return ll.select(ll.icmp_signed("<", y, zero), zero, result) if signed else result

        width = element_of(x.type).width
        name = f"kc.pow.{'signed' if signed else 'unsigned'}.{mangled(x.type)}"
        return b.helper(name, x.type, [x, y], write)

    return emitter


_BOOL: dict[str, Emitter] = {
    **dict.fromkeys(("and", "mul", "min", "bitand"), lambda b, *xs: functools.reduce(b.ll.and_, xs)),
    **dict.fromkeys(("or", "add", "max", "bitor"), lambda b, *xs: functools.reduce(b.ll.or_, xs)),
    **dict.fromkeys(("xor", "ne", "bitxor", "sub"), lambda b, x, y: b.ll.xor(x, y)),
    "eq": lambda b, x, y: b.ll.not_(b.ll.xor(x, y)),
    **{fn: _icmp(op, signed=False) for fn, op in _COMPARE.items() if fn not in ("eq", "ne")},
    **dict.fromkeys(("not", "bitnot"), lambda b, x: b.ll.not_(x)),
    **dict.fromkeys(("abs", "sign", "square"), lambda b, x: x),
    **dict.fromkeys(("isnan", "isinf"), lambda b, x: constant(x.type, False)),
    "isfinite": _true,
}

_TABLES = {"float": _FLOAT, "int": _integer_table(True), "uint": _integer_table(False), "bool": _BOOL}
