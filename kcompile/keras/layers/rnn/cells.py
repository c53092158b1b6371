"""What cells share: dropout masks that are the same in every step, weights in gates, cells one above the other."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from kcompile.errors import ArgumentError
from kcompile.ir.graph import Value
from kcompile.keras import activations, constraints, initializers, ops, random, regularizers
from kcompile.keras.initializers.initializer import Initializer
from kcompile.keras.layers import calling
from kcompile.keras.layers.layer import Layer
from kcompile.keras.registry import register
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.scope import current_scope


class DropoutRNNCell:
    """Mixed into a cell with `dropout`, `recurrent_dropout` and `seed_generator`: one mask for all steps.

    The layer asks for the masks before its loop and drops them after it. `dropout_mask_count`: how many
    masks a cell takes, None for a single one that is not in a list.
    """

    dropout_mask_count: int | None = None
    _dropout_mask: Any = None
    _recurrent_dropout_mask: Any = None

    def get_dropout_mask(self, step_input):
        """Return the mask(s) of the inputs, or None."""
        if self.dropout > 0 and not _is_usable(self._dropout_mask):
            self._dropout_mask = self._create_dropout_mask(step_input, self.dropout)
        return self._dropout_mask

    def get_recurrent_dropout_mask(self, step_input):
        """Return the mask(s) of the first state, or None."""
        if self.recurrent_dropout > 0 and not _is_usable(self._recurrent_dropout_mask):
            self._recurrent_dropout_mask = self._create_dropout_mask(step_input, self.recurrent_dropout)
        return self._recurrent_dropout_mask

    def read_by_calls(self, outermost: bool) -> dict[str, Any] | None:
        """A cell called by hand keeps its masks until it is told; layers around it make new ones in every call."""
        read = super().read_by_calls(outermost)
        if read is None or (outermost and (self.dropout > 0 or self.recurrent_dropout > 0)):
            return None
        return {n: v for n, v in read.items() if n not in ("_dropout_mask", "_recurrent_dropout_mask")}

    def reset_dropout_mask(self) -> None:
        """Forget the mask of the inputs."""
        self._dropout_mask = None

    def reset_recurrent_dropout_mask(self) -> None:
        """Forget the mask of the states."""
        self._recurrent_dropout_mask = None

    def _create_dropout_mask(self, step_input, rate):
        ones = ops.ones_like(step_input)
        if self.dropout_mask_count is None:
            return random.dropout(ones, rate, seed=self.seed_generator)
        return [random.dropout(ones, rate, seed=self.seed_generator) for _ in range(self.dropout_mask_count)]


def _is_usable(mask: Any) -> bool:
    """Whether a mask belongs to the trace in progress (or to no trace, where there is none)."""
    first = tree.flatten(mask)[0]
    scope = current_scope()
    if first is None or scope is None or not isinstance(first, Value):
        return first is not None and (scope is None) == (not isinstance(first, Value))
    graph = scope.graph
    while graph is not None:
        if first.graph is graph:
            return True
        graph = getattr(graph, "around", None)
    return False


class GatedCell(DropoutRNNCell, Layer):
    """Base of the standard cells: kernel, recurrent kernel and bias hold `gates` blocks of columns each.

    Subclasses take their arguments with `take` and describe `call`.
    """

    gates = 1

    def take(self, given: dict[str, Any]) -> None:
        """Set the attributes from the constructor's arguments (its `locals()`)."""
        for name in ("activation", "recurrent_activation"):
            if name in given:
                setattr(self, name, activations.get(given[name]))
        for weight in ("kernel", "recurrent", "bias"):
            for what, module in (("initializer", initializers), ("regularizer", regularizers)):
                setattr(self, f"{weight}_{what}", module.get(given[f"{weight}_{what}"]))
            setattr(self, f"{weight}_constraint", constraints.get(given[f"{weight}_constraint"]))
        self.use_bias = given["use_bias"]
        self.dropout = min(1.0, max(0.0, given["dropout"]))
        self.recurrent_dropout = min(1.0, max(0.0, given["recurrent_dropout"]))
        self.seed = given["seed"]
        self.seed_generator = random.SeedGenerator(self.seed)

    def take_units(self, units: int) -> None:
        """Set the size of state and output."""
        if not isinstance(units, int) or units <= 0:
            raise ArgumentError(
                f"Received an invalid value for argument `units`, expected a positive integer, got {units}."
            )
        self.units = self.output_size = units

    def add_weights(self, kernel: tuple, recurrent: tuple, bias: tuple, bias_initializer=None) -> None:
        """Make the weights of these shapes."""
        shapes = {"kernel": kernel, "recurrent_kernel": recurrent} | ({"bias": bias} if self.use_bias else {})
        self.bias = None
        for name, shape in shapes.items():
            prefix = name.removesuffix("_kernel")
            chosen = bias_initializer if name == "bias" and bias_initializer else getattr(self, f"{prefix}_initializer")
            variable = self.add_weight(
                name=name,
                shape=shape,
                initializer=chosen,
                regularizer=getattr(self, f"{prefix}_regularizer"),
                constraint=getattr(self, f"{prefix}_constraint"),
            )
            setattr(self, name, variable)

    def masks(self, inputs, state, training) -> tuple[Any, Any]:
        """Return the dropout masks of this step's inputs and state, None where nothing is dropped."""
        mask = self.get_dropout_mask(inputs) if training and 0.0 < self.dropout < 1.0 else None
        recurrent = training and 0.0 < self.recurrent_dropout < 1.0
        return mask, self.get_recurrent_dropout_mask(state) if recurrent else None

    def per_gate(self, product, x, kernel, masks, bias=None, axis: int = -1) -> list:
        """Return product(x, kernel) + bias by gates along `axis`; with a list of masks each has its own x."""
        if not isinstance(masks, list):
            found = product(x if masks is None else x * masks, kernel)
            return ops.split(found if bias is None else found + self.aligned(bias), self.gates, axis=axis)
        found = [product(x * m, k) for m, k in zip(masks, ops.split(kernel, len(masks), axis=-1))]
        biases = [] if bias is None else ops.split(bias, len(masks))
        return [f + self.aligned(b) for f, b in zip(found, biases)] if biases else found

    def aligned(self, bias):
        """The bias with the rank of the products."""
        return bias


class LongShortTermCell(GatedCell):
    """Base of LSTM's cells: gates i, f, c, o; states [h, c]."""

    gates = 4

    def next_states(self, z, c):
        """Return (output, new states) from the sums in the gates: c' = f c + i g, h' = o activation(c')."""
        i, f, o = (self.recurrent_activation(z[n]) for n in (0, 1, 3))
        c = f * c + i * self.activation(z[2])
        h = o * self.activation(c)
        return h, [h, c]


class UnitForgetBias(Initializer):
    """The cell's own bias initializer, and ones in the forget gate, the second of four."""

    def __init__(self, inner: Any, units: int):
        self.inner, self.units = inner, units

    def __call__(self, shape, dtype=None, **kwargs):
        u = self.units
        ones = ops.ones((u,), dtype=dtype)
        return ops.concatenate([self.inner((u,), dtype=dtype), ones, self.inner((2 * u,), dtype=dtype)])


@register
class AbstractRNNCell(Layer):
    """Base of user-written cells, as in tf.keras 2: `state_size`, `output_size` and `call(inputs, states)`."""

    @property
    def state_size(self):
        raise NotImplementedError(f"{type(self).__name__} must define state_size")

    @property
    def output_size(self):
        raise NotImplementedError(f"{type(self).__name__} must define output_size")

    def call(self, inputs, states):
        raise NotImplementedError(f"{type(self).__name__} must define call(inputs, states)")

    def get_initial_state(self, inputs=None, batch_size=None, dtype=None):
        """Return zeros."""
        return zero_states(self.state_size, batch_size, dtype or self.compute_dtype)


def zero_states(state_size: Any, batch_size: Any, dtype: str) -> Any:
    """Return zeros for a state size: an int, or a list of ints (or shapes) for several states."""
    if isinstance(state_size, int):
        return ops.zeros((batch_size, state_size), dtype=dtype)
    return [ops.zeros((batch_size, *(d if isinstance(d, (list, tuple)) else (d,))), dtype=dtype) for d in state_size]


def initial_state_of(cell: Any, batch_size: Any) -> Any:
    """Return the first state(s) of a cell, by its own method if it has one."""
    dtype = getattr(cell, "compute_dtype", "float32")
    method = getattr(cell, "get_initial_state", None)
    if method is None:
        return zero_states(cell.state_size, batch_size, dtype)
    accepted = inspect.signature(method).parameters
    given = {"batch_size": batch_size, "dtype": dtype}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    return method(**{k: v for k, v in given.items() if k in accepted or (open_ended and k == "batch_size")})


def output_size_of(cell: Any) -> Any:
    """Return the size of a cell's output: its own word, else its first state's."""
    size = getattr(cell, "output_size", None)
    if size is None:
        size = cell.state_size[0] if isinstance(cell.state_size, (list, tuple)) else cell.state_size
    return size


def check_cell(cell: Any) -> None:
    """Raise ArgumentError if an object cannot be a cell."""
    for needed, what in (("call", "method"), ("state_size", "attribute")):
        if needed not in dir(cell):
            raise ArgumentError(f"The RNN cell should have a `{needed}` {what}. Received: cell={cell}")


def call_cell(cell: Any, inputs: Any, states: list, training: Any) -> tuple[Any, Any]:
    """Run one step of a cell: (output, new states)."""
    is_layer = isinstance(cell, Layer)
    kwargs = {"training": training} if is_layer and calling.signature_of(type(cell).call).has_training else {}
    return (cell if callable(cell) else cell.call)(inputs, states, **kwargs)


@register
class StackedRNNCells(Layer):
    """Cells one above the other as one cell: each reads the output of the one before."""

    def __init__(self, cells: Sequence[Any], **kwargs):
        super().__init__(**kwargs)
        for cell in cells:
            check_cell(cell)
        self.cells = list(cells)

    @property
    def state_size(self) -> list:
        return [c.state_size for c in self.cells]

    @property
    def output_size(self):
        return output_size_of(self.cells[-1])

    def get_initial_state(self, batch_size=None):
        """Return the first states of every cell."""
        return [initial_state_of(cell, batch_size) for cell in self.cells]

    def build(self, input_shape):
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell.build(input_shape)
                cell.built = True
            input_shape = (input_shape[0], output_size_of(cell))

    def call(self, inputs, states, training=False):
        new_states = []
        for cell, own in zip(self.cells, states, strict=True):
            several = tree.is_nested(own)
            inputs, new = call_cell(cell, inputs, list(own) if several else [own], training)
            new = list(new) if tree.is_nested(new) else [new]
            new_states.append(new if several else new[0])
        return inputs, new_states
