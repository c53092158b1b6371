"""clone_model: the same structure with fresh weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras.layers.core import InputLayer
from kcompile.keras.layers.layer import Layer
from kcompile.keras.models.functional import Functional
from kcompile.keras.models.model import Model
from kcompile.keras.models.sequential import Sequential
from kcompile.keras.tracing import tree


def clone_model(
    model: Model,
    input_tensors: Any = None,
    clone_function: Callable[[Layer], Layer] | None = None,
    call_function: Callable | None = None,
    recursive: bool = False,
    **kwargs,
) -> Model:
    """Return a model of the same layers and wiring, with weights of its own.

    Args:
        input_tensors: KerasTensors to start from instead of new inputs.
        clone_function: layer -> its copy; default `layer.__class__.from_config(layer.get_config())`.
        call_function: `(layer, *args, **kwargs)` -> outputs; default the plain call.
        recursive: apply `clone_function` inside nested models too.

    Raises: ArgumentError for what is no model, and for functions given with a model whose wiring is not known.
    """
    if not isinstance(model, Model):
        raise ArgumentError(f"clone_model wants a Model, not {model!r} of type {type(model).__name__}")

    def copy(layer: Layer) -> Layer:
        if recursive and isinstance(layer, (Functional, Sequential)):
            return clone_model(layer, None, clone_function, call_function, True)
        if clone_function is not None:
            return clone_function(layer)
        return type(layer).from_config(layer.get_config())

    if isinstance(model, Sequential):
        return _clone_sequential(model, input_tensors, copy)
    if not isinstance(model, Functional):
        if clone_function is not None or input_tensors is not None:
            raise ArgumentError(
                "Arguments `clone_function` and `input_tensors` are only supported for Sequential and Functional "
                f"models. Received model of type '{type(model).__name__}'."
            )
        return type(model).from_config(model.get_config())
    return _clone_functional(model, input_tensors, copy, call_function)


def _clone_sequential(model: Sequential, input_tensors: Any, copy: Callable) -> Sequential:
    stack = [copy(layer) for layer in model.layers]
    if input_tensors is not None:
        stack.insert(0, tree.flatten(input_tensors)[0])
    elif model._stack and isinstance(model._stack[0], InputLayer):
        entry = model._stack[0]
        stack.insert(0, InputLayer(batch_shape=entry.batch_shape, dtype=entry.dtype, name=entry.name))
    return type(model)(stack, name=model.name, trainable=model.trainable)


def _clone_functional(model: Functional, input_tensors, copy: Callable, call_function) -> Functional:
    graph = model._graph
    copies: dict[int, Any] = {}
    values: dict[int, Any] = {}
    given = None if input_tensors is None else tree.flatten(input_tensors)
    for number, tensor in enumerate(graph.input_tensors):
        layer = tensor.history.operation
        fresh = given[number] if given is not None else InputLayer(
            batch_shape=tensor.shape, dtype=tensor.dtype, name=layer.name
        ).output  # fmt: skip
        values[id(tensor)] = fresh
    for node in graph.nodes:
        if all(id(t) in values for t in node.output_tensors):
            continue
        layer = node.operation
        if id(layer) not in copies:
            copies[id(layer)] = copy(layer) if isinstance(layer, Layer) else layer.function
        args, kwargs = node.fill(values)
        call = copies[id(layer)]
        outputs = call(*args, **kwargs) if call_function is None else call_function(call, *args, **kwargs)
        values.update((id(t), o) for t, o in zip(node.output_tensors, tree.flatten(outputs)))
    return type(model)(
        tree.map_structure(lambda t: values[id(t)], graph.inputs),
        tree.map_structure(lambda t: values[id(t)], graph.outputs),
        name=model.name,
    )
