"""History: the record that `fit` returns."""

from __future__ import annotations

from kcompile.keras.callbacks.callback import Callback


class History(Callback):
    """Records the values of every epoch.

    Attributes:
        epoch: the epochs that ran, counted from 0.
        history: name -> list of values, one per epoch.
    """

    def __init__(self):
        super().__init__()
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_train_begin(self, logs=None):
        self.epoch = []
        self.history = {}

    def on_epoch_end(self, epoch, logs=None):
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
        self.model.history = self
