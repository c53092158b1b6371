"""The files of CIFAR-10 and CIFAR-100: pickled dicts of rows. Krizhevsky 2009."""

from __future__ import annotations

import os

import numpy as np

from kcompile.errors import SavedFileError
from kcompile.keras import config
from kcompile.keras.datasets import pickles
from kcompile.keras.utils.files import cache_home, get_file


def folder_of(name: str, origin: str, file_hash: str | None) -> str:
    """Return the folder that holds the batches: unpacked in the cache before, or downloaded now."""
    ready = os.path.join(cache_home(), "datasets", name)
    if os.path.isdir(ready):
        return ready
    unpacked = get_file(f"{name}-target", origin=origin, extract=True, file_hash=file_hash)
    return os.path.join(unpacked, name)


def load_batch(path: str, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (images, labels) of one file.

    Shapes: images [n, 32, 32, 3] uint8 (or channels first, as configured), labels [n, 1].
    Raises: SavedFileError naming the file.
    """
    with open(path, "rb") as file:
        batch = pickles.load(file, path)
    if not isinstance(batch, dict):
        raise SavedFileError(f"{path}: expected a dict, found {type(batch).__name__}")
    batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
    images, labels = batch.get("data"), batch.get(label_key)
    rows = images.size // 3072 if isinstance(images, np.ndarray) else -1  # 3 x 32 x 32
    if rows < 0 or images.size != rows * 3072 or labels is None or len(labels) != rows:
        raise SavedFileError(f"{path}: expected images under 'data' and as many labels under {label_key!r}")
    images = images.reshape(rows, 3, 32, 32)
    if config.image_data_format() == "channels_last":
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return images, np.asarray(labels).reshape(rows, 1)
