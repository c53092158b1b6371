"""Losses between numbers: squared, absolute, relative, logarithmic errors and cosine.

Shapes of all: y_true and y_pred [batch, d0, ..., dn] -> [batch, d0, ..., dn-1].
"""

from __future__ import annotations

import math

from kcompile.keras import config, ops
from kcompile.keras.losses.loss import pair_of_one_rank, register_loss


@register_loss("MeanSquaredError", aliases=("mse", "MSE"))
def mean_squared_error(y_true, y_pred):
    """mean((y_true - y_pred)²) over the last axis."""
    y_true, y_pred = pair_of_one_rank(y_true, y_pred)
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


@register_loss("MeanAbsoluteError", aliases=("mae", "MAE"))
def mean_absolute_error(y_true, y_pred):
    """mean(|y_true - y_pred|) over the last axis."""
    y_true, y_pred = pair_of_one_rank(y_true, y_pred)
    return ops.mean(ops.abs(y_true - y_pred), axis=-1)


@register_loss("MeanAbsolutePercentageError", aliases=("mape", "MAPE"))
def mean_absolute_percentage_error(y_true, y_pred):
    """100 · mean(|y_true - y_pred| / max(|y_true|, epsilon)) over the last axis."""
    y_true, y_pred = pair_of_one_rank(y_true, y_pred)
    relative = ops.abs((y_true - y_pred) / ops.maximum(ops.abs(y_true), config.epsilon()))
    return 100.0 * ops.mean(relative, axis=-1)


@register_loss("MeanSquaredLogarithmicError", aliases=("msle", "MSLE"))
def mean_squared_logarithmic_error(y_true, y_pred):
    """mean((log(y_true + 1) - log(y_pred + 1))²) over the last axis; both at least epsilon."""
    y_true, y_pred = pair_of_one_rank(y_true, y_pred)
    log_pred = ops.log(ops.maximum(y_pred, config.epsilon()) + 1.0)
    log_true = ops.log(ops.maximum(y_true, config.epsilon()) + 1.0)
    return ops.mean(ops.square(log_pred - log_true), axis=-1)


@register_loss("Huber", aliases=("huber_loss",))
def huber(y_true, y_pred, delta=1.0):
    """Mean over the last axis of e²/2 where |e| <= delta, of delta·|e| - delta²/2 elsewhere.

    Source: Huber 1964, "Robust Estimation of a Location Parameter".
    """
    y_true, y_pred = pair_of_one_rank(y_true, y_pred)
    error = y_pred - y_true
    size = ops.abs(error)
    linear = delta * size - 0.5 * delta * delta
    return ops.mean(ops.where(size <= delta, 0.5 * ops.square(error), linear), axis=-1)


@register_loss("LogCosh", aliases=("logcosh",))
def log_cosh(y_true, y_pred):
    """mean(log cosh(y_pred - y_true)) over the last axis, computed without overflow."""
    y_true, y_pred = pair_of_one_rank(y_true, y_pred)
    error = y_pred - y_true
    return ops.mean(error + ops.softplus(error * -2.0) - math.log(2.0), axis=-1)


@register_loss("CosineSimilarity", aliases=("cosine_proximity", "cosine", "CosineProximity"))
def cosine_similarity(y_true, y_pred, axis=-1):
    """Minus the cosine of the angle between the vectors along `axis`: -1 same direction, 1 opposite."""
    y_true, y_pred = pair_of_one_rank(y_true, y_pred)
    return -ops.sum(_unit(y_true, axis) * _unit(y_pred, axis), axis=axis)


_SMALLEST_SQUARE = 1e-12  # below this squared length a vector counts as this long (Keras's floor)


def _unit(x, axis):
    squared = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return x * ops.rsqrt(ops.maximum(squared, _SMALLEST_SQUARE))
