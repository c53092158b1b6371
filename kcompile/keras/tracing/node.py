"""The model graph: which operation was called on which symbolic tensors.

An operation is a layer or a recorded `keras.ops` function. Each call on KerasTensors is a `Node`; a
tensor's `history` points back to the call that made it. `models/functional.py` walks these.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kcompile.errors import ArgumentError
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.tensor import KerasTensor


class History(NamedTuple):
    """Tensor `tensor_index` of call `node_index` of `operation`."""

    operation: Any
    node_index: int
    tensor_index: int


class Node:
    """One call of an operation: its arguments as given, and the KerasTensors it returned."""

    def __init__(self, operation: Any, args: tuple, kwargs: dict, outputs: Any):
        self.operation = operation
        self.args, self.kwargs = tuple(args), dict(kwargs)
        self.outputs = outputs
        self.output_tensors: list[KerasTensor] = [t for t in tree.flatten(outputs) if isinstance(t, KerasTensor)]
        leaves = tree.flatten([list(args), dict(kwargs)])
        self.input_tensors: list[KerasTensor] = [t for t in leaves if isinstance(t, KerasTensor)]
        self.index = len(operation._inbound_nodes)
        operation._inbound_nodes.append(self)
        for position, tensor in enumerate(self.output_tensors):
            tensor.history = History(operation, self.index, position)
        for tensor in self.input_tensors:
            if tensor.history is not None:
                tensor.history.operation._outbound_nodes.append(self)

    @property
    def parent_nodes(self) -> list[Node]:
        """The calls that made the inputs."""
        return [node_of(t) for t in self.input_tensors if t.history is not None]

    @property
    def is_input(self) -> bool:
        return not self.input_tensors

    def fill(self, replace: dict[int, Any]) -> tuple[tuple, dict]:
        """Return args and kwargs with each KerasTensor replaced by `replace[id(tensor)]`."""

        def value(leaf: Any) -> Any:
            return replace[id(leaf)] if isinstance(leaf, KerasTensor) else leaf

        return tuple(tree.map_structure(value, list(self.args))), tree.map_structure(value, self.kwargs)

    def __repr__(self) -> str:
        return f"<Node {self.index} of {self.operation.name}>"


def node_of(tensor: KerasTensor) -> Node:
    """Return the call that made `tensor`.

    Raises: ArgumentError for a KerasTensor that was not made by Input or a layer.
    """
    if tensor.history is None:
        raise ArgumentError(f"{tensor!r} was made by hand: start models from keras.Input(...)")
    return tensor.history.operation._inbound_nodes[tensor.history.node_index]


def record(operation: Any, args: tuple, kwargs: dict, outputs: Any) -> Any:
    """Record a call; tensors passed through unchanged become tensors of their own. Returns the outputs."""
    seen = {id(t) for t in tree.flatten([list(args), dict(kwargs)]) if isinstance(t, KerasTensor)}

    def fresh(leaf: Any) -> Any:
        if isinstance(leaf, KerasTensor) and id(leaf) in seen:
            copied = KerasTensor(leaf.shape, leaf.dtype, dims=leaf.dims)
            copied._keras_mask = leaf._keras_mask
            return copied
        return leaf

    outputs = tree.map_structure(fresh, outputs)
    Node(operation, args, kwargs, outputs)
    return outputs
