"""Addresses as affine functions of axes: offset + sum of stride * axis, in elements.

What makes an operand readable in place is that its address is affine; everything that plans a
contraction looks at strides and at nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kcompile.forms.scalar import Call, Expr, Load
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, FloorDiv, Loaded, Symbol
from kcompile.ir.types import DType, Shape


@dataclass(frozen=True)
class Affine:
    """offset + sum(strides[axis] * axis); axes that are missing have stride 0."""

    offset: DimLike
    strides: Mapping[Axis, DimLike]

    def stride(self, axis: Axis) -> DimLike:
        return self.strides.get(axis, 0)


@dataclass(frozen=True)
class Memory:
    """An operand read in place: elements of `buffer` at an affine address.

    unit: neighbouring elements that are read as one: 2 for pairs (pairs.py), which lie this far apart then.
    """

    buffer: str
    dtype: DType
    at: Affine
    unit: int = 1

    def stride(self, axis: Axis) -> DimLike:
        return self.at.stride(axis)

    @property
    def unit_bytes(self) -> int:
        """Bytes that are read as one."""
        return self.unit * self.dtype.size_bytes


def linear_address(index: tuple[DimLike, ...], shape: Shape) -> DimLike:
    """The row-major position of `index` in an array of `shape`, in elements."""
    address: DimLike = 0
    stride: DimLike = 1
    for position, size in zip(reversed(index), reversed(shape)):
        address = address + position * stride
        stride = stride * size
    return address


def affine(address: DimLike) -> Affine | None:
    """Split an address into offset and strides; None if it is not affine in its axes."""
    if dim.is_static(address):
        return Affine(address, {})
    offset: DimLike = 0
    strides: dict[Axis, DimLike] = {}
    for monomial, coefficient in address.terms.items():
        axes = [a for a in monomial if isinstance(a, Axis)]
        rest: DimLike = coefficient
        for atom in monomial:
            if isinstance(atom, Loaded) or (isinstance(atom, FloorDiv) and dim.has_axes(dim.of(atom))):
                return None
            if not isinstance(atom, Axis):
                rest = rest * dim.of(atom)
        if len(axes) > 1:
            return None
        if axes:
            strides[axes[0]] = strides.get(axes[0], 0) + rest
        else:
            offset = offset + rest
    return Affine(offset, {a: s for a, s in strides.items() if s != 0})


def memory_of(expr: Expr, shapes: Mapping[str, Shape], dtype: DType) -> Memory | None:
    """The memory behind an operand that is one load (perhaps widened to `dtype`) at an affine address."""
    if isinstance(expr, Call) and expr.fn == "cast" and expr.dtype is dtype:
        inner = expr.args[0]
        expr = inner if _widens(inner.dtype, dtype) else expr
    if not isinstance(expr, Load) or not (expr.dtype is dtype or _widens(expr.dtype, dtype)):
        return None
    at = affine(linear_address(expr.index, shapes[expr.buffer]))
    return None if at is None else Memory(expr.buffer, expr.dtype, at)


def _widens(narrow: DType, wide: DType) -> bool:
    """True for conversions that the emitter does lane by lane while loading."""
    return wide.is_float and narrow.is_float and narrow.size_bytes <= wide.size_bytes


def ceildiv(value: DimLike, by: DimLike) -> DimLike:
    """The least integer not below value / by."""
    return dim.floordiv(value + by - 1, by)


def extent(axes: Iterable[Axis]) -> DimLike:
    """How many points axes have together."""
    return dim.product(a.extent for a in axes)


def names_of_sizes(*values: DimLike) -> set[str]:
    """Names of the sizes that occur in any of the values."""
    found: set[str] = set()
    for value in values:
        found |= {a.name for a in dim.atoms(value) if isinstance(a, Symbol)} | set(dim.symbols(value))
    return found
