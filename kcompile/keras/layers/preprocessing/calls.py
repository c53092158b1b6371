"""Layers on strings called anywhere inside `call`: found by a run for shapes, made before the program, taken in it.

    find      runs a function once on promises and notes each call of a HostLayer: its arguments, its result's shape
    prepare   arrays in -> the arrays a program reads: those that hold numbers, then each call's result
    restore   those as traced values -> the function's arguments; the calls then take their results

What a call reads must be there before the program: an input, the result of an earlier call, or one of these moved,
cut or cast. While a program is traced, calls are told apart by layer and by order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kcompile.errors import NotSupportedError
from kcompile.ir.dim import Dim
from kcompile.ir.graph import CONSTANT, Value
from kcompile.ir.interpret import apply
from kcompile.ir.op import Kind
from kcompile.keras.layers.preprocessing.host import promised, symbolic
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.scope import current_scope
from kcompile.keras.tracing.tensor import KerasTensor, StringValue, symbolic_shape
from kcompile.keras.tracing.trace import infer


@dataclass(frozen=True)
class _Slot:
    """Where an argument is: an input, or a result of a call, counted together; `moved` says what becomes of it."""

    number: int
    moved: Callable[[list[np.ndarray], dict[str, int]], np.ndarray] | None = None

    def read(self, slots: list[np.ndarray], sizes: dict[str, int]) -> np.ndarray:
        return slots[self.number] if self.moved is None else self.moved(slots, sizes)


@dataclass(frozen=True)
class _Call:
    layer: Any
    arguments: Any  # nested, with slots
    result: KerasTensor


@dataclass
class HostCalls:
    """The calls of layers on strings in one function.

    inputs      KerasTensors like its argument, nested alike
    """

    inputs: Any
    calls: list[_Call] = field(default_factory=list)

    @property
    def are_needed(self) -> bool:
        """False if the function neither takes strings nor calls layers on them."""
        return bool(self.calls) or any(t.dtype == "string" for t in tree.flatten(self.inputs))

    @property
    def program_inputs(self) -> list[KerasTensor]:
        """What `prepare` gives."""
        return [t for t in [*tree.flatten(self.inputs), *(c.result for c in self.calls)] if t.dtype != "string"]

    def prepare(self, x: Any) -> list[np.ndarray]:
        """Make all calls on arrays; returns those that the program reads."""
        slots = [np.asarray(leaf) for leaf in tree.flatten(x)]
        sizes = _sizes(tree.flatten(self.inputs), slots)
        for call in self.calls:
            arguments = tree.map_structure(
                lambda a: a.read(slots, sizes) if isinstance(a, _Slot) else a, call.arguments
            )
            slots.append(np.asarray(call.layer(arguments)))
        return [a for a in slots if a.dtype.kind not in "OUS"]

    def restore(self, values: Sequence[Any]) -> Any:
        """Return the function's argument over these values of `program_inputs`; later calls take their results."""
        rest = iter(values)
        x = tree.map_structure(lambda t: StringValue(t.dims) if t.dtype == "string" else next(rest), self.inputs)
        made: dict[int, list[Any]] = {}
        for call in self.calls:
            dims = call.result.dims
            made.setdefault(id(call.layer), []).append(
                StringValue(dims) if call.result.dtype == "string" else next(rest)
            )
        current_scope().host_calls = _Taking({layer: iter(results) for layer, results in made.items()})
        return x


@dataclass
class _Taking:
    """Gives the calls in a traced function the results that were made for them."""

    made: dict[int, Any]

    def call(self, layer: Any, inputs: Any) -> Any:
        del inputs
        found = next(self.made.get(id(layer), iter(())), None)
        if found is None:
            raise NotSupportedError(
                f"The layer {layer.name!r} ({type(layer).__name__}) runs in Python, before the compiled program. It is "
                "called more often here than in `call` with training=False, where its results were made."
            )
        return found


class _Noting:
    """Notes the calls in a run for shapes."""

    def __init__(self, leaves: Sequence[Any], calls: list[_Call]):
        self.slots = {id(leaf): number for number, leaf in enumerate(leaves)}
        self.kept = list(leaves)  # ids stay theirs
        self.calls = calls

    def call(self, layer: Any, inputs: Any) -> Any:
        arguments = tree.map_structure(lambda leaf: self._slot(layer, leaf), inputs)
        spec = layer.compute_output_spec(tree.map_structure(symbolic, inputs))
        result = promised(current_scope().graph, spec)
        self.slots[id(result)] = len(self.kept)
        self.kept.append(result)
        dims = result.shape
        self.calls.append(_Call(layer, arguments, KerasTensor(spec.shape, spec.dtype, name=layer.name, dims=dims)))
        return result

    def _slot(self, layer: Any, leaf: Any) -> Any:
        if isinstance(leaf, StringValue):
            if id(leaf) in self.slots:
                return _Slot(self.slots[id(leaf)])
            if leaf.part_of is not None:
                whole, key = leaf.part_of
                source = self._slot(layer, whole)
                return _Slot(source.number, lambda slots, sizes: source.read(slots, sizes)[key])
        if not isinstance(leaf, Value):
            return leaf
        if id(leaf) in self.slots:
            return _Slot(self.slots[id(leaf)])
        self._check_moves(layer, leaf)
        return _Slot(-1, lambda slots, sizes: self._moved(leaf, slots, sizes))

    def _check_moves(self, layer: Any, value: Value) -> None:
        node = value.node
        if id(value) in self.slots or node.role == CONSTANT:
            return
        if node.is_source or not (node.op.kind is Kind.SHAPE or node.op.name == "cast"):
            what = f"the weight {node.name!r}" if node.is_source else f"the result of {node.op.name!r}"
            raise NotSupportedError(
                f"The layer {layer.name!r} ({type(layer).__name__}) runs in Python, before the compiled program, but "
                f"it reads {what}, which the program computes. Let it read inputs of the model, or compute its "
                "argument before the model."
            )
        for operand in node.inputs:
            self._check_moves(layer, operand)

    def _moved(self, value: Value, slots: list[np.ndarray], sizes: dict[str, int]) -> np.ndarray:
        if id(value) in self.slots:
            array = slots[self.slots[id(value)]]
            return array if array.dtype == value.dtype.numpy else array.astype(value.dtype.numpy)
        node = value.node
        if node.role == CONSTANT:
            return node.data
        inputs = tuple(self._moved(operand, slots, sizes) for operand in node.inputs)
        return apply(node, inputs, sizes)[node.outputs.index(value)]


def find(function: Callable[[Any], Any], x: Any) -> HostCalls:
    """Return the calls of layers on strings that `function(x)` makes.

    Args:    x: arrays or KerasTensors, nested.
    Raises:  NotSupportedError naming a layer that reads what the program computes.
    """
    found = HostCalls(inputs_like(x))

    def run(given: Any) -> Any:
        current_scope().host_calls = _Noting(tree.flatten(given), found.calls)
        return function(given)

    infer(run, (found.inputs,))
    return found


def inputs_like(x: Any) -> Any:
    """KerasTensors like nested arrays, of any number of rows."""
    return tree.map_structure(_like, x)


def _like(leaf: Any) -> KerasTensor:
    if isinstance(leaf, KerasTensor):
        return leaf
    array = np.asarray(leaf)
    dtype = {"float64": "float32", "int64": "int32"}.get(array.dtype.name, array.dtype)  # as programs take them
    shape = (None, *array.shape[1:])
    return KerasTensor(shape, dtype, dims=symbolic_shape(shape))


def _sizes(tensors: Sequence[KerasTensor], arrays: Sequence[np.ndarray]) -> dict[str, int]:
    pairs = [pair for t, a in zip(tensors, arrays) for pair in zip(t.dims, a.shape)]
    return {str(size): number for size, number in pairs if isinstance(size, Dim)}
