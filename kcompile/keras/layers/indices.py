"""Checks of inputs that are indices, before they reach a program."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kcompile.errors import ArgumentError


def check_indices(limits: Mapping[str, tuple[int, str]], inputs: Mapping[str, np.ndarray]) -> None:
    """Check that inputs of Embeddings are row numbers.

    Raises: ArgumentError naming the layer, the expected range and what was received.
    """
    for name, (limit, layer) in limits.items():
        array = inputs[name]
        if array.size and (array.min() < 0 or array.max() >= limit):
            raise index_error(layer, limit, array)


def index_error(layer: str, rows: int, received: np.ndarray) -> ArgumentError:
    """What is wrong with indices that an Embedding of so many rows has not."""
    return ArgumentError(
        f"Embedding layer {layer!r} expects indices from 0 to {rows - 1}; received values from {received.min()} to "
        f"{received.max()}."
    )
