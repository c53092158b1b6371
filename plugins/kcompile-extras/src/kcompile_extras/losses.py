"""Focal loss."""

from kcompile.keras import ops
from kcompile.keras.losses import register_loss


@register_loss("Focal")
def focal(y_true, y_pred, gamma=2.0):
    """Mean over the last axis of -(1 - p)^γ · log p, p the probability given to the truth.

    Shapes:  y_true, y_pred [batch, ..., n], probabilities of a yes; result [batch, ...].
    Source:  Lin et al. 2017, equation 4.
    """
    p = ops.clip(ops.where(y_true > 0.5, y_pred, 1.0 - y_pred), 1e-7, 1.0 - 1e-7)
    return ops.mean(-ops.power(1.0 - p, gamma) * ops.log(p), axis=-1)
