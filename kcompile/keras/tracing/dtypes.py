"""Dtype names and the promotion rules of Keras 3.

Keras promotes like JAX: dtypes form a lattice in which integers of any size meet float32 in float32,
and Python numbers are *weak*: they take the dtype of the tensor beside them.
Source: JAX documentation, "Type promotion semantics".
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from kcompile.errors import DTypeError
from kcompile.ir import types
from kcompile.keras import settings

_PYTHON = {bool: "bool", int: "int32", float: None}  # None: floatx


def standardize_dtype(dtype: object) -> str:
    """Return the Keras name (`"float32"`) of a name, np.dtype, DType, Python type or None (floatx).

    Raises: DTypeError for what is no dtype.
    """
    found = _known(dtype)
    if found is not None:
        return found.keras
    if dtype is None:
        return settings.floatx()
    if dtype == "string" or (isinstance(dtype, np.dtype) and dtype.kind in "USO"):
        return "string"  # in front of a model, never inside the compiled program
    if isinstance(dtype, type) and dtype in _PYTHON:
        return _PYTHON[dtype] or settings.floatx()
    return types.dtype(dtype).keras


def ir_name(dtype: object) -> str:
    """Return the graph's name (`"f32"`) of a dtype."""
    found = _known(dtype)
    return (found or types.dtype(dtype if dtype is not None else settings.floatx())).name


def _known(dtype: object) -> types.DType | None:
    """What NumPy's and our own names of dtypes mean, found quickly: every eager op asks."""
    if isinstance(dtype, np.dtype):
        return types.BY_CODE.get(dtype.char)
    return types.BY_NAME.get(dtype) if type(dtype) is str else None


def numpy_dtype(dtype: object) -> np.dtype:
    """Return the NumPy dtype that numbers are computed in: float32 for bfloat16, which NumPy has not."""
    found = types.dtype(standardize_dtype(dtype))
    return np.dtype(np.float32) if found is types.bf16 else found.numpy


def storage_dtype(dtype: object) -> np.dtype:
    """Return the NumPy dtype of a variable's memory: uint16 bits for bfloat16."""
    return types.dtype(standardize_dtype(dtype)).storage


def is_float(dtype: object) -> bool:
    """True for a floating-point dtype."""
    name = standardize_dtype(dtype)
    return name != "string" and types.dtype(name).is_float


def is_int(dtype: object) -> bool:
    """True for a signed or unsigned integer dtype."""
    return types.dtype(standardize_dtype(dtype)).is_integer


class Limits(NamedTuple):
    """The least and the largest number of a float dtype, and the distance from 1 to the next one."""

    min: float
    max: float
    eps: float


def limits(dtype: object) -> Limits:
    """Return the limits of a float dtype; NumPy knows none of bfloat16."""
    name = standardize_dtype(dtype)
    if name == "bfloat16":  # 8 bits of exponent, 7 stored ones of mantissa
        largest = (2 - 2**-7) * 2.0**127
        return Limits(-largest, largest, 2**-7)
    found = np.finfo(name)
    return Limits(float(found.min), float(found.max), float(found.eps))


def result_type(*dtypes: object) -> str:
    """Return the dtype that values of `dtypes` meet in; Python types `int`, `float`, `bool` are weak.

    >>> result_type("int64", "float32"), result_type("float16", float), result_type("uint8", "int8")
    ('float32', 'float16', 'int16')
    """
    weak = (int, float, bool)  # compared by identity: np.dtype("float64") == float
    keys = tuple(d if any(d is w for w in weak) else standardize_dtype(d) for d in dtypes)
    return _result_type(keys, settings.floatx())


@lru_cache(maxsize=4096)
def _result_type(dtypes: tuple, floatx: str) -> str:
    if not dtypes:
        raise DTypeError("result_type needs at least one dtype")
    weak = {d for d in dtypes if not isinstance(d, str)}
    strong = [types.dtype(d) for d in dtypes if isinstance(d, str)]
    floats = {d for d in strong if d.is_float}
    if floats:
        return _widest_float(floats)
    if float in weak:
        return floatx
    signed = max((d.size_bytes for d in strong if d.category == "int"), default=0)
    unsigned = max((d.size_bytes for d in strong if d.category == "uint"), default=0)
    if signed and unsigned:
        bits = 8 * max(signed, 2 * unsigned)  # a signed type that holds every unsigned value
        return f"int{bits}" if bits <= 64 else floatx
    if signed or unsigned:
        return f"int{8 * signed}" if signed else f"uint{8 * unsigned}"
    return "int32" if int in weak else "bool"


def _widest_float(floats: set[types.DType]) -> str:
    widest = max(floats, key=lambda d: d.size_bytes)
    halves = sum(d.size_bytes == 2 for d in floats)
    if widest.size_bytes == 2 and halves > 1:
        return "float32"  # bfloat16 and float16: neither holds the other
    return widest.keras
