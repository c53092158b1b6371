"""Frame: what one function of a contraction kernel has at hand: pointers, sizes, axis values; values at its point.

Every internal function (tile, finish, pack) takes the same leading parameters - all buffers and all
sizes - so that pointers are noalias parameters there; LLVM drops what a function does not use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llvmlite import ir

from kcompile.codegen import scalars
from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.contract.affine import linear_address
from kcompile.codegen.llvm_types import I64, POINTER, Index
from kcompile.codegen.module import Param, pointer
from kcompile.errors import CompilerBug
from kcompile.forms import scalar
from kcompile.forms.records import ACC, LOCAL, Contract, Store
from kcompile.forms.scalar import Call, Const, Expr, Load, Where
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, FloorDiv, Loaded, Symbol
from kcompile.ir.types import Type

WORKER_SPACE, SHARED_SPACE, KEPT_SPACE = "worker.space", "shared.space", "kept.space"
ROLLED = {"unroll": False, "vectorise": False}  # loops around explicit vectors: LLVM has nothing to gain there


@dataclass(frozen=True)
class Signature:
    """Buffers (by name), workspaces and size names of a kernel, in the order of its argument slots."""

    types: Mapping[str, Type]
    spaces: tuple[str, ...]
    sizes: tuple[str, ...]

    @property
    def pointers(self) -> tuple[str, ...]:
        return (*self.types, *self.spaces)

    def params(self) -> list[Param]:
        """Leading parameters of every internal function."""
        aligned = [pointer(f"p.{name}", align_bytes=1 if name not in self.spaces else 64) for name in self.pointers]
        return [*aligned, *(Param(f"s.{name}", I64) for name in self.sizes)]


def signature(form: Contract, sizes: Sequence[str], spaces: Sequence[str]) -> Signature:
    """The signature of a form's kernel."""
    types = {b.name: b.type for b in form.buffers if b.role != LOCAL}
    return Signature(types, tuple(spaces), tuple(sorted(sizes)))


class Frame:
    """A function being written: its builder, and the values behind names."""

    def __init__(self, b: KernelBuilder, sig: Signature, pointers: dict, sizes: dict, places: dict | None = None):
        self.b, self.sig, self.pointers, self.sizes = b, sig, pointers, sizes
        self.places: dict[Axis, Index] = places or {}

    @classmethod
    def internal(cls, module, target, name: str, sig: Signature, more: Sequence[Param], *, inline=False) -> Frame:
        """Begin an internal function with the leading parameters and `more`."""
        attributes = ("alwaysinline",) if inline else ("noinline",)
        b = KernelBuilder(module, target, name, [*sig.params(), *more], linkage="internal", attributes=attributes)
        pointers = {n: b[f"p.{n}"] for n in sig.pointers}
        return cls(b, sig, pointers, {n: b[f"s.{n}"] for n in sig.sizes})

    @classmethod
    def exported(cls, module, target, name: str, sig: Signature) -> Frame:
        """Begin a phase function `(args, begin, end, worker)` and read the slots."""
        params = [pointer("args", "readonly", align_bytes=8), *(Param(p, I64) for p in ("begin", "end", "worker"))]
        b = KernelBuilder(module, target, name, params)
        slots = b["args"]
        pointers = {}
        for number, name_ in enumerate(sig.pointers):
            place = b.ll.gep(slots, [I64(number)], inbounds=True, source_etype=I64)
            pointers[name_] = b.ll.load(place, typ=POINTER, align=8)
        count = len(sig.pointers)
        sizes = {n: b.load(slots, "i64", count + i, align_bytes=8) for i, n in enumerate(sig.sizes)}
        return cls(b, sig, pointers, sizes)

    def leading(self) -> list[ir.Value]:
        """The leading arguments for calling another internal function."""
        return [*(self.pointers[n] for n in self.sig.pointers), *(self.sizes[n] for n in self.sig.sizes)]

    def with_places(self, places: Mapping[Axis, Index]) -> Frame:
        """The same function where some axes have (other) values."""
        return Frame(self.b, self.sig, self.pointers, self.sizes, {**self.places, **places})

    def index(self, value: DimLike) -> Index:
        """The number a Dim stands for here."""
        if dim.is_static(value):
            return value
        b = self.b
        total: Index = 0
        for monomial, coefficient in value.terms.items():
            product: Index = coefficient
            for atom in monomial:
                product = b.mul(self._atom(atom), product)
            total = b.add(total, product)
        return total

    def _atom(self, atom) -> Index:
        if isinstance(atom, Symbol):
            return self.sizes[atom.name]
        if isinstance(atom, Axis):
            if atom not in self.places:
                raise CompilerBug(f"contract: axis {atom} has no value in {self.b.fn.name}")
            return self.places[atom]
        if isinstance(atom, FloorDiv):
            return self.b.floordiv(self.index(atom.numerator), self.index(atom.denominator))
        assert isinstance(atom, Loaded)
        return scalar_value(self, atom.value)


# expressions at the frame's point: an index may hold one, and one may hold an index ------------------


def address_of(frame: Frame, node: Load | Store) -> DimLike:
    """Element offset of a load or store in its buffer."""
    return linear_address(node.index, frame.sig.types[node.buffer].shape)


def operation(b: KernelBuilder, expr: Call, args: list[ir.Value]) -> ir.Value:
    """One scalar operation, on scalars or on vectors of one length."""
    if expr.fn == "cast":
        return scalars.cast(b, args[0], expr.args[0].dtype, expr.dtype)
    if expr.fn == "select":
        return b.ll.select(*args)
    return scalars.emit(b, expr.fn, expr.args[0].dtype, *args)


def scalar_value(frame: Frame, expr: Expr, acc: ir.Value | None = None, memo: dict | None = None) -> ir.Value:
    """The value of an expression at the frame's point."""
    memo = {} if memo is None else memo
    if expr in memo:
        return memo[expr]
    b = frame.b
    if isinstance(expr, Const):
        value = b.const(expr.dtype, expr.value)
    elif isinstance(expr, scalar.Index):
        value = b.index(frame.index(expr.value))
    elif isinstance(expr, Load):
        if expr.buffer == ACC:
            assert acc is not None
            value = acc
        else:
            value = b.load(frame.pointers[expr.buffer], expr.dtype, frame.index(address_of(frame, expr)))
    elif isinstance(expr, Where):
        value = _scalar_where(frame, expr, acc, memo)
    else:
        args = [scalar_value(frame, a, acc, memo) for a in expr.args]
        value = operation(b, expr, args)
    memo[expr] = value
    return value


def _scalar_where(frame: Frame, expr: Where, acc, memo: dict) -> ir.Value:
    """Branch: the inside is only evaluated where the condition holds."""
    b = frame.b
    condition = scalar_value(frame, expr.condition, acc, memo)
    values = []
    with b.if_else(condition) as (then, otherwise):
        for branch, part in ((then, expr.inside), (otherwise, expr.outside)):
            with branch:
                # values made inside a branch are unknown after it
                value = scalar_value(frame, part, acc, dict(memo))
                values.append((value, b.ll.block))
    phi = b.ll.phi(values[0][0].type)
    for value, block in values:
        phi.add_incoming(value, block)
    return phi


def store_scalar(frame: Frame, store: Store, value: ir.Value) -> None:
    """Write one store's value at the frame's point."""
    dtype = frame.sig.types[store.buffer].dtype
    frame.b.store(value, frame.pointers[store.buffer], dtype, frame.index(address_of(frame, store)))
