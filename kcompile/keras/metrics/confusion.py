"""Counts of true and false positives and negatives, and their ratios.

A prediction above a threshold is positive. With several thresholds there is one result per threshold.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from kcompile import plugins
from kcompile.errors import ArgumentError
from kcompile.keras import ops
from kcompile.keras.losses.loss import squeeze_or_expand_to_same_rank
from kcompile.keras.metrics.metric import Metric

# condition: (is the label positive, is the prediction positive)
_CONDITIONS = {"tp": (True, True), "fp": (False, True), "tn": (False, False), "fn": (True, False)}
BELOW_ALL = -1e10  # stands for a score that is not among the k largest


def thresholds_of(thresholds, default: float = 0.5) -> list[float]:
    """Return thresholds as a list.

    Raises: ArgumentError for one outside [0, 1].
    """
    if thresholds is None:
        return [default]
    found = [float(t) for t in (thresholds if isinstance(thresholds, Iterable) else [thresholds])]
    invalid = [t for t in found if not 0 <= t <= 1]
    if invalid:
        raise ArgumentError(f"Threshold values must be in [0, 1]. Received: {invalid}")
    return found


def count(
    conditions: Iterable[str],
    y_true,
    y_pred,
    thresholds,
    sample_weight=None,
    class_id=None,
    dtype="float32",
    top_k=None,
    label_weights=None,
    per_label=False,
):
    """Return the (weighted) number of samples in each of `conditions`, one per threshold.

    Args:
        class_id: count only this place of the last axis.
        top_k: only the k largest of a row can be positive.
        label_weights: weights along the last axis.
        per_label: keep the last axis apart.

    Shapes:  y_true, y_pred [batch, d0, ...]; results [thresholds], per_label [thresholds, labels].
    """
    y_true = ops.cast(ops.convert_to_tensor(y_true), dtype)
    y_pred = ops.cast(ops.convert_to_tensor(y_pred), dtype)
    y_pred, y_true = squeeze_or_expand_to_same_rank(y_pred, y_true)
    if top_k is not None:
        y_pred = ops.where(_is_in_top(y_pred, top_k), y_pred, BELOW_ALL)
    if class_id is not None:
        if len(y_pred.shape) == 1:
            raise ArgumentError(
                "When class_id is provided, y_pred must be a 2D array with shape (num_samples, num_classes), "
                f"found shape: {tuple(y_pred.shape)}"
            )
        y_true = y_true[..., class_id : class_id + 1]
        y_pred = y_pred[..., class_id : class_id + 1]
    if sample_weight is not None:
        sample_weight = ops.convert_to_tensor(sample_weight, dtype=dtype)
        while len(sample_weight.shape) < len(y_pred.shape):
            sample_weight = ops.expand_dims(sample_weight, -1)
    if label_weights is not None:
        label_weights = ops.convert_to_tensor(label_weights, dtype=dtype)
        sample_weight = label_weights if sample_weight is None else sample_weight * label_weights
    is_true = ops.expand_dims(ops.not_equal(y_true, 0.0), -1)
    is_predicted = ops.greater(ops.expand_dims(y_pred, -1), np.asarray(thresholds, dtype))
    results = []
    for label, prediction in (_CONDITIONS[c] for c in conditions):
        hit = ops.logical_and(
            is_true if label else ops.logical_not(is_true),
            is_predicted if prediction else ops.logical_not(is_predicted),
        )
        hit = ops.cast(hit, dtype)
        if sample_weight is not None:
            hit = hit * ops.expand_dims(sample_weight, -1)
        if per_label:
            results.append(ops.transpose(ops.sum(hit, axis=list(range(len(hit.shape) - 2)))))
        else:
            results.append(ops.sum(hit, axis=list(range(len(hit.shape) - 1))))
    return results


def _is_in_top(y_pred, k: int):
    """Whether fewer than k of the row stand before an element: larger ones, and equal ones further left."""
    size = y_pred.shape[-1]
    mine, other = ops.expand_dims(y_pred, -1), ops.expand_dims(y_pred, -2)
    is_left = np.tri(size, size, -1, dtype=bool)
    before = ops.logical_or(other > mine, ops.logical_and(ops.equal(other, mine), is_left))
    return ops.sum(ops.cast(before, "int32"), axis=-1) < k


class _Count(Metric):
    """The number of samples in one condition."""

    condition = ""

    def __init__(self, thresholds=None, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        self.thresholds = thresholds_of(thresholds)
        self.accumulator = self.add_variable(shape=(len(self.thresholds),), name="accumulator")

    def update_state(self, y_true, y_pred, sample_weight=None):
        (found,) = count((self.condition,), y_true, y_pred, self.thresholds, sample_weight, dtype=self.dtype)
        self.accumulator.assign_add(found)

    def result(self):
        value = self.accumulator.value
        return value[0] if len(self.thresholds) == 1 else value

    def get_config(self):
        return {**super().get_config(), "thresholds": self.init_thresholds}


class TruePositives(_Count):
    """How many positive labels were predicted positive."""

    condition = "tp"


class FalsePositives(_Count):
    """How many negative labels were predicted positive."""

    condition = "fp"


class TrueNegatives(_Count):
    """How many negative labels were predicted negative."""

    condition = "tn"


class FalseNegatives(_Count):
    """How many positive labels were predicted negative."""

    condition = "fn"


class _Ratio(Metric):
    """hits / (hits + misses)."""

    hits, misses = "true_positives", ""
    conditions: tuple[str, str] = ("tp", "")

    def __init__(self, thresholds=None, top_k=None, class_id=None, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.init_thresholds = thresholds
        # being among the k largest is enough, unless a threshold is given as well
        self.thresholds = thresholds_of(thresholds, default=0.5 if top_k is None else BELOW_ALL)
        self.top_k = top_k
        self.class_id = class_id
        size = (len(self.thresholds),)
        setattr(self, self.hits, self.add_variable(shape=size, name=self.hits))
        setattr(self, self.misses, self.add_variable(shape=size, name=self.misses))

    def update_state(self, y_true, y_pred, sample_weight=None):
        hits, misses = count(
            self.conditions,
            y_true,
            y_pred,
            self.thresholds,
            sample_weight,
            self.class_id,
            self.dtype,
            self.top_k,
        )
        getattr(self, self.hits).assign_add(hits)
        getattr(self, self.misses).assign_add(misses)

    def result(self):
        hits, misses = getattr(self, self.hits).value, getattr(self, self.misses).value
        value = ops.divide_no_nan(hits, hits + misses)
        return value[0] if len(self.thresholds) == 1 else value

    def get_config(self):
        config = {"thresholds": self.init_thresholds, "top_k": self.top_k, "class_id": self.class_id}
        return {**super().get_config(), **config}


class Precision(_Ratio):
    """Of what was predicted positive, the share that is: tp / (tp + fp)."""

    misses = "false_positives"
    conditions = ("tp", "fp")


class Recall(_Ratio):
    """Of what is positive, the share that was found: tp / (tp + fn)."""

    misses = "false_negatives"
    conditions = ("tp", "fn")


CLASSES = (TruePositives, FalsePositives, TrueNegatives, FalseNegatives, Precision, Recall)
for _class in CLASSES:
    plugins.register("metrics", _class.__name__, _class)
