"""The built-in train and test steps: what one program computes for one batch.

Each is a plain function of symbolic values that runs once, under `trace`. It reads and assigns Variables
(weights, slots, metric totals); the trace turns these into sources and assignments of one pure graph.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from kcompile import autodiff
from kcompile.ir.graph import Value
from kcompile.keras import ops
from kcompile.keras.optimizers import FlatWeights
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.dtypes import standardize_dtype
from kcompile.keras.tracing.scope import unwrap
from kcompile.keras.tracing.variable import Variable


def train(
    model, x: Any, y: Any, sample_weight: Any, weights: Sequence[Variable], flat: Sequence[FlatWeights] | None
) -> Any:
    """Forward, loss, gradients, optimizer, metrics: everything of interest is assigned.

    Returns the logs of a model that computes its metrics itself, None otherwise.

    A layer may change trained weights for the length of a step (SpectralNormalization does): what is derived by and
    updated are the weights as they are stored.
    """
    stored = [v.value for v in weights]
    y_pred, loss = _forward(model, x, y, sample_weight, training=True)
    optimizer = model.optimizer
    scaled = unwrap(optimizer.scale_loss(loss)) if hasattr(optimizer, "scale_loss") else loss
    gradients = autodiff.grad(scaled, stored) if weights else []
    for variable, value in zip(weights, stored):
        if variable.value is not value:
            variable.assign(value)
    if gradients:
        _apply(optimizer, gradients, weights, flat)
    return _count(model, x, y, y_pred, sample_weight)


def test(model, x: Any, y: Any, sample_weight: Any) -> Any:
    """Forward in inference mode, loss, metrics. Returns as `train`."""
    y_pred, _ = _forward(model, x, y, sample_weight, training=False)
    return _count(model, x, y, y_pred, sample_weight)


def shown(outputs: Any) -> Any:
    """The outputs of a model as they leave a program: bfloat16 as float32 (which NumPy has)."""
    return tree.map_structure(_shown, outputs)


def _shown(output: Any) -> Any:
    is_half = hasattr(output, "dtype") and standardize_dtype(output.dtype) == "bfloat16"
    return ops.cast(output, "float32") if is_half else output


def _count(model, x, y, y_pred, sample_weight) -> Any:
    own = model.own_method("compute_metrics")
    if own is not None:
        return own(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
    model.update_metrics(y, y_pred, sample_weight)
    return None


def _forward(model, x, y, sample_weight, training: bool) -> tuple[Any, Value]:
    y_pred = model(x, training=training)
    given = {"x": x, "y": y, "y_pred": y_pred, "sample_weight": sample_weight}
    if _takes_training(model.compute_loss):
        given["training"] = training
    loss = unwrap(ops.convert_to_tensor(model.compute_loss(**given)))
    # as Keras: the running loss counts each batch by its number of rows, penalties included
    model._training.loss_tracker.update_state(loss, sample_weight=batch_size(x))
    return y_pred, loss


def _takes_training(compute_loss: Callable) -> bool:
    """False for one that a user wrote as Keras 2 and 3.0 had it; an argument of any name takes this one too."""
    parameters = inspect.signature(compute_loss).parameters.values()
    return any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)


def batch_size(x: Any) -> Any:
    """Return the number of rows of a batch, a symbolic size inside a trace."""
    return next(leaf for leaf in tree.flatten(x) if leaf is not None).shape[0]


def _apply(optimizer, gradients, weights, flat) -> None:
    if flat:
        optimizer.apply(gradients, weights, flat=flat)
    else:
        optimizer.apply_gradients(zip(gradients, weights))
