"""TensorBoard: event files of losses, metrics, learning rate and weight distributions."""

from __future__ import annotations

import os
import time
import warnings

import numpy as np

from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras.callbacks.callback import Callback
from kcompile.keras.callbacks.event_file import EventFile


class TensorBoard(Callback):
    """Write event files to `log_dir`/train and `log_dir`/validation.

    Args:
        log_dir: the folder.
        histogram_freq: distributions of all weights every so many epochs; 0 never.
        update_freq: "epoch", "batch" or a number of batches; batches are written as `batch_<name>`.
        write_steps_per_second: write `epoch_steps_per_second`.
        write_graph: accepted; a program here is not a TensorFlow graph, `kcompile` shows it on its own.
        profile_batch: accepted with a warning unless 0; traces of TensorFlow's profiler do not exist here.
        write_images, embeddings_freq, embeddings_metadata: missing.

    Numbers of an epoch are called `epoch_<name>`; those of `evaluate`, `evaluation_<name>_vs_iterations`.
    """

    def __init__(
        self,
        log_dir="logs",
        histogram_freq=0,
        write_graph=True,
        write_images=False,
        write_steps_per_second=False,
        update_freq="epoch",
        profile_batch=0,
        embeddings_freq=0,
        embeddings_metadata=None,
    ):
        super().__init__()
        for argument, value in (
            ("write_images", write_images),
            ("embeddings_freq", embeddings_freq),
            ("embeddings_metadata", embeddings_metadata),
        ):
            if value:
                raise NotSupportedError(f"TensorBoard({argument}=...) is missing from kcompile.")
        if profile_batch:
            warnings.warn("TensorBoard: profile_batch has no effect; see `kcompile profile`.", stacklevel=2)
        if update_freq not in ("epoch", "batch") and not (isinstance(update_freq, int) and update_freq > 0):
            raise ArgumentError(f"`update_freq` is 'epoch', 'batch' or a number of batches, received {update_freq!r}")
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq = histogram_freq
        self.write_graph = write_graph
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = 1 if update_freq == "batch" else update_freq
        self._files: dict[str, EventFile] = {}
        self._in_fit = False
        self._steps = 0
        self._epoch_started = (0, 0.0)
        if self.update_freq != "epoch":
            # on the object, not the class: only then must the loop call Python for every batch
            self.on_train_batch_end = self._after_batch

    def _file(self, what: str) -> EventFile:
        if what not in self._files:
            self._files[what] = EventFile(os.path.join(self.log_dir, what))
        return self._files[what]

    def on_train_begin(self, logs=None):
        self._in_fit = True
        self._steps = self._iterations()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_started = (self._iterations(), time.perf_counter())

    def _after_batch(self, batch, logs=None):
        step, self._steps = self._steps, self._steps + 1
        if step % self.update_freq == 0:
            for name, value in _numbers(logs):
                self._file("train").scalar(f"batch_{name}", value, step)

    def on_epoch_end(self, epoch, logs=None):
        training = dict(_numbers({k: v for k, v in (logs or {}).items() if not k.startswith("val_")}))
        if self.model.optimizer is not None:
            training["learning_rate"] = float(self.model.optimizer.learning_rate)
        if self.write_steps_per_second:
            first, started = self._epoch_started
            training["steps_per_second"] = (self._iterations() - first) / (time.perf_counter() - started)
        for name, value in training.items():
            self._file("train").scalar(f"epoch_{name}", value, epoch)
        validation = {k[4:]: v for k, v in (logs or {}).items() if k.startswith("val_")}
        for name, value in _numbers(validation):
            self._file("validation").scalar(f"epoch_{name}", value, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for weight in self.model.weights:
                self._file("train").histogram(f"{weight.path}/histogram", weight.numpy(), epoch)
        for file in self._files.values():
            file.flush()

    def on_test_end(self, logs=None):
        for name, value in _numbers(logs):
            self._file("validation").scalar(f"evaluation_{name}_vs_iterations", value, self._iterations())
        if not self._in_fit:
            self._close()

    def on_train_end(self, logs=None):
        self._in_fit = False
        self._close()

    def _close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}

    def _iterations(self) -> int:
        optimizer = self.model.optimizer
        return 0 if optimizer is None else int(np.asarray(optimizer.iterations))


def _numbers(logs):
    return [(name, float(value)) for name, value in (logs or {}).items() if np.ndim(value) == 0]
