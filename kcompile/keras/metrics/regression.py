"""Means of the loss functions, as metrics, and a few that are only metrics."""

from __future__ import annotations

import numpy as np

from kcompile import plugins
from kcompile.keras import ops
from kcompile.keras.losses import probabilistic as _probabilistic
from kcompile.keras.losses import regression as _regression
from kcompile.keras.losses.hinge import categorical_hinge, hinge, squared_hinge
from kcompile.keras.metrics.reduction import Mean, metric_of, register_metric, squeeze_or_expand_to_same_rank

MeanSquaredError = metric_of(_regression.mean_squared_error, "MeanSquaredError", ("mse", "MSE"))
MeanAbsoluteError = metric_of(_regression.mean_absolute_error, "MeanAbsoluteError", ("mae", "MAE"))
MeanAbsolutePercentageError = metric_of(
    _regression.mean_absolute_percentage_error, "MeanAbsolutePercentageError", ("mape", "MAPE")
)
MeanSquaredLogarithmicError = metric_of(
    _regression.mean_squared_logarithmic_error, "MeanSquaredLogarithmicError", ("msle", "MSLE")
)
LogCoshError = metric_of(_regression.log_cosh, "LogCoshError", ("logcosh",), name="logcosh")
Huber = metric_of(_regression.huber, "Huber")

BinaryCrossentropy = metric_of(
    _probabilistic.binary_crossentropy,
    "BinaryCrossentropy",
    ("bce", "BCE"),
    order=("name", "dtype", "from_logits", "label_smoothing", "axis"),
)
CategoricalCrossentropy = metric_of(_probabilistic.categorical_crossentropy, "CategoricalCrossentropy", ("cce",))
SparseCategoricalCrossentropy = metric_of(
    _probabilistic.sparse_categorical_crossentropy,
    "SparseCategoricalCrossentropy",
    ("scce",),
    order=("name", "dtype", "from_logits", "ignore_class", "axis"),
)
BinaryFocalCrossentropy = metric_of(_probabilistic.binary_focal_crossentropy, "BinaryFocalCrossentropy")
CategoricalFocalCrossentropy = metric_of(_probabilistic.categorical_focal_crossentropy, "CategoricalFocalCrossentropy")
KLDivergence = metric_of(_probabilistic.kl_divergence, "KLDivergence", ("kullback_leibler_divergence", "kld", "KLD"))
Poisson = metric_of(_probabilistic.poisson, "Poisson")

Hinge = metric_of(hinge, "Hinge")
SquaredHinge = metric_of(squared_hinge, "SquaredHinge")
CategoricalHinge = metric_of(categorical_hinge, "CategoricalHinge")


@register_metric("CosineSimilarity", aliases=("cosine_proximity", "cosine"))
def cosine_similarity(y_true, y_pred, axis=-1):
    """The cosine of the angle between the vectors along `axis` (the loss of this name is its negative)."""
    return -_regression.cosine_similarity(y_true, y_pred, axis=axis)


CosineSimilarity = cosine_similarity.metric_class


class RootMeanSquaredError(Mean):
    """The square root of the mean squared error over all samples."""

    def __init__(self, name="root_mean_squared_error", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        y_true = ops.convert_to_tensor(y_true, dtype=self.dtype)
        y_true, y_pred = squeeze_or_expand_to_same_rank(y_true, y_pred)
        super().update_state(ops.square(y_pred - y_true), sample_weight=sample_weight)

    def result(self):
        return ops.sqrt(super().result())


plugins.register("metrics", "RootMeanSquaredError", RootMeanSquaredError, aliases=("rmse", "RMSE"))


class MeanRelativeError(Mean):
    """The mean of |y_true - y_pred| / normalizer, 0 where the normalizer is 0; Keras 2's.

    Args:
        normalizer: what errors are measured in; broadcasts to y_pred.
    """

    def __init__(self, normalizer, name=None, dtype=None):
        super().__init__(name=name or "mean_relative_error", dtype=dtype)
        self.normalizer = normalizer

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.convert_to_tensor(y_pred, dtype=self.dtype)
        y_true = ops.convert_to_tensor(y_true, dtype=self.dtype)
        y_true, y_pred = squeeze_or_expand_to_same_rank(y_true, y_pred)
        normalizer = ops.convert_to_tensor(self.normalizer, dtype=self.dtype)
        relative = ops.divide_no_nan(ops.abs(y_true - y_pred), normalizer)
        super().update_state(relative, sample_weight=sample_weight)

    def get_config(self):
        return {**super().get_config(), "normalizer": np.asarray(self.normalizer).tolist()}


plugins.register("metrics", "MeanRelativeError", MeanRelativeError, aliases=("mean_relative_error",))
