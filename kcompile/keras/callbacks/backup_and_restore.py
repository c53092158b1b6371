"""BackupAndRestore: continue an interrupted `fit` where it stood."""

from __future__ import annotations

import json
import os
import shutil

from kcompile.errors import ArgumentError
from kcompile.keras.callbacks.callback import Callback


class BackupAndRestore(Callback):
    """Keep weights, optimizer state and epoch in a folder; a later `fit` with the same folder continues from it.

    Args:
        backup_dir: the folder; removed after a `fit` that ran to its end.
        save_freq: "epoch" or a number of batches.
        double_checkpoint: keep the backup before the last one too, in case the last is damaged.
        delete_checkpoint: False keeps the folder.
    """

    def __init__(self, backup_dir, save_freq="epoch", double_checkpoint=False, delete_checkpoint=True):
        super().__init__()
        if not backup_dir:
            raise ArgumentError("Empty `backup_dir` argument passed")
        if save_freq != "epoch" and (not isinstance(save_freq, int) or isinstance(save_freq, bool)):
            raise ArgumentError(
                f"Invalid value for argument `save_freq`. Received: save_freq={save_freq}. "
                "Expected either 'epoch' or an integer value."
            )
        self.backup_dir = os.fspath(backup_dir)
        self.save_freq = save_freq
        self.double_checkpoint = double_checkpoint
        self.delete_checkpoint = delete_checkpoint
        self._weights = os.path.join(self.backup_dir, "latest.weights.h5")
        self._state = os.path.join(self.backup_dir, "training_metadata.json")
        self._epoch = 0
        self._batches = 0
        if save_freq != "epoch":
            # on the object, not the class: only then must the loop call Python for every batch
            self.on_train_batch_end = self._after_batch

    def on_train_begin(self, logs=None):
        try:
            self._restore()
        except (OSError, ValueError):  # a file cut short by the interruption
            if not os.path.exists(self._weights + ".bkp"):
                raise
            for path in (self._weights, self._state):
                if os.path.exists(path + ".bkp"):
                    shutil.copy(path + ".bkp", path)
            self._restore()

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch + 1
        if self.save_freq == "epoch":
            self._save(0)

    def on_train_end(self, logs=None):
        if self.delete_checkpoint and os.path.exists(self.backup_dir):
            shutil.rmtree(self.backup_dir)

    def _after_batch(self, batch, logs=None):
        self._batches += 1
        if self._batches % self.save_freq == 0:
            self._save(batch)

    def _restore(self) -> None:
        if not os.path.exists(self._weights):
            return
        model = self.model
        if not model.built:
            raise ArgumentError(
                "To use BackupAndRestore, the model must be built before `fit`: call it on a batch of data first."
            )
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)  # so that its state has a place to go
        model.load_weights(self._weights)
        if os.path.exists(self._state):
            with open(self._state, encoding="utf-8") as file:
                self._epoch = model._initial_epoch = int(json.load(file)["epoch"])

    def _save(self, batch: int) -> None:
        os.makedirs(self.backup_dir, exist_ok=True)
        if self.double_checkpoint:
            for path in (self._weights, self._state):
                if os.path.exists(path):
                    shutil.copy(path, path + ".bkp")
        self.model.save_weights(self._weights, overwrite=True)
        with open(self._state, "w", encoding="utf-8") as file:
            json.dump({"epoch": self._epoch, "batch": batch}, file)
