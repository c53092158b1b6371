"""Sizes that a program asks for, from whatever a user wrote them as.

A size is an int or a symbolic size (`ops.shape(x)[0]` while tracing). Scripts also compute with them as tensors,
`ops.tile(mask, ops.concatenate([ops.expand_dims(batch, -1), [1, 1]]))`: what a traced value holds is found again by
walking the few operations that make such tensors, over arrays of symbolic sizes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.ir import dim
from kcompile.ir.dim import Dim, DimLike
from kcompile.ir.graph import Value
from kcompile.keras.tracing.scope import unwrap


def sizes_of(sizes: Any) -> tuple[DimLike | None, ...]:
    """Return the sizes that a size, a sequence of sizes or a tensor of them holds; None stays.

    Raises: ArgumentError for what only the running program knows.
    """
    sizes = unwrap(sizes)
    if isinstance(sizes, Value):
        return tuple(_entries(sizes).ravel())
    if isinstance(sizes, (list, tuple)) or (not isinstance(sizes, Dim) and np.ndim(sizes)):
        return tuple(s if s is None else size_of(s) for s in sizes)
    return (size_of(sizes),)


def size_of(size: Any) -> DimLike:
    """Return one size."""
    size = unwrap(size)
    if isinstance(size, Value):
        return _entries(size).item()
    return size if isinstance(size, Dim) else int(size)


_ARITHMETIC: dict[str, Callable] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": np.frompyfunc(dim.floordiv, 2, 1),
}


def _entries(value: Value) -> np.ndarray:
    """Return the numbers of a traced value as an array of sizes."""
    node = value.node
    if node.data is not None:
        return _as_sizes(np.asarray(node.data), value)
    name = node.op.name if node.op is not None else node.role
    if name == "size":
        found = np.empty((), object)
        found[()] = node.attrs["value"]
        return found
    if name == "concat":
        return np.concatenate([_entries(v) for v in node.inputs], axis=node.attrs["axis"])
    if name in ("reshape", "broadcast_to", "cast"):
        found = _entries(node.inputs[0])
        if name == "cast":
            return found
        return found.reshape(value.shape) if name == "reshape" else np.broadcast_to(found, value.shape)
    if name in _ARITHMETIC:
        return np.asarray(_ARITHMETIC[name](*(_entries(v) for v in node.inputs)), object)
    raise ArgumentError(
        f"a size must be known when the program is compiled, but {value!r} is only known when it runs. "
        "Use an int, or compute it from `keras.ops.shape(x)`"
    )


def _as_sizes(array: np.ndarray, value: Value) -> np.ndarray:
    if array.dtype.kind not in "iu":
        raise ArgumentError(f"a size must be an integer, received {value!r}")
    return np.asarray([int(n) for n in array.ravel()], object).reshape(array.shape)
