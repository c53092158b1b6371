"""pad_sequences: lists of different lengths as one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, ShapeError


def pad_sequences(
    sequences: Sequence[Any],
    maxlen: int | None = None,
    dtype: str = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> np.ndarray:
    """Return sequences as rows of one length: [rows, maxlen, ...].

    Args:
        sequences: each [steps, ...], with the same shape after the first axis.
        maxlen: by default the length of the longest.
        padding, truncating: at which end, "pre" or "post".
        value: what fills up.

    >>> pad_sequences([[1], [2, 3], [4, 5, 6]])
    array([[0, 0, 1],
           [0, 2, 3],
           [4, 5, 6]], dtype=int32)

    Raises: ArgumentError for unusable arguments; ShapeError naming the sequence of another shape.
    """
    for name, given in (("padding", padding), ("truncating", truncating)):
        if given not in ("pre", "post"):
            raise ArgumentError(f"`{name}` should be 'pre' or 'post'. Received: {name}={given!r}")
    if not hasattr(sequences, "__len__"):
        raise ArgumentError(f"`sequences` must be iterable. Received: {sequences!r}")
    for entry in sequences:
        if not hasattr(entry, "__len__"):
            raise ArgumentError(f"`sequences` must be a list of iterables. Found non-iterable: {entry!r}")
    if maxlen is None:
        maxlen = max((len(entry) for entry in sequences), default=0)
    is_text = np.issubdtype(dtype, np.str_) or np.issubdtype(dtype, np.object_)
    if isinstance(value, str) and not is_text:
        raise ArgumentError(
            f"`dtype` {dtype} is not compatible with `value`'s type: {type(value)}. "
            "Pass dtype=object for strings of different lengths."
        )
    rest = next((np.asarray(entry).shape[1:] for entry in sequences if len(entry)), ())
    padded = np.full((len(sequences), maxlen, *rest), value, dtype=dtype)
    for row, entry in enumerate(sequences):
        if not len(entry) or not maxlen:
            continue
        kept = np.asarray(entry[-maxlen:] if truncating == "pre" else entry[:maxlen], dtype=dtype)
        if kept.shape[1:] != rest:
            raise ShapeError(
                f"Shape of sample {kept.shape[1:]} of sequence at position {row} is different from expected shape "
                f"{rest}"
            )
        if padding == "pre":
            padded[row, -len(kept) :] = kept
        else:
            padded[row, : len(kept)] = kept
    return padded
