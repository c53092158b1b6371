"""Python operators of every tensor-like class, in one table.

`x + 1`, `x[:, 0]`, `-x`, ... mean the `keras.ops` function of that name, for eager tensors, variables,
symbolic inputs and traced values alike; so promotion rules are the same everywhere. The function is
looked up when an operator runs, because `keras.ops` stands above this folder.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable

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


def _binary(name: str, swapped: bool) -> Callable:
    def operator(self, other):
        if getattr(other, "__array_priority__", 0) == DEFER:
            return NotImplemented
        return function(name)(other, self) if swapped else function(name)(self, other)

    return operator


def _unary(name: str) -> Callable:
    return lambda self: function(name)(self)


DEFER = 10_000  # __array_priority__ of objects that want to handle operators themselves


def install(cls: type, equality: bool = False, indexing: bool = True) -> type:
    """Give `cls` the operators; `equality=True` makes `==` and `!=` elementwise too."""
    for symbol, name in _BINARY.items():
        setattr(cls, f"__{symbol}__", _binary(name, swapped=False))
        setattr(cls, f"__r{symbol}__", _binary(name, swapped=True))
    for symbol, name in _COMPARE.items():
        setattr(cls, f"__{symbol}__", _binary(name, swapped=False))
    for symbol, name in _UNARY.items():
        setattr(cls, f"__{symbol}__", _unary(name))
    if equality:
        cls.__eq__ = _binary("equal", swapped=False)
        cls.__ne__ = _binary("not_equal", swapped=False)
    if indexing:
        cls.__getitem__ = lambda self, key: function("get_item")(self, key)
    return cls
