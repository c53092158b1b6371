"""Python operators of every tensor-like class, in one table.

`x + 1`, `x[:, 0]`, `-x`, ... mean the `keras.ops` function of that name, for eager tensors, variables,
symbolic inputs and traced values alike; so promotion rules are the same everywhere. The function is
looked up when an operator runs, because `keras.ops` stands above this folder.

NumPy computes in float64 unless told otherwise. So beside a tensor its scalars count as Python's numbers, and its
float64 arrays as floatx: `scores / np.sqrt(64)` stays float32, as on every backend of Keras.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable

import numpy as np

from kcompile.keras import settings

_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "mod",
    "pow": "power",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
}
_COMPARE = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
_UNARY = {"neg": "negative", "abs": "absolute", "invert": "bitwise_not"}


@functools.cache
def function(name: str) -> Callable:
    """Return `keras.ops.<name>`."""
    return getattr(importlib.import_module("kcompile.keras.ops"), name)


def elementwise(name: str, swapped: bool = False) -> Callable:
    """Return the binary operator that calls `keras.ops.<name>`."""

    def operator(self, other):
        if getattr(other, "__array_priority__", 0) == DEFER:
            return NotImplemented
        other = _beside(self, other)
        return function(name)(other, self) if swapped else function(name)(self, other)

    return operator


def _unary(name: str) -> Callable:
    return lambda self: function(name)(self)


def _equality(name: str, otherwise: bool) -> Callable:
    def operator(self, other):
        if other is None or isinstance(other, str):
            return NotImplemented
        if not self.compares_numbers:
            return (self is other) == otherwise
        return function(name)(self, _beside(self, other))

    return operator


def _beside(tensor, other):
    """The other operand of an operator, in the precision of a tensor where it is NumPy's."""
    if isinstance(other, np.generic):
        return other.item()
    if type(other) is np.ndarray and other.dtype == np.float64 and tensor.dtype != "float64":
        return other.astype(settings.floatx())
    return other


DEFER = 10_000  # __array_priority__ of objects that want to handle operators themselves


def install(cls: type, indexing: bool = True) -> type:
    """Give `cls` the operators. `==` and `!=` are elementwise where objects say `compares_numbers`."""
    for symbol, name in _BINARY.items():
        setattr(cls, f"__{symbol}__", elementwise(name))
        setattr(cls, f"__r{symbol}__", elementwise(name, swapped=True))
    for symbol, name in _COMPARE.items():
        setattr(cls, f"__{symbol}__", elementwise(name))
    for symbol, name in _UNARY.items():
        setattr(cls, f"__{symbol}__", _unary(name))
    cls.__eq__ = _equality("equal", True)
    cls.__ne__ = _equality("not_equal", False)
    if indexing:
        cls.__getitem__ = lambda self, key: function("get_item")(self, key)
    return cls
