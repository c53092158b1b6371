"""Tracing on numbers: what a GradientTape outside any step records, each result computed as it is recorded.

The graph is that of any trace, so gradients are autodiff's; its values also hold their arrays, computed by the NumPy
references as in all calls on arrays. Inside the block Python may therefore look at numbers, and afterwards the
values are the numbers they held. Variables are read when the block first needs them and assigned at its end.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.ir import interpret
from kcompile.ir.graph import CONSTANT
from kcompile.ir.types import Type, bf16, dtype
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.scope import TraceGraph, TraceScope, enter
from kcompile.keras.tracing.tensor import Tensor, TracedValue, as_tensor

_Key = tuple  # where an array lies, and how


class LiveValue(TracedValue):
    """A graph value with its numbers; once its tape's block is over, it stands for them alone."""

    __slots__ = ("array",)
    compares_numbers = True

    def __tensor_value__(self) -> LiveValue | Tensor:
        return self if self.graph.is_open else self._tensor()

    def _tensor(self) -> Tensor:
        return as_tensor(np.array(self.array))

    def numpy(self) -> Any:
        return self._tensor().numpy()

    def __array__(self, *args, **kwargs) -> np.ndarray:
        return np.array(self.array, *args, **{k: v for k, v in kwargs.items() if k == "dtype"})

    def __float__(self) -> float:
        return float(self._tensor())

    def __int__(self) -> int:
        return int(self._tensor())

    __index__ = __int__

    def __bool__(self) -> bool:
        return bool(self._tensor())

    def __format__(self, spec: str) -> str:
        return format(self._tensor(), spec)

    def __repr__(self) -> str:
        return repr(self._tensor())


class LiveGraph(TraceGraph):
    """A graph that computes each node when it is recorded."""

    value_type = LiveValue
    is_open = True  # False after the block: its values are plain tensors

    def _append(self, op, inputs, attrs, types, role="", name="", data=None):
        node = super()._append(op, inputs, attrs, types, role, name, data)
        if op is not None:
            with np.errstate(all="ignore"):
                results = interpret.apply(node, tuple(v.array for v in inputs), {})
        else:
            results = (data,) if role == CONSTANT else ()
        for value, array in zip(node.outputs, results):
            value.array = array
        return node


class LiveScope(TraceScope):
    """The scope of a tape's block on numbers."""

    def __init__(self):
        super().__init__(LiveGraph("tape"))
        self.watched: dict[_Key, tuple[np.ndarray, LiveValue]] = {}

    def _source(self, owner) -> LiveValue:
        found = super()._source(owner)
        if not hasattr(found, "array"):
            found.array = np.array(interpret.bf16_to_f32(owner._array) if found.dtype is bf16 else owner._array)
        return found

    @contextlib.contextmanager
    def recording(self):
        """Record again, in the block or after it (gradients are operations too)."""
        before, self.graph.is_open = self.graph.is_open, True
        try:
            with enter(self):
                yield
        finally:
            self.graph.is_open = before

    def close(self, keep: bool) -> None:
        """The block is over: its values are numbers, and variables hold what was assigned, unless it raised."""
        self.graph.is_open = False
        for key, value in self._assigned.items() if keep else ():
            self._owners[key].assign(value.array)

    def watch(self, array: np.ndarray) -> None:
        """Make an array one that gradients can be asked for: it enters the graph where it is used."""
        value = self.graph.input(f"watched{len(self.watched)}", Type(dtype(array.dtype), array.shape))
        value.array = np.array(array)
        self.watched[_place(array)] = (array, value)

    def entered(self, leaf: Any) -> Any:
        """The graph's value of a watched array; anything else as it is."""
        found = self.watched.get(_place(leaf)) if isinstance(leaf, np.ndarray) else None
        return leaf if found is None else found[1]

    def watched_value(self, array: np.ndarray) -> LiveValue:
        """The value of a watched array.

        Raises: ArgumentError if nobody watched it.
        """
        found = self.entered(array)
        if found is array:
            raise ArgumentError(
                f"GradientTape.gradient: the array of shape {array.shape} was not watched; call `tape.watch(array)` in "
                "the block, before it is used"
            )
        return found

    def enter_arguments(self, args: Any) -> Any:
        """Arguments of a call with the graph's values for watched arrays, in any nesting."""
        return tree.map_structure(self.entered, args) if self.watched else args

    def left(self, value: LiveValue | None) -> Any:
        """A result for code outside the block."""
        if value is None or self.graph.is_open:
            return value
        return value._tensor()


def _place(array: np.ndarray) -> _Key:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str
