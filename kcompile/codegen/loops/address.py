"""Dim -> i64 values: index arithmetic computed at the outermost loop where its axes are known.

A polynomial is split by the innermost axis it mentions: what is free of that axis is computed first
(and, through `Env.prepare`, outside the loop over it), so the innermost loop adds one product.
"""

from __future__ import annotations

from collections.abc import Iterable

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.llvm_types import I64, Index
from kcompile.errors import CompilerBug
from kcompile.ir import dim
from kcompile.ir.dim import Atom, Axis, Dim, DimLike, FloorDiv, Loaded, Symbol

_UNBOUND = 1 << 20  # deeper than any loop


class Env:
    """What is known at one place of the code: sizes, axes, and values already computed.

    `inner()` opens a place that sees everything of the outer one; what it adds ends with it.
    """

    def __init__(self, b: KernelBuilder, sizes: dict[str, Index], outer: Env | None = None):
        self.b, self.sizes, self.outer = b, sizes, outer
        self.axes: dict[Axis, Index] = dict(outer.axes) if outer else {}
        self.levels: dict[Axis, int] = dict(outer.levels) if outer else {}
        self.known: dict[object, object] = {}  # Dim or expression -> value

    def inner(self) -> Env:
        return Env(self.b, self.sizes, self)

    def bind(self, axis: Axis, value: Index) -> Env:
        """Say what an axis is from here on; axes bound later are deeper."""
        self.axes[axis] = value
        self.levels[axis] = 1 + max(self.levels.values(), default=0)
        return self

    def find(self, key: object):
        env: Env | None = self
        while env is not None:
            if key in env.known:
                return env.known[key]
            env = env.outer
        return None

    # levels .................................................................................

    def level(self, value: DimLike) -> int:
        """The loop depth at which a Dim is known: 0 for sizes, `_UNBOUND` if a loop is still to come."""
        if not isinstance(value, Dim):
            return 0
        return max(self._atom_level(a) for m in value.terms for a in m) if any(value.terms) else 0

    def _atom_level(self, atom: Atom) -> int:
        if isinstance(atom, Symbol):
            return 0
        if isinstance(atom, Axis):
            return self.levels.get(atom, _UNBOUND)
        if isinstance(atom, Loaded):
            return _UNBOUND
        return max(self.level(atom.numerator), self.level(atom.denominator))

    def prepare(self, dims: Iterable[DimLike]) -> None:
        """Compute now what can be computed of each Dim before the loops still to come."""
        for value in sorted(dims, key=str):
            self._prepare(value)

    def _prepare(self, value: DimLike) -> None:
        if not isinstance(value, Dim):
            return
        groups, rest = self._by_atoms(value, self.level(value))
        if self.level(value) < _UNBOUND:
            self.value(value)
            return
        self._prepare(rest)
        for atoms, cofactor in groups:
            self._prepare(cofactor)
            for atom in atoms:
                if isinstance(atom, FloorDiv):
                    self._prepare(atom.numerator)
                    self._prepare(atom.denominator)

    # values .................................................................................

    def value(self, value: DimLike) -> Index:
        """The number a Dim stands for, as an i64 value or a Python int."""
        if not isinstance(value, Dim):
            return int(value)
        found = self.find(value)
        if found is None:
            found = self.known[value] = self._sum(value)
        return found

    def _sum(self, value: Dim) -> Index:
        groups, rest = self._by_atoms(value, self.level(value))
        total = self.value(rest)
        for atoms, cofactor in groups:
            product = self.value(cofactor)
            for atom in atoms:
                product = self.b.mul(product, self._atom(atom))
            total = self.b.add(total, product)
        return total

    def _by_atoms(self, value: Dim, level: int) -> tuple[list[tuple[tuple, DimLike]], DimLike]:
        """Split value = sum(atoms of `level` * cofactor) + rest; at level 0 every term is a product."""
        groups: dict[tuple, DimLike] = {}
        rest: DimLike = 0
        for monomial, coefficient in value.terms.items():
            here = tuple(a for a in monomial if level == 0 or self._atom_level(a) == level)
            if not here:
                rest = rest + _term(monomial, coefficient)
                continue
            others = list(monomial)
            for a in here:
                others.remove(a)
            groups[here] = groups.get(here, 0) + _term(tuple(others), coefficient)
        return list(groups.items()), rest

    def _atom(self, atom: Atom) -> Index:
        if isinstance(atom, Symbol):
            if atom.name not in self.sizes:
                raise CompilerBug(f"codegen: the size {atom.name!r} is no argument of this kernel")
            return self.sizes[atom.name]
        if isinstance(atom, Axis):
            if atom not in self.axes:
                raise CompilerBug(f"codegen: the axis {atom} is used outside its loop")
            return self.axes[atom]
        found = self.find(atom)
        if found is None:
            found = self.known[atom] = self._loaded(atom) if isinstance(atom, Loaded) else self._divided(atom)
        return found

    def _loaded(self, atom: Loaded) -> Index:
        raise CompilerBug(f"codegen: {atom} needs memory; use expr.Env")

    def _divided(self, atom: FloorDiv) -> Index:
        b = self.b
        top, bottom = self.value(atom.numerator), self.value(atom.denominator)
        if isinstance(bottom, ir.Value):  # a size may be 0; the quotient is then never used
            bottom = b.max(bottom, 1)
        elif bottom & (bottom - 1) == 0 and isinstance(top, ir.Value):
            return b.ll.ashr(top, I64(bottom.bit_length() - 1))
        low, _ = dim.bounds(atom.numerator)
        if low is not None and dim.is_nonnegative(low):
            return b.div_nonneg(top, bottom)
        return b.floordiv(top, bottom)


def _term(monomial: tuple, coefficient: int) -> DimLike:
    return Dim({monomial: coefficient}) if monomial else coefficient
