"""Buffer, Store, Accumulate, Nest, Loops, Contract: a kernel as index maps and scalar bodies.

An op's `lower` returns a form over buffers called `x0, x1, ...` (its operands) and `y` (its
result). Fusion substitutes one form's expression into another's and renames buffers to values.

Loops: for every point of `outer` (independent, any order, in parallel) run the statements in
order. A Nest runs its body for every point of its axes, in order. An Accumulate starts from the
operation's identity each time its buffer's scope is entered: for a local buffer at each point of
`outer`, for an output buffer once, before the kernel, unless a Store to it comes first. So an
element nothing is added to holds the identity. Stores to one inout buffer that follow each other are one
assignment: the values of all are taken before the first is written.

Contract: out[out_axes] = sum over `over` of lhs * rhs, then the statements of `stores`, whose values may
read the sum as `load(ACC, (), dtype)`. Those that accumulate come first: sums over all out_axes but the one
they are indexed by (bias gradients, batch statistics), complete when the kernel ends.
`steady` names buffers that hold the same numbers from call to call: a copy made of them may be kept.
`borders` tells of buffers that hold zeros around something: products with those may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from kcompile.forms.scalar import Expr, load
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.types import DType, Shape, Type

ACC = "acc"  # the sum of a Contract, read by its epilogue

IN, OUT, INOUT, LOCAL = "in", "out", "inout", "local"


@dataclass(frozen=True)
class Buffer:
    """A contiguous row-major array a kernel touches. A local one lives for one point of `outer`.

    leaves: no kernel of the program reads it again.
    """

    name: str
    type: Type
    role: str  # IN | OUT | INOUT | LOCAL
    leaves: bool = False


@dataclass(frozen=True)
class Store:
    """buffer[index] = value."""

    buffer: str
    index: tuple[DimLike, ...]
    value: Expr


@dataclass(frozen=True)
class Accumulate:
    """buffer[index] = how(buffer[index], value); how is sum, prod, max or min."""

    buffer: str
    index: tuple[DimLike, ...]
    how: str
    value: Expr


@dataclass(frozen=True)
class Nest:
    """Run `body` for every point of `axes`, the last axis fastest."""

    axes: tuple[Axis, ...]
    body: tuple[Store | Accumulate, ...]


Statement = "Store | Accumulate | Nest"


@dataclass(frozen=True)
class Loops:
    """Loop nests over index expressions: elementwise, broadcast, reduction, gather, window kernels."""

    buffers: tuple[Buffer, ...]
    outer: tuple[Axis, ...]
    body: tuple[Statement, ...]
    name: str = "loops"

    kind = "loops"


@dataclass(frozen=True)
class Border:
    """`buffer` holds zeros wherever an index lies outside of `inside`: per dimension, the first place and the one
    behind the last.
    """

    buffer: str
    inside: tuple[tuple[DimLike, DimLike], ...]


@dataclass(frozen=True)
class Contract:
    """A sum of products: every axis of `out_axes` and `over` indexes lhs, rhs, or both."""

    buffers: tuple[Buffer, ...]
    out_axes: tuple[Axis, ...]
    over: tuple[Axis, ...]
    lhs: Expr
    rhs: Expr
    stores: tuple[Store | Accumulate, ...]
    dtype: DType  # of the accumulation
    name: str = "contract"
    steady: tuple[str, ...] = ()
    borders: tuple[Border, ...] = ()
    facts: dict = field(default_factory=dict, compare=False, hash=False)

    kind = "contract"


Form = "Loops | Contract"

IDENTITY = {"sum": 0.0, "prod": 1.0, "max": float("-inf"), "min": float("inf")}


def identity(how: str, dtype: DType):
    """The start value of an accumulation in `dtype`."""
    if dtype.is_float or how in ("sum", "prod"):
        return IDENTITY[how] if dtype.is_float else int(IDENTITY[how])
    if dtype.category == "bool":
        return how == "min"
    bits = 8 * dtype.size_bytes
    low, high = (0, 2**bits - 1) if dtype.category == "uint" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return low if how == "max" else high


def axes_for(shape: Shape, prefix: str = "i") -> tuple[Axis, ...]:
    """One axis per dimension: i0, i1, ..."""
    return tuple(Axis(f"{prefix}{n}", size) for n, size in enumerate(shape))


def indices(axes: tuple[Axis, ...]) -> tuple[DimLike, ...]:
    """The axes as an index; an axis of extent 1 is the constant 0."""
    return tuple(dim.of(a) for a in axes)


def border(inner: Shape, low: Shape, high: Shape) -> list[tuple[tuple[Axis, ...], tuple[DimLike, ...]]]:
    """Axes and the place they name, for each side of a border of `low` and `high` elements around an array.

    Every element of the border belongs to one side; sides that are known to be empty are left out.
    """
    found = []
    whole = [a + n + b for a, n, b in zip(low, inner, high)]
    for n, size in enumerate(inner):
        for first, width in ((0, low[n]), (low[n] + size, high[n])):
            if width == 0:
                continue
            axes = axes_for((*inner[:n], width, *whole[n + 1 :]), "z")
            start = (*low[:n], first, *(0 for _ in inner[n + 1 :]))
            found.append((axes, tuple(s + i for s, i in zip(start, indices(axes)))))
    return found


def map_form(result: Type, operands: tuple[Type, ...], value_at, name: str = "map") -> Loops:
    """The Loops form of `y[i] = value_at(i)`; `value_at` builds the expression from loads of x0, x1, ..."""
    axes = axes_for(result.shape)
    at = indices(axes)
    return Loops(
        buffers=(*operand_buffers(operands), Buffer("y", result, OUT)),
        outer=axes,
        body=(Store("y", at, value_at(at)),),
        name=name,
    )


def operand_buffers(operands: tuple[Type, ...]) -> tuple[Buffer, ...]:
    """The input buffers x0, x1, ... of an op's form."""
    return tuple(Buffer(f"x{n}", t, IN) for n, t in enumerate(operands))


def operand(n: int, index: tuple[DimLike, ...], type_: Type) -> Expr:
    """Load operand `n` at `index`, broadcasting: dimensions of size 1 are read at 0, missing ones dropped."""
    kept = index[len(index) - len(type_.shape) :]
    return load(f"x{n}", tuple(0 if size == 1 else i for i, size in zip(kept, type_.shape)), type_.dtype)


def assignments(body: tuple[Statement, ...], buffers: Iterable[Buffer]) -> list[tuple[Statement, ...]]:
    """The statements in order, those that are one assignment together."""
    kept = {b.name for b in buffers if b.role == INOUT}
    found: list[tuple[Statement, ...]] = []
    for statement in body:
        last = found[-1][-1] if found else None
        if isinstance(statement, Store) and isinstance(last, Store) and statement.buffer == last.buffer in kept:
            found[-1] = (*found[-1], statement)
        else:
            found.append((statement,))
    return found


def renamed(form: Form, name: str) -> Form:
    """The same form under another name."""
    return replace(form, name=name)
