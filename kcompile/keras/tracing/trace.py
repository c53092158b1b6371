"""Run Python once on symbolic values: `trace` records a program, `infer` only shapes and dtypes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.ir import dim
from kcompile.ir.graph import Graph, Value
from kcompile.ir.types import Type, dtype
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.arena import VariableArena
from kcompile.keras.tracing.scope import TraceGraph, TraceScope, current_scope, enter, unwrap
from kcompile.keras.tracing.tensor import KerasTensor, StringValue, public_shape, symbolic_shape
from kcompile.keras.tracing.variable import Variable

__all__ = ["Traced", "current_scope", "infer", "trace"]


@dataclass(frozen=True)
class Traced:
    """A recorded program.

    graph       its sources are the inputs by name, the arenas and the single variables that were read
    variables   what each parameter or state source stands for
    structure   the nesting of the outputs; leaves are output names
    updates     (optimizer, variables) of each update that an optimizer made
    limits      inputs that are row numbers: (rows, name of the layer that looks them up)
    """

    graph: Graph
    variables: Mapping[str, Variable | VariableArena]
    structure: Any
    updates: Sequence[tuple[Any, Sequence[Variable]]] = ()
    limits: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the storage of each parameter and state source, to be given to a program's `run`."""
        return {name: owner._array for name, owner in self.variables.items()}

    def pack(self, outputs: Mapping[str, Any]) -> Any:
        """Put a program's outputs back into the nesting that the traced function returned."""
        return tree.map_structure(lambda name: outputs[name], self.structure)


def trace(
    fn: Callable[[dict[str, Value]], Any],
    input_specs: Mapping[str, Any],
    *,
    arenas: Sequence[VariableArena] = (),
    name: str = "program",
) -> Traced:
    """Record what `fn` does.

    Args:
        fn: takes a dict of symbolic values by input name; returns a nested structure of values. Leaves of a
            flat dict are called by their keys, others `y0`, `y1`, ... in flattening order.
        input_specs: name -> KerasTensor, or anything with `.shape` and `.dtype`, or a `(shape, dtype)` pair.
            None is a size learned at run time: `batch` on axis 0 of every input, `<name>_<axis>` elsewhere.
        arenas: variables in them are slices of one source each; others become sources when first read.
    """
    start = time.perf_counter()
    graph = TraceGraph(name)
    scope = TraceScope(graph, arenas)
    values = {}
    for label, spec in input_specs.items():
        shape, spec_dtype = (spec.shape, spec.dtype) if hasattr(spec, "shape") else spec
        sizes = symbolic_shape(tuple(shape), prefix=f"{label}_")
        values[label] = graph.input(label, Type(dtype(spec_dtype), sizes))
    with enter(scope):
        result = fn(values)
        structure = _name_outputs(graph, result)
        scope.finish()
    graph.trace_s = time.perf_counter() - start
    return Traced(graph, scope.variables, structure, scope.updates, scope.index_limits)


def _name_outputs(graph: Graph, result: Any) -> Any:
    leaves = tree.flatten_with_path(result)
    flat_dict = isinstance(result, Mapping) and all(len(path) == 1 for path, _ in leaves)
    labels = []
    for number, (path, leaf) in enumerate(leaves):
        label = str(path[0]) if flat_dict else f"y{number}"
        graph.output(label, _as_value(graph, leaf, label))
        labels.append(label)
    return tree.pack_sequence_as(result, labels)


def _as_value(graph: Graph, leaf: Any, label: str) -> Value:
    leaf = unwrap(leaf)
    if isinstance(leaf, Value):
        return leaf
    if isinstance(leaf, StringValue):
        raise NotSupportedError(f"the output {label!r} of the model is strings, which compiled code does not hold")
    if leaf is None or isinstance(leaf, KerasTensor):
        raise ArgumentError(f"the output {label!r} of the traced function is {leaf!r}; expected a tensor")
    return graph.constant(np.asarray(leaf))


def infer(fn: Callable, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
    """Return what `fn(*args, **kwargs)` would return, with KerasTensors for tensors; computes nothing.

    KerasTensors anywhere in the arguments are symbolic; their sizes keep their exact names. If these do not fit, as
    where a mask [batch, None, None] meets queries [batch, None, n], open sizes other than the batch are taken as equal.
    """
    try:
        return _inferred(fn, args, kwargs, lambda dims: dims)
    except ShapeError:
        open_sizes = {s for leaf in tree.flatten((list(args), kwargs)) for s in _open_sizes(leaf)}
        if len(open_sizes) < 2:
            raise
        first = dim.symbol(min(open_sizes))
        alike = lambda atom: first if str(atom) in open_sizes else None  # noqa: E731
        with contextlib.suppress(ShapeError):
            return _inferred(fn, args, kwargs, lambda dims: tuple(dim.substitute(d, alike) for d in dims))
        raise


def _open_sizes(leaf: Any) -> set[str]:
    if not isinstance(leaf, KerasTensor):
        return set()
    return {s for d in leaf.dims for s in dim.symbols(d)} - {"batch"}


def _inferred(fn: Callable, args: Sequence[Any], kwargs: Mapping[str, Any] | None, named: Callable) -> Any:
    graph = TraceGraph("shapes")
    count = 0

    def enter_symbolic(leaf: Any) -> Any:
        nonlocal count
        if not isinstance(leaf, KerasTensor):
            return leaf
        if leaf.dtype == "string":
            return StringValue(named(leaf.dims))
        count += 1
        value = graph.input(f"x{count - 1}", Type(dtype(leaf.dtype), named(leaf.dims)))
        if leaf._keras_mask is not None:
            value._keras_mask = enter_symbolic(leaf._keras_mask)
        return value

    def leave_symbolic(leaf: Any) -> Any:
        leaf = unwrap(leaf)
        if isinstance(leaf, Value):
            made = KerasTensor(public_shape(leaf.shape), leaf.dtype, dims=leaf.shape)
            mask = getattr(leaf, "_keras_mask", None)
            made._keras_mask = None if mask is None else leave_symbolic(mask)
            return made
        if isinstance(leaf, StringValue):
            return KerasTensor(public_shape(leaf.shape), "string", dims=leaf.shape)
        if isinstance(leaf, np.ndarray):
            return KerasTensor(leaf.shape, leaf.dtype)
        return leaf

    with enter(TraceScope(graph, abstract=True)):
        args, kwargs = tree.map_structure(enter_symbolic, (list(args), dict(kwargs or {})))
        return tree.map_structure(leave_symbolic, fn(*args, **kwargs))
