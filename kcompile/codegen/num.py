"""Num: an LLVM value with Python operators, so that formulas read as formulas.

Works alike on scalars and vectors. Float operations carry *no* fast-math flags: what is written is
what is computed, which error-free transformations and argument reductions rely on; a fused
multiply-add is written out as `fma`. Python numbers become constants of the other operand's type.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import constant, with_element

_INT = {32: ir.IntType(32), 64: ir.IntType(64)}


class Num:
    """A float, integer or i1 value, scalar or vector, with the builder that emits for it."""

    __slots__ = ("b", "value")
    __hash__ = None  # == builds a comparison

    def __init__(self, b: KernelBuilder, value: ir.Value):
        self.b, self.value = b, value

    @property
    def type(self) -> ir.Type:
        return self.value.type

    @property
    def element(self) -> ir.Type:
        return self.type.element if isinstance(self.type, ir.VectorType) else self.type

    @property
    def is_float(self) -> bool:
        return not isinstance(self.element, ir.IntType)

    @property
    def bits(self) -> int:
        """Width of one element."""
        if isinstance(self.element, ir.IntType):
            return self.element.width
        return {"half": 16, "float": 32, "double": 64}[str(self.element)]

    def like(self, number: float | int | Num) -> Num:
        """A constant of this type."""
        return number if isinstance(number, Num) else Num(self.b, constant(self.type, number))

    def _emit(self, instruction, *operands) -> Num:
        return Num(self.b, instruction(*(o.value for o in operands)))

    # arithmetic ..............................................................................

    def _binary(self, float_op, int_op, a: Num, c: Num) -> Num:
        return self._emit(float_op if self.is_float else int_op, a, c)

    def __add__(self, other):
        return self._binary(self.b.ll.fadd, self.b.ll.add, self, self.like(other))

    def __radd__(self, other):
        return self.like(other) + self

    def __sub__(self, other):
        return self._binary(self.b.ll.fsub, self.b.ll.sub, self, self.like(other))

    def __rsub__(self, other):
        return self.like(other) - self

    def __mul__(self, other):
        return self._binary(self.b.ll.fmul, self.b.ll.mul, self, self.like(other))

    def __rmul__(self, other):
        return self.like(other) * self

    def __truediv__(self, other):
        return self._emit(self.b.ll.fdiv, self, self.like(other))

    def __rtruediv__(self, other):
        return self.like(other) / self

    def __neg__(self):
        return self._emit(self.b.ll.fneg, self) if self.is_float else 0 - self

    def __and__(self, other):
        return self._emit(self.b.ll.and_, self, self.like(other))

    def __or__(self, other):
        return self._emit(self.b.ll.or_, self, self.like(other))

    def __xor__(self, other):
        return self._emit(self.b.ll.xor, self, self.like(other))

    def __lshift__(self, other):
        return self._emit(self.b.ll.shl, self, self.like(other))

    def __rshift__(self, other):
        """Logical: zeros come in from the left."""
        return self._emit(self.b.ll.lshr, self, self.like(other))

    def arithmetic_shift(self, places: int) -> Num:
        """Shift right, copies of the sign bit come in."""
        return self._emit(self.b.ll.ashr, self, self.like(places))

    # comparisons: floats ordered (false with NaN) except !=; integers signed ....................

    def _compare(self, op: str, other) -> Num:
        if not self.is_float:
            return Num(self.b, self.b.ll.icmp_signed(op, self.value, self.like(other).value))
        compare = self.b.ll.fcmp_unordered if op == "!=" else self.b.ll.fcmp_ordered
        return Num(self.b, compare(op, self.value, self.like(other).value))

    def __lt__(self, other):
        return self._compare("<", other)

    def __le__(self, other):
        return self._compare("<=", other)

    def __gt__(self, other):
        return self._compare(">", other)

    def __ge__(self, other):
        return self._compare(">=", other)

    def __eq__(self, other):
        return self._compare("==", other)

    def __ne__(self, other):
        return self._compare("!=", other)

    def is_nan(self) -> Num:
        return Num(self.b, self.b.ll.fcmp_unordered("uno", self.value, self.value))

    def __invert__(self):
        return Num(self.b, self.b.ll.not_(self.value))

    def __bool__(self):
        raise TypeError("a value of the compiled program has no truth at compile time; use where()")

    # bits and casts ...........................................................................

    def as_int(self) -> Num:
        """The same bits as an integer."""
        return Num(self.b, self.b.ll.bitcast(self.value, with_element(self.type, _INT[self.bits])))

    def as_float(self) -> Num:
        """The same bits as a float."""
        element = ir.FloatType() if self.bits == 32 else ir.DoubleType()
        return Num(self.b, self.b.ll.bitcast(self.value, with_element(self.type, element)))

    def to(self, element: ir.Type) -> Num:
        """Convert between float and double, or between integer widths (cutting, or with sign)."""
        kind, ll = with_element(self.type, element), self.b.ll
        if kind == self.type:
            return self
        if self.is_float:
            widen = self.bits < 64
            return Num(self.b, (ll.fpext if widen else ll.fptrunc)(self.value, kind))
        return Num(self.b, (ll.trunc if element.width < self.bits else ll.sext)(self.value, kind))

    # functions every target has as instructions ..................................................

    def _unary(self, name: str) -> Num:
        return Num(self.b, self.b.intrinsic(f"llvm.{name}", self.type, [self.value], [self.type]))

    def __abs__(self):
        return self._unary("fabs")

    def sqrt(self) -> Num:
        return self._unary("sqrt")

    def floor(self) -> Num:
        return self._unary("floor")

    def trunc(self) -> Num:
        return self._unary("trunc")

    def copysign(self, sign: Num) -> Num:
        """This magnitude with the sign of another value."""
        return Num(self.b, self.b.intrinsic("llvm.copysign", self.type, [self.value, sign.value], [self.type]))


def where(condition: Num, a: Num | float | int, b: Num | float | int) -> Num:
    """`a` where the condition holds, else `b`; at least one of the two is a Num."""
    like = a if isinstance(a, Num) else b
    a, b = like.like(a), like.like(b)
    return Num(like.b, like.b.ll.select(condition.value, a.value, b.value))


def fma(a: Num, b: Num | float, c: Num | float) -> Num:
    """a*b + c, rounded once where the target has it."""
    return Num(a.b, a.b.fma(a.value, a.like(b).value, a.like(c).value))


def at_most(x: Num, bound: float) -> Num:
    """min(x, bound); NaN stays NaN."""
    return where(x > bound, bound, x)


def at_least(x: Num, bound: float) -> Num:
    """max(x, bound); NaN stays NaN."""
    return where(x < bound, bound, x)


def pairwise(x: Num, coefficients: Sequence[float]) -> Num:
    """The same polynomial by Estrin's scheme: a few operations more, in a chain that is logarithmic."""
    terms: list[Num | float] = list(coefficients)
    while len(terms) > 1:
        pairs = [fma(x.like(terms[n + 1]), x, x.like(terms[n])) for n in range(0, len(terms) - 1, 2)]
        terms = pairs + terms[2 * len(pairs) :]
        x = x * x
    return x.like(terms[0])


def horner(x: Num, coefficients: Sequence[float]) -> Num:
    """c0 + c1 x + c2 x**2 + ..."""
    result = x.like(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = fma(result, x, c)
    return result
