"""Connectionist temporal classification as a loss: ops/ctc.py on labels that a blank pads."""

from __future__ import annotations

from kcompile.errors import ShapeError
from kcompile.keras import ops
from kcompile.keras.losses.loss import register_loss

BLANK = 0


@register_loss("CTC", integer_labels=True, own_sizes=True)
def ctc(y_true, y_pred):
    """-log P(labels | logits); label 0 is the blank and pads short label rows at their end.

    Shapes:  y_true [batch, labels] of class indices, y_pred [batch, frames, classes] logits -> [batch].
    Raises:  ShapeError for other ranks.
    """
    labels = ops.cast(ops.convert_to_tensor(y_true), "int32")
    if len(labels.shape) != 2:
        raise ShapeError(f"CTC expects y_true of shape (batch, labels). Received: shape {tuple(labels.shape)}")
    lengths = ops.sum(ops.cast(ops.not_equal(labels, BLANK), "int32"), axis=1)
    return ops.ctc_loss(labels, y_pred, lengths, None, BLANK)
