"""The train, test and predict steps: what one program computes for one batch.

Each is a plain function of symbolic values that runs once, under `trace`. It reads and assigns Variables
(weights, slots, metric totals); the trace turns these into sources and assignments of one pure graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kcompile import autodiff
from kcompile.ir.graph import Value
from kcompile.keras import ops
from kcompile.keras.optimizers import FlatWeights
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.dtypes import standardize_dtype
from kcompile.keras.tracing.scope import unwrap
from kcompile.keras.tracing.variable import Variable


def train(model, x: Any, y: Any, sample_weight: Any, weights: Sequence[Variable], flat: Sequence[FlatWeights]) -> dict:
    """Forward, loss, gradients, optimizer, metrics. No outputs: everything of interest is assigned.

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
    model.compute_metrics(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
    return {}


def test(model, x: Any, y: Any, sample_weight: Any) -> dict:
    """Forward in inference mode, loss, metrics. No outputs."""
    y_pred, _ = _forward(model, x, y, sample_weight, training=False)
    model.compute_metrics(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight)
    return {}


def predict(model, x: Any) -> Any:
    """Forward in inference mode; returns the model's outputs, bfloat16 as float32 (which NumPy has)."""
    return tree.map_structure(_shown, model(x, training=False))


def _shown(output: Any) -> Any:
    is_half = hasattr(output, "dtype") and standardize_dtype(output.dtype) == "bfloat16"
    return ops.cast(output, "float32") if is_half else output


def _forward(model, x, y, sample_weight, training: bool) -> tuple[Any, Value]:
    y_pred = model(x, training=training)
    loss = model.compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
    loss = unwrap(ops.convert_to_tensor(loss))
    # as Keras: the running loss counts each batch by its number of rows, penalties included
    model._training.loss_tracker.update_state(loss, sample_weight=batch_size(x))
    return y_pred, loss


def batch_size(x: Any) -> Any:
    """Return the number of rows of a batch, a symbolic size inside a trace."""
    return next(leaf for leaf in tree.flatten(x) if leaf is not None).shape[0]


def _apply(optimizer, gradients, weights, flat) -> None:
    if flat:
        optimizer.apply(gradients, weights, flat=flat)
    else:
        optimizer.apply_gradients(zip(gradients, weights))
