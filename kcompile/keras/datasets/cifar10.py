"""CIFAR-10: small colour photographs of 10 kinds of things. Krizhevsky 2009."""

from __future__ import annotations

import os

import numpy as np

from kcompile.keras.datasets.cifar import folder_of, load_batch

_ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"


def load_data() -> tuple:
    """Return `(x_train, y_train), (x_test, y_test)`: 50,000 and 10,000 images.

    Shapes: x [n, 32, 32, 3] uint8, y [n, 1] uint8 from 0 to 9.
    """
    folder = folder_of("cifar-10-batches-py", _ORIGIN, _SHA256)
    batches = [load_batch(os.path.join(folder, f"data_batch_{i}"), "labels") for i in range(1, 6)]
    x_train, y_train = (np.concatenate(parts) for parts in zip(*batches))
    x_test, y_test = load_batch(os.path.join(folder, "test_batch"), "labels")
    return (x_train, y_train.astype("uint8")), (x_test, y_test.astype("uint8"))
