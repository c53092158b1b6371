"""How often predictions are right: equal, above a threshold, the largest, among the k largest.

Each function gives 1 or 0 per sample; the classes are the means.
"""

from __future__ import annotations

import math

from kcompile.keras import config, ops
from kcompile.keras.losses.loss import squeeze_or_expand_to_same_rank
from kcompile.keras.metrics.reduction import register_metric


@register_metric("Accuracy")
def accuracy(y_true, y_pred):
    """1 where y_pred equals y_true.

    Shapes:  both [batch, d0, ...] -> the same.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.cast(ops.convert_to_tensor(y_true), y_pred.dtype)
    y_true, y_pred = squeeze_or_expand_to_same_rank(y_true, y_pred)
    return _ones_where(ops.equal(y_true, y_pred))


@register_metric("BinaryAccuracy")
def binary_accuracy(y_true, y_pred, threshold=0.5):
    """1 where y_pred > threshold agrees with the label 0 or 1.

    Shapes:  both [batch, d0, ...] -> the same.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.convert_to_tensor(y_true)
    y_true, y_pred = squeeze_or_expand_to_same_rank(y_true, y_pred)
    positive = ops.cast(ops.greater(y_pred, threshold), y_true.dtype)
    return _ones_where(ops.equal(y_true, positive))


@register_metric("CategoricalAccuracy")
def categorical_accuracy(y_true, y_pred):
    """1 where the largest of y_pred is at the 1 of the one-hot label.

    Shapes:  both [batch, d0, ..., classes] -> [batch, d0, ...].
    """
    true = ops.argmax(ops.convert_to_tensor(y_true), axis=-1)
    return _ones_where(ops.equal(true, ops.argmax(ops.convert_to_tensor(y_pred), axis=-1)))


@register_metric("SparseCategoricalAccuracy")
def sparse_categorical_accuracy(y_true, y_pred):
    """1 where the largest of y_pred is at the labelled class.

    Shapes:  y_true [batch, d0, ...] or [batch, d0, ..., 1], y_pred [batch, d0, ..., classes] -> [batch, d0, ...].
    """
    y_true, y_pred = _labels(y_true, y_pred)
    return _ones_where(ops.equal(y_true, ops.argmax(y_pred, axis=-1)))


@register_metric("TopKCategoricalAccuracy", order=("k", "name", "dtype"))
def top_k_categorical_accuracy(y_true, y_pred, k=5):
    """1 where the 1 of the one-hot label is among the k largest of y_pred.

    Shapes:  both [batch, d0, ..., classes] -> [batch, d0, ...].
    """
    return _in_top_k(ops.argmax(ops.convert_to_tensor(y_true), axis=-1), ops.convert_to_tensor(y_pred), k)


@register_metric("SparseTopKCategoricalAccuracy", order=("k", "name", "dtype", "from_sorted_ids"))
def sparse_top_k_categorical_accuracy(y_true, y_pred, k=5, from_sorted_ids=False):
    """1 where the labelled class is among the k largest of y_pred.

    Shapes:  y_true [batch, d0, ...] or [..., 1], y_pred [batch, d0, ..., classes] -> [batch, d0, ...].
    from_sorted_ids: y_pred holds class indices from best to worst instead of scores.
    """
    if from_sorted_ids:
        y_pred = ops.convert_to_tensor(y_pred)
        y_true = ops.cast(ops.convert_to_tensor(y_true), y_pred.dtype)
        return _ones_where(ops.any(ops.equal(ops.expand_dims(y_true, -1), y_pred[..., :k]), axis=-1))
    y_true, y_pred = _labels(y_true, y_pred)
    return _in_top_k(y_true, y_pred, k)


def _labels(y_true, y_pred):
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.convert_to_tensor(y_true)
    if len(y_true.shape) == len(y_pred.shape) and y_true.shape[-1] == 1:
        y_true = ops.squeeze(y_true, axis=-1)
    return ops.cast(y_true, "int32"), y_pred


def _in_top_k(labels, y_pred, k):
    """A class is among the k largest if fewer than k scores are above its own."""
    chosen = ops.one_hot(labels, y_pred.shape[-1], dtype="bool")
    own = ops.max(ops.where(chosen, y_pred, -math.inf), axis=-1, keepdims=True)
    above = ops.sum(ops.cast(ops.greater(y_pred, own), "int32"), axis=-1)
    return _ones_where(ops.less(above, k))


def _ones_where(condition):
    return ops.cast(condition, config.floatx())
