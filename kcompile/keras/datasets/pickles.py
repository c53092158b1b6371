"""Reading pickled data without running anything in it.

A pickle may name any function to call. Here it can name only NumPy's array and dtype, and what answers to
those names are recorders of this file; arrays are built from the record afterwards, shape and size checked.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any, BinaryIO

import numpy as np

from kcompile.errors import SavedFileError

_PLAIN = frozenset("biuf")  # kinds of dtype that hold numbers


class _DType:
    """What a pickle says of a dtype."""

    def __init__(self, code: Any = None, *_: Any):
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def built(self) -> np.dtype:
        code = self.code.decode("latin1") if isinstance(self.code, bytes) else self.code
        order = self.order.decode("latin1") if isinstance(self.order, bytes) else self.order
        if not isinstance(code, str) or order not in ("=", "<", ">", "|"):
            raise ValueError(f"dtype {code!r}")
        if code in ("O8", "O4", "O"):
            return np.dtype(object)
        dtype = np.dtype(code).newbyteorder(order)
        if dtype.kind not in _PLAIN or dtype.fields is not None:
            raise ValueError(f"dtype {code!r} holds no numbers")
        return dtype


class _Array:
    """What a pickle says of an array."""

    state: Any = None

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def built(self) -> np.ndarray:
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("an array without contents")
        _, shape, dtype, fortran, data = self.state
        if not isinstance(dtype, _DType) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"an array of shape {shape!r}")
        kind, size = dtype.built(), math.prod(shape)
        if kind == np.dtype(object):
            if not isinstance(data, list) or len(data) != size:
                raise ValueError(f"an array of {size} objects that holds others")
            flat = np.empty(size, dtype=object)
            for position, entry in enumerate(data):
                flat[position] = _built(entry)
        else:
            data = data.encode("latin1") if isinstance(data, str) else data
            if not isinstance(data, bytes) or len(data) != size * kind.itemsize:
                raise ValueError(f"an array of {size * kind.itemsize} bytes that holds others")
            flat = np.frombuffer(data, dtype=kind).copy()
        return flat.reshape(shape, order="F" if fortran else "C")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """How protocol 2 spells bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError(f"text in encoding {encoding!r}")
    return text.encode("latin1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _KNOWN.get((module, name))
        if found is None:
            raise SavedFileError(f"it asks for {module}.{name}; only numbers, text and arrays of numbers are read")
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise SavedFileError("it refers to an object outside the file")


def load(file: BinaryIO | bytes, name: str, encoding: str = "latin1") -> Any:
    """Return the lists, dicts, numbers, text and arrays in a pickle.

    Args:
        name: what errors call the file.   encoding: of the text that Python 2 wrote.

    Raises: SavedFileError for anything else in it, and for a damaged file.
    """
    file = io.BytesIO(file) if isinstance(file, bytes) else file
    try:
        return _built(_Unpickler(file, encoding=encoding).load())
    except SavedFileError as error:
        raise SavedFileError(f"{name}: {error}") from None
    except Exception as error:  # the unpickler lets out whatever a damaged file provokes
        raise SavedFileError(f"{name}: damaged or unsafe pickle: {error}") from None


def _built(value: Any) -> Any:
    """Replace records by arrays; refuses structures that hold themselves through the recursion limit."""
    if isinstance(value, (_Array, _DType)):
        return value.built()
    if type(value) is list:
        if all(type(v) is int for v in value):
            return value
        return [_built(v) for v in value]
    if type(value) is tuple:
        return tuple(_built(v) for v in value)
    if type(value) is dict:
        return {k: _built(v) for k, v in value.items()}
    return value
