"""CIFAR-100: small colour photographs of 100 kinds of things in 20 groups. Krizhevsky 2009."""

from __future__ import annotations

import os

from kcompile.errors import ArgumentError
from kcompile.keras.datasets.cifar import folder_of, load_batch

_ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
_SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"


def load_data(label_mode: str = "fine") -> tuple:
    """Return `(x_train, y_train), (x_test, y_test)`: 50,000 and 10,000 images.

    Args:   label_mode: "fine": 100 classes, "coarse": 20.

    Shapes: x [n, 32, 32, 3] uint8, y [n, 1] int64.
    """
    if label_mode not in ("fine", "coarse"):
        raise ArgumentError(f"`label_mode` must be 'fine' or 'coarse'. Received: label_mode={label_mode!r}")
    folder = folder_of("cifar-100-python", _ORIGIN, _SHA256)
    train, test = (load_batch(os.path.join(folder, part), f"{label_mode}_labels") for part in ("train", "test"))
    return train, test
