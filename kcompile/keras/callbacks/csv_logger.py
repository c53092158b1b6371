"""CSVLogger: one row per epoch in a file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable

from kcompile.keras.callbacks.callback import Callback


class CSVLogger(Callback):
    """Write the values of every epoch to a CSV file.

    Args:
        filename: the file.
        separator: between fields.
        append: continue an existing file instead of replacing it.
    """

    def __init__(self, filename, separator=",", append=False):
        super().__init__()
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self.keys = None
        self._file = None
        self._has_header = False

    def on_train_begin(self, logs=None):
        self._has_header = False
        if self.append and os.path.exists(self.filename):
            with open(self.filename, newline="") as file:
                self._has_header = bool(file.readline().strip())
        self._file = open(self.filename, "a" if self.append else "w", newline="")

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if self.keys is None:
            self.keys = sorted(logs)
            if not any(k.startswith("val_") for k in self.keys):  # a validation may run in a later epoch
                self.keys += [f"val_{k}" for k in self.keys]
        writer = csv.DictWriter(self._file, fieldnames=["epoch", *self.keys], delimiter=self.separator)
        if not self._has_header:
            writer.writeheader()
            self._has_header = True
        writer.writerow({"epoch": epoch, **{k: _cell(logs.get(k, "NA")) for k in self.keys}})
        self._file.flush()

    def on_train_end(self, logs=None):
        if self._file is not None:
            self._file.close()
            self._file = None


def _cell(value):
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable) and getattr(value, "ndim", 1) > 0:
        return '"[' + ", ".join(map(str, value)) + ']"'
    return value
