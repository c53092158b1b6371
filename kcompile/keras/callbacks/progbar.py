"""ProgbarLogger: prints the classic progress bar of fit, evaluate and predict."""

from __future__ import annotations

import sys

from kcompile.keras.callbacks.callback import Callback
from kcompile.keras.utils.progbar import Progbar


class ProgbarLogger(Callback):
    """Prints metrics to the console, with a bar (`verbose=1`) or one line per epoch (`verbose=2`).

    Args:
        count_mode: "steps"; "samples" is accepted and counts steps too.
        stateful_metrics: accepted; every value is shown as the running mean it is.
    """

    sparse_batches = True

    def __init__(self, count_mode: str = "steps", stateful_metrics=None):
        super().__init__()
        self.seen = 0
        self.progbar: Progbar | None = None
        self.target: int | None = None
        self.verbose = 1
        self.epochs = 1
        self._in_fit = False

    def set_params(self, params):
        super().set_params(params)
        self.verbose = {"auto": 1, True: 1}.get(params.get("verbose", 1), params.get("verbose", 1))
        self.epochs = params.get("epochs") or 1
        self.target = params.get("steps")

    def shows_batches(self) -> bool:
        """Only a moving bar needs to hear of batches, and who counts those of a source of unknown length."""
        return self.verbose == 1 or (self.verbose == 2 and self.target is None)

    def on_train_begin(self, logs=None):
        self._in_fit = True

    def on_train_end(self, logs=None):
        self._in_fit = False

    def on_epoch_begin(self, epoch, logs=None):
        self._start()
        if self.verbose and self.epochs > 1:
            sys.stdout.write(f"Epoch {epoch + 1}/{self.epochs}\n")
            sys.stdout.flush()

    def on_train_batch_end(self, batch, logs=None):
        self._show(batch, logs)

    def on_epoch_end(self, epoch, logs=None):
        self._finish(logs)

    def on_test_begin(self, logs=None):
        if not self._in_fit:
            self._start()

    def on_test_batch_end(self, batch, logs=None):
        if not self._in_fit:
            self._show(batch, logs)

    def on_test_end(self, logs=None):
        if not self._in_fit:
            self._finish(logs)

    def on_predict_begin(self, logs=None):
        self._start()

    def on_predict_batch_end(self, batch, logs=None):
        self._show(batch, None)

    def on_predict_end(self, logs=None):
        self._finish(None)

    def _start(self):
        self.seen = 0
        self.progbar = Progbar(self.target, verbose=self.verbose)

    def _show(self, batch, logs):
        self.seen = batch + 1
        if self.verbose == 1:
            self._update(logs, finalize=False)

    def _finish(self, logs):
        if self.progbar is None:
            return
        if self.target is None:  # an iterator of unknown length: now it is known
            self.target = self.progbar.target = self.seen
        self.seen = self.target
        if self.verbose:
            self._update(logs, finalize=True)
        self.progbar = None

    def _update(self, logs, finalize):
        if self.progbar is None:
            self._start()
        values = list((logs or {}).items())
        self.progbar.stateful_metrics.update(name for name, _ in values)
        self.progbar.update(self.seen, values, finalize=finalize)
