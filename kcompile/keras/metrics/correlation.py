"""Agreement of targets and predictions as a whole: correlations, and the coefficient of determination."""

from __future__ import annotations

import warnings

from kcompile import plugins
from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import config, ops
from kcompile.keras.losses.loss import pair_of_one_rank, squeeze_or_expand_to_same_rank
from kcompile.keras.metrics.metric import Metric
from kcompile.keras.metrics.reduction import register_metric


@register_metric("PearsonCorrelation")
def pearson_correlation(y_true, y_pred, axis=-1):
    """The mean product of both vectors, each shifted and scaled to mean 0 and deviation 1 along `axis`.

    Shapes:  both [batch, d0, ..., dn] -> [batch, d0, ..., dn-1].
    """
    y_true, y_pred = pair_of_one_rank(y_true, y_pred)
    return ops.mean(_standardized(y_true, axis) * _standardized(y_pred, axis), axis=axis)


@register_metric("ConcordanceCorrelation")
def concordance_correlation(y_true, y_pred, axis=-1):
    """mean(2·(y - mean p)·(p - mean p)) / (var y + var p + (mean y - mean p)²) along `axis`.

    Shapes:  both [batch, d0, ..., dn] -> [batch, d0, ..., dn-1].
    Source:  Lin 1989; the covariance may take either mean, (p - mean p) sums to zero.
    """
    y_true, y_pred = pair_of_one_rank(y_true, y_pred)
    mean_true, mean_pred = (ops.mean(a, axis=axis, keepdims=True) for a in (y_true, y_pred))
    spread = ops.var(y_true, axis=axis, keepdims=True) + ops.var(y_pred, axis=axis, keepdims=True)
    norm = spread + ops.square(mean_true - mean_pred) + config.epsilon()
    return ops.mean(2.0 * (y_true - mean_pred) * (y_pred - mean_pred) / norm, axis=axis)


PearsonCorrelation = pearson_correlation.metric_class
ConcordanceCorrelation = concordance_correlation.metric_class


def _standardized(x, axis):
    x = x - ops.mean(x, axis=axis, keepdims=True)
    return x / ops.sqrt(ops.mean(ops.square(x), axis=axis, keepdims=True))


_SUMS = ("squared_sum", "sum", "residual", "count")


class R2Score(Metric):
    """1 - Σ (y - p)² / Σ (y - mean y)² per output, averaged.

    Args:
        class_aggregation: "uniform_average", "variance_weighted_average", or None for one score per output.
        num_regressors: above 0, the adjusted score for so many predictors.

    Shapes: y_true, y_pred [batch, outputs].
    """

    def __init__(self, class_aggregation="uniform_average", num_regressors=0, name="r2_score", dtype=None):
        super().__init__(name=name, dtype=dtype)
        known = (None, "uniform_average", "variance_weighted_average")
        if class_aggregation not in known:
            raise ArgumentError(
                f"Invalid value for argument `class_aggregation`. Expected one of {known}. "
                f"Received: class_aggregation={class_aggregation}"
            )
        if num_regressors < 0:
            raise ArgumentError(
                "Invalid value for argument `num_regressors`. Expected a value >= 0. "
                f"Received: num_regressors={num_regressors}"
            )
        self.class_aggregation = class_aggregation
        self.num_regressors = num_regressors
        self.num_samples = self.add_variable((), name="num_samples")
        self._sums: list = []

    def _build(self, y_true, y_pred) -> None:
        if len(y_pred.shape) != 2 or len(y_true.shape) != 2:
            raise ShapeError(
                "R2Score expects 2D inputs with shape (batch_size, output_dim). Received: "
                f"y_pred.shape={tuple(y_pred.shape)}, y_true.shape={tuple(y_true.shape)}"
            )
        self._sums = [self.add_variable((y_pred.shape[1],), name=name) for name in _SUMS]

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.convert_to_tensor(y_true, dtype=self.dtype)
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        y_true, y_pred = squeeze_or_expand_to_same_rank(y_true, y_pred)
        if not self._sums:
            self._build(y_true, y_pred)
        weight = ops.convert_to_tensor(1.0 if sample_weight is None else sample_weight, dtype=self.dtype)
        if len(weight.shape) == 1:
            weight = ops.expand_dims(weight, 1)
        weight = weight + ops.zeros_like(y_true)
        parts = (y_true * y_true * weight, y_true * weight, ops.square(y_true - y_pred) * weight, weight)
        for total, part in zip(self._sums, parts):
            total.assign_add(ops.sum(part, axis=0))
        self.num_samples.assign_add(ops.sum(ops.ones_like(y_true)))

    def result(self):
        if not self._sums:
            return ops.zeros((), dtype=self.dtype)
        squares, totals, residual, number = (v.value for v in self._sums)
        spread = squares - totals * (totals / number)
        score = 1 - residual / spread
        score = ops.where(ops.isinf(score), 0.0, score)
        if self.class_aggregation == "uniform_average":
            score = ops.mean(score)
        elif self.class_aggregation == "variance_weighted_average":
            score = ops.sum(spread * score) / ops.sum(spread)
        return self._adjusted(score) if self.num_regressors else score

    def _adjusted(self, score):
        samples, used = float(self.num_samples.numpy()), self.num_regressors
        if used >= samples - 1:
            why = "Division by zero" if used == samples - 1 else "More independent predictors than datapoints"
            warnings.warn(f"{why} in adjusted R2 score. Falling back to standard R2 score.", stacklevel=3)
            return score
        return 1.0 - (1.0 - score) * (samples - 1.0) / (samples - used - 1.0)

    def get_config(self):
        own = {"class_aggregation": self.class_aggregation, "num_regressors": self.num_regressors}
        return {**super().get_config(), **own}


class MeanTensor(Metric):
    """The elementwise (weighted) mean of the tensors given; Keras 2's.

    >>> m = MeanTensor(); m.update_state([0.0, 2.0]); m.update_state([4.0, 4.0]); m.result().numpy()
    array([2., 3.], dtype=float32)
    """

    def __init__(self, name="mean_tensor", dtype=None, shape=None):
        super().__init__(name=name, dtype=dtype)
        self.shape = None if shape is None else tuple(shape)
        if shape is not None:
            self._build(self.shape)

    def _build(self, shape) -> None:
        self.total = self.add_variable(shape, name="total")
        self.count = self.add_variable(shape, name="count")

    def update_state(self, values, sample_weight=None):
        values = ops.convert_to_tensor(values, dtype=self.dtype)
        if not self.variables:
            self._build(tuple(values.shape))
        if tuple(values.shape) != tuple(self.total.shape):
            raise ShapeError(
                "MeanTensor input values must always have the same shape. "
                f"Expected shape (set during the first call): {self.total.shape}. Got: {tuple(values.shape)}."
            )
        number = ops.ones_like(values)
        if sample_weight is not None:
            weight = ops.convert_to_tensor(sample_weight, dtype=self.dtype)
            values, weight = squeeze_or_expand_to_same_rank(values, weight)
            while len(weight.shape) < len(values.shape):
                weight = ops.expand_dims(weight, -1)
            values, number = values * weight, number * weight
        self.total.assign_add(values)
        self.count.assign_add(number)

    def result(self):
        if not self.variables:
            raise ArgumentError("MeanTensor does not have any value yet. Please call `update_state(values)` first.")
        return ops.divide_no_nan(self.total.value, self.count.value)

    def get_config(self):
        return {**super().get_config(), "shape": self.shape}


plugins.register("metrics", "R2Score", R2Score, aliases=("r2_score",))
plugins.register("metrics", "MeanTensor", MeanTensor, aliases=("mean_tensor",))
CLASSES = (R2Score, MeanTensor)
