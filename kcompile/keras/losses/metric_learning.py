"""Losses between the embeddings of a batch: pairs of one class close, pairs of two classes apart."""

from __future__ import annotations

from kcompile import plugins
from kcompile.keras import ops
from kcompile.keras.losses.loss import SUM_OVER_BATCH_SIZE, Loss, LossFunctionWrapper, set_mask

_NEVER = -1e30  # the logarithm of a pair that is left out


def circle(y_true, y_pred, ref_labels=None, ref_embeddings=None, remove_diagonal=True, gamma=80.0, margin=0.4):
    """softplus(log Σ exp over pairs of one class + log Σ exp over pairs of two), each pair with its own pace.

    Shapes:  y_true [batch] class indices, y_pred [batch, features] of unit length -> [batch].
    ref_labels, ref_embeddings: what to compare with; default the batch itself.
    Source:  Sun et al. 2020, "Circle Loss: A Unified Perspective of Pair Similarity Optimization".
    """
    y_pred = ops.convert_to_tensor(y_pred)
    labels = ops.reshape(ops.cast(ops.convert_to_tensor(y_true), "int32"), (-1, 1))
    others = y_pred if ref_embeddings is None else ops.convert_to_tensor(ref_embeddings)
    other_labels = labels if ref_labels is None else ops.cast(ops.convert_to_tensor(ref_labels), "int32")
    distance = ops.maximum(1.0 - ops.matmul(y_pred, ops.transpose(others)), 0.0)
    same = ops.equal(labels, ops.reshape(other_labels, (1, -1)))
    different = ops.logical_not(same)
    if remove_diagonal:
        rows, columns = distance.shape
        same = ops.logical_and(same, ops.not_equal(_counted(rows, 0), _counted(columns, 1)))
    near = -gamma * (margin + distance) * (margin - distance)
    far = gamma * ops.maximum(1.0 + margin - distance, 0.0) * (1.0 - margin - distance)
    pull = ops.logsumexp(ops.where(same, near, _NEVER), axis=1)
    push = ops.logsumexp(ops.where(different, far, _NEVER), axis=1)
    loss = ops.softplus(pull + push)
    return set_mask(loss, ops.greater(loss, 0.0))


def _counted(size, axis: int):
    """0, 1, 2, ... along one axis of a matrix."""
    return ops.expand_dims(ops.arange(size, dtype="int32"), 1 - axis)


class Circle(LossFunctionWrapper):
    """The class of `circle`; the batch is compared with itself."""

    def __init__(
        self,
        gamma=80.0,
        margin=0.4,
        remove_diagonal=True,
        reduction=SUM_OVER_BATCH_SIZE,
        name="circle",
        dtype=None,
    ):
        options = {"gamma": gamma, "margin": margin, "remove_diagonal": remove_diagonal}
        super().__init__(circle, reduction=reduction, name=name, dtype=dtype, **options)
        self.gamma, self.margin, self.remove_diagonal = gamma, margin, remove_diagonal
        self.takes_integer_labels = True

    def get_config(self):
        return {**Loss.get_config(self), **self._fn_kwargs}


circle.loss_class = Circle
circle.loss_names = ("circle",)
plugins.register("losses", "circle", circle)
plugins.register("losses", "Circle", Circle)
