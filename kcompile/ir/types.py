"""DType table and Type: what a value is."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from kcompile.errors import DTypeError, ShapeError
from kcompile.ir import dim
from kcompile.ir.dim import DimLike

Shape = "tuple[DimLike, ...]"


@dataclass(frozen=True, eq=False)
class DType:
    """One row of the dtype table; `bool` occupies one byte, 0 or 1.

    It equals its Keras name and NumPy's dtype too, for scripts ask `x.dtype == "float32"` of what they compute with.
    """

    name: str  # as printed: f32
    keras: str  # as Keras spells it: float32
    size_bytes: int
    category: str  # "float" | "int" | "uint" | "bool"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DType):
            return self.name == other.name
        if isinstance(other, str):
            return self.keras == other
        if isinstance(other, np.dtype) or (isinstance(other, type) and issubclass(other, np.generic)):
            return self.keras == np.dtype(other).name
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.keras)

    @functools.cached_property
    def numpy(self) -> np.dtype:
        if self.name == "bf16":
            raise DTypeError("NumPy has no bfloat16; arrays of it are held as uint16 bits")
        return np.dtype(self.keras)

    @property
    def storage(self) -> np.dtype:
        """The NumPy dtype of memory that holds such numbers: uint16 bits for bfloat16."""
        return np.dtype(np.uint16) if self.name == "bf16" else self.numpy

    @property
    def is_float(self) -> bool:
        return self.category == "float"

    @property
    def is_integer(self) -> bool:
        return self.category in ("int", "uint")

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


f64 = DType("f64", "float64", 8, "float")
f32 = DType("f32", "float32", 4, "float")
f16 = DType("f16", "float16", 2, "float")
bf16 = DType("bf16", "bfloat16", 2, "float")
i64 = DType("i64", "int64", 8, "int")
i32 = DType("i32", "int32", 4, "int")
i16 = DType("i16", "int16", 2, "int")
i8 = DType("i8", "int8", 1, "int")
u64 = DType("u64", "uint64", 8, "uint")
u32 = DType("u32", "uint32", 4, "uint")
u16 = DType("u16", "uint16", 2, "uint")
u8 = DType("u8", "uint8", 1, "uint")
boolean = DType("bool", "bool", 1, "bool")

DTYPES: dict[str, DType] = {t.name: t for t in (f64, f32, f16, bf16, i64, i32, i16, i8, u64, u32, u16, u8, boolean)}
_BY_KERAS = {t.keras: t for t in DTYPES.values()}
BY_CODE = {c: _BY_KERAS[np.dtype(c).name] for c in "?bBhHiIlLqQefd"}  # NumPy's: its names are slow to ask for
BY_NAME = DTYPES | _BY_KERAS


def dtype(spec: object) -> DType:
    """Return the DType for `f32`, `"float32"`, `np.float32`, an np.dtype or a DType."""
    if isinstance(spec, DType):
        return spec
    if isinstance(spec, str):
        found = BY_NAME.get(spec)
        if found is not None:
            return found
    elif isinstance(spec, np.dtype) and spec.char in BY_CODE:
        return BY_CODE[spec.char]
    try:
        return _BY_KERAS[np.dtype(spec).name]
    except (TypeError, KeyError):
        raise DTypeError(f"unknown dtype {spec!r}; expected one of {sorted(_BY_KERAS)}") from None


@dataclass(frozen=True)
class Type:
    """dtype and shape of one value: `f32[batch,128]`."""

    dtype: DType
    shape: Shape

    def __post_init__(self):
        if not isinstance(self.shape, tuple):
            object.__setattr__(self, "shape", tuple(self.shape))

    @property
    def rank(self) -> int:
        return len(self.shape)

    @functools.cached_property
    def size(self) -> DimLike:
        """Number of elements."""
        return dim.product(self.shape)

    @property
    def nbytes(self) -> DimLike:
        return self.size * self.dtype.size_bytes

    @property
    def is_static(self) -> bool:
        return all(dim.is_static(s) for s in self.shape)

    def with_shape(self, shape) -> Type:
        return Type(self.dtype, tuple(shape))

    def with_dtype(self, new: DType) -> Type:
        return Type(new, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(str(s).replace(' ', '') for s in self.shape)}]"

    __repr__ = __str__


def shape_text(shape: Iterable[DimLike]) -> str:
    """A shape as messages show it: `(batch, 128)`."""
    return "(" + ", ".join(str(n) for n in shape) + ")"


def broadcast_shapes(*shapes: Shape) -> Shape:
    """Return the NumPy broadcast of shapes; symbolic sizes must be equal or meet a 1.

    Raises: ShapeError naming the two sizes that differ.
    """
    rank = max((len(s) for s in shapes), default=0)
    result: list[DimLike] = []
    for position in range(-rank, 0):
        size: DimLike = 1
        for shape in shapes:
            if -position > len(shape):
                continue
            other = shape[position]
            if other == 1 or other == size:
                continue
            if size != 1:
                raise ShapeError(f"shapes {', '.join(map(str, shapes))} do not broadcast: {size} against {other}")
            size = other
        result.append(size)
    return tuple(result)
