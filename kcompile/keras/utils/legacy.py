"""Names of Keras 2 that Keras 3 dropped: HDF5Matrix, kernel conversion, multi_gpu_model, print_summary."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras import hdf5

_CONVOLUTIONS = ("kernel", "depthwise_kernel")  # attributes with spatial axes


class HDF5Matrix:
    """An array in an HDF5 file, read piece by piece, in place of a NumPy array.

    Args:
        datapath: of the file.   dataset: name of the array in it.
        start, end: the rows to use.
        normalizer: a function applied to what is read.

    Raises: SavedFileError for a damaged file; ArgumentError if it holds no such array.
    """

    def __init__(self, datapath, dataset, start=0, end=None, normalizer: Callable | None = None):
        self._open = contextlib.ExitStack()
        path = os.fspath(datapath)
        file = self._open.enter_context(hdf5.reading(path, path))
        self.data = hdf5.find(file, dataset)
        if self.data is None or not hdf5.is_dataset(self.data):
            self.close()
            raise ArgumentError(f"{path}: there is no array {dataset!r}")
        self.start, self.end = start, len(self.data) if end is None else min(end, len(self.data))
        self.normalizer = normalizer

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def __len__(self) -> int:
        return self.end - self.start

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return rows by number, slice, or list of numbers in any order."""
        if isinstance(key, tuple):
            return self[key[0]][(slice(None), *key[1:])] if not isinstance(key[0], int) else self[key[0]][key[1:]]
        if isinstance(key, slice):
            first, last, step = key.indices(len(self))
            rows = range(first, last, step)
            found = self.data[self.start + first : self.start + last : step] if step > 0 else self._rows(list(rows))
        elif isinstance(key, (int, np.integer)):
            if not -len(self) <= key < len(self):
                raise IndexError(f"row {key} of {len(self)}")
            found = self.data[self.start + int(key) % len(self)]
        else:
            numbers = np.asarray(key)
            found = self._rows(np.flatnonzero(numbers) if numbers.dtype == bool else numbers)
        return found if self.normalizer is None else self.normalizer(found)

    def _rows(self, numbers: Any) -> np.ndarray:
        """HDF5 gives rows in ascending order, each once."""
        numbers = np.asarray(numbers, dtype=np.int64)
        if numbers.size and not (-len(self) <= numbers.min() and numbers.max() < len(self)):
            raise IndexError(f"rows {numbers.min()} to {numbers.max()} of {len(self)}")
        ordered, where = np.unique(numbers % max(1, len(self)), return_inverse=True)
        return self.data[self.start + ordered][where]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self.data.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


def convert_kernel(kernel: Any) -> np.ndarray:
    """Return a convolution kernel [*window, channels, filters] turned round in every axis of its window."""
    kernel = np.asarray(kernel)
    if not 3 <= kernel.ndim <= 5:
        raise ArgumentError(f"Invalid kernel shape: {kernel.shape}. Expected 3 to 5 axes.")
    return np.flip(kernel, axis=tuple(range(kernel.ndim - 2))).copy()


def convert_all_kernels_in_model(model: Any) -> None:
    """Turn all convolution kernels round, in place: from true convolution to correlation, or back."""
    for layer in model.layers:
        if getattr(layer, "layers", None):
            convert_all_kernels_in_model(layer)
        if not hasattr(layer, "kernel_size"):
            continue
        for name in _CONVOLUTIONS:
            kernel = getattr(layer, name, None)
            if kernel is not None:
                kernel.assign(convert_kernel(kernel.numpy()))


def multi_gpu_model(model, gpus=None, cpu_merge=True, cpu_relocation=False):
    """Return the model as it is: kcompile runs on the CPU's cores and has no GPUs to spread over; warns so."""
    if isinstance(gpus, int) and gpus <= 1:
        raise ArgumentError(f"For multi-gpu usage to be effective, call `multi_gpu_model` with `gpus >= 2`. Got {gpus}")
    warnings.warn("multi_gpu_model: kcompile computes on the CPU; the model is returned unchanged.", stacklevel=2)
    return model


def print_summary(model, line_length=None, positions=None, print_fn=None) -> None:
    """Print the table of a model; same as `model.summary()`."""
    model.summary(line_length=line_length, positions=positions, print_fn=print_fn)
