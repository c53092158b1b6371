"""Losses on how far two sets overlap: Dice and Tversky, made for segmentation masks.

`axis` names the axes an overlap is counted over; None counts over everything and gives one number.
"""

from __future__ import annotations

from kcompile.keras import config, ops
from kcompile.keras.losses.loss import pair_of_one_dtype, register_loss

# the constructors' order in Keras: axis comes after name
_COMMON = ("reduction", "name", "axis", "dtype")


@register_loss("Dice", order=_COMMON)
def dice(y_true, y_pred, axis=None):
    """1 - 2·Σ y·p / (Σ y + Σ p).

    Shapes:  both [batch, d0, ...] -> the shape without `axis`; axis=None: [].
    Source:  Milletari, Navab, Ahmadi 2016, "V-Net".
    """
    y_true, y_pred = pair_of_one_dtype(y_true, y_pred)
    both = ops.sum(y_true * y_pred, axis=axis)
    return 1.0 - 2.0 * both / (ops.sum(y_true, axis=axis) + ops.sum(y_pred, axis=axis) + config.epsilon())


@register_loss("Tversky", order=("alpha", "beta", *_COMMON))
def tversky(y_true, y_pred, alpha=0.5, beta=0.5, axis=None):
    """1 - Σ y·p / (Σ y·p + alpha·Σ y·(1 - p) + beta·Σ (1 - y)·p); equals Dice at 1/2, 1/2.

    Shapes:  both [batch, d0, ...] -> the shape without `axis`; axis=None: [].
    Source:  Salehi, Erdogmus, Gholipour 2017, "Tversky loss function for image segmentation".
    """
    y_true, y_pred = pair_of_one_dtype(y_true, y_pred)
    both = ops.sum(y_true * y_pred, axis=axis)
    missed = ops.sum(y_true * (1.0 - y_pred), axis=axis)
    invented = ops.sum((1.0 - y_true) * y_pred, axis=axis)
    return 1.0 - both / (both + alpha * missed + beta * invented + config.epsilon())
