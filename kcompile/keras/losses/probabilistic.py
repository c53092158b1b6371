"""Losses between distributions: cross-entropies, Kullback-Leibler divergence, Poisson.

Probabilities are clipped to [epsilon, 1 - epsilon] before a logarithm; logits go through log-softmax or
log-sigmoid instead. Everything is composed of ops, so that a cross-entropy fuses with what is before it.
"""

from __future__ import annotations

import warnings

from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import config, ops
from kcompile.keras.losses.loss import pair_of_one_dtype, register_loss, set_mask


@register_loss("BinaryCrossentropy", aliases=("bce", "BCE", "logloss"))
def binary_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    """-mean(y·log p + (1 - y)·log(1 - p)) over `axis`; labels in [0, 1].

    Shapes:  both [batch, d0, ..., dn] -> [batch, d0, ..., dn-1].
    """
    y_true, y_pred = pair_of_one_dtype(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing
    _check_same_shape("binary_crossentropy", y_true, y_pred)
    return ops.mean(_binary(y_true, y_pred, from_logits), axis=axis)


def _binary(target, output, from_logits):
    if from_logits:
        return -target * ops.log_sigmoid(output) - (1.0 - target) * ops.log_sigmoid(-output)
    output = _clipped(output)
    return -(target * ops.log(output) + (1.0 - target) * ops.log(1.0 - output))


@register_loss("CategoricalGeneralizedCrossEntropy", integer_labels=True, order=("q", "reduction", "name", "dtype"))
def categorical_generalized_cross_entropy(y_true, y_pred, q=0.5):
    """(1 - p^q) / q of the labelled class: from cross-entropy (q near 0) to mean absolute error (q near 1).

    Shapes:  y_true [batch] or [batch, 1] of class indices, y_pred [batch, classes] probabilities -> [batch].
    Raises:  ArgumentError unless 0 < q < 1.
    Source:  Zhang, Sabuncu 2018, equation 6.
    """
    if not 0 < q < 1:
        raise ArgumentError(f"q must be in the interval (0, 1). Received: q={q}")
    y_pred = ops.convert_to_tensor(y_pred)
    labels = ops.cast(ops.convert_to_tensor(y_true), "int32")
    if len(labels.shape) == len(y_pred.shape) and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    p = ops.sum(y_pred * ops.one_hot(labels, y_pred.shape[-1], dtype=y_pred.dtype), axis=-1)
    return (1.0 - ops.power(p, q)) / q


@register_loss("CategoricalCrossentropy", aliases=("cce", "CCE"))
def categorical_crossentropy(y_true, y_pred, from_logits=False, label_smoothing=0.0, axis=-1):
    """-Σ y·log p along `axis`; labels one-hot, or any distribution.

    Shapes:  both [batch, d0, ..., classes] -> [batch, d0, ...].
    """
    _check_axis(axis)
    y_true, y_pred = pair_of_one_dtype(y_true, y_pred)
    if y_pred.shape[axis] == 1:
        warnings.warn(
            "In loss categorical_crossentropy, expected y_pred.shape to be (batch_size, num_classes) with "
            f"num_classes > 1. Received: y_pred.shape={tuple(y_pred.shape)}. Consider using "
            "'binary_crossentropy' if you only have 2 classes.",
            SyntaxWarning,
            stacklevel=2,
        )
    _check_same_shape("categorical_crossentropy", y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + label_smoothing / y_true.shape[-1]
    return -ops.sum(y_true * _log_probabilities(y_pred, from_logits, axis), axis=axis)


@register_loss(
    "SparseCategoricalCrossentropy",
    aliases=("scce", "SCCE"),
    integer_labels=True,
    order=("from_logits", "ignore_class", "reduction", "axis", "name", "dtype"),
)
def sparse_categorical_crossentropy(y_true, y_pred, from_logits=False, ignore_class=None, axis=-1):
    """-log p of the labelled class along `axis`; labels are class indices.

    Shapes:  y_true [batch, d0, ...] or [batch, d0, ..., 1], y_pred [batch, d0, ..., classes] -> [batch, d0, ...].
    """
    _check_axis(axis)
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.convert_to_tensor(y_true)
    if len(y_true.shape) == len(y_pred.shape) and y_true.shape[axis] == 1:
        y_true = ops.squeeze(y_true, axis=axis)
    _check_sparse_shape(y_true, y_pred, axis)
    labels = ops.cast(y_true, "int32")
    valid = None
    if ignore_class is not None:
        valid = ops.not_equal(labels, int(ignore_class))
        labels = ops.where(valid, labels, 0)
    log_p = _log_probabilities(y_pred, from_logits, axis)
    chosen = ops.one_hot(labels, y_pred.shape[axis], axis=axis, dtype="bool")
    loss = -ops.sum(ops.where(chosen, log_p, 0.0), axis=axis)
    if valid is not None:
        loss = set_mask(ops.where(valid, loss, 0.0), valid)
    return loss


def _log_probabilities(output, from_logits, axis):
    if from_logits:
        return ops.log_softmax(output, axis=axis)
    return ops.log(_clipped(output / ops.sum(output, axis=axis, keepdims=True)))


def _clipped(probabilities):
    return ops.clip(probabilities, config.epsilon(), 1.0 - config.epsilon())


@register_loss("BinaryFocalCrossentropy")
def binary_focal_crossentropy(
    y_true,
    y_pred,
    apply_class_balancing=False,
    alpha=0.25,
    gamma=2.0,
    from_logits=False,
    label_smoothing=0.0,
    axis=-1,
):
    """Binary cross-entropy in which well classified samples count less: factor (1 - p_t)^gamma.

    Shapes:  both [batch, d0, ..., dn] -> [batch, d0, ..., dn-1].
    Source:  Lin et al. 2017, "Focal Loss for Dense Object Detection".
    """
    y_true, y_pred = pair_of_one_dtype(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + 0.5 * label_smoothing
    if from_logits:
        y_pred = ops.sigmoid(y_pred)
    p_t = y_true * y_pred + (1.0 - y_true) * (1.0 - y_pred)
    loss = ops.power(1.0 - p_t, gamma) * _binary(y_true, y_pred, from_logits=False)
    if apply_class_balancing:
        loss = (y_true * alpha + (1.0 - y_true) * (1.0 - alpha)) * loss
    return ops.mean(loss, axis=axis)


@register_loss("CategoricalFocalCrossentropy")
def categorical_focal_crossentropy(
    y_true, y_pred, alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0, axis=-1
):
    """Categorical cross-entropy with factor alpha·(1 - p)^gamma per class.

    Shapes:  both [batch, d0, ..., classes] -> [batch, d0, ...].
    Source:  Lin et al. 2017, "Focal Loss for Dense Object Detection".
    """
    _check_axis(axis)
    y_true, y_pred = pair_of_one_dtype(y_true, y_pred)
    if label_smoothing:
        y_true = y_true * (1.0 - label_smoothing) + label_smoothing / y_true.shape[-1]
    if from_logits:
        y_pred = ops.softmax(y_pred, axis=axis)
    p = _clipped(y_pred / ops.sum(y_pred, axis=axis, keepdims=True))
    return ops.sum(alpha * ops.power(1.0 - p, gamma) * -y_true * ops.log(p), axis=axis)


@register_loss("KLDivergence", aliases=("kullback_leibler_divergence", "kld", "KLD"))
def kl_divergence(y_true, y_pred):
    """Σ y·log(y / p) over the last axis, both clipped to [epsilon, 1]."""
    y_true, y_pred = pair_of_one_dtype(y_true, y_pred)
    y_true = ops.clip(y_true, config.epsilon(), 1.0)
    y_pred = ops.clip(y_pred, config.epsilon(), 1.0)
    return ops.sum(y_true * ops.log(y_true / y_pred), axis=-1)


@register_loss("Poisson")
def poisson(y_true, y_pred):
    """mean(p - y·log(p + epsilon)) over the last axis."""
    y_true, y_pred = pair_of_one_dtype(y_true, y_pred)
    return ops.mean(y_pred - y_true * ops.log(y_pred + config.epsilon()), axis=-1)


# checks -------------------------------------------------------------------------------------------------


def _check_axis(axis) -> None:
    if isinstance(axis, bool):
        raise ArgumentError(f"`axis` must be of type `int`. Received: axis={axis} of type {type(axis)}")


def _check_same_shape(name, y_true, y_pred) -> None:
    true, pred = tuple(y_true.shape), tuple(y_pred.shape)
    known = [(a, b) for a, b in zip(true, pred) if isinstance(a, int) and isinstance(b, int)]
    if len(true) != len(pred) or any(a != b for a, b in known):
        raise ShapeError(
            f"{name} expects y_true and y_pred of the same shape. "
            f"Received: y_true.shape={_shown(true)}, y_pred.shape={_shown(pred)}"
            + (". For class indices use 'sparse_categorical_crossentropy'." if name.startswith("cat") else "")
        )


def _check_sparse_shape(y_true, y_pred, axis) -> None:
    true, pred = tuple(y_true.shape), list(y_pred.shape)
    if not pred:
        raise ShapeError("sparse_categorical_crossentropy expects y_pred of rank 1 or more. Received a scalar.")
    del pred[axis]
    known = [(a, b) for a, b in zip(true, pred) if isinstance(a, int) and isinstance(b, int)]
    if len(true) != len(pred) or any(a != b for a, b in known):
        raise ShapeError(
            "sparse_categorical_crossentropy expects y_true to have the shape of y_pred without the class axis. "
            f"Received: y_true.shape={_shown(true)}, y_pred.shape={_shown(tuple(y_pred.shape))}"
            + (". For one-hot labels use 'categorical_crossentropy'." if len(true) == len(pred) + 1 else "")
        )


def _shown(shape) -> str:
    return "(" + ", ".join(str(s) for s in shape) + ("," if len(shape) == 1 else "") + ")"
