"""Functional: a model wired from inputs to outputs; and its config in Keras 3's layout (Keras 2's is read)."""

from __future__ import annotations

from typing import Any

from kcompile.errors import SavedFileError
from kcompile.keras.layers.core import InputLayer
from kcompile.keras.models.graph import ModelGraph
from kcompile.keras.models.model import Model
from kcompile.keras.ops.function import PUBLIC, FunctionCall
from kcompile.keras.registry import register
from kcompile.keras.serialization import deserialize_keras_object, serialize_keras_object
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.tensor import KerasTensor


@register
class Functional(Model):
    """A model given by its input and output tensors, in any nesting."""

    keras_module = "keras.src.models.functional"  # Keras has no public module that exports the class

    def __init__(self, inputs=None, outputs=None, name=None, **kwargs):
        super().__init__(name=name, **kwargs)
        inputs = _as_inputs(inputs)
        self._graph = ModelGraph(inputs, outputs)
        self.autocast = False  # inputs take the dtype of their Input
        self.built = True
        self.supports_masking = True
        if "trainable" in kwargs and not kwargs["trainable"]:
            self.trainable = False

    def compute_mask(self, inputs, previous_mask):
        return None  # the layers inside have set it

    def get_config(self) -> dict[str, Any]:
        """Return the layers, their calls, and which tensors enter and leave."""
        graph, kept = self._graph, {id(n) for n in self._graph.nodes}
        layers = []
        for operation in graph.operations:
            nodes = [n for n in operation._inbound_nodes if id(n) in kept and not n.is_input]
            entry = _operation_config(operation)
            entry["name"] = operation.name
            entry["inbound_nodes"] = [
                {
                    "args": serialize_keras_object(_renumbered(list(n.args), kept)),
                    "kwargs": serialize_keras_object(_renumbered(n.kwargs, kept)),
                }
                for n in nodes
            ]
            layers.append(entry)
        return {
            "name": self.name,
            "trainable": self.trainable,
            "layers": layers,
            "input_layers": tree.map_structure(lambda t: _reference(t, kept), graph.inputs),
            "output_layers": tree.map_structure(lambda t: _reference(t, kept), graph.outputs),
        }

    def get_build_config(self):
        return None


def _as_inputs(inputs: Any) -> Any:
    """Take `InputLayer`s for their tensors."""
    return tree.map_structure(lambda t: t.output if isinstance(t, InputLayer) else t, inputs)


def _reference(tensor: KerasTensor, kept: set[int]) -> list:
    operation, index, position = tensor.history
    before = [n for n in operation._inbound_nodes[:index] if id(n) in kept]
    return [operation.name, len(before), position]


def _renumbered(structure: Any, kept: set[int]) -> Any:
    """Replace tensors by their entry in the config."""

    def entry(leaf: Any) -> Any:
        if not isinstance(leaf, KerasTensor):
            return leaf
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": list(leaf.shape), "dtype": leaf.dtype, "keras_history": _reference(leaf, kept)},
        }

    return tree.map_structure(entry, structure)


def _operation_config(operation: Any) -> dict[str, Any]:
    if isinstance(operation, FunctionCall):
        config = {"function": operation.function_name, "name": operation.name}
        if PUBLIC.get(operation.function_name) is not operation.function:  # one of the user's, with its own gradient
            config["custom"] = serialize_keras_object(operation.function)
        return {"module": "keras.ops", "class_name": "FunctionCall", "config": config, "registered_name": None}
    return serialize_keras_object(operation)


# config -> model ------------------------------------------------------------------------------------


def from_config(config: dict[str, Any], cls: type = Functional) -> Model:
    """Return the model that a functional config describes, with fresh weights.

    Raises: SavedFileError if the config refers to calls that never happen.
    """
    made: dict[str, Any] = {}
    outputs: dict[tuple[str, int], list[KerasTensor]] = {}
    waiting: list[tuple[Any, int, tuple, dict]] = []
    for entry in config["layers"]:
        name = entry.get("name") or entry["config"]["name"]
        made[name] = operation = _operation_of(entry)
        if isinstance(operation, InputLayer):
            outputs[name, 0] = [operation.output]
        for number, node in enumerate(entry.get("inbound_nodes", ())):
            args, kwargs = _node_arguments(node)
            waiting.append((operation, name, number, args, kwargs))
    while waiting:
        blocked = []
        for operation, name, number, args, kwargs in waiting:
            earlier = number == 0 or (name, number - 1) in outputs
            if not earlier or not _ready((args, kwargs), outputs):
                blocked.append((operation, name, number, args, kwargs))
                continue
            result = operation(*_filled(args, outputs), **_filled(kwargs, outputs))
            outputs[name, number] = [t for t in tree.flatten(result) if isinstance(t, KerasTensor)]
        if len(blocked) == len(waiting):
            names = sorted({b[1] for b in blocked})
            raise SavedFileError(f"the model's config has calls whose inputs never come: layers {names}")
        waiting = blocked
    model_inputs = _tensors(config["input_layers"], outputs)
    model_outputs = _tensors(config["output_layers"], outputs)
    return cls(
        inputs=model_inputs, outputs=model_outputs, name=config.get("name"), trainable=config.get("trainable", True)
    )


def _operation_of(entry: dict[str, Any]) -> Any:
    if entry["class_name"] == "FunctionCall":
        custom = entry["config"].get("custom")
        if custom is not None:
            return FunctionCall(deserialize_keras_object(custom), entry["config"]["name"])
        function = PUBLIC.get(entry["config"]["function"])
        if function is None:
            raise SavedFileError(f"unknown keras.ops function {entry['config']['function']!r} in a model's config")
        return FunctionCall(function, entry["config"]["name"])
    return deserialize_keras_object({k: v for k, v in entry.items() if k != "build_config"}, group="layers")


class _Pending(tuple):
    """(layer name, call number, output number): a tensor still to be made."""


def _node_arguments(node: Any) -> tuple[Any, dict]:
    """Return args and kwargs of a call, tensors as `_Pending`; in Keras 3's or Keras 2's layout."""
    if isinstance(node, dict):
        return _pending(node["args"]), _pending(node["kwargs"])
    tensors, kwargs = [], {}
    for one in node:  # [[layer, call, output, kwargs], ...]
        tensors.append(_Pending(one[:3]))
        kwargs.update(one[3] if len(one) > 3 else {})
    return [tensors if len(tensors) > 1 else tensors[0]], kwargs


def _pending(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return _Pending(value["config"]["keras_history"])
        if "class_name" in value and "config" in value:
            return deserialize_keras_object(value)
        return {k: _pending(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_pending(v) for v in value)
    return value


def _ready(value: Any, outputs: dict) -> bool:
    if isinstance(value, _Pending):
        return (value[0], value[1]) in outputs
    if isinstance(value, dict):
        return all(_ready(v, outputs) for v in value.values())
    if isinstance(value, (list, tuple)):
        return all(_ready(v, outputs) for v in value)
    return True


def _filled(value: Any, outputs: dict) -> Any:
    if isinstance(value, _Pending):
        return outputs[value[0], value[1]][value[2]]
    if isinstance(value, dict):
        return {k: _filled(v, outputs) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_filled(v, outputs) for v in value)
    return value


def _tensors(references: Any, outputs: dict) -> Any:
    """Return the tensors that `input_layers` / `output_layers` name, in their nesting."""
    if isinstance(references, dict):
        return {k: _tensors(v, outputs) for k, v in references.items()}
    if isinstance(references, (list, tuple)) and len(references) == 3 and isinstance(references[0], str):
        try:
            return outputs[references[0], references[1]][references[2]]
        except (KeyError, IndexError):
            raise SavedFileError(f"the model's config names a tensor that is not there: {references}") from None
    found = [_tensors(r, outputs) for r in references]
    return found[0] if len(found) == 1 else found
