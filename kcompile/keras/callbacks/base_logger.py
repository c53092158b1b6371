"""BaseLogger: epoch means of the metrics."""

from __future__ import annotations

from kcompile.keras.callbacks.callback import Callback


class BaseLogger(Callback):
    """Gives every callback the epoch's means, as Keras 2's does.

    The values of a run are running means already, kept inside the compiled program, so nothing is left to
    add up here: the callback keeps its names and costs no call per batch.

    Args:
        stateful_metrics: names of metrics not to be averaged; accepted.

    Attributes:
        totals: the values of the last epoch.
    """

    def __init__(self, stateful_metrics=None):
        super().__init__()
        self.stateful_metrics = set(stateful_metrics or ())
        self.totals: dict[str, float] = {}

    def on_epoch_begin(self, epoch, logs=None):
        self.totals = {}

    def on_epoch_end(self, epoch, logs=None):
        self.totals = dict(logs or {})
