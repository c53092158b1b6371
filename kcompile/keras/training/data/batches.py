"""Iterables of batches: generators, `Sequence`/`PyDataset`, data loaders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras.training.data.arrays import class_weights, convert_all
from kcompile.keras.utils.dataset import PyDataset


class BatchData:
    """Batches from an iterable; each is x, (x, y) or (x, y, sample_weight).

    Args:
        source: a generator or iterator (goes on where it stopped), a PyDataset, or anything that can be
            iterated again and again (a data loader, a list of batches).
        steps: batches per epoch; needed for endless sources.
        shuffle: for a PyDataset that does not keep its order: another one of the batches in each epoch.
        class_weight: turned into sample weights.
    """

    def __init__(
        self,
        source: Any,
        steps: int | None = None,
        shuffle: bool | str = False,
        class_weight: Mapping[int, float] | None = None,
    ):
        self.source = source
        self.shuffle = bool(shuffle) and not getattr(source, "keeps_order", False)
        self.class_weight = class_weight
        self._given_steps = steps
        self._running: Iterator[Any] | None = None
        self._rng = np.random.default_rng(0)

    @property
    def num_batches(self) -> int | None:
        """Batches per epoch, or None if only the source knows."""
        if self._given_steps is not None:
            return self._given_steps
        try:
            return len(self.source)
        except (TypeError, NotImplementedError):
            return None

    def epoch(self, rng: np.random.Generator) -> Iterator[tuple[Any, Any, Any]]:
        """Yield the converted batches of one epoch."""
        self._rng = rng
        steps = self._given_steps
        if steps is None:
            yield from map(self._unpacked, self._start())
            self._epoch_ended()
            return
        for _ in range(steps):
            batch = self._next()
            if batch is None:
                return  # ran out: the loop warns
            yield self._unpacked(batch)

    def _start(self) -> Iterator[Any]:
        if isinstance(self.source, PyDataset):
            self.source.on_epoch_begin()
            order = np.arange(len(self.source))
            if self.shuffle:
                self._rng.shuffle(order)
            return (self.source[int(i)] for i in order)
        return iter(self.source)

    def _epoch_ended(self) -> None:
        if isinstance(self.source, PyDataset):
            self.source.on_epoch_end()

    def _next(self) -> Any | None:
        """The next batch over epoch borders; starts a restartable source anew when it ends."""
        if self._running is None:
            self._running = self._start()
        batch = next(self._running, None)
        if batch is None and not isinstance(self.source, Iterator):
            self._epoch_ended()
            self._running = self._start()
            batch = next(self._running, None)
        return batch

    def _unpacked(self, batch: Any) -> tuple[Any, Any, Any]:
        x, y, sample_weight = unpack(batch)
        x, y, sample_weight = (convert_all(v, n) for v, n in ((x, "x"), (y, "y"), (sample_weight, "sample_weight")))
        if self.class_weight is not None and y is not None:
            from_classes = class_weights(y, self.class_weight)
            sample_weight = from_classes if sample_weight is None else from_classes * sample_weight
        return x, y, sample_weight


class HostBatches:
    """A source of batches whose inputs a function prepares; the rest passes through."""

    def __init__(self, source: Any, prepare: Callable[[Any], Any]):
        self.source, self.prepare = source, prepare

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        is_indexed = isinstance(self.source, PyDataset)
        for batch in (self.source[i] for i in range(len(self.source))) if is_indexed else self.source:
            yield (self.prepare(batch[0]), *batch[1:]) if isinstance(batch, tuple) else self.prepare(batch)


def unpack(batch: Any) -> tuple[Any, Any, Any]:
    """Return (x, y, sample_weight) of what a source gives.

    Raises: ArgumentError for a tuple of another length.
    """
    if isinstance(batch, list) and 1 < len(batch) <= 3 and all(hasattr(b, "__array__") for b in batch):
        batch = tuple(batch)  # data loaders that collate give [x, y]
    if not isinstance(batch, tuple):
        return batch, None, None
    if not 1 <= len(batch) <= 3:
        raise ArgumentError(
            f"Expected batches of the form x, (x, y) or (x, y, sample_weight). Received a tuple of {len(batch)} items."
        )
    return (*batch, *(None,) * (3 - len(batch)))


def is_batch_source(x: Any) -> bool:
    """True if `x` gives batches rather than being the data."""
    if isinstance(x, PyDataset):
        return True
    if isinstance(x, (np.ndarray, list, tuple, Mapping, str, bytes)) or hasattr(x, "__array__"):
        return False
    return isinstance(x, Iterable)
