"""ModelCheckpoint: save the model, or its weights, as training goes."""

from __future__ import annotations

import os

from kcompile.errors import ArgumentError
from kcompile.keras.callbacks.callback import Callback
from kcompile.keras.callbacks.monitor import direction, watched


class ModelCheckpoint(Callback):
    """Save to `filepath` after every epoch, or after every `save_freq` batches.

    Args:
        filepath: path with optional fields: `{epoch:02d}`, `{batch}`, `{val_loss:.2f}`, ...
        monitor: name of the value that decides for `save_best_only`.
        verbose: 1 announces each save.
        save_best_only: save only when `monitor` improved.
        save_weights_only: save weights instead of the whole model.
        mode: "min", "max" or "auto" (by the name).
        save_freq: "epoch" or a number of batches.
        initial_value_threshold: value that must be beaten at first.
        period: older argument: save every `period` epochs.
    """

    def __init__(
        self,
        filepath,
        monitor="val_loss",
        verbose=0,
        save_best_only=False,
        save_weights_only=False,
        mode="auto",
        save_freq="epoch",
        initial_value_threshold=None,
        period=1,
        options=None,
    ):
        super().__init__()
        if save_freq != "epoch" and not isinstance(save_freq, int):
            raise ArgumentError(
                f"Unrecognized save_freq: {save_freq!r}. Expected save_freq are 'epoch' or integer values"
            )
        self.filepath = os.fspath(filepath)
        self.monitor = monitor
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only
        self.save_freq = save_freq
        self.period = period
        self._direction = direction(mode, monitor, "ModelCheckpoint")
        self.best = self._direction.worst if initial_value_threshold is None else initial_value_threshold
        self._current_epoch = 0
        self._batches = 0
        self._last_epoch = None
        if save_freq != "epoch":
            # on the object, not the class: only such a checkpoint makes the loop call Python per batch
            self.on_train_batch_end = self._after_batch

    def on_epoch_begin(self, epoch, logs=None):
        self._current_epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if self.save_freq == "epoch" and (epoch + 1) % self.period == 0:
            self._save(epoch, None, logs or {})

    def _after_batch(self, batch, logs=None):
        self._batches += 1
        if self._batches % self.save_freq == 0:
            self._save(self._current_epoch, batch, logs or {})

    def _save(self, epoch, batch, logs):
        filepath = self._path(epoch, batch, logs)
        where = f"\nEpoch {epoch + 1}:"
        if self.save_best_only:
            current = watched(logs, self.monitor, "ModelCheckpoint", "saving the best model")
            if current is None:
                return
            if not self._direction.is_better(current, self.best):
                if self.verbose:
                    print(f"{where} {self.monitor} did not improve from {self.best:.5f}")
                return
            if self.verbose:
                improved = f"improved from {self.best:.5f} to {current:.5f}"
                print(f"{where} {self.monitor} {improved}, saving model to {filepath}")
            self.best = current
        elif self.verbose:
            print(f"{where} saving model to {filepath}")
        folder = os.path.dirname(filepath)
        if folder:
            os.makedirs(folder, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(filepath, overwrite=True)
        else:
            self.model.save(filepath, overwrite=True)

    def _path(self, epoch, batch, logs) -> str:
        fields = dict(logs, epoch=epoch + 1)
        if batch is not None:
            fields["batch"] = batch + 1
        try:
            return self.filepath.format(**fields)
        except KeyError as error:
            raise ArgumentError(
                f'Failed to format this callback filepath: "{self.filepath}". '
                f"Reason: no value called {error}; available: {', '.join(fields)}"
            ) from None
