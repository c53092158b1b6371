"""EarlyStopping: stop when a watched value no longer improves."""

from __future__ import annotations

from kcompile.keras.callbacks.callback import Callback
from kcompile.keras.callbacks.monitor import direction, watched


class EarlyStopping(Callback):
    """Stop training when `monitor` has not improved by more than `min_delta` for `patience` epochs.

    Args:
        monitor: name of the watched value.
        min_delta: smaller changes count as no improvement.
        patience: epochs without improvement after which to stop.
        verbose: 1 announces the stop.
        mode: "min", "max" or "auto" (by the name).
        baseline: a value that must be beaten for an epoch to count as an improvement.
        restore_best_weights: put back the weights of the best epoch at the end.
        start_from_epoch: epochs to wait before watching.
    """

    def __init__(
        self,
        monitor="val_loss",
        min_delta=0,
        patience=0,
        verbose=0,
        mode="auto",
        baseline=None,
        restore_best_weights=False,
        start_from_epoch=0,
    ):
        super().__init__()
        self.monitor = monitor
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._direction = direction(mode, monitor, "EarlyStopping")
        self.min_delta = abs(min_delta) * self._direction.sign
        self._reset()

    def _reset(self):
        self.wait = 0
        self.stopped_epoch = 0
        self.best = self._direction.worst
        self.best_epoch = 0
        self.best_weights = None

    def on_train_begin(self, logs=None):
        self._reset()

    def on_epoch_end(self, epoch, logs=None):
        current = watched(logs, self.monitor, "EarlyStopping", "early stopping")
        if current is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self._remember(epoch)  # so that there is something to restore even if nothing ever improves
        self.wait += 1
        if self._improves(current, self.best):
            self.best = current
            self.best_epoch = epoch
            if self.restore_best_weights:
                self._remember(epoch)
            if self.baseline is None or self._improves(current, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.stopped_epoch > 0 and self.verbose > 0:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose > 0:
                print(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)

    def _remember(self, epoch):
        self.best_weights = self.model.get_weights()
        self.best_epoch = epoch

    def _improves(self, value, reference) -> bool:
        return self._direction.is_better(value - self.min_delta, reference)
