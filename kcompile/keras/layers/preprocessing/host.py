"""What preprocessing does in Python: batches to learn from, strings as NumPy arrays."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from kcompile.keras.tracing.tensor import is_tensor
from kcompile.keras.utils.dataset import PyDataset


def batches_of(data: Any, steps: int | None = None, lists_are_data: bool = False) -> Iterator[Any]:
    """Yield the inputs of an array (one batch), or of each batch of a source ((x, y) gives x).

    Args:
        steps: at most so many batches of a source.
        lists_are_data: a list or tuple is one batch, not a list of batches.
    """
    if is_tensor(data) or (lists_are_data and isinstance(data, (list, tuple))):
        yield data
        return
    batches = (data[i] for i in range(len(data))) if isinstance(data, PyDataset) else iter(data)
    for batch in itertools.islice(batches, steps):
        yield batch[0] if isinstance(batch, tuple) else batch
