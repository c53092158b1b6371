"""Accumulation: start values, combining, and which sums may be reordered.

A float sum is kept accurate by its shape, not by a wider type: many lanes, each summing a bounded
block, blocks summed in turn. The shape depends on the form and the sizes only.
"""

from __future__ import annotations

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import mangled
from kcompile.errors import CompilerBug
from kcompile.forms.records import Accumulate, Store, identity
from kcompile.forms.scalar import Load, walk
from kcompile.ir import dim
from kcompile.ir.types import DType, boolean


def start_value(b: KernelBuilder, how: str, dtype: DType) -> ir.Value:
    """The identity of an accumulation."""
    return b.const(dtype, identity(how, dtype))


def combine(b: KernelBuilder, how: str, dtype: DType, a: ir.Value, c: ir.Value, *, reorder: bool) -> ir.Value:
    """`a` and one more value. With `reorder` LLVM may regroup a chain of these."""
    if how not in ("sum", "prod", "max", "min"):
        raise CompilerBug(f"codegen: no accumulation is called {how!r}")
    if dtype is boolean:
        return (b.ll.or_ if how in ("max", "sum") else b.ll.and_)(a, c)
    if dtype.is_float:
        if how in ("sum", "prod"):
            apply = b.fadd if how == "sum" else b.fmul
            if not reorder:
                return apply(a, c)
            with b.reassociated():
                return apply(a, c)
        # NaN propagates; which zero wins is left open, so no blend is needed for it
        name = "llvm.maximum" if how == "max" else "llvm.minimum"
        fn = b.declare(f"{name}.{mangled(a.type)}", a.type, [a.type, a.type])
        return b.ll.call(fn, [a, c], fastmath=("nsz",))
    if how in ("sum", "prod"):
        return (b.ll.add if how == "sum" else b.ll.mul)(a, c)
    sign = "s" if dtype.category == "int" else "u"
    return b.intrinsic(f"llvm.{sign}{how}", a.type, [a, c], [a.type])


def accumulations(statements) -> dict[str, str]:
    """Buffer -> how, for all Accumulates."""
    found: dict[str, str] = {}
    for s in statements:
        if isinstance(s, Accumulate) and found.setdefault(s.buffer, s.how) != s.how:
            raise CompilerBug(f"codegen: {s.buffer} is accumulated by {found[s.buffer]} and by {s.how}")
    return found


def is_scan(statements) -> bool:
    """True if a statement reads what the group itself accumulates: the order of points then matters."""
    made = {s.buffer for s in statements if isinstance(s, Accumulate)}
    places = (a.value for s in statements for i in s.index for a in dim.atoms(i) if isinstance(a, dim.Loaded))
    return any(isinstance(n, Load) and n.buffer in made for n in walk(*(s.value for s in statements), *places))


def stores_only(statements) -> bool:
    return all(isinstance(s, Store) for s in statements)
