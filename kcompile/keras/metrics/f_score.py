"""F scores: precision and recall in one number, per class or averaged."""

from __future__ import annotations

from kcompile import plugins
from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import config, ops
from kcompile.keras.metrics.metric import Metric

_SMALLEST = 1e-9  # a largest score below this predicts no class (Keras's bound)
_TOTALS = ("true_positives", "false_positives", "false_negatives", "intermediate_weights")


class FBetaScore(Metric):
    """(1 + beta²)·precision·recall / (beta²·precision + recall).

    Args:
        average: None one score per class, "micro" over all counts, "macro" the mean, "weighted" the mean
            weighted by the number of labels of a class.
        beta: how much more recall counts.
        threshold: scores above it are predictions; None: the largest of a row.

    Shapes: y_true, y_pred [batch, classes].
    Source: van Rijsbergen 1979, chapter 7.
    """

    def __init__(self, average=None, beta=1.0, threshold=None, name="fbeta_score", dtype=None):
        super().__init__(name=name, dtype=dtype)
        if average not in (None, "micro", "macro", "weighted"):
            raise ArgumentError(
                "Invalid `average` argument value. Expected one of: {None, 'micro', 'macro', 'weighted'}. "
                f"Received: average={average}"
            )
        if not isinstance(beta, float) or beta <= 0.0:
            raise ArgumentError(f"Invalid `beta` argument value. It should be a float > 0. Received: beta={beta}")
        if threshold is not None and (not isinstance(threshold, float) or not 0.0 < threshold <= 1.0):
            raise ArgumentError(
                "Invalid `threshold` argument value. It should be a float with 0 < threshold <= 1. "
                f"Received: threshold={threshold}"
            )
        self.average = average
        self.beta = beta
        self.threshold = threshold

    def _build(self, y_true, y_pred) -> None:
        if len(y_pred.shape) != 2 or len(y_true.shape) != 2:
            raise ShapeError(
                f"{type(self).__name__} expects 2D inputs with shape (batch_size, output_dim). Received: "
                f"y_pred.shape={tuple(y_pred.shape)}, y_true.shape={tuple(y_true.shape)}"
            )
        shape = () if self.average == "micro" else (y_pred.shape[1],)
        for name in _TOTALS:
            setattr(self, name, self.add_variable(shape=shape, name=name))

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.convert_to_tensor(y_true, dtype=self.dtype)
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        if not self.variables:
            self._build(y_true, y_pred)
        if self.threshold is None:
            is_largest = y_pred >= ops.max(y_pred, axis=-1, keepdims=True)
            chosen = ops.logical_and(is_largest, ops.abs(y_pred) > _SMALLEST)
        else:
            chosen = y_pred > self.threshold
        chosen = ops.cast(chosen, self.dtype)
        weight = 1.0 if sample_weight is None else ops.convert_to_tensor(sample_weight, dtype=self.dtype)
        if sample_weight is not None and len(weight.shape) == 1:
            weight = ops.expand_dims(weight, 1)
        axis = None if self.average == "micro" else 0
        parts = (chosen * y_true, chosen * (1 - y_true), (1 - chosen) * y_true, y_true)
        for name, part in zip(_TOTALS, parts):
            getattr(self, name).assign_add(ops.sum(part * weight, axis=axis))

    def result(self):
        if not self.variables:
            return ops.zeros((), dtype=self.dtype)
        hits, wrong, missed, labels = (getattr(self, name).value for name in _TOTALS)
        epsilon, beta = config.epsilon(), self.beta**2
        precision = hits / (hits + wrong + epsilon)
        recall = hits / (hits + missed + epsilon)
        score = (1 + beta) * (precision * recall / (beta * precision + recall + epsilon))
        if self.average == "weighted":
            return ops.sum(score * (labels / (ops.sum(labels) + epsilon)))
        return score if self.average is None else ops.mean(score)

    def get_config(self):
        return {**super().get_config(), "average": self.average, "beta": self.beta, "threshold": self.threshold}


class F1Score(FBetaScore):
    """2·precision·recall / (precision + recall): FBetaScore with beta 1."""

    def __init__(self, average=None, threshold=None, name="f1_score", dtype=None):
        super().__init__(average=average, beta=1.0, threshold=threshold, name=name, dtype=dtype)

    def get_config(self):
        return {k: v for k, v in super().get_config().items() if k != "beta"}


CLASSES = (FBetaScore, F1Score)
for _class in CLASSES:
    plugins.register("metrics", _class.__name__, _class)
