"""Queues between a source of batches and its reader, filled by threads (tf.keras 2)."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np


class SequenceEnqueuer:
    """Base: `start`, `get`, `stop`; subclasses say what is put into the queue.

    `workers` threads read ahead, at most `max_queue_size` batches; the order is that of the source. An error of the
    source is raised where its batch would have come.
    """

    def __init__(self, sequence, use_multiprocessing=False):
        self.sequence, self.use_multiprocessing = sequence, use_multiprocessing  # threads either way
        self._queue: queue.Queue | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, workers=1, max_queue_size=10) -> None:
        """Begin to read ahead."""
        self._stop.clear()
        self._queue = queue.Queue(max(1, max_queue_size))
        self._thread = threading.Thread(target=self._fill, args=(max(1, workers),), daemon=True)
        self._thread.start()

    def is_running(self) -> bool:
        return self._thread is not None and not self._stop.is_set()

    def stop(self, timeout=None) -> None:
        """End the threads; what was read and not taken is dropped."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def get(self) -> Iterator[Any]:
        """Yield the batches as they come."""
        while self.is_running():
            try:
                kind, value = self._queue.get(timeout=0.1)
            except queue.Empty:
                continue
            if kind == "error":
                self.stop()
                raise value
            if kind == "end":
                return
            yield value

    def _put(self, kind: str, value: Any = None) -> bool:
        """Wait for room; False if the reader has stopped."""
        while not self._stop.is_set():
            try:
                self._queue.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def _fill(self, workers: int) -> None:
        try:
            for value in self._batches(workers):
                if not self._put("batch", value):
                    return
            self._put("end")
        except Exception as error:  # the reader's thread raises it
            self._put("error", error)

    def _batches(self, workers: int) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must implement `_batches`")


class OrderedEnqueuer(SequenceEnqueuer):
    """Batches of a Sequence, pass after pass without end, in order or (`shuffle`) in a new order each time."""

    def __init__(self, sequence, use_multiprocessing=False, shuffle=False):
        super().__init__(sequence, use_multiprocessing)
        self.shuffle = shuffle

    def _batches(self, workers: int) -> Iterator[Any]:
        from concurrent.futures import ThreadPoolExecutor  # brings logging

        rng = np.random.default_rng()
        with ThreadPoolExecutor(workers) as pool:
            while not self._stop.is_set():
                order = rng.permutation(len(self.sequence)) if self.shuffle else range(len(self.sequence))
                order = [int(n) for n in order]
                ahead = [pool.submit(self.sequence.__getitem__, n) for n in order[:workers]]
                for n in range(len(order)):
                    value = ahead.pop(0).result()
                    if n + workers < len(order):
                        ahead.append(pool.submit(self.sequence.__getitem__, order[n + workers]))
                    yield value
                getattr(self.sequence, "on_epoch_end", lambda: None)()


class GeneratorEnqueuer(SequenceEnqueuer):
    """What a generator gives, read ahead by one thread (a generator has one reader)."""

    def __init__(self, generator, use_multiprocessing=False, random_seed=None):
        super().__init__(generator, use_multiprocessing)
        self.random_seed = random_seed

    def _batches(self, workers: int) -> Iterator[Any]:
        yield from self.sequence
