"""Callback: the base class of everything that watches training.

Sixteen hooks, all empty, plus the two older aliases `on_batch_begin/end`. `is_overridden` tells the
training loop which hooks really do something, so that it wakes Python no more often than needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Logs = Mapping[str, float]


class Callback:
    """Base class for building new callbacks.

    Attributes:
        params: dict with `verbose`, `epochs` and `steps`.
        model: the model being trained, tested or asked for predictions.
        sparse_batches: True for a callback content with *some* batch-end calls (a progress bar);
            then the loop may run many batches natively between two calls.
    """

    plugin_group = "callbacks"
    sparse_batches = False

    def __init__(self):
        self.params: dict[str, Any] | None = None
        self.validation_data = None
        self._model = None

    @property
    def model(self):
        return getattr(self, "_model", None)  # a subclass may forget super().__init__()

    def set_params(self, params: dict[str, Any]):
        self.params = params

    def set_model(self, model):
        self._model = model

    def on_train_begin(self, logs: Logs | None = None):
        """Called at the start of `fit`."""

    def on_train_end(self, logs: Logs | None = None):
        """Called at the end of `fit`, with the last epoch's logs."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None):
        """Called before each epoch of `fit`, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None):
        """Called after each epoch, with the training and `val_` values."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None):
        """Older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None):
        """Older name of `on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None):
        """Called before each training batch."""
        self.on_batch_begin(batch, logs=logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None):
        """Called after each training batch, with the running means of loss and metrics."""
        self.on_batch_end(batch, logs=logs)

    def on_test_begin(self, logs: Logs | None = None):
        """Called at the start of `evaluate` or of a validation."""

    def on_test_end(self, logs: Logs | None = None):
        """Called at the end of `evaluate` or of a validation."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None):
        """Called before each batch of `evaluate` or of a validation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None):
        """Called after each batch of `evaluate` or of a validation."""

    def on_predict_begin(self, logs: Logs | None = None):
        """Called at the start of `predict`."""

    def on_predict_end(self, logs: Logs | None = None):
        """Called at the end of `predict`."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None):
        """Called before each batch of `predict`."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None):
        """Called after each batch of `predict`, with the batch's `outputs`."""


def is_overridden(callback: Any, hook: str) -> bool:
    """True if `callback` has its own `hook`, by its class or set on the object."""
    found = getattr(callback, hook, None)
    if found is None:
        return False
    return getattr(found, "__func__", found) is not getattr(Callback, hook)
