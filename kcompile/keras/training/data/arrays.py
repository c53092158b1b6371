"""Whole arrays as training data: conversion, checks, splitting, weights, order.

`convert` turns what a user passes for one input (list, DataFrame, tensor, array) into the array a program
takes: contiguous, float64 as floatx, int64 as int32. Structures (lists, dicts) of arrays keep their nesting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, DTypeError
from kcompile.keras import config
from kcompile.keras.tracing import tree
from kcompile.runtime.permutation import fill_permutation

_INT32 = np.iinfo(np.int32)
_TAKEN = frozenset("?bBhHiIef")  # NumPy type codes that programs read as they are


def is_array_like(value: Any) -> bool:
    """True for one tensor: an array, a DataFrame, a torch tensor, a number; also a list of plain numbers."""
    if isinstance(value, (np.ndarray, np.generic, int, float)):
        return True
    if isinstance(value, (list, tuple)):
        return not any(_is_tensor_object(v) for v in value) and not any(isinstance(v, Mapping) for v in value)
    return _is_tensor_object(value)


def _is_tensor_object(value: Any) -> bool:
    """An array or something that turns into one, of at least one axis."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    if isinstance(value, np.generic):
        return False
    return hasattr(value, "__array__") and len(getattr(value, "shape", ())) > 0


def map_arrays(function, structure: Any) -> Any:
    """Apply `function` to every tensor of a structure; None stays None."""
    if structure is None:
        return None
    if is_array_like(structure):
        return function(structure)
    if isinstance(structure, Mapping):
        return {k: map_arrays(function, v) for k, v in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(map_arrays(function, v) for v in structure)
    raise ArgumentError(
        f"Unrecognized data type: {type(structure).__module__}.{type(structure).__qualname__}. Expected arrays, lists "
        "or dicts of arrays, a generator, a Sequence or an iterable of batches."
    )


def convert(value: Any, name: str = "x") -> np.ndarray:
    """Return one tensor as a contiguous array of a dtype that programs take.

    Raises: DTypeError for strings, objects and rows of different length; ArgumentError for a scalar.
    """
    try:
        array = np.asarray(value)
    except ValueError:  # what NumPy says of rows that differ in length
        array = np.empty(0, object)
    if array.dtype.char not in _TAKEN or not array.dtype.isnative or not array.flags.c_contiguous:
        array = _canonical(array, name)
    if array.ndim == 0:
        raise ArgumentError(f"`{name}` needs a batch axis; received the single number {array!r}")
    return array


def _canonical(array: np.ndarray, name: str) -> np.ndarray:
    kind = array.dtype.kind
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if kind == "O":
        raise DTypeError(
            f"`{name}` has dtype object: its rows differ in length or are no numbers. "
            "Expected numbers of one shape; pad sequences with keras.utils.pad_sequences."
        )
    if kind not in "fiub":
        raise DTypeError(f"`{name}` has dtype {array.dtype}; expected numbers.")
    if kind == "f" and array.dtype.itemsize >= 8:
        array = array.astype(config.floatx())
    elif kind in "iu" and array.dtype.itemsize == 8:
        if array.size and (array.max() > _INT32.max or array.min() < _INT32.min):
            raise DTypeError(
                f"`{name}` holds integers beyond 32 bits ({array.min()} to {array.max()}); indices and labels "
                "are int32."
            )
        array = array.astype(np.int32)
    return np.ascontiguousarray(array)


def convert_all(structure: Any, name: str) -> Any:
    """Convert every tensor of a structure."""
    return map_arrays(lambda v: convert(v, name), structure)


def leaves(structure: Any) -> list[np.ndarray]:
    """The arrays of a converted structure, in flattening order, without None."""
    return [leaf for leaf in tree.flatten(structure) if leaf is not None]


def check_lengths(**structures: Any) -> int:
    """Return the common number of rows.

    Raises: ArgumentError naming the sizes where they differ, or if there are none.
    """
    sizes = {name: [len(a) for a in leaves(s)] for name, s in structures.items() if s is not None}
    found = {n for lengths in sizes.values() for n in lengths}
    if len(found) > 1:
        shown = "\n".join(f"'{name}' sizes: {', '.join(map(str, lengths))}" for name, lengths in sizes.items())
        raise ArgumentError(
            "Data cardinality is ambiguous. Make sure all arrays contain the same number of samples.\n" + shown
        )
    rows = found.pop() if found else 0
    if rows == 0:
        raise ArgumentError(f"Expected data with at least one sample; received empty {' and '.join(sizes) or 'x'}.")
    return rows


def class_weights(y: Any, class_weight: Mapping[int, float]) -> np.ndarray:
    """Return one weight per sample (or per timestep) from weights per class.

    Labels are class indices [batch, ...] or [batch, 1], or one-hot [batch, classes]; a class without a
    weight counts 1.
    """
    labels = leaves(y)
    if len(labels) != 1:
        raise ArgumentError("`class_weight` is only supported for models with a single output.")
    array = labels[0]
    if array.ndim > 1:
        array = np.argmax(array, axis=-1) if array.shape[-1] > 1 else array[..., 0]
    array = np.rint(array).astype(np.int64) if array.dtype.kind == "f" else array
    weights = np.ones(array.shape, config.floatx())
    for label, weight in class_weight.items():
        if isinstance(label, bool) or not isinstance(label, (int, np.integer)):
            raise ArgumentError(f"`class_weight` expects class indices as keys. Received: {label!r} in {class_weight}")
        weights[array == label] = weight
    return weights


@dataclass
class ArrayData:
    """Whole arrays: `fit` hands them to the program with a permutation."""

    x: Any
    y: Any = None
    sample_weight: Any = None
    batch_size: int = 32
    shuffle: bool | str = False
    rows: int = field(init=False)
    _order: np.ndarray | None = field(init=False, default=None, repr=False)  # memory of `order`, kept: new pages cost

    def __post_init__(self):
        self.rows = check_lengths(x=self.x, y=self.y, sample_weight=self.sample_weight)

    @property
    def num_batches(self) -> int:
        return -(-self.rows // self.batch_size)

    def order(self, rng: np.random.Generator) -> np.ndarray | None:
        """Return which row comes when in the next epoch; None: as they lie. The next call writes over it."""
        if not self.shuffle:
            return None
        if self.shuffle != "batch":
            if self._order is None:
                self._order = np.empty(self.rows, np.int64)
            fill_permutation(self._order, rng)
            return self._order
        order = np.arange(self.rows, dtype=np.int64)
        whole = self.rows // self.batch_size * self.batch_size
        chunks = order[:whole].reshape(-1, self.batch_size)
        rng.shuffle(chunks)  # whole batches change places, rows inside stay together (for HDF5 files)
        return order

    def batch(self, step: int, order: np.ndarray | None) -> tuple[Any, Any, Any]:
        """Return (x, y, sample_weight) of one step."""
        start = step * self.batch_size
        rows = slice(start, start + self.batch_size)
        chosen = rows if order is None else order[rows]
        return tuple(map_arrays(lambda a: a[chosen], s) for s in (self.x, self.y, self.sample_weight))


def split(structures: Sequence[Any], validation_split: float) -> tuple[list[Any], list[Any]]:
    """Split every structure into a training part and a validation part taken from the end.

    Raises: ArgumentError if one part would be empty, or the data are no arrays.
    """
    if not isinstance(validation_split, (int, float, np.number)) or not 0 < validation_split < 1:
        raise ArgumentError(f"`validation_split` must be between 0 and 1. Received: {validation_split}")
    rows = len(leaves(structures[0])[0])
    at = math.floor(rows * (1.0 - validation_split))
    if at in (0, rows):
        raise ArgumentError(
            f"Training data contains {rows} samples, which is not sufficient to split it into a validation and "
            f"training set as specified by `validation_split={validation_split}`. Either provide more data, or a "
            "different value for the `validation_split` argument."
        )
    first = [map_arrays(lambda a: a[:at], s) for s in structures]
    return first, [map_arrays(lambda a: a[at:], s) for s in structures]
