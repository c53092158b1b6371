"""What runs in Python, before the compiled program: layers on strings, and batches to learn from.

In a model, the results of a HostLayer are inputs of the compiled program: models/graph.py cuts there where the
graph shows the calls, calls.py finds those inside the `call` of a layer or a subclassed model.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from kcompile.errors import NotSupportedError
from kcompile.ir.graph import Graph, Value
from kcompile.ir.types import Type, dtype
from kcompile.keras.layers.layer import Layer
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.node import record
from kcompile.keras.tracing.scope import current_scope
from kcompile.keras.tracing.tensor import KerasTensor, StringValue, as_tensor, is_tensor, public_shape
from kcompile.keras.utils.dataset import PyDataset


class HostLayer(Layer):
    """A layer of Python and NumPy: subclasses give `on_host` and `compute_output_spec`."""

    runs_on_host = True

    def on_host(self, inputs) -> np.ndarray:
        """Return the output for arrays or lists (of strings, maybe)."""
        raise NotImplementedError(f"{type(self).__name__} must override on_host()")

    def __call__(self, inputs, *args, **kwargs):
        leaves = tree.flatten(inputs)
        self.built = True
        if any(isinstance(leaf, KerasTensor) for leaf in leaves):
            return record(self, (inputs,), {}, self.compute_output_spec(inputs))
        if any(isinstance(leaf, (Value, StringValue)) for leaf in leaves):
            scope = current_scope()
            if scope.host_calls is not None:
                return scope.host_calls.call(self, inputs)
            if scope.abstract:
                return promised(scope.graph, self.compute_output_spec(tree.map_structure(symbolic, inputs)))
            raise NotSupportedError(
                f"The layer {self.name!r} ({type(self).__name__}) runs in Python, before the compiled program, and "
                "what it reads is not known here. Call the model on data once (predict does), or let a functional or "
                "Sequential model call the layer on its inputs."
            )
        return self.call(inputs)

    def call(self, inputs):
        return as_tensor(self.on_host(inputs))

    def compute_output_shape(self, input_shape):
        return self.compute_output_spec(KerasTensor(input_shape, "string")).shape


def symbolic(leaf: Any) -> Any:
    """A KerasTensor like a traced value or like strings."""
    if isinstance(leaf, StringValue):
        return KerasTensor(public_shape(leaf.shape), "string", dims=leaf.shape)
    return KerasTensor(public_shape(leaf.shape), leaf.dtype.keras, dims=leaf.shape) if isinstance(leaf, Value) else leaf


def promised(graph: Graph, spec: Any) -> Any:
    """Values of the shapes and dtypes of KerasTensors, in a graph that is never run."""

    def value(leaf: KerasTensor) -> Any:
        if leaf.dtype == "string":
            return StringValue(leaf.dims)
        return graph.input(f"host{len(graph.sources)}", Type(dtype(leaf.dtype), leaf.dims))

    return tree.map_structure(value, spec)


def strings(values: Any, encoding: str = "utf-8") -> np.ndarray:
    """Return strings (or bytes, or nested lists of them) as an array of Python strings."""
    array = np.asarray(values)
    if array.dtype.kind == "U":
        return array.astype(object)

    def decoded(value: Any) -> str:
        return value.decode(encoding) if isinstance(value, bytes) else str(value)

    return np.array([decoded(v) for v in array.reshape(-1).tolist()], object).reshape(array.shape)


def mapped(function, values: np.ndarray, dtype: Any) -> np.ndarray:
    """Return function(v) for every element, computed once for equal ones."""
    flat = values.reshape(-1).tolist()
    known = {value: function(value) for value in dict.fromkeys(flat)}
    return np.fromiter(map(known.__getitem__, flat), dtype, len(flat)).reshape(values.shape)


def batches_of(data: Any, steps: int | None = None, lists_are_data: bool = False) -> Iterator[Any]:
    """Yield the inputs of an array (one batch), or of each batch of a source ((x, y) gives x).

    Args:
        steps: at most so many batches of a source.
        lists_are_data: a list or tuple is one batch, not a list of batches.
    """
    if is_tensor(data) or (lists_are_data and isinstance(data, (list, tuple, str))):
        yield data
        return
    batches = (data[i] for i in range(len(data))) if isinstance(data, PyDataset) else iter(data)
    for batch in itertools.islice(batches, steps):
        yield batch[0] if isinstance(batch, tuple) else batch
