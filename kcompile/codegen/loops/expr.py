"""Scalar expressions -> values: loads, lazily evaluated conditions, scalar operations.

Each distinct expression is computed once per point (`Env.known`): also a load that comes again after
its element was written over, which is what a form means by it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from kcompile.codegen import scalars
from kcompile.codegen.llvm_types import Index as IndexValue
from kcompile.codegen.loops.address import Env
from kcompile.codegen.loops.segments import truth
from kcompile.errors import CompilerBug
from kcompile.forms.scalar import Call, Const, Expr, Index, Load, Where, has_load
from kcompile.ir.dim import DimLike, Loaded
from kcompile.ir.types import DType


@dataclass(frozen=True)
class Memory:
    """Where a buffer lies: `base`, and how an element offset becomes a position behind it."""

    base: ir.Value
    dtype: DType
    place: Callable[[Scope, DimLike], IndexValue]


def plain(base: ir.Value, dtype: DType) -> Memory:
    """A buffer whose element offsets are its positions."""
    return Memory(base, dtype, lambda scope, offset: scope.value(offset))


class Scope(Env):
    """An Env that can load: knows where buffers lie."""

    def __init__(self, b, sizes, outer: Scope | None = None):
        super().__init__(b, sizes, outer)
        self.memory: dict[str, Memory] = dict(outer.memory) if outer else {}
        self.lane: IndexValue = outer.lane if outer else 0  # position in a block of lanes
        self.share: tuple[IndexValue, IndexValue] = outer.share if outer else (1, 1)  # tasks of this call, of so many
        self.decided: dict[Expr, bool] = outer.decided if outer else {}  # conditions known here

    def inner(self) -> Scope:
        return Scope(self.b, self.sizes, self)

    def _loaded(self, atom: Loaded) -> IndexValue:
        return self.compute(atom.value)

    def load(self, name: str, offset: DimLike) -> ir.Value:
        memory = self.memory[name]
        return self.b.load(memory.base, memory.dtype, memory.place(self, offset))

    def store(self, name: str, offset: DimLike, value: ir.Value) -> None:
        memory = self.memory[name]
        self.b.store(value, memory.base, memory.dtype, memory.place(self, offset))

    # expressions ............................................................................

    def compute(self, e: Expr) -> ir.Value:
        """The value of an expression at this point."""
        found = self.find(e)
        if found is None:
            found = self.known[e] = self._compute(e)
        return found

    def _compute(self, e: Expr) -> ir.Value:
        if isinstance(e, Const):
            return self.b.const(e.dtype, e.value)
        if e in self.decided:
            return self.b.const("bool", self.decided[e])
        if isinstance(e, Load):
            return self.load(e.buffer, e.index[0])
        if isinstance(e, Index):
            return self.b.index(self.value(e.value))
        if isinstance(e, Where):
            return self._where(e)
        if isinstance(e, Call):
            if e.fn == "cast":
                return scalars.cast(self.b, self.compute(e.args[0]), e.args[0].dtype, e.dtype)
            args = [self.compute(a) for a in e.args]
            if e.fn == "select":
                return self.b.ll.select(*args)
            return scalars.emit(self.b, e.fn, e.args[0].dtype, *args)
        raise CompilerBug(f"codegen: no code for the expression {e!r}")

    def _where(self, e: Where) -> ir.Value:
        known = truth(e.condition, self.decided)
        if known is not None:
            return self.compute(e.inside if known else e.outside)
        condition = self.compute(e.condition)
        if not has_load(e.inside, e.outside):  # nothing that could fail: a plain choice
            return self.b.ll.select(condition, self.compute(e.inside), self.compute(e.outside))
        ends = []
        with self.b.if_else(condition) as (then, otherwise):
            for branch, part in ((then, e.inside), (otherwise, e.outside)):
                with branch:
                    value = self.inner().compute(part)
                    ends.append((value, self.b.ll.block))
        result = self.b.ll.phi(ends[0][0].type)
        for value, block in ends:
            result.add_incoming(value, block)
        return result
