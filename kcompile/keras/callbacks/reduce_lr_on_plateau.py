"""ReduceLROnPlateau: lower the learning rate when a watched value stalls."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras.callbacks.callback import Callback
from kcompile.keras.callbacks.monitor import direction, watched


class ReduceLROnPlateau(Callback):
    """Multiply the learning rate by `factor` after `patience` epochs without improvement.

    Args:
        monitor: name of the watched value.
        factor: below 1.
        patience: epochs without improvement.
        verbose: 1 announces each reduction.
        mode: "min", "max" or "auto" (by the name).
        min_delta: smaller changes count as no improvement.
        cooldown: epochs to wait after a reduction.
        min_lr: lower bound.
    """

    def __init__(
        self,
        monitor="val_loss",
        factor=0.1,
        patience=10,
        verbose=0,
        mode="auto",
        min_delta=1e-4,
        cooldown=0,
        min_lr=0.0,
        epsilon=None,
    ):
        super().__init__()
        if factor >= 1.0:
            raise ArgumentError(f"ReduceLROnPlateau does not support a factor >= 1.0. Received factor={factor}")
        self.monitor = monitor
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.min_delta = min_delta if epsilon is None else epsilon
        self.cooldown = cooldown
        self.min_lr = min_lr
        self._direction = direction(mode, monitor, "ReduceLROnPlateau")
        self._reset()

    def _reset(self):
        self.best = self._direction.worst
        self.wait = 0
        self.cooldown_counter = 0

    def on_train_begin(self, logs=None):
        self._reset()

    def on_epoch_end(self, epoch, logs=None):
        optimizer = self.model.optimizer
        if isinstance(logs, dict):
            logs["learning_rate"] = float(optimizer.learning_rate)
        current = watched(logs, self.monitor, "ReduceLROnPlateau", "learning rate reduction")
        if current is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._direction.is_better(current - self.min_delta * self._direction.sign, self.best):
            self.best = current
            self.wait = 0
        elif self.cooldown_counter <= 0:
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch, optimizer)

    def _reduce(self, epoch, optimizer):
        rate = float(optimizer.learning_rate)
        if rate <= self.min_lr:
            return
        rate = max(rate * self.factor, self.min_lr)
        optimizer.learning_rate = rate
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {rate}.")
        self.cooldown_counter = self.cooldown
        self.wait = 0
