"""What the data sets share: where files come from, .npz archives, splitting, cutting down texts."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, SavedFileError
from kcompile.keras.datasets import pickles
from kcompile.keras.utils.files import get_file

ORIGIN = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"  # where Keras publishes its data sets


def fetch(path: str, file: str, file_hash: str | None) -> str:
    """Return where a data set lies: `path` itself if it is absolute and there, else in the cache.

    A file the user names is read as it is; one of the cache is compared with its hash and fetched if it differs.
    """
    if os.path.isabs(path) and os.path.isfile(path):
        return path
    return get_file(path, origin=ORIGIN + file, file_hash=file_hash)


def read_npz(path: str, names: Sequence[str]) -> list[np.ndarray]:
    """Return arrays of a .npz archive; lists in it are read without trust (see pickles.py).

    Raises: SavedFileError naming the file.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive.files]
            if missing:
                raise SavedFileError(f"{path}: holds no {missing[0]!r}, only {archive.files}")
        with zipfile.ZipFile(path) as members:
            return [_read_member(members, name, path) for name in names]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        if isinstance(error, (SavedFileError, FileNotFoundError)):
            raise
        raise SavedFileError(f"{path}: not a readable .npz archive: {error}") from None


def _read_member(members: zipfile.ZipFile, name: str, path: str) -> np.ndarray:
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with members.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        if version not in headers:
            raise SavedFileError(f"{path}: {name!r} is in the unknown format {version}")
        shape, _, dtype = headers[version](file)
        if dtype.hasobject:
            found = pickles.load(file.read(), f"{path}: {name}")
            if not isinstance(found, np.ndarray) or found.shape != shape:
                raise SavedFileError(f"{path}: {name!r} is no array of shape {shape}")
            return found
    with members.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def read_json(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def shuffled_split(x: np.ndarray, y: np.ndarray, test_split: float, seed: int) -> tuple:
    """Return `(x_train, y_train), (x_test, y_test)`, shuffled with `seed`, the test part last."""
    if not 0 <= test_split < 1:
        raise ArgumentError(f"`test_split` should be at least 0 and below 1. Received: test_split={test_split}")
    order = np.arange(len(x))
    np.random.RandomState(seed).shuffle(order)  # Keras's generator, so that a seed gives the same rows
    x, y = x[order], y[order]
    at = int(len(x) * (1 - test_split))
    return (x[:at], y[:at]), (x[at:], y[at:])


def marked(texts: Sequence, start_char: int | None, index_from: int) -> list[list[int]]:
    """Return texts with all indices moved up by `index_from` and `start_char` in front."""
    front = [] if start_char is None else [start_char]
    if start_char is None and not index_from:
        return [list(text) for text in texts]
    return [front + [word + index_from for word in text] for text in texts]


def shorter_than(texts: list, labels: np.ndarray, maxlen: int) -> tuple[list, np.ndarray]:
    """Return the texts with fewer than `maxlen` words, and their labels.

    Raises: ArgumentError if there is none.
    """
    kept = [i for i, text in enumerate(texts) if len(text) < maxlen]
    if not kept:
        raise ArgumentError(f"After filtering for sequences shorter than maxlen={maxlen}, no sequence was kept.")
    return [texts[i] for i in kept], labels[kept]


def vocabulary(texts: list, num_words: int | None, skip_top: int, oov_char: int | None) -> np.ndarray:
    """Return texts with words outside skip_top..num_words replaced by `oov_char`, or left out if that is None."""
    if not num_words:
        num_words = max((max(text, default=0) for text in texts), default=0)  # so the last word falls out, as in Keras
    known = range(skip_top, num_words)
    if oov_char is None:
        cut = [[word for word in text if word in known] for text in texts]
    else:
        cut = [[word if word in known else oov_char for word in text] for text in texts]
    rows = np.empty(len(cut), dtype=object)
    rows[:] = cut
    return rows
