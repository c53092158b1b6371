"""Metrics over many thresholds: the area under a curve, and the best of one ratio where another is good enough.

All counts come from one pass: with P predictions and T thresholds the comparison is a [P, T] mask that fuses
into four reductions and is never stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kcompile import plugins
from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import config, ops
from kcompile.keras.metrics.confusion import count
from kcompile.keras.metrics.metric import Metric

_COUNTS = ("true_positives", "false_positives", "true_negatives", "false_negatives")
_CURVES = ("ROC", "PR", "PRGAIN")
_SUMMATIONS = ("interpolation", "majoring", "minoring")


def _between(number: int) -> list[float]:
    """Thresholds strictly inside (0, 1) that cut it into number - 1 equal parts."""
    return [(i + 1) / (number - 1) for i in range(number - 2)]


class _Counting(Metric):
    """Keeps the four counts of the confusion matrix for every threshold."""

    def _add_counts(self, shape: tuple[int, ...]) -> None:
        for name in _COUNTS:
            setattr(self, name, self.add_variable(shape=shape, name=name))

    def _values(self):
        return tuple(getattr(self, name).value for name in _COUNTS)

    def _add(self, y_true, y_pred, thresholds, sample_weight, **options) -> None:
        found = count(("tp", "fp", "tn", "fn"), y_true, y_pred, thresholds, sample_weight, dtype=self.dtype, **options)
        for name, value in zip(_COUNTS, found):
            getattr(self, name).assign_add(value)


class AUC(_Counting):
    """The area under the ROC, precision-recall or precision-recall-gain curve, as a sum over thresholds.

    Args:
        num_thresholds: evenly spaced ones. thresholds: these instead, in [0, 1].
        curve: "ROC", "PR" or "PRGAIN".
        summation_method: heights of the pieces: "interpolation" (the mean; for PR as in the source),
            "minoring" (the lower end), "majoring" (the upper end).
        multi_label, num_labels, label_weights: an area per label, then their (weighted) mean; without
            multi_label the weights count the labels' predictions.
        from_logits: predictions go through a sigmoid.

    Source: Davis, Goadrich 2006 (interpolation of PR); Flach, Kull 2015 (PRGAIN).
    """

    def __init__(
        self,
        num_thresholds=200,
        curve="ROC",
        summation_method="interpolation",
        name=None,
        dtype=None,
        thresholds=None,
        multi_label=False,
        num_labels=None,
        label_weights=None,
        from_logits=False,
    ):
        super().__init__(name=name, dtype=dtype)
        self.curve = _one_of("curve", str(getattr(curve, "value", curve)).upper(), _CURVES)
        method = str(getattr(summation_method, "value", summation_method)).lower()
        self.summation_method = _one_of("summation_method", method, _SUMMATIONS)
        if thresholds is None and num_thresholds <= 1:
            raise ArgumentError(
                f"Argument `num_thresholds` must be an integer > 1. Received: num_thresholds={num_thresholds}"
            )
        self._given = None if thresholds is None else sorted(float(t) for t in thresholds)
        inner = _between(num_thresholds) if thresholds is None else self._given
        self.num_thresholds = len(inner) + 2
        # every probability is above the first and none above the last
        self.thresholds = [-config.epsilon(), *inner, 1.0 + config.epsilon()]
        if num_labels and not multi_label:
            raise ArgumentError("`num_labels` is needed only when `multi_label` is True.")
        self.multi_label = multi_label
        self.num_labels = num_labels
        self.label_weights = None if label_weights is None else np.asarray(label_weights, self.dtype)
        self.from_logits = from_logits
        if not multi_label or num_labels:
            self._build(num_labels)

    def _build(self, labels: int | None) -> None:
        self._add_counts((self.num_thresholds, labels) if self.multi_label else (self.num_thresholds,))

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        if self.multi_label and len(y_pred.shape) != 2:
            raise ShapeError(
                f"`y_pred` must have rank 2 when `multi_label=True`. Received: shape {tuple(y_pred.shape)}"
            )
        if not self.variables:
            self._build(y_pred.shape[1])
        if self.from_logits:
            y_pred = ops.sigmoid(y_pred)
        weights = None if self.multi_label else self.label_weights
        options = {"label_weights": weights, "per_label": self.multi_label}
        self._add(y_true, ops.clip(y_pred, 0.0, 1.0), self.thresholds, sample_weight, **options)

    def result(self):
        if not self.variables:
            return ops.zeros((), dtype=self.dtype)
        pieces = self._interpolated() if (self.curve, self.summation_method) == ("PR", "interpolation") else None
        if pieces is None:
            x, y = self._points()
            heights = {
                "interpolation": lambda a, b: (a + b) / 2.0,
                "minoring": ops.minimum,
                "majoring": ops.maximum,
            }[self.summation_method](y[:-1], y[1:])
            pieces = (x[:-1] - x[1:]) * heights
        if not self.multi_label:
            return ops.sum(pieces)
        areas = ops.sum(pieces, axis=0)
        if self.label_weights is None:
            return ops.mean(areas)
        return ops.divide_no_nan(ops.sum(areas * self.label_weights), float(self.label_weights.sum()))

    def _points(self):
        tp, fp, tn, fn = self._values()
        recall = ops.divide_no_nan(tp, tp + fn)
        if self.curve == "ROC":
            return ops.divide_no_nan(fp, fp + tn), recall
        if self.curve == "PR":
            return recall, ops.divide_no_nan(tp, tp + fp)
        ratio = ops.divide_no_nan(tp + fn, tn + fp)
        nothing = ops.equal(tp, 0.0)
        recall_gain = ops.where(nothing, 0.0, 1.0 - ratio * ops.divide_no_nan(fn, tp))
        precision_gain = ops.where(nothing, 1.0, 1.0 - ratio * ops.divide_no_nan(fp, tp))
        return ops.maximum(recall_gain, 0.0), precision_gain

    def _interpolated(self):
        """Within a piece true positives grow linearly with predicted positives: ∫ precision d(recall)."""
        tp, fp, _, fn = self._values()
        predicted = tp + fp
        gained = tp[:-1] - tp[1:]
        slope = ops.divide_no_nan(gained, ops.maximum(predicted[:-1] - predicted[1:], 0.0))
        intercept = tp[1:] - slope * predicted[1:]
        both = ops.logical_and(predicted[:-1] > 0, predicted[1:] > 0)
        growth = ops.where(both, ops.divide_no_nan(predicted[:-1], predicted[1:]), 1.0)
        return ops.divide_no_nan(slope * (gained + intercept * ops.log(growth)), ops.maximum(tp[1:] + fn[1:], 0.0))

    def get_config(self):
        weights = None if self.label_weights is None else self.label_weights.tolist()
        found = {
            **super().get_config(),
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "multi_label": self.multi_label,
            "num_labels": self.num_labels,
            "label_weights": weights,
            "from_logits": self.from_logits,
        }
        return found if self._given is None else {**found, "thresholds": self._given}


class _AtLeast(_Counting):
    """The largest value of one ratio over the thresholds at which another is at least `value`."""

    goal = ""

    def __init__(self, value, num_thresholds, class_id, name, dtype):
        super().__init__(name=name, dtype=dtype)
        if not 0 <= value <= 1:
            raise ArgumentError(f"Argument `{self.goal}` must be in the range [0, 1]. Received: {self.goal}={value}")
        if num_thresholds <= 0:
            raise ArgumentError(
                f"Argument `num_thresholds` must be an integer > 0. Received: num_thresholds={num_thresholds}"
            )
        self.value = value
        setattr(self, self.goal, value)
        self.num_thresholds = num_thresholds
        self.class_id = class_id
        self.thresholds = [0.5] if num_thresholds == 1 else [0.0, *_between(num_thresholds), 1.0]
        self._add_counts((len(self.thresholds),))

    def update_state(self, y_true, y_pred, sample_weight=None):
        self._add(y_true, y_pred, self.thresholds, sample_weight, class_id=self.class_id)

    def result(self):
        constrained, wanted = self._ratios(*self._values())
        return ops.max(ops.where(constrained >= self.value, wanted, 0.0))

    def _ratios(self, tp, fp, tn, fn):
        raise NotImplementedError

    def get_config(self):
        own = {"num_thresholds": self.num_thresholds, "class_id": self.class_id, self.goal: self.value}
        return {**super().get_config(), **own}


def _share(part, rest):
    return ops.divide_no_nan(part, part + rest)


class PrecisionAtRecall(_AtLeast):
    """The best precision at a recall of at least `recall`."""

    goal = "recall"

    def __init__(self, recall, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(recall, num_thresholds, class_id, name, dtype)

    def _ratios(self, tp, fp, tn, fn):
        return _share(tp, fn), _share(tp, fp)


class RecallAtPrecision(_AtLeast):
    """The best recall at a precision of at least `precision`."""

    goal = "precision"

    def __init__(self, precision, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(precision, num_thresholds, class_id, name, dtype)

    def _ratios(self, tp, fp, tn, fn):
        return _share(tp, fp), _share(tp, fn)


class SensitivityAtSpecificity(_AtLeast):
    """The best share of positives found, tp / (tp + fn), at tn / (tn + fp) of at least `specificity`."""

    goal = "specificity"

    def __init__(self, specificity, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(specificity, num_thresholds, class_id, name, dtype)

    def _ratios(self, tp, fp, tn, fn):
        return _share(tn, fp), _share(tp, fn)


class SpecificityAtSensitivity(_AtLeast):
    """The best share of negatives found, tn / (tn + fp), at tp / (tp + fn) of at least `sensitivity`."""

    goal = "sensitivity"

    def __init__(self, sensitivity, num_thresholds=200, class_id=None, name=None, dtype=None):
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)

    def _ratios(self, tp, fp, tn, fn):
        return _share(tp, fn), _share(tn, fp)


def _one_of(argument: str, value: str, known: Sequence[str]) -> str:
    if value not in known:
        raise ArgumentError(f'Invalid `{argument}` argument value "{value}". Expected one of: {list(known)}')
    return value


CLASSES = (AUC, PrecisionAtRecall, RecallAtPrecision, SensitivityAtSpecificity, SpecificityAtSensitivity)
for _class in CLASSES:
    plugins.register("metrics", _class.__name__, _class)
