"""ModelGraph: the calls between input tensors and output tensors, in running order.

Nodes are calls of layers (or keras.ops functions); they are ordered by depth, the number of calls left
to an output, and by discovery among equals; that is also the order of `model.layers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.ir.graph import Value
from kcompile.keras import ops
from kcompile.keras.layers.input_spec import InputSpec, check_inputs
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.dtypes import standardize_dtype
from kcompile.keras.tracing.node import Node, node_of
from kcompile.keras.tracing.tensor import KerasTensor


class ModelGraph:
    """The part of the model graph between `inputs` and `outputs` (nested KerasTensors).

    Raises: ArgumentError if an output does not come from the inputs.
    """

    def __init__(self, inputs: Any, outputs: Any):
        self.inputs, self.outputs = inputs, outputs
        self.input_tensors = [_symbolic(t, "inputs") for t in tree.flatten(inputs)]
        self.output_tensors = [_symbolic(t, "outputs") for t in tree.flatten(outputs)]
        repeated = len({id(t) for t in self.input_tensors}) != len(self.input_tensors)
        if repeated:
            raise ArgumentError("All `inputs` of a model must be different tensors.")
        self.nodes, self.operations = self._walk()
        self.host_nodes = self._host_nodes()
        self.program_tensors = self._cut() if self.host_nodes else self.input_tensors

    @property
    def input_names(self) -> list[str]:
        return [t.history.operation.name if t.history else t.name for t in self.input_tensors]

    @property
    def layers(self) -> list:
        """The layers among the operations."""
        return [o for o in self.operations if getattr(type(o), "plugin_group", None) == "layers"]

    def _walk(self) -> tuple[list[Node], list]:
        entries = {id(t) for t in self.input_tensors}
        found: list[Node] = []  # parents before children
        discovered: dict[int, int] = {}  # operation -> order of discovery
        state: dict[int, bool] = {}  # node -> finished?

        for output in self.output_tensors:
            stack = [(output, False)]
            while stack:
                tensor, leaving = stack.pop()
                node = node_of(tensor)
                if leaving:
                    if not state.get(id(node)):
                        state[id(node)] = True
                        found.append(node)
                    continue
                if id(node) in state:
                    continue
                discovered.setdefault(id(node.operation), len(discovered))
                if node.is_input and id(tensor) not in entries:
                    raise ArgumentError(
                        f"The output {output!r} depends on {tensor!r}, which is not among the model's `inputs`. "
                        f"Inputs: {self.input_tensors}"
                    )
                state[id(node)] = False
                stack.append((tensor, True))
                if id(tensor) in entries:
                    continue
                stack.extend((t, False) for t in reversed(node.input_tensors))
        for tensor in self.input_tensors:
            node = node_of(tensor)
            if id(node) not in state:  # an input nobody reads still belongs to the model
                state[id(node)] = True
                discovered.setdefault(id(node.operation), len(discovered))
                found.insert(0, node)
        return self._by_depth(found, discovered, entries)

    def _by_depth(self, found: list[Node], discovered: dict, entries: set[int]) -> tuple[list[Node], list]:
        depth = {id(n): 0 for n in found}
        for node in reversed(found):
            if any(id(t) in entries for t in node.output_tensors):
                continue
            for parent in node.parent_nodes:
                depth[id(parent)] = max(depth[id(parent)], depth[id(node)] + 1)
        by_operation: dict[int, int] = {}
        operations: dict[int, Any] = {}
        for node in found:
            key = id(node.operation)
            operations[key] = node.operation
            by_operation[key] = max(by_operation.get(key, 0), depth[id(node)])
        ordered = sorted(operations.values(), key=lambda o: (-by_operation[id(o)], discovered[id(o)]))
        nodes = sorted(found, key=lambda n: (-depth[id(n)], discovered[id(n.operation)]))
        return nodes, ordered

    # the part that runs in Python -------------------------------------------------------------------

    def _host_nodes(self) -> list[Node]:
        """Calls of layers on strings that depend on nothing but the inputs and each other."""
        ready = {id(t) for t in self.input_tensors}
        found = []
        for node in self.nodes:
            on_host = getattr(node.operation, "runs_on_host", False)
            if on_host and all(id(t) in ready for t in node.input_tensors):
                found.append(node)
                ready.update(id(t) for t in node.output_tensors)
        return found

    def _cut(self) -> list[KerasTensor]:
        """The tensors that the compiled part reads: inputs, and results of the part in Python."""
        inside = {id(n) for n in self.host_nodes}
        read = {id(t) for n in self.nodes if id(n) not in inside for t in n.input_tensors}
        read |= {id(t) for t in self.output_tensors}
        made = [t for n in self.host_nodes for t in n.output_tensors]
        return [t for t in [*self.input_tensors, *made] if id(t) in read]

    def on_host(self, inputs: Any, name: str = "model") -> Any:
        """Return what the compiled part reads: `inputs` themselves unless layers on strings come first."""
        if not self.host_nodes:
            return inputs
        values = {id(t): x for t, x in zip(self.input_tensors, self.standardize(_as_arrays(inputs), name))}
        for node in self.host_nodes:
            args, kwargs = node.fill(values)
            values.update(zip((id(t) for t in node.output_tensors), tree.flatten(node.operation(*args, **kwargs))))
        found = [np.asarray(values[id(t)]) for t in self.program_tensors]
        return found[0] if len(found) == 1 else found

    # running --------------------------------------------------------------------------------------

    def run(self, inputs: Any, name: str = "model") -> Any:
        """Call every operation in order on `inputs`; returns the outputs in their nesting.

        In a trace the part in Python has run: the inputs are those of the compiled part.
        """
        if self.host_nodes and any(isinstance(x, Value) for x in tree.flatten(inputs)):
            values = {id(t): x for t, x in zip(self.program_tensors, tree.flatten(inputs), strict=True)}
        else:
            values = {id(t): x for t, x in zip(self.input_tensors, self.standardize(inputs, name))}
        skipped = {id(n) for n in self.host_nodes if not all(id(t) in values for t in n.input_tensors)}
        for node in self.nodes:
            if id(node) in skipped or (node.is_input and id(node.output_tensors[0]) not in values):
                continue
            if node.output_tensors and all(id(t) in values for t in node.output_tensors):
                continue
            args, kwargs = node.fill(values)
            results = [r for r in tree.flatten(node.operation(*args, **kwargs)) if hasattr(r, "shape")]
            values.update((id(t), r) for t, r in zip(node.output_tensors, results, strict=True))
        return tree.map_structure(lambda t: values[id(t)], self.outputs)

    def standardize(self, inputs: Any, name: str) -> list:
        """Return the inputs in the order of `input_tensors`, checked, of their dtype and rank.

        Raises: ArgumentError or ShapeError naming the model and the input.
        """
        flat = self._flat(inputs, name)
        flat = [_fitted(x, reference) for x, reference in zip(flat, self.input_tensors)]
        check_inputs([_spec_of(t) for t in self.input_tensors], flat, name)
        return flat

    def _flat(self, inputs: Any, name: str) -> list:
        if isinstance(inputs, Mapping):
            keys = list(self.inputs) if isinstance(self.inputs, Mapping) else self.input_names
            missing = [k for k in keys if k not in inputs]
            if missing:
                raise ArgumentError(
                    f'Missing data for input "{missing[0]}" of model "{name}". You passed a data dictionary with keys '
                    f"{list(inputs)}. Expected the following keys: {keys}"
                )
            if isinstance(self.inputs, Mapping):
                return tree.flatten({k: inputs[k] for k in self.inputs})
            return [inputs[k] for k in keys]
        flat = tree.flatten(inputs)
        if len(flat) != len(self.input_tensors):
            raise ArgumentError(
                f'Layer "{name}" expects {len(self.input_tensors)} input(s), but it received {len(flat)} input '
                f"tensors. Inputs received: {[getattr(x, 'shape', x) for x in flat]}"
            )
        return flat


def _as_arrays(inputs: Any) -> Any:
    """Lists of strings are one input."""
    if isinstance(inputs, str) or (isinstance(inputs, (list, tuple)) and inputs and _first_is_string(inputs)):
        return np.asarray(inputs, object)
    if isinstance(inputs, Mapping):
        return {k: _as_arrays(v) for k, v in inputs.items()}
    return type(inputs)(_as_arrays(v) for v in inputs) if isinstance(inputs, (list, tuple)) else inputs


def _first_is_string(value: Any) -> bool:
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (str, bytes))


def _symbolic(tensor: Any, what: str) -> KerasTensor:
    if not isinstance(tensor, KerasTensor):
        raise ArgumentError(
            f"All `{what}` of a model must be KerasTensors, made by keras.Input or by calling layers. "
            f"Received: {tensor!r} (of type {type(tensor)})"
        )
    node_of(tensor)
    return tensor


def _spec_of(tensor: KerasTensor) -> InputSpec:
    return InputSpec(shape=(None, *tensor.shape[1:]) if tensor.shape else (), allow_last_axis_squeeze=True)


def _fitted(x: Any, reference: KerasTensor) -> Any:
    """Give x the dtype of the reference, and add or drop a last axis of size 1 as Keras does."""
    if x is None or not hasattr(x, "shape"):
        return x
    mask = getattr(x, "_keras_mask", None)
    if standardize_dtype(x.dtype) != reference.dtype:
        x = ops.cast(x, reference.dtype)
    rank, wanted = len(x.shape), len(reference.shape)
    if rank == wanted + 1 and x.shape[-1] == 1:
        x = ops.squeeze(x, axis=-1)
    elif rank == wanted - 1 and reference.shape[-1] == 1:
        x = ops.expand_dims(x, axis=-1)
    if mask is not None:
        x._keras_mask = mask
    return x
