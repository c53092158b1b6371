"""Values of a function being written: constants, vectors, floating point, calls of LLVM's intrinsics."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from llvmlite import ir

from kcompile.codegen.llvm_types import (
    HALF,
    I1,
    I32,
    I64,
    Index,
    constant,
    lanes_of,
    mangled,
    rounded_constant,
    undefined,
    value_type,
    vector,
    with_element,
)
from kcompile.errors import CompilerBug
from kcompile.ir.types import DType, dtype
from kcompile.target import Target


class Values:
    """The part of `KernelBuilder` that makes values from values; the conventions are said in build.py."""

    def __init__(self, module: ir.Module, target: Target, ll: ir.IRBuilder):
        self.module, self.target, self.ll = module, target, ll
        self._flags: tuple[str, ...] = ("contract",)
        self._rounded: dict[int, str] = {}  # id of a value -> the narrow dtype it is known to fit

    # constants and vectors ..................................................................

    def const(self, spec: DType | str, value: float | int | bool, lanes: int | None = None) -> ir.Constant:
        """A number of this dtype; f16 and bf16 constants are rounded to fit."""
        kind = dtype(spec)
        if kind.name in ("f16", "bf16"):
            value = rounded_constant(kind.name, float(value))
        elif kind.is_float:
            value = float(value)
        elif kind.name == "bool":
            value = int(bool(value))
        return constant(value_type(kind, lanes), value)

    def zero(self, spec: DType | str, lanes: int | None = None) -> ir.Constant:
        return self.const(spec, 0, lanes)

    def index(self, value: Index) -> ir.Value:
        """An index as an i64 value."""
        return constant(I64, value) if isinstance(value, int) else value

    def splat(self, value: ir.Value, lanes: int | None) -> ir.Value:
        """Every lane the same; a scalar stays as it is if `lanes` is None."""
        if lanes is None:
            return value
        kind = vector(value.type, lanes)
        if isinstance(value, ir.Constant):
            return ir.Constant(kind, [value] * lanes)
        nothing = undefined(kind)
        first = self.ll.insert_element(nothing, value, constant(I32, 0))
        return self._copy_rounded(value, self.ll.shuffle_vector(first, nothing, constant(vector(I32, lanes), 0)))

    def extract(self, vector: ir.Value, lane: Index) -> ir.Value:
        return self._copy_rounded(vector, self.ll.extract_element(vector, self.index(lane)))

    def insert(self, vector: ir.Value, value: ir.Value, lane: Index) -> ir.Value:
        return self.ll.insert_element(vector, value, self.index(lane))

    def shuffle(self, a: ir.Value, b: ir.Value | None, lanes: Sequence[int]) -> ir.Value:
        """Pick lanes of `a` followed by those of `b`."""
        mask = ir.Constant(vector(I32, len(lanes)), [I32(i) for i in lanes])
        return self.ll.shuffle_vector(a, b if b is not None else undefined(a.type), mask)

    def in_pieces(self, lanes: int, emit: Callable[..., ir.Value], *vectors: ir.Value) -> ir.Value:
        """`emit` applied to every `lanes` neighbouring lanes of vectors, side by side again."""
        return self.joined([emit(*pieces) for pieces in zip(*(self.parted(v, lanes) for v in vectors))])

    def parted(self, vector: ir.Value, lanes: int) -> list[ir.Value]:
        """A vector as several of `lanes` lanes."""
        if lanes_of(vector) == lanes:
            return [vector]
        return [self.shuffle(vector, None, range(n, n + lanes)) for n in range(0, lanes_of(vector), lanes)]

    def joined(self, vectors: Sequence[ir.Value]) -> ir.Value:
        """Vectors side by side as one; a power of two of them."""
        vectors = list(vectors)
        while len(vectors) > 1:
            lanes = 2 * lanes_of(vectors[0])
            vectors = [self.shuffle(a, c, range(lanes)) for a, c in zip(vectors[::2], vectors[1::2])]
        return vectors[0]

    def iota(self, lanes: int, kind: ir.Type = I64) -> ir.Constant:
        """0, 1, 2, ..."""
        return ir.Constant(vector(kind, lanes), [ir.Constant(kind, i) for i in range(lanes)])

    def condition(self, value: bool | ir.Value) -> ir.Value:
        """A condition as an i1 value."""
        return I1(int(value)) if isinstance(value, bool) else value

    # floating point ...........................................................................

    @contextlib.contextmanager
    def reassociated(self) -> Iterator[None]:
        """Let LLVM reorder the float operations emitted inside: for reductions only."""
        before, self._flags = self._flags, ("reassoc", "contract")
        try:
            yield
        finally:
            self._flags = before

    def fadd(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ll.fadd(a, b, flags=self._flags)

    def fsub(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ll.fsub(a, b, flags=self._flags)

    def fmul(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ll.fmul(a, b, flags=self._flags)

    def fdiv(self, a: ir.Value, b: ir.Value) -> ir.Value:
        return self.ll.fdiv(a, b, flags=self._flags)

    def fneg(self, a: ir.Value) -> ir.Value:
        return self.ll.fneg(a)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a*b + c, rounded once where the target can (elsewhere twice: it would be a library call)."""
        if not self.target.fma:
            return self.fadd(self.fmul(a, b), c)
        return self.intrinsic("llvm.fma", a.type, [a, b, c], [a.type])

    def select(self, condition: bool | ir.Value, a: Index, b: Index) -> Index:
        """`a` where the condition holds, else `b`; a known condition picks at once."""
        if isinstance(condition, bool):
            return a if condition else b
        return self.ll.select(condition, self.index(a), self.index(b))

    def round_to(self, spec: DType | str, value: ir.Value) -> ir.Value:
        """Round a float (scalar or vector) to the nearest value f16 or bf16 has; others pass through."""
        name = dtype(spec).name
        if name not in ("f16", "bf16") or self._rounded.get(id(value)) == name:
            return value
        if name == "f16":
            result = self.ll.fpext(self._narrowed_to_half(value), value.type)
        else:
            result = self.ll.bitcast(self._bf16_bits(value), value.type)
        self._rounded[id(result)] = name
        return result

    def _narrowed_to_half(self, value: ir.Value) -> ir.Value:
        """A float as half. Where the float came from a double, LLVM would fuse both conversions into one that no
        CPU has and that calls a library; a cap that every half exceeds anyway stands between them."""
        cap = constant(value.type, 1e30)
        capped = self.ll.select(self.ll.fcmp_ordered(">", value, cap), cap, value)
        return self.ll.fptrunc(capped, with_element(value.type, HALF))

    def _bf16_bits(self, value: ir.Value) -> ir.Value:
        """Bits of a float rounded to nearest even at the 16th bit; NaN stays NaN."""
        ints = with_element(value.type, I32)
        number = lambda n: constant(ints, n)  # noqa: E731
        bits = self.ll.bitcast(value, ints)
        odd = self.ll.and_(self.ll.lshr(bits, number(16)), number(1))
        rounded = self.ll.add(bits, self.ll.add(odd, number(0x7FFF)))
        quiet = self.ll.or_(bits, number(0x00400000))  # rounding could carry a NaN's payload to infinity
        is_nan = self.ll.fcmp_unordered("uno", value, value)
        return self.ll.and_(self.ll.select(is_nan, quiet, rounded), number(0xFFFF0000))

    def _copy_rounded(self, source: ir.Value, result: ir.Value) -> ir.Value:
        if id(source) in self._rounded:
            self._rounded[id(result)] = self._rounded[id(source)]
        return result

    def reduce(self, vector: ir.Value, combine: Callable[[ir.Value, ir.Value], ir.Value]) -> ir.Value:
        """Fold a vector's lanes into a scalar, always in the same order: halves onto halves.

        The number of lanes must be a power of two.
        """
        lanes = lanes_of(vector)
        if lanes is None or lanes & (lanes - 1):
            raise CompilerBug(f"cannot reduce {vector.type}: not a vector of 2**n lanes")
        while lanes > 1:
            lanes //= 2
            low = self.shuffle(vector, None, range(lanes))
            high = self.shuffle(vector, None, range(lanes, 2 * lanes))
            vector = combine(low, high)
        return self.ll.extract_element(vector, I32(0))

    # LLVM's own functions .....................................................................

    def intrinsic(
        self, name: str, result: ir.Type, arguments: Sequence[ir.Value], overloads: Sequence[ir.Type]
    ) -> ir.Value:
        """Call an LLVM intrinsic; its name is completed from the overloaded types."""
        full = ".".join([name, *(mangled(t) for t in overloads)])
        return self.ll.call(self.declare(full, result, [a.type for a in arguments]), arguments)

    def declare(self, name: str, result: ir.Type, arguments: Sequence[ir.Type]) -> ir.Function:
        """Return the module's function of that name, declared if need be."""
        found = self.module.globals.get(name)
        return found or ir.Function(self.module, ir.FunctionType(result, list(arguments)), name)
