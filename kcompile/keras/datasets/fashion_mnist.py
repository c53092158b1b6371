"""Fashion-MNIST: articles of clothing, in the files of MNIST. Xiao, Rasul, Vollgraf 2017."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib

import numpy as np

from kcompile.errors import SavedFileError
from kcompile.keras.datasets.reading import ORIGIN
from kcompile.keras.utils.files import get_file

_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_UBYTE = 8  # the code of unsigned bytes in IDX files


def load_data() -> tuple:
    """Return `(x_train, y_train), (x_test, y_test)`: 60,000 and 10,000 images of 10 kinds of clothing.

    Shapes: x [n, 28, 28] uint8, y [n] uint8.
    """
    folder = os.path.join("datasets", "fashion-mnist")
    x_train, y_train, x_test, y_test = (
        read_idx(get_file(file, origin=ORIGIN + file, cache_subdir=folder)) for file in _FILES
    )
    return (x_train, y_train), (x_test, y_test)


def read_idx(path: str) -> np.ndarray:
    """Return the array of a gzipped IDX file of bytes: 0, 0, type, rank, sizes in big-endian, contents.

    Raises: SavedFileError naming the file.
    """
    try:
        with gzip.open(path, "rb") as file:
            zeros, kind, rank = struct.unpack(">HBB", file.read(4))
            shape = struct.unpack(f">{rank}I", file.read(4 * rank))
            data = file.read(math.prod(shape) + 1)
    except (struct.error, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SavedFileError(f"{path}: not a readable IDX file: {error}") from None
    if zeros or kind != _UBYTE or len(data) != math.prod(shape):
        raise SavedFileError(f"{path}: not an IDX file of {math.prod(shape)} unsigned bytes")
    return np.frombuffer(data, np.uint8).reshape(shape).copy()
