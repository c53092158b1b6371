"""Checks of labels before they reach a program: class indices in range, no NaN."""

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
