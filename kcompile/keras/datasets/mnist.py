"""MNIST: handwritten digits. LeCun, Cortes, Burges."""

from __future__ import annotations

from kcompile.keras.datasets.reading import fetch, read_npz

_SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


def load_data(path: str = "mnist.npz") -> tuple:
    """Return `(x_train, y_train), (x_test, y_test)`: 60,000 and 10,000 images of digits.

    Args:   path: name in the cache, or an absolute path of a file at hand.

    Shapes: x [n, 28, 28] uint8, y [n] uint8 from 0 to 9.
    """
    file = fetch(path, "mnist.npz", _SHA256)
    x_train, y_train, x_test, y_test = read_npz(file, ("x_train", "y_train", "x_test", "y_test"))
    return (x_train, y_train), (x_test, y_test)
