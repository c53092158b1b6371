"""PyDataset (Sequence): the base class of indexed batch sources."""

from __future__ import annotations

from kcompile.errors import NotSupportedError


class PyDataset:
    """Batches by number: write `__len__` (batches per epoch) and `__getitem__(index)` giving one batch.

    Args:
        workers, use_multiprocessing, max_queue_size: accepted; batches are made on the calling thread.

    `on_epoch_begin` and `on_epoch_end` are called around each pass.
    """

    keeps_order = False  # True: `fit(shuffle=True)` leaves the batches in the order of their numbers

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10):
        self.workers = workers
        self.use_multiprocessing = use_multiprocessing
        self.max_queue_size = max_queue_size

    def __getitem__(self, index: int):
        raise NotSupportedError(f"{type(self).__name__} must implement `__getitem__(index)`.")

    def __len__(self) -> int:
        raise NotSupportedError(f"{type(self).__name__} must implement `__len__()`.")

    @property
    def num_batches(self) -> int:
        return len(self)

    def on_epoch_begin(self) -> None:
        """Called before each pass."""

    def on_epoch_end(self) -> None:
        """Called after each pass."""


Sequence = PyDataset  # its name in Keras 2
