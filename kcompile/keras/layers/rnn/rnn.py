"""RNN: a cell over the time axis of a sequence. `LayerOfCell`: layers that make their own cell."""

from __future__ import annotations

from typing import Any

from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir.dim import Dim
from kcompile.keras import ops
from kcompile.keras.configurable import constructor_parameters
from kcompile.keras.layers.layer import Layer
from kcompile.keras.layers.rnn.cells import (
    DropoutRNNCell,
    StackedRNNCells,
    call_cell,
    check_cell,
    initial_state_of,
    output_size_of,
)
from kcompile.keras.ops.function import tensor
from kcompile.keras.ops.indexing import nearest_slices
from kcompile.keras.ops.recurrence import rnn
from kcompile.keras.registry import register
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.tensor import is_tensor
from kcompile.keras.tracing.variable import Variable


@register(aliases=("Recurrent",))
class RNN(Layer):
    """A cell, run over the timesteps of a sequence.

    Shapes:  [batch, time, ...] -> [batch, output_size], or [batch, time, output_size] with
             `return_sequences`; `return_state` adds the states after the last step.

    `stateful` layers start where they ended; their states are not among the weights.
    """

    untracked = Layer.untracked | {"states"}

    def __init__(
        self,
        cell,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        **kwargs,
    ):
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        check_cell(cell)
        self.time_major = bool(kwargs.pop("time_major", False))
        super().__init__(**_sequence_shape(kwargs))
        self.cell = cell
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards, self.stateful, self.unroll = go_backwards, stateful, unroll
        self.zero_output_for_mask = zero_output_for_mask
        self.supports_masking = True
        self.states = None
        self._expected_batch_size = None
        size = cell.state_size
        if not isinstance(size, (list, tuple, int)):
            raise ArgumentError(
                "state_size must be an integer, or a list/tuple of integers (one for each state tensor). "
                f"Received: {size!r}"
            )
        self.single_state = isinstance(size, int)
        self.state_size = [size] if self.single_state else list(size)

    def build(self, sequences_shape, initial_state_shape=None):
        batch, time = sequences_shape[:2]
        if self.time_major:
            batch = time
        if isinstance(self.cell, Layer) and not self.cell.built:
            self.cell.build((batch, *sequences_shape[2:]))
            self.cell.built = True
        if self.stateful:
            self._make_states(batch, sequences_shape)

    def _make_states(self, batch: int | None, shape: tuple) -> None:
        if self.states is not None:
            self.reset_state()
            return
        if batch is None:
            raise ShapeError(
                "When using `stateful=True` in a RNN, the batch size must be static. Found dynamic batch size: "
                f"sequence.shape={shape}"
            )
        self._expected_batch_size = batch

        def variable(value):
            return Variable(value, trainable=False, dtype=self.variable_dtype, name="rnn_state")

        self.states = tree.map_structure(variable, self.get_initial_state(batch))

    def get_initial_state(self, batch_size):
        """Return the states before the first step, as a list."""
        found = initial_state_of(self.cell, batch_size)
        return list(found) if tree.is_nested(found) else [found]

    def reset_states(self, states=None) -> None:
        """Set the states of a stateful layer to zero, or to the given arrays."""
        if states is None:
            return self.reset_state()
        if self.states is None:
            raise ArgumentError(f"Layer {self.name} is not stateful or not built yet: it has no states to set")
        values = tree.flatten(states)
        for variable, value in zip(tree.flatten(self.states), values, strict=True):
            variable.assign(value)

    def reset_state(self) -> None:
        """Set the states of a stateful layer to zero."""
        for variable in tree.flatten(self.states) if self.states is not None else ():
            variable.assign(ops.zeros(variable.shape, dtype=variable.dtype))

    # calling ------------------------------------------------------------------------------------------

    def __call__(self, *args, **kwargs):
        if args and isinstance(args[0], (list, tuple)) and len(args[0]) > 1 and all(map(is_tensor, args[0])):
            (inputs, *states), args = args[0], args[1:]  # tf.keras 2: [sequences, *initial states]
            return super().__call__(inputs, *args, **{"initial_state": states, **kwargs})
        return super().__call__(*args, **kwargs)

    def call(self, sequences, initial_state=None, mask=None, training=False):
        time_axis, batch_axis = (0, 1) if self.time_major else (1, 0)
        if self.unroll and isinstance(sequences.shape[time_axis], Dim):
            raise ArgumentError(
                "Cannot unroll a RNN if the time dimension is undefined: specify it by an `Input(shape=...)`."
            )
        batch = ops.shape(sequences)[batch_axis]
        if self.stateful:
            self._check_batch(batch)
        if initial_state is None:
            initial_state = self._kept_states(batch) if self.stateful else self.get_initial_state(batch)
        states = list(initial_state) if tree.is_nested(initial_state) else [initial_state]
        dtype = getattr(self.cell, "compute_dtype", self.compute_dtype)
        states = tree.map_structure(lambda s: ops.convert_to_tensor(s, dtype=dtype), states)
        try:
            if training:
                first = sequences[0] if self.time_major else sequences[:, 0]
                _prepare_masks(self.cell, first, states)
            last, outputs, states = self.inner_loop(sequences, states, _first(mask), training)
        finally:
            _forget_masks(self.cell)
        output = ops.cast(outputs if self.return_sequences else last, self.compute_dtype)
        states = tree.map_structure(lambda s: ops.cast(s, self.compute_dtype), states)
        if self.stateful:
            for variable, value in zip(tree.flatten(self.states), tree.flatten(states), strict=True):
                variable.assign(_with_rows(value, variable.shape[0]))
        return (output, *states) if self.return_state else output

    def inner_loop(self, sequences, initial_state, mask, training=False):
        """Run the cell over the sequence: (last output, outputs, states)."""

        def step(inputs, states):
            output, new = call_cell(self.cell, inputs, states, training)
            return output, new if tree.is_nested(new) else [new]

        return rnn(
            step,
            sequences,
            initial_state,
            go_backwards=self.go_backwards,
            mask=mask,
            unroll=self.unroll,
            time_major=self.time_major,
            zero_output_for_mask=self.zero_output_for_mask,
            return_all_outputs=self.return_sequences,
        )

    def _kept_states(self, batch: Any) -> list:
        """The states with the batch's size, which is theirs: the trainer sees to it where it is open in a program."""
        return tree.map_structure(lambda v: _with_rows(v, batch), self.states)

    @property
    def fixed_batch_size(self) -> int | None:
        """The batch size of a stateful layer, once it is built."""
        return self._expected_batch_size

    def _check_batch(self, batch: Any) -> None:
        if isinstance(batch, int) and batch != self._expected_batch_size:
            raise ShapeError(
                "If an RNN is stateful, the batch size of the input sequences must be the same as the batch size of "
                f"the initial state. Expected batch size: {self._expected_batch_size}, received batch size: {batch}"
            )

    def compute_mask(self, inputs, previous_mask):
        mask = _first(previous_mask) if self.return_sequences else None
        return [mask, *(None for _ in self.state_size)] if self.return_state else mask

    def get_config(self):
        config = super().get_config()
        if self.time_major:
            config["time_major"] = True
        return config


def _with_rows(state: Any, rows: Any) -> Any:
    """A state of as many rows, by another name of their number."""
    return (
        state if state.shape[0] == rows else nearest_slices(tensor(state), tensor(ops.arange(rows, dtype="int32")), 0)
    )


def _first(mask: Any) -> Any:
    return tree.flatten(mask)[0]


def _sequence_shape(kwargs: dict[str, Any]) -> dict[str, Any]:
    """tf.keras 2: `input_dim` and `input_length` tell the shape of a sequence."""
    width, length = kwargs.pop("input_dim", None), kwargs.pop("input_length", None)
    if width is not None and "input_shape" not in kwargs:
        kwargs["input_shape"] = (length, width)
    return kwargs


def _prepare_masks(cell: Any, step_input: Any, states: list) -> None:
    """Draw the dropout masks before the loop: they are the same in every step."""
    if isinstance(cell, DropoutRNNCell):
        cell.get_dropout_mask(step_input)
        cell.get_recurrent_dropout_mask(tree.flatten(states)[0])
    if isinstance(cell, StackedRNNCells):
        for inner, own in zip(cell.cells, states, strict=True):
            _prepare_masks(inner, step_input, own)
            first, size = tree.flatten(own)[0], output_size_of(inner)
            is_like = not isinstance(size, int) or first.shape[-1] == size
            step_input = first if is_like else ops.zeros((ops.shape(first)[0], size), dtype=first.dtype)


def _forget_masks(cell: Any) -> None:
    for inner in getattr(cell, "cells", (cell,)) if isinstance(cell, StackedRNNCells) else (cell,):
        if inner is not cell:
            _forget_masks(inner)
        elif isinstance(cell, DropoutRNNCell):
            cell.reset_dropout_mask()
            cell.reset_recurrent_dropout_mask()


class LayerOfCell(RNN):
    """Base of layers that make their own cell of `cell_class`, whose arguments are theirs too."""

    cell_class: type[Layer]
    cell_name: str

    def take(self, given: dict[str, Any]) -> None:
        """Make cell and layer from the constructor's arguments (its `locals()`)."""
        given = {k: v for k, v in given.items() if k not in ("self", "__class__")}
        kwargs = given.pop("kwargs")
        given.pop("use_cudnn", None)
        known = constructor_parameters(self.cell_class)
        own = ("activity_regularizer",)  # a penalty on what the layer returns, not on every step
        cell = {k: given.pop(k) for k in [*given] if k in known and k not in own}
        if "implementation" in kwargs:
            cell["implementation"] = kwargs.pop("implementation")
        cell |= {k: kwargs[k] for k in ("dtype", "trainable") if k in kwargs}
        RNN.__init__(self, self.cell_class(**cell, name=self.cell_name), **given, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """The cell's arguments are attributes of the layer."""
        cell = vars(self).get("cell")
        if cell is None or name not in constructor_parameters(self.cell_class):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(cell, name)

    def get_config(self):
        own = super().get_config()
        cell = {k: v for k, v in self.cell.get_config().items() if k not in ("name", "trainable", "dtype")}
        return {k: v for k, v in own.items() if k not in ("cell", "use_cudnn")} | cell
