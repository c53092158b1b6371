"""LLVM types: those of values and those of memory, vectors of them, constants.

*A value has a value type, memory has a memory type.* `bool` is i1 as a value, one byte in memory; f16 and bf16 are
computed as float and stored in two bytes.
"""

from __future__ import annotations

from llvmlite import ir

from kcompile.ir.types import DType, dtype

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()
POINTER = ir.PointerType()
VOID = ir.VoidType()

Index = int | ir.Value

_VALUE_TYPES = {"f64": DOUBLE, "f32": FLOAT, "f16": FLOAT, "bf16": FLOAT, "bool": I1}
_MEMORY_TYPES = {"f64": DOUBLE, "f32": FLOAT, "f16": HALF, "bf16": I16, "bool": I8}


def value_type(spec: DType | str, lanes: int | None = None) -> ir.Type:
    """Return the LLVM type of a value of this dtype; a vector if `lanes` is given."""
    kind = dtype(spec)
    element = _VALUE_TYPES.get(kind.name) or ir.IntType(8 * kind.size_bytes)
    return element if lanes is None else ir.VectorType(element, lanes)


def memory_type(spec: DType | str, lanes: int | None = None) -> ir.Type:
    """Return the LLVM type of this dtype as it lies in memory; a vector if `lanes` is given."""
    kind = dtype(spec)
    element = _MEMORY_TYPES.get(kind.name) or ir.IntType(8 * kind.size_bytes)
    return element if lanes is None else ir.VectorType(element, lanes)


def lanes_of(value: ir.Value | ir.Type) -> int | None:
    """Return the number of lanes of a vector (or vector type), None for a scalar."""
    kind = value if isinstance(value, ir.Type) else value.type
    return kind.count if isinstance(kind, ir.VectorType) else None


def element_of(kind: ir.Type) -> ir.Type:
    """Return the type of one lane; a scalar type is its own."""
    return kind.element if isinstance(kind, ir.VectorType) else kind


def with_element(like: ir.Type, element: ir.Type) -> ir.Type:
    """Return `element`, or a vector of it with as many lanes as `like`."""
    return ir.VectorType(element, like.count) if isinstance(like, ir.VectorType) else element


def constant(kind: ir.Type, value: float | int | bool) -> ir.Constant:
    """Return a number as a constant of a scalar or vector type (every lane the same)."""
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [ir.Constant(kind.element, value)] * kind.count)
    return ir.Constant(kind, value)


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
