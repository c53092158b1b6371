"""Losses that ask for a margin.

Shapes of all: y_true and y_pred [batch, d0, ..., dn] -> [batch, d0, ..., dn-1].
"""

from __future__ import annotations

from kcompile.keras import ops
from kcompile.keras.losses.loss import register_loss


@register_loss("Hinge")
def hinge(y_true, y_pred):
    """mean(max(1 - y_true·y_pred, 0)) over the last axis; labels -1/1, or 0/1 which are converted."""
    y_true, y_pred = _signed_pair(y_true, y_pred)
    return ops.mean(ops.maximum(1.0 - y_true * y_pred, 0.0), axis=-1)


@register_loss("SquaredHinge")
def squared_hinge(y_true, y_pred):
    """mean(max(1 - y_true·y_pred, 0)²) over the last axis; labels -1/1, or 0/1 which are converted."""
    y_true, y_pred = _signed_pair(y_true, y_pred)
    return ops.mean(ops.square(ops.maximum(1.0 - y_true * y_pred, 0.0)), axis=-1)


@register_loss("CategoricalHinge")
def categorical_hinge(y_true, y_pred):
    """max(neg - pos + 1, 0), pos = Σ y_true·y_pred, neg = max((1 - y_true)·y_pred); labels one-hot."""
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.cast(ops.convert_to_tensor(y_true), y_pred.dtype)
    positive = ops.sum(y_true * y_pred, axis=-1)
    negative = ops.max((1.0 - y_true) * y_pred, axis=-1)
    return ops.maximum(negative - positive + 1.0, 0.0)


def _signed_pair(y_true, y_pred):
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.cast(ops.convert_to_tensor(y_true), y_pred.dtype)
    are_binary = ops.all(ops.logical_or(ops.equal(y_true, 0.0), ops.equal(y_true, 1.0)))
    return ops.where(are_binary, 2.0 * y_true - 1.0, y_true), y_pred
