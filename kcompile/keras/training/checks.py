"""Checks of numbers that are indices, before they reach a program: class labels, inputs of an Embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras.training.compiled import CompiledLosses, OutputLoss
from kcompile.keras.training.structure import targets_per_output


def check_labels(losses: CompiledLosses | None, y: Any) -> None:
    """Check the labels of every output with a sparse loss.

    Raises: ArgumentError naming the output, the expected range and what was received.
    """
    if losses is None or not losses.parts or not any(p.classes for p in losses.parts):
        return
    has_loss = [any(p.output == i for p in losses.parts) for i in range(len(losses.labels))]
    targets = targets_per_output(y, losses.labels, has_loss)
    for part in losses.parts:
        if part.classes:
            _check(part, targets[part.output])


def _check(part: OutputLoss, labels: np.ndarray) -> None:
    if labels.dtype.kind in "iu":
        # one pass for the common case: negative numbers are huge as unsigned ones
        if labels.size == 0 or labels.view(f"u{labels.dtype.itemsize}").max() < part.classes:
            return
    elif np.isnan(labels).any():
        raise ArgumentError(f"{_where(part)}: expected class indices, received NaN among the labels.")
    wrong = labels[(labels < 0) | (labels >= part.classes)]
    if part.ignored is not None:
        wrong = wrong[wrong != part.ignored]
    if wrong.size:
        raise ArgumentError(
            f"{_where(part)}: expected class indices from 0 to {part.classes - 1}, received labels "
            f"such as {wrong.reshape(-1)[:3].tolist()} (range {labels.min()} to {labels.max()})."
        )


def _where(part: OutputLoss) -> str:
    return f"Invalid labels for output {part.label!r} with loss {part.loss.name!r}"


def fixed_rows(model: Any) -> int | None:
    """The only batch size a model with states from batch to batch can have, or None."""
    return next((n for layer in model._flatten_layers() if (n := getattr(layer, "fixed_batch_size", None))), None)


def check_rows(wanted: int | None, batch_size: int, rows: int) -> None:
    """Check that all batches have the size that a stateful model keeps states for.

    Raises: ArgumentError naming both sizes.
    """
    if wanted is not None and (rows % batch_size or batch_size != wanted) and rows != wanted:
        raise ArgumentError(
            "If an RNN is stateful, the batch size of the input sequences must be the same as the batch size of the "
            f"initial state. Expected batches of {wanted} rows; received {rows} rows in batches of {batch_size}."
        )


def check_count(name: str, value: Any, least: int = 0) -> None:
    """Raise ArgumentError unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ArgumentError(f"`{name}` must be an integer of at least {least}. Received: {name}={value!r}")
