"""LLVM types: those of values and those of memory, vectors of them, constants.

*A value has a value type, memory has a memory type.* `bool` is i1 as a value, one byte in memory; f16 and bf16 are
computed as float and stored in two bytes.

Types and numbers are made once and shared: they know their text, and the text of a vector whose lanes are all the
same names the lane once. Half of a kernel's text would be such vectors otherwise.
"""

from __future__ import annotations

import functools

from llvmlite import ir

from kcompile.ir.types import DType, dtype

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
POINTER = ir.PointerType()
VOID = ir.VoidType()

Index = int | ir.Value

_VALUE_TYPES = {"f64": DOUBLE, "f32": FLOAT, "f16": FLOAT, "bf16": FLOAT, "bool": I1}
_MEMORY_TYPES = {"f64": DOUBLE, "f32": FLOAT, "f16": HALF, "bf16": I16, "bool": I8}


class Vector(ir.VectorType):
    """Some lanes of a type; made by `vector`."""

    def __init__(self, element: ir.Type, count: int):
        super().__init__(element, count)
        self._hash = hash((str(element), count))

    __eq__ = ir.VectorType.__eq__

    def __hash__(self) -> int:
        return self._hash

    def format_constant(self, value: list[ir.Constant]) -> str:
        """The text of a constant: LLVM reads what is the same in all lanes written once."""
        texts = [v.get_reference() for v in value]
        first = texts[0]
        if any(t != first for t in texts):
            return f"<{', '.join(f'{self.element} {t}' for t in texts)}>"
        return first if first == "undef" else f"splat ({self.element} {first})"


@functools.cache
def vector(element: ir.Type, lanes: int) -> Vector:
    """Return the type of `lanes` elements side by side."""
    return Vector(element, lanes)


@functools.cache
def value_type(spec: DType | str, lanes: int | None = None) -> ir.Type:
    """Return the LLVM type of a value of this dtype; a vector if `lanes` is given."""
    kind = dtype(spec)
    element = _VALUE_TYPES.get(kind.name) or ir.IntType(8 * kind.size_bytes)
    return element if lanes is None else vector(element, lanes)


@functools.cache
def memory_type(spec: DType | str, lanes: int | None = None) -> ir.Type:
    """Return the LLVM type of this dtype as it lies in memory; a vector if `lanes` is given."""
    kind = dtype(spec)
    element = _MEMORY_TYPES.get(kind.name) or ir.IntType(8 * kind.size_bytes)
    return element if lanes is None else vector(element, lanes)


def lanes_of(value: ir.Value | ir.Type) -> int | None:
    """Return the number of lanes of a vector (or vector type), None for a scalar."""
    kind = value if isinstance(value, ir.Type) else value.type
    return kind.count if isinstance(kind, ir.VectorType) else None


def element_of(kind: ir.Type) -> ir.Type:
    """Return the type of one lane; a scalar type is its own."""
    return kind.element if isinstance(kind, ir.VectorType) else kind


def with_element(like: ir.Type, element: ir.Type) -> ir.Type:
    """Return `element`, or a vector of it with as many lanes as `like`."""
    return vector(element, like.count) if isinstance(like, ir.VectorType) else element


def constant(kind: ir.Type, value: float | int | bool) -> ir.Constant:
    """Return a number as a constant of a scalar or vector type (every lane the same)."""
    return _shared(kind, "" if type(value) is int else repr(value), value)


@functools.lru_cache(maxsize=4096)
def _shared(kind: ir.Type, text: str, value: float | int | bool) -> ir.Constant:
    """`text` tells 0.0 from -0.0, and 1 from 1.0 and True."""
    number = ir.Constant(element_of(kind), value)
    return ir.Constant(kind, [number] * kind.count) if isinstance(kind, ir.VectorType) else number


@functools.cache
def undefined(kind: ir.Type) -> ir.Constant:
    """Return the value of this type that nobody looks at."""
    return ir.Constant(kind, ir.Undefined)


@functools.cache
def mangled(kind: ir.Type) -> str:
    """An LLVM type as intrinsic names spell it: v16f32, i64, p0."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{mangled(kind.element)}"
    if isinstance(kind, ir.IntType):
        return f"i{kind.width}"
    return {HALF: "f16", FLOAT: "f32", DOUBLE: "f64"}.get(kind) or "p0"


def rounded_constant(name: str, value: float) -> float:
    """Round a Python float to f16 or bf16, to nearest even."""
    import numpy as np  # only for constants of the two narrow dtypes

    if name == "f16":
        with np.errstate(over="ignore"):
            return float(np.float16(value))
    with np.errstate(over="ignore"):
        bits = int(np.float32(value).view(np.uint32))
    if value != value:
        return value
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return float(np.uint32(rounded).view(np.float32))
