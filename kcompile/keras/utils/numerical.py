"""to_categorical, to_ordinal and normalize."""

from __future__ import annotations

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras.tracing.tensor import Tensor


def to_categorical(x, num_classes: int | None = None, dtype: str = "float32") -> np.ndarray:
    """Return class indices as one-hot rows.

    Args:
        x: integers in [0, num_classes); a last axis of size 1 is dropped.
        num_classes: by default max + 1.

    >>> to_categorical([0, 2], 3)
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)

    Raises: ArgumentError for an index out of range.
    """
    labels = np.asarray(x).astype(np.int64)
    shape = labels.shape
    if len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    labels = labels.reshape(-1)
    if num_classes is None:
        num_classes = int(labels.max()) + 1 if labels.size else 0
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
        raise ArgumentError(
            f"to_categorical expects labels from 0 to {num_classes - 1}; received {labels.min()} to {labels.max()}."
        )
    rows = np.zeros((labels.size, num_classes), dtype=dtype)
    rows[np.arange(labels.size), labels] = 1
    return rows.reshape(*shape, num_classes)


def to_ordinal(y, num_classes: int | None = None, dtype: str = "float32") -> np.ndarray:
    """Return classes in an order as rows of `num_classes - 1` numbers: 1 for each class below.

    >>> to_ordinal([0, 2], 3)
    array([[0., 0.],
           [1., 1.]], dtype=float32)
    """
    labels = np.asarray(y).astype(np.int64)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    count = int(labels.max()) + 1 if num_classes is None else num_classes
    return (np.arange(count - 1) < labels[..., None]).astype(dtype)


def normalize(x, axis: int = -1, order: int = 2) -> np.ndarray:
    """Return `x` divided by its norm of this order along `axis`; zero vectors stay.

    >>> normalize([[3.0, 4.0], [0.0, 5.0]])
    array([[0.6, 0.8],
           [0. , 1. ]])
    """
    array = np.atleast_1d(np.asarray(x.numpy() if isinstance(x, Tensor) else x))
    norm = np.atleast_1d(np.linalg.norm(array, order, axis, keepdims=True))
    return array / np.where(norm == 0, 1, norm)
