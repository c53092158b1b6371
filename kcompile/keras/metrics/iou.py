"""Intersection over union of predicted and labelled regions, from one confusion matrix of all classes.

The matrix of a batch is a product of two one-hot matrices, so it is an ordinary contraction.
"""

from __future__ import annotations

from kcompile import plugins
from kcompile.errors import ArgumentError
from kcompile.keras import ops
from kcompile.keras.metrics.metric import Metric


class IoU(Metric):
    """Mean over `target_class_ids` of tp / (tp + fp + fn).

    Args:
        num_classes: number of classes. target_class_ids: those that count.
        ignore_class: labels of this class count nowhere.
        sparse_y_true, sparse_y_pred: class indices; False: scores or one-hot along `axis`.
        dtype: of the counts; int32 by default, as in Keras.

    Shapes: any, y_true and y_pred with as many elements (without `axis`).
    Source: Everingham et al. 2010, "The Pascal Visual Object Classes Challenge", section 4.3.
    """

    def __init__(
        self,
        num_classes,
        target_class_ids,
        name=None,
        dtype=None,
        ignore_class=None,
        sparse_y_true=True,
        sparse_y_pred=True,
        axis=-1,
    ):
        super().__init__(name=name, dtype="int32" if dtype in (None, "int") else dtype)
        if max(target_class_ids) >= num_classes:
            raise ArgumentError(
                f"Target class id {max(target_class_ids)} is out of range, which is [0, {num_classes})."
            )
        self.num_classes = num_classes
        self.target_class_ids = list(target_class_ids)
        self.ignore_class = ignore_class
        self.sparse_y_true = sparse_y_true
        self.sparse_y_pred = sparse_y_pred
        self.axis = axis
        self.total_cm = self.add_variable((num_classes, num_classes), name="total_confusion_matrix")

    def update_state(self, y_true, y_pred, sample_weight=None):
        true = self._indices(y_true, self.sparse_y_true)
        pred = self._indices(y_pred, self.sparse_y_pred)
        weight = ops.ones_like(true, dtype="float32")
        if sample_weight is not None:
            weight = self._weights(sample_weight, true)
        if self.ignore_class is not None:
            weight = ops.where(ops.equal(true, int(self.ignore_class)), 0.0, weight)
        # an index outside the classes has no 1 in its row
        rows = ops.one_hot(true, self.num_classes, dtype="float32") * ops.expand_dims(weight, -1)
        columns = ops.one_hot(pred, self.num_classes, dtype="float32")
        self.total_cm.assign_add(ops.cast(ops.matmul(ops.transpose(rows), columns), self.dtype))

    def _indices(self, values, sparse):
        values = ops.convert_to_tensor(values)
        if not sparse:
            values = ops.argmax(values, axis=self.axis)
        return ops.reshape(ops.cast(values, "int32"), (-1,))

    def _weights(self, sample_weight, true):
        weight = ops.cast(ops.convert_to_tensor(sample_weight, dtype=self.dtype), "float32")  # whole, if counts are
        weight = ops.reshape(weight, (-1,)) if len(weight.shape) > 1 else weight
        return ops.broadcast_to(weight, ops.shape(true))

    def result(self):
        matrix = ops.cast(self.total_cm.value, "float32")
        hits = ops.diagonal(matrix)
        union = ops.sum(matrix, axis=0) + ops.sum(matrix, axis=1) - hits
        chosen = [float(c in self.target_class_ids) for c in range(self.num_classes)]
        chosen = ops.convert_to_tensor(chosen, dtype="float32")
        seen = chosen * ops.cast(union > 0, "float32")  # a class that never came up does not count
        return ops.divide_no_nan(ops.sum(seen * ops.divide_no_nan(hits, union)), ops.sum(seen))

    def get_config(self):
        own = ("num_classes", "target_class_ids", "ignore_class", "sparse_y_true", "sparse_y_pred", "axis")
        return {**super().get_config(), **{n: getattr(self, n) for n in own}}


class BinaryIoU(IoU):
    """IoU of two classes told apart by a threshold on one score; threshold None: y_pred holds the classes."""

    def __init__(self, target_class_ids=(0, 1), threshold=0.5, name=None, dtype=None):
        super().__init__(2, target_class_ids, name=name, dtype=dtype)
        self.threshold = threshold

    def update_state(self, y_true, y_pred, sample_weight=None):
        if self.threshold is not None:
            y_pred = ops.convert_to_tensor(y_pred) >= self.threshold
        super().update_state(y_true, y_pred, sample_weight)

    def get_config(self):
        own = {"target_class_ids": self.target_class_ids, "threshold": self.threshold}
        return {**Metric.get_config(self), **own}


class MeanIoU(IoU):
    """The mean IoU of all classes."""

    def __init__(
        self,
        num_classes,
        name=None,
        dtype=None,
        ignore_class=None,
        sparse_y_true=True,
        sparse_y_pred=True,
        axis=-1,
    ):
        super().__init__(num_classes, range(num_classes), name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)

    def get_config(self):
        return {k: v for k, v in super().get_config().items() if k != "target_class_ids"}


class OneHotIoU(IoU):
    """IoU with one-hot labels."""

    def __init__(
        self,
        num_classes,
        target_class_ids,
        name=None,
        dtype=None,
        ignore_class=None,
        sparse_y_pred=False,
        axis=-1,
    ):
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)

    def get_config(self):
        return {k: v for k, v in super().get_config().items() if k != "sparse_y_true"}


class OneHotMeanIoU(MeanIoU):
    """MeanIoU with one-hot labels."""

    def __init__(self, num_classes, name=None, dtype=None, ignore_class=None, sparse_y_pred=False, axis=-1):
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)

    def get_config(self):
        return {k: v for k, v in super().get_config().items() if k != "sparse_y_true"}


CLASSES = (IoU, BinaryIoU, MeanIoU, OneHotIoU, OneHotMeanIoU)
for _class in CLASSES:
    plugins.register("metrics", _class.__name__, _class)
