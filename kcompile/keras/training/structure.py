"""Matching what users write per output (losses, weights, metrics, targets) to a model's outputs.

Everything here turns one of the many accepted nestings into a flat list, one entry per output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras.tracing import tree


def output_labels(y_pred: Any, names: Sequence[str] | None) -> list[str]:
    """Return a name per output: the model's, the keys of a dict, or `output_1`, `output_2`, ..."""
    leaves = tree.flatten(y_pred)
    if isinstance(y_pred, Mapping):
        return [str(path[-1]) for path, _ in tree.flatten_with_path(y_pred)]
    if names is not None and len(names) == len(leaves):
        return list(names)
    return [f"output_{i + 1}" for i in range(len(leaves))]


def per_output(value: Any, labels: Sequence[str], what: str, fill: Any = None) -> list[Any]:
    """Return one entry per output of a list, tuple, dict by name, or deeper nesting; missing ones are `fill`.

    Raises: ArgumentError naming the unknown keys, or the two lengths.
    """
    if value is None:
        return [fill] * len(labels)
    if isinstance(value, Mapping):
        unknown = [k for k in value if k not in labels]
        if unknown:
            raise ArgumentError(
                f"`{what}` has the keys {unknown}, which are no outputs of the model. Its outputs are {list(labels)}."
            )
        return [value.get(label, fill) for label in labels]
    if isinstance(value, (list, tuple)):
        flat = list(value) if len(value) == len(labels) else tree.flatten(value)
        if len(flat) != len(labels):
            raise ArgumentError(
                f"`{what}` has {len(flat)} entries for {len(labels)} outputs {list(labels)}. Received: {value}"
            )
        return flat
    if len(labels) == 1:
        return [value]
    raise ArgumentError(f"`{what}` needs one entry per output {list(labels)}. Received: {value}")


def targets_per_output(y: Any, labels: Sequence[str], has_loss: Sequence[bool]) -> list[Any]:
    """Return the target of each output, None where there is none.

    Targets are one tensor, a list or a dict by output name; they may be given for the outputs with a loss only.
    """
    if isinstance(y, Mapping):
        if len(y) == len(labels) and not any(k in labels for k in y):
            return tree.flatten(y)  # names of the user's own, as many as outputs
        return per_output(y, labels, "y")
    flat = tree.flatten(y)
    if len(flat) == len(labels):
        return flat
    if len(flat) == sum(has_loss):
        remaining = iter(flat)
        return [next(remaining) if h else None for h in has_loss]
    raise ArgumentError(f"`y` has {len(flat)} targets for {len(labels)} outputs {list(labels)}.")


def weights_per_output(sample_weight: Any, labels: Sequence[str]) -> list[Any]:
    """Return the sample weights of each output; a single array serves all of them."""
    if sample_weight is None:
        return [None] * len(labels)
    if not tree.is_nested(sample_weight):
        return [sample_weight] * len(labels)
    return per_output(sample_weight, labels, "sample_weight")
