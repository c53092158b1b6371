"""Connectionist temporal classification: the loss of label sequences, and the likeliest sequences themselves.

Loss       the forward recursion of Graves et al. 2006 in logarithms. States are the labels with a blank before, between
           and after them; from one frame to the next a state stays, moves on by one, or by two past a blank between
           two different labels.
Decoding   greedy: the best class of each frame. Beam search: the best prefixes, each with the log-probabilities of all
           alignments that end in a blank and of those that do not (Graves 2012, section 7.5.3).

Both recursions are loops over the frames (tracing/loops.py).
"""

from __future__ import annotations

from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras.ops.core import cast, convert_to_tensor
from kcompile.keras.ops.creation import arange, full_like, iota, zeros_like
from kcompile.keras.ops.elementwise import (
    add,
    equal,
    floor_divide,
    greater_equal,
    less,
    logaddexp,
    logical_and,
    logical_not,
    logical_or,
    mod,
    multiply,
    negative,
    not_equal,
    subtract,
    where,
)
from kcompile.keras.ops.function import public
from kcompile.keras.ops.indexing import one_hot, take_along_axis
from kcompile.keras.ops.nn import log_softmax
from kcompile.keras.ops.ordering import argsort, top_k
from kcompile.keras.ops.products import matmul
from kcompile.keras.ops.reductions import all as all_of
from kcompile.keras.ops.reductions import argmax, logsumexp
from kcompile.keras.ops.reductions import max as max_of
from kcompile.keras.ops.reductions import sum as sum_of
from kcompile.keras.ops.shapes import broadcast_to, concatenate, expand_dims, reshape, shape, stack, transpose
from kcompile.keras.tracing import loops

_LOG_ZERO = -1e5  # finite, so that differences of impossible states stay numbers (Keras's value)
_NEVER = -1e30  # the same for prefixes, whose probabilities of thousands of frames must stay above it
_NONE = -1  # pads decoded sequences


@public
def ctc_loss(target, output, target_length, output_length, mask_index=0):
    """Return -log P(labels | logits) of each row.

    Args:    target [batch, labels] class indices, output [batch, frames, classes] logits, the lengths [batch] of each
             row's labels and frames (None: all frames), mask_index: the class that is the blank.
    Raises:  ShapeError for other ranks.
    Source:  Graves, Fernandez, Gomez, Schmidhuber 2006, equations 6 to 8.
    """
    output, labels = convert_to_tensor(output), cast(convert_to_tensor(target), "int32")
    _check(labels, output)
    states = expand_dims(arange(2 * shape(labels)[1] + 1, dtype="int32"), 0)
    log_p = _of_states(log_softmax(output, axis=-1), labels, mask_index)
    may_skip = _may_skip(labels)
    frames = None if output_length is None else expand_dims(cast(convert_to_tensor(output_length), "int32"), -1)

    def step(t, reached, log_p_t):
        ways = [reached, _shifted(reached, 1), where(may_skip, _shifted(reached, 2), _LOG_ZERO)]
        later = add(logsumexp(stack(ways, axis=-1), axis=-1), log_p_t)
        later = where(equal(t, 0), where(less(states, 2), log_p_t, _LOG_ZERO), later)
        return (later if frames is None else where(less(t, frames), later, reached)), None

    start = full_like(log_p[:, 0], _LOG_ZERO)
    reached, _ = loops.scan(step, start, transpose(log_p, (1, 0, 2)))
    last = multiply(expand_dims(cast(convert_to_tensor(target_length), "int32"), -1), 2)
    is_end = logical_or(equal(last, states), equal(last, add(states, 1)))
    return negative(logsumexp(where(is_end, reached, 2 * _LOG_ZERO), axis=1))


def _of_states(log_p, labels, blank_index: int):
    """log p of every state: blank, label, blank, ..., blank.  [batch, frames, 2·labels + 1]"""
    chosen = one_hot(labels, log_p.shape[-1], dtype=log_p.dtype)
    emitted = matmul(log_p, transpose(chosen, (0, 2, 1)))
    at = blank_index % log_p.shape[-1]
    blank = log_p[:, :, at : at + 1]
    pairs = stack([add(blank, zeros_like(emitted)), emitted], axis=-1)
    flat = reshape(pairs, (-1, log_p.shape[1], 2 * labels.shape[1]))
    return concatenate([flat, blank], axis=-1)


def _may_skip(labels):
    """Whether a state may be entered from two before: a label that differs from the label before."""
    different = not_equal(labels[:, 1:], labels[:, :-1])
    never = zeros_like(labels[:, :1], dtype="bool")
    at_labels = concatenate([never, different], axis=1)
    pairs = stack([zeros_like(at_labels), at_labels], axis=-1)
    return concatenate([reshape(pairs, (-1, 2 * labels.shape[1])), never], axis=1)


def _shifted(reached, by: int):
    return concatenate([full_like(reached[:, :by], _LOG_ZERO), reached[:, :-by]], axis=1)


def _check(labels, output) -> None:
    if len(labels.shape) != 2:
        raise ShapeError(f"CTC expects labels of shape (batch, labels). Received: shape {tuple(labels.shape)}")
    if len(output.shape) != 3:
        raise ShapeError(f"CTC expects logits of shape (batch, frames, classes). Received: {tuple(output.shape)}")


# decoding -----------------------------------------------------------------------------------------------------------


@public
def ctc_decode(
    inputs, sequence_lengths, strategy="greedy", beam_width=100, top_paths=1, merge_repeated=True, mask_index=0
):
    """Return (classes, scores) of the likeliest label sequences.

    Args:    inputs [batch, frames, classes]: logits; sequence_lengths [batch]; mask_index: the blank, None for the
             last class; merge_repeated: one label for a run of a class (greedy only).
    Returns: classes int32 [paths, batch, frames], padded with -1, and scores: [batch, 1] minus the sum of the best
             inputs (greedy), or [batch, paths] log-probabilities (beam_search; -inf where there are fewer paths).
    Raises:  ArgumentError for another strategy, or more paths than the beam holds.
    """
    if strategy not in ("greedy", "beam_search"):
        raise ArgumentError(f"Invalid strategy {strategy}. Supported values are 'greedy' and 'beam_search'.")
    inputs = convert_to_tensor(inputs)
    if len(inputs.shape) != 3:
        raise ShapeError(f"ctc_decode expects inputs of shape (batch, frames, classes). Received: {inputs.shape}")
    if str(inputs.dtype) not in ("float32", "float64"):
        inputs = cast(inputs, "float32")
    lengths = expand_dims(cast(convert_to_tensor(sequence_lengths), "int32"), -1)
    blank = inputs.shape[-1] - 1 if mask_index is None else int(mask_index) % inputs.shape[-1]
    if strategy == "greedy":
        return _greedy(inputs, lengths, bool(merge_repeated), blank)
    if not 1 <= top_paths <= beam_width:
        raise ArgumentError(f"`top_paths` must be from 1 to beam_width={beam_width}. Received: top_paths={top_paths}")
    return _beam_search(inputs, lengths, int(beam_width), int(top_paths), blank)


def _greedy(inputs, lengths, merge_repeated: bool, blank: int):
    size = inputs.shape[1]
    is_past = greater_equal(expand_dims(arange(size, dtype="int32"), 0), lengths)
    classes = where(is_past, blank, cast(argmax(inputs, axis=-1), "int32"))
    scores = where(is_past, 0.0, max_of(inputs, axis=-1))
    if merge_repeated:
        repeated = equal(classes[:, 1:], classes[:, :-1])
        repeated = concatenate([zeros_like(classes[:, :1], dtype="bool"), repeated], axis=1)
        is_left_out = logical_or(repeated, equal(classes, blank))
    else:
        is_left_out = equal(classes, blank)
    classes = where(is_left_out, _NONE, classes)
    order = argsort(cast(is_left_out, "int32"), axis=-1)  # keeps the order of equals
    return expand_dims(take_along_axis(classes, order, axis=-1), 0), expand_dims(negative(sum_of(scores, axis=1)), -1)


def _beam_search(inputs, lengths, width: int, top_paths: int, blank: int):
    """A prefix is its classes [batch, width, frames], how many they are, and two log-probabilities [batch, width].

    Prefixes of a step differ from each other: one that grows into another adds its probability to that one.
    """
    log_p = log_softmax(inputs, axis=-1)
    _, frames, classes = log_p.shape
    rows = log_p[:, :1, 0]  # [batch, 1], for its size
    none = broadcast_to(full_like(rows, _NEVER), (shape(rows)[0], width))
    first = equal(iota((1, width), 1, "int32"), 0)
    places = iota((1, 1, frames), 2, "int32")
    class_of = iota((1, 1, classes), 2, "int32")
    empty = broadcast_to(expand_dims(cast(full_like(rows, _NONE), "int32"), -1), (shape(rows)[0], width, frames))
    start = (empty, cast(zeros_like(none), "int32"), where(first, zeros_like(none), none), none)

    def step(t, state, log_p_t):
        paths, sizes, ends_blank, ends_label = state
        at_end = equal(places, subtract(expand_dims(sizes, -1), 1))
        last = sum_of(where(at_end, paths, 0), axis=-1)  # the class a prefix ends in
        last = where(equal(sizes, 0), _NONE, last)
        total = logaddexp(ends_blank, ends_label)
        frame = expand_dims(log_p_t, 1)  # [batch, 1, classes]
        own = take_along_axis(log_p_t, where(less(last, 0), 0, last), axis=-1)
        stays_blank = add(total, log_p_t[:, blank : blank + 1])
        stays_label = where(equal(sizes, 0), _NEVER, add(ends_label, own))
        # a class after itself needs a blank between
        is_again = equal(expand_dims(last, -1), class_of)
        grown = add(where(is_again, expand_dims(ends_blank, -1), expand_dims(total, -1)), frame)
        grown = where(equal(class_of, blank), _NEVER, grown)
        # [batch, w, v]: prefix w grown by a class is the prefix v
        parents = expand_dims(where(at_end, _NONE, paths), 1)
        is_parent = all_of(equal(expand_dims(paths, 2), parents), axis=-1)
        sizes_fit = equal(add(expand_dims(sizes, 2), 1), expand_dims(sizes, 1))
        is_parent = logical_and(is_parent, sizes_fit)
        takes = cast(is_again, log_p.dtype)  # [batch, v, classes]: the class v ends in
        by_v = matmul(grown, transpose(takes, (0, 2, 1)))
        gained = logsumexp(where(is_parent, by_v, _NEVER), axis=1)
        stays_label = logaddexp(stays_label, gained)
        is_merged = less(0.5, matmul(cast(is_parent, log_p.dtype), takes))
        grown = where(is_merged, _NEVER, grown)
        # the best of those that stay and those that grow
        stays = logaddexp(stays_blank, stays_label)
        candidates = concatenate([stays, reshape(grown, (-1, width * classes))], axis=-1)
        values, chosen = top_k(candidates, width)
        is_stay = less(chosen, width)
        beyond = subtract(chosen, width)
        source = where(is_stay, chosen, floor_divide(where(is_stay, 0, beyond), classes))
        added = mod(where(is_stay, 0, beyond), classes)
        old_sizes = take_along_axis(sizes, source, axis=-1)
        from_source = broadcast_to(expand_dims(source, -1), shape(paths))
        new_paths = take_along_axis(paths, from_source, axis=1)
        is_new = logical_and(equal(places, expand_dims(old_sizes, -1)), logical_not(expand_dims(is_stay, -1)))
        after = (
            where(is_new, expand_dims(added, -1), new_paths),
            where(is_stay, old_sizes, add(old_sizes, 1)),
            where(is_stay, take_along_axis(stays_blank, source, axis=-1), _NEVER),
            where(is_stay, take_along_axis(stays_label, source, axis=-1), values),
        )
        goes_on = less(t, lengths)
        kept = (
            where(goes_on if new.ndim == 2 else expand_dims(goes_on, -1), new, old) for new, old in zip(after, state)
        )
        return tuple(kept), None

    (paths, _, ends_blank, ends_label), _ = loops.scan(step, start, transpose(log_p, (1, 0, 2)))
    scores, order = top_k(logaddexp(ends_blank, ends_label), top_paths)
    wanted = broadcast_to(expand_dims(order, -1), (shape(rows)[0], top_paths, frames))
    is_none = less(scores, 0.1 * _NEVER)
    paths = where(expand_dims(is_none, -1), _NONE, take_along_axis(paths, wanted, axis=1))
    return transpose(paths, (1, 0, 2)), where(is_none, -float("inf"), scores)
