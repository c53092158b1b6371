"""One step function over the rows of a sequence: `rnn`, what the recurrent layers and `K.rnn` run.

The sequence is turned time-major, and the step recorded once (tracing/loops.py). Masked rows keep the states
of the row before. If a step's output is one of its new states, as in the standard cells, the last output is
that state's last value, and no outputs are stacked for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras.ops.core import cast
from kcompile.keras.ops.creation import zeros_like
from kcompile.keras.ops.elementwise import where
from kcompile.keras.ops.shapes import expand_dims, flip, stack, transpose
from kcompile.keras.tracing import loops, tree
from kcompile.keras.tracing.scope import unwrap
from kcompile.keras.tracing.tensor import is_tensor

Step = Callable[[Any, Any], tuple[Any, Any]]


def rnn(
    step_function: Step,
    inputs: Any,
    initial_states: Sequence[Any],
    go_backwards: bool = False,
    mask: Any = None,
    constants: Sequence[Any] | None = None,
    unroll: bool = False,
    input_length: int | None = None,
    time_major: bool = False,
    zero_output_for_mask: bool = False,
    return_all_outputs: bool = True,
) -> tuple[Any, Any, Any]:
    """Run `step_function` over the time axis of `inputs`.

    Args:
        step_function: (row of inputs, states) -> (output, new states); constants stand behind the states.
        inputs: [batch, time, ...], or a nesting of such tensors.
        initial_states: a list of tensors, nested or not.
        go_backwards: from the last row to the first; outputs are in the order they were computed.
        mask: [batch, time] or [batch, time, 1]; rows where it is False keep states and output.
        constants: passed to every step behind the states.
        unroll: write the steps out one by one; their number must be known.
        input_length: not needed; the length is that of the inputs.
        time_major: inputs, mask and outputs are [time, batch, ...].
        zero_output_for_mask: masked rows give zeros.
        return_all_outputs: stack the outputs of all steps; else only the last one.
    Returns:
        (last output, outputs of all steps or the last one [batch, time or 1, ...], last states)
    """
    turn = (lambda x: x) if time_major else _swapped
    rows = tree.map_structure(turn, inputs)
    if mask is not None:
        mask = turn(cast(mask if len(mask.shape) > 1 else expand_dims(mask, 1), "bool"))
    run = _unrolled if unroll else _scanned
    loop = _Loop(step_function, list(constants or ()), zero_output_for_mask, return_all_outputs)
    last, outputs, states = run(loop, rows, list(initial_states), mask, go_backwards)
    if outputs is None:
        outputs = tree.map_structure(lambda y: expand_dims(y, 0), last)
    return last, tree.map_structure(turn, outputs), states


class _Loop:
    """A step with its masks, and which of its outputs are states too."""

    def __init__(self, step: Step, constants: list, zeros_if_masked: bool, all_outputs: bool):
        self.step, self.constants = step, constants
        self.zeros_if_masked, self.all_outputs = zeros_if_masked, all_outputs
        self.found: list[int | None] = []  # of each output: the state it is equal to

    def run(self, row: Any, states: list) -> tuple[Any, Any]:
        """One step: (output, new states as flat list in the states' dtypes)."""
        given = list(states)
        output, new = self.step(row, [*given, *self.constants] if self.constants else given)
        flat, before = tree.flatten(new), tree.flatten(given)
        if len(flat) != len(before):
            raise ShapeError(f"a step of a recurrent layer takes {len(before)} states and returned {len(flat)}")
        flat = [n if n.dtype == b.dtype else cast(n, b.dtype) for n, b in zip(map(unwrap, flat), before)]
        return output, flat

    def masked(self, row: Any, keep: Any, states: list) -> tuple[Any, list]:
        """One step in which rows that are not kept change nothing: (output, new states)."""
        output, new = self.run(row, states)
        self.found = [next((n for n, s in enumerate(new) if s is y), None) for y in tree.flatten(output)]
        if keep is not None:
            before = tree.flatten(states)
            output = tree.map_structure(lambda y: self._masked_output(y, keep, states), output)
            new = [where(_to_rank(keep, n), n, b) for n, b in zip(new, before)]
            first = next(n for n, s in enumerate(before) if s is _output_before(states))
            follows = not self.zeros_if_masked
            self.found = [n if n == first and follows else None for n in self.found]
            for n, y in zip(self.found, tree.flatten(output)):
                if n is not None:
                    new[n] = y  # the same numbers: one value
        return output, tree.pack_sequence_as(states, new)

    def _masked_output(self, y: Any, keep: Any, states: list) -> Any:
        other = zeros_like(y)
        if not self.zeros_if_masked:
            other = _output_before(states)
            if len(other.shape) != len(y.shape) or other.shape[-1] != y.shape[-1]:
                raise ShapeError(
                    "a masked step repeats the output before it, which is taken to be the first state: the output has "
                    f"shape {tuple(map(str, y.shape))}, the first state {tuple(map(str, other.shape))}; "
                    "use zero_output_for_mask=True with such a cell"
                )
        return where(_to_rank(keep, y), y, other)


def _scanned(loop: _Loop, rows: Any, states: list, mask: Any, backwards: bool):
    def step(t, carry, given):
        row, keep = given if mask is not None else (given, None)
        output, new = loop.masked(row, keep, carry)
        if loop.all_outputs:
            return new, output
        flat = [y if n is None else None for y, n in zip(tree.flatten(output), loop.found)]
        return new, tree.pack_sequence_as(output, flat)

    final, ys = loops.scan(step, states, (rows, mask) if mask is not None else rows, reverse=backwards)
    end = tree.flatten(final)
    at = 0 if backwards else -1
    last = [y[at] if n is None else end[n] for y, n in zip(tree.flatten(ys), loop.found)]
    last = tree.pack_sequence_as(ys, last)
    if not loop.all_outputs:
        return last, None, final
    return last, tree.map_structure(lambda y: flip(y, axis=0), ys) if backwards else ys, final


def _unrolled(loop: _Loop, rows: Any, states: list, mask: Any, backwards: bool):
    """Written out: before the first row that is kept, outputs are zero, as Keras has it."""
    length = tree.flatten(rows)[0].shape[0]
    if not isinstance(length, int):
        raise ArgumentError("Unrolling requires a fixed number of timesteps.")
    outputs: list[Any] = []
    for t in reversed(range(length)) if backwards else range(length):
        output, new = loop.run(tree.map_structure(lambda x, t=t: x[t], rows), states)
        if mask is not None:
            keep = mask[t]
            before = outputs[-1] if outputs else tree.map_structure(zeros_like, output)
            output = tree.map_structure(lambda y, b, k=keep: where(_to_rank(k, y), y, b), output, before)
            new = [where(_to_rank(keep, n), n, b) for n, b in zip(new, tree.flatten(states))]
        states = tree.pack_sequence_as(states, new)
        outputs.append(output)
    stacked = tree.map_structure(lambda *ys: stack(ys, axis=0), outputs[0], *outputs[1:])
    return outputs[-1], stacked if loop.all_outputs else None, states


def _output_before(states: list) -> Any:
    """The state that stands for the output of the row before: the first, of stacked cells the last cell's."""
    return states[0] if is_tensor(states[0]) else tree.flatten(states[-1])[0]


def _to_rank(keep: Any, x: Any) -> Any:
    """A row of a mask, [batch] or [batch, 1], with the rank of x."""
    rank = len(x.shape)
    while len(keep.shape) < rank:
        keep = expand_dims(keep, -1)
    return keep


def _swapped(x: Any) -> Any:
    return transpose(x, (1, 0, *range(2, len(x.shape))))
