"""What `fit`, `evaluate` and `predict` take as data, as one of two sources.

arrays.py   whole arrays: ArrayData
batches.py  iterables of batches: BatchData
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras.training.data.arrays import ArrayData, class_weights, convert_all, leaves, split
from kcompile.keras.training.data.batches import BatchData, HostBatches, is_batch_source, unpack

__all__ = [
    "ArrayData",
    "BatchData",
    "HostBatches",
    "class_weights",
    "convert_all",
    "is_batch_source",
    "leaves",
    "make_data",
    "split",
    "unpack",
]

DEFAULT_BATCH_SIZE = 32


def make_data(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    shuffle: bool | str = False,
    class_weight: Mapping[int, float] | None = None,
) -> ArrayData | BatchData:
    """Return the data as a source.

    Raises: ArgumentError for arguments that do not go together, empty or unequal data; DTypeError.
    """
    if x is None:
        raise ArgumentError("Expected data in `x`; received None.")
    if isinstance(x, (memoryview, set, frozenset)):
        raise ArgumentError(f"Unrecognized data type: x={x} (of type {type(x)}). Expected arrays: use np.asarray(x).")
    if is_batch_source(x):
        for name, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise ArgumentError(f"When `x` yields batches, `{name}` should not be passed: `x` gives it too.")
        return BatchData(x, steps, shuffle, class_weight)
    batch_size = _checked_batch_size(DEFAULT_BATCH_SIZE if batch_size is None else batch_size)
    x, y = convert_all(x, "x"), convert_all(y, "y")
    sample_weight = convert_all(sample_weight, "sample_weight")
    data = ArrayData(x, y, sample_weight, batch_size, shuffle if steps is None else False)
    if class_weight is not None:
        if y is None:
            raise ArgumentError("`class_weight` needs targets `y`.")
        weights = class_weights(y, class_weight)
        data.sample_weight = weights if sample_weight is None else _product(weights, sample_weight)
    if steps is not None and steps != data.num_batches:
        return BatchData(_Epochs(data), steps, shuffle=False)
    return data


def _product(weights: np.ndarray, sample_weight: Any) -> np.ndarray:
    (given,) = leaves(sample_weight)
    return weights * given.reshape(given.shape + (1,) * (weights.ndim - given.ndim)).astype(weights.dtype)


def _checked_batch_size(batch_size: Any) -> int:
    if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ArgumentError(f"`batch_size` must be a positive integer. Received: batch_size={batch_size!r}")
    return int(batch_size)


class _Epochs:
    """Arrays as an iterable of batches, for a number of steps that is not one pass over them."""

    def __init__(self, data: ArrayData):
        self.data = data
        self.rng = np.random.default_rng(len(leaves(data.x)[0]))

    def __iter__(self):
        order = self.data.order(self.rng)
        order = None if order is None else order.copy()  # the next iterator may begin before this one ends
        return (self.data.batch(step, order) for step in range(self.data.num_batches))
