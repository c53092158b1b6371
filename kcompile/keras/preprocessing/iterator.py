"""Iterator: batches by number, endless when iterated; the base of the iterators of images."""

from __future__ import annotations

from collections.abc import Iterator as IteratorType
from typing import Any

import numpy as np

from kcompile.errors import NotSupportedError
from kcompile.keras.utils.dataset import PyDataset


class Iterator(PyDataset):
    """Batches by number, for `fit`; as an iterator it goes on for ever, in a new order after each pass.

    Args:   n: number of rows.
    """

    def __init__(self, n: int, batch_size: int, shuffle: bool, seed: int | None, **kwargs: Any):
        super().__init__(**kwargs)
        self.n, self.batch_size, self.shuffle, self.seed = n, batch_size, shuffle, seed
        self.rng = np.random.default_rng(seed)
        self._next = 0
        self._order = np.arange(n)
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        start = index * self.batch_size
        return self._get_batches_of_transformed_samples(self._order[start : start + self.batch_size])

    def on_epoch_end(self) -> None:
        if self.shuffle:
            self.rng.shuffle(self._order)

    def reset(self) -> None:
        """Start the next pass."""
        self._next = 0

    def __iter__(self) -> IteratorType:
        return self

    def __next__(self) -> Any:
        if self._next >= len(self):
            self._next = 0
            self.on_epoch_end()
        self._next += 1
        return self[self._next - 1]

    def _get_batches_of_transformed_samples(self, index_array: np.ndarray) -> Any:
        """Return the batch of these rows; written by subclasses."""
        raise NotSupportedError(f"{type(self).__name__} must implement `_get_batches_of_transformed_samples`.")
