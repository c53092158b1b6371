"""Connectionist temporal classification: the probability of a label sequence under all its alignments.

The forward recursion of Graves et al. 2006 in logarithms. States are the labels with a blank before, between
and after them; from one frame to the next a state stays, moves on by one, or by two past a blank between two
different labels. The recursion is a loop over the frames (tracing/loops.py): any number of them, one program.
"""

from __future__ import annotations

from kcompile.errors import ShapeError
from kcompile.keras import ops
from kcompile.keras.losses.loss import register_loss
from kcompile.keras.tracing import loops

BLANK = 0
_LOG_ZERO = -1e5  # finite, so that differences of impossible states stay numbers (Keras's value)


@register_loss("CTC", integer_labels=True, own_sizes=True)
def ctc(y_true, y_pred):
    """-log P(labels | logits); label 0 is the blank and pads short label rows at their end.

    Shapes:  y_true [batch, labels] of class indices, y_pred [batch, frames, classes] logits -> [batch].
    Raises:  ShapeError for other ranks.
    Source:  Graves, Fernandez, Gomez, Schmidhuber 2006, equations 6 to 8.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    labels = ops.cast(ops.convert_to_tensor(y_true), "int32")
    _check(labels, y_pred)
    states = ops.expand_dims(ops.arange(2 * ops.shape(labels)[1] + 1, dtype="int32"), 0)
    log_p = _of_states(ops.log_softmax(y_pred, axis=-1), labels)
    may_skip = _may_skip(labels)

    def step(t, reached, log_p_t):
        ways = [reached, _shifted(reached, 1), ops.where(may_skip, _shifted(reached, 2), _LOG_ZERO)]
        later = ops.logsumexp(ops.stack(ways, axis=-1), axis=-1) + log_p_t
        return ops.where(ops.equal(t, 0), ops.where(states < 2, log_p_t, _LOG_ZERO), later), None

    start = ops.full_like(log_p[:, 0], _LOG_ZERO)
    reached, _ = loops.scan(step, start, ops.transpose(log_p, (1, 0, 2)))
    last = 2 * ops.expand_dims(ops.sum(ops.cast(ops.not_equal(labels, BLANK), "int32"), axis=1), -1)
    is_end = ops.logical_or(ops.equal(last, states), ops.equal(last, states + 1))
    return -ops.logsumexp(ops.where(is_end, reached, 2 * _LOG_ZERO), axis=1)


def _of_states(log_p, labels):
    """log p of every state: blank, label, blank, ..., blank.  [batch, frames, 2·labels + 1]"""
    chosen = ops.one_hot(labels, log_p.shape[-1], dtype=log_p.dtype)
    emitted = ops.matmul(log_p, ops.transpose(chosen, (0, 2, 1)))
    blank = log_p[:, :, BLANK : BLANK + 1]
    blanks = blank + ops.zeros_like(emitted)
    pairs = ops.stack([blanks, emitted], axis=-1)
    flat = ops.reshape(pairs, (-1, log_p.shape[1], 2 * labels.shape[1]))
    return ops.concatenate([flat, blank], axis=-1)


def _may_skip(labels):
    """Whether a state may be entered from two before: a label that differs from the label before."""
    different = ops.not_equal(labels[:, 1:], labels[:, :-1])
    never = ops.zeros_like(labels[:, :1], dtype="bool")
    at_labels = ops.concatenate([never, different], axis=1)
    pairs = ops.stack([ops.zeros_like(at_labels), at_labels], axis=-1)
    return ops.concatenate([ops.reshape(pairs, (-1, 2 * labels.shape[1])), never], axis=1)


def _shifted(reached, by: int):
    return ops.concatenate([ops.full_like(reached[:, :by], _LOG_ZERO), reached[:, :-by]], axis=1)


def _check(labels, y_pred) -> None:
    if len(labels.shape) != 2:
        raise ShapeError(f"CTC expects y_true of shape (batch, labels). Received: shape {tuple(labels.shape)}")
    if len(y_pred.shape) != 3:
        raise ShapeError(f"CTC expects logits of shape (batch, frames, classes). Received: {tuple(y_pred.shape)}")
