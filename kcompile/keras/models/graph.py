"""ModelGraph: the calls between input tensors and output tensors, in running order.

Nodes are calls of layers (or keras.ops functions); they are ordered by depth, the number of calls left
to an output, and by discovery among equals; that is also the order of `model.layers`.
"""

from __future__ import annotations

import functools
import threading
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.ir.dim import Dim
from kcompile.ir.graph import Value
from kcompile.keras import ops
from kcompile.keras.layers import purity
from kcompile.keras.layers.calling import current_call
from kcompile.keras.layers.input_spec import InputSpec, check_inputs
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.dtypes import standardize_dtype
from kcompile.keras.tracing.node import Node, node_of
from kcompile.keras.tracing.scope import current_scope
from kcompile.keras.tracing.tensor import KerasTensor, StringValue

Path = tuple[int, ...]  # ids of calls of nested models, from the outside
Key = tuple[Path, int]  # where a tensor is, and its id


def _runs_on_host(operation: Any) -> bool:
    return getattr(operation, "runs_on_host", False)


def _all_in(values: Mapping[int, Any], tensors: Sequence[KerasTensor]) -> bool:
    return all(id(t) in values for t in tensors)


class _OrNone(dict):
    """Tensors that only the part in Python reads are None in the compiled one."""

    def __missing__(self, key: int) -> None:
        return None


class _Entered(threading.local):
    """What a model graph passes to a nested one it calls: where that is, and what the part in Python made."""

    def __init__(self):
        self._given: tuple[Any, Path, dict | None] = (None, (), None)

    def give(self, graph: ModelGraph, path: Path, table: dict) -> None:
        self._given = (graph, path, table)

    def take(self, graph: ModelGraph) -> tuple[Path, dict | None]:
        """Return (path, table) if they were given to this graph, once."""
        receiver, path, table = self._given
        if receiver is not graph:
            return (), None
        self._given = (None, (), None)
        return path, table


_entered = _Entered()


class ModelGraph:
    """The part of the model graph between `inputs` and `outputs` (nested KerasTensors).

    Raises: ArgumentError if an output does not come from the inputs.
    """

    def __init__(self, inputs: Any, outputs: Any):
        for what, given in (("inputs", inputs), ("outputs", outputs)):
            if not tree.flatten(given):
                raise ArgumentError(f"`{what}` argument cannot be empty. Received: {what}={given}")
        self.inputs, self.outputs = inputs, outputs
        self.input_tensors = [_symbolic(t, "inputs") for t in tree.flatten(inputs)]
        self.output_tensors = [_symbolic(t, "outputs") for t in tree.flatten(outputs)]
        repeated = len({id(t) for t in self.input_tensors}) != len(self.input_tensors)
        if repeated:
            raise ArgumentError("All `inputs` of a model must be different tensors.")
        self.nodes, self.operations = self._walk()
        _check_names(self.operations)
        self.host_nodes = [n for n in self.nodes if _runs_on_host(n.operation)]
        nested = ((n, getattr(n.operation, "_graph", None)) for n in self.nodes)
        self.nested_nodes = {id(n): g for n, g in nested if isinstance(g, ModelGraph) and g.reads_host}
        self.reads_host = bool(self.host_nodes or self.nested_nodes)
        self.before_host = self._before_host()
        self.program_keys, self.program_tensors = self._cut() if self.reads_host else ([], self.input_tensors)

    @functools.cached_property
    def is_ours(self) -> bool:
        """True if a call runs nothing that users wrote, except in layers."""
        return purity.are_ours(self.nodes)

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

    @property
    def is_cut(self) -> bool:
        """True if all layers on strings are calls of this graph and nested ones; else calls.py finds them."""
        return self.reads_host and self.on_strings is None

    # the part that runs in Python -------------------------------------------------------------------

    def _before_host(self) -> set[int]:
        """Calls without weights that layers of the part in Python depend on: they run there too."""
        makers = {id(t): node for node in self.nodes for t in node.output_tensors}
        found: dict[int, Node] = {}
        stack = [t for node in self.host_nodes for t in node.input_tensors]
        while stack:
            node = makers.get(id(stack.pop()))
            if node is None or node.is_input or id(node) in found or _runs_on_host(node.operation):
                continue
            if id(node) not in self.nested_nodes and not getattr(node.operation, "weights", ()):
                found[id(node)] = node
                stack += node.input_tensors
        return set(found)

    def _host_part(self, values: dict[int, Any], path: Path, call: Callable, visit: Callable | None = None) -> None:
        """Run all calls of layers on strings that depend on nothing but the inputs, each other and `before_host`.

        They may be inside models in this one, whose other calls do not run. A path says which: of nested nodes.

        Args:
            values: what is known, by tensor; gains what is made.
            call: (node, values) -> its results, flat.
            visit: told of every graph on the way: (graph, path, tensors known before, values).
        """
        before = set(values)
        aside: dict[int, Any] = {}  # the compiled part makes these itself
        known = ChainMap(values, aside)
        for node in self.nodes:
            inner = self.nested_nodes.get(id(node))
            if inner is not None:
                pairs = list(zip(inner.input_tensors, inner.argument_tensors(node)))
                inside = {id(i): values[id(t)] for i, t in pairs if id(t) in values}
                inner._host_part(inside, (*path, id(node)), call, visit)
                own = {id(i) for i in inner.input_tensors}
                made = zip(node.output_tensors, inner.output_tensors)
                values.update((id(o), inside[id(i)]) for o, i in made if id(i) in inside and id(i) not in own)
            elif (_runs_on_host(node.operation) or id(node) in self.before_host) and _all_in(known, node.input_tensors):
                made = values if _runs_on_host(node.operation) else aside
                made.update(zip((id(t) for t in node.output_tensors), call(node, known), strict=True))
        if visit is not None:
            visit(self, path, before, values)

    def argument_tensors(self, node: Node) -> list:
        """The tensors that a call of this graph's model passes for its inputs."""
        given = node.args[0] if node.args else next(iter(node.kwargs.values()))
        return self._flat(given, node.operation.name)

    def _cut(self) -> tuple[list[Key], list[KerasTensor]]:
        """The tensors that the compiled part reads: inputs, and results of the part in Python."""
        entries: list[tuple[Key, KerasTensor]] = []
        self.on_strings: Any = None  # a layer of the compiled part that reads strings

        def visit(graph: ModelGraph, path: Path, before: set[int], values: dict[int, Any]) -> None:
            rest = [n for n in graph.nodes if not _all_in(values, n.output_tensors)]
            read = {id(t): t for n in rest for t in n.input_tensors} | {id(t): t for t in graph.output_tensors}
            for node in rest:
                strings = any(t.dtype == "string" for t in node.input_tensors)
                if strings and id(node) not in graph.nested_nodes and self.on_strings is None:
                    self.on_strings = node.operation
            known = [*graph.input_tensors, *(t for n in graph.nodes for t in n.output_tensors if id(t) not in before)]
            for tensor in {id(t): t for t in known if id(t) in values}.values():
                if id(tensor) in read and tensor.dtype != "string" and not (path and id(tensor) in before):
                    entries.append(((path, id(tensor)), tensor))

        values = {id(t): None for t in self.input_tensors}
        self._host_part(values, (), lambda node, _: [None] * len(node.output_tensors), visit)
        entries.sort(key=lambda entry: bool(entry[0][0]))  # this graph's own come first
        return [key for key, _ in entries], [tensor for _, tensor in entries]

    def on_host(self, inputs: Any, name: str = "model") -> Any:
        """Return what the compiled part reads: `inputs` themselves unless layers on strings come first."""
        if not self.reads_host:
            return inputs
        made: dict[Key, Any] = {}

        def call(node: Node, values: Mapping[int, Any]) -> list:
            args, kwargs = node.fill(values)
            return tree.flatten(node.operation(*args, **kwargs))

        def visit(graph: ModelGraph, path: Path, before: set[int], values: dict[int, Any]) -> None:
            made.update(((path, tensor), x) for tensor, x in values.items())

        values = {id(t): x for t, x in zip(self.input_tensors, self.standardize(_as_arrays(inputs), name))}
        self._host_part(values, (), call, visit)
        found = [np.asarray(made[key]) for key in self.program_keys]
        return found[0] if len(found) == 1 else found

    # running --------------------------------------------------------------------------------------

    def run(self, inputs: Any, name: str = "model") -> Any:
        """Call every operation in order on `inputs`; returns the outputs in their nesting, a list of one as that one.

        In a trace the part in Python has run: the inputs are those of the compiled part.
        """
        path, table = _entered.take(self)
        scope = current_scope()
        calls_are_known = scope is not None and scope.host_calls is not None
        if table is None and self.reads_host and not calls_are_known and self._are_made(tree.flatten(inputs)):
            path, table = (), dict(zip(self.program_keys, tree.flatten(inputs), strict=True))
            values = {}
        elif table is not None:
            values = {id(t): _fitted(x, t) for t, x in zip(self.input_tensors, self._flat(inputs, name))}
            values = {t: x for t, x in values.items() if isinstance(x, Value)}
        else:
            values = {id(t): x for t, x in zip(self.input_tensors, self.standardize(inputs, name))}
        if table is not None:
            values.update((tensor, x) for (where, tensor), x in table.items() if where == path)
        around = current_call()
        training = None if around is None else around.training
        for node in self.nodes:
            if node.output_tensors and _all_in(values, node.output_tensors):
                continue
            inner = None if table is None else self.nested_nodes.get(id(node))
            if node.is_input or (inner is None and not _all_in(values, node.input_tensors)):
                continue  # it ran in Python
            if inner is not None:
                if not any(where[: len(path) + 1] == (*path, id(node)) for where, _ in table) and not any(
                    id(t) in values for t in node.input_tensors
                ):
                    continue  # all of it ran in Python
                _entered.give(inner, (*path, id(node)), table)
            args, kwargs = node.fill(_OrNone(values))
            if training is not None and kwargs.get("training") is not None:
                kwargs["training"] = training  # as in Keras 3: what the model is called with counts
            results = [r for r in tree.flatten(node.operation(*args, **kwargs)) if hasattr(r, "shape")]
            values.update((id(t), r) for t, r in zip(node.output_tensors, results, strict=True))
        single = isinstance(self.outputs, (list, tuple)) and len(self.outputs) == 1
        return tree.map_structure(lambda t: values[id(t)], self.outputs[0] if single else self.outputs)

    def _are_made(self, given: Sequence[Any]) -> bool:
        """True if these are the inputs of the compiled part, not those of the model."""
        if not any(isinstance(x, Value) for x in given) or any(isinstance(x, StringValue) for x in given):
            return False
        if not current_scope().abstract:
            return True
        return len(given) == len(self.program_tensors) and all(
            isinstance(x, Value) and x.dtype.keras == t.dtype and len(x.shape) == len(t.shape)
            and all(t_size in (None, size) or isinstance(size, Dim) for size, t_size in zip(x.shape[1:], t.shape[1:]))
            for x, t in zip(given, self.program_tensors)
        )  # fmt: skip

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


def _check_names(operations: Sequence) -> None:
    """Raises: ArgumentError if two operations share a name, under which configs and files hold them."""
    seen: dict[str, Any] = {}
    for operation in operations:
        first = seen.setdefault(operation.name, operation)
        if first is not operation:
            raise ArgumentError(
                f"All operations of a model need names of their own, but {operation.name!r} is the name of {first!r} "
                f"and of {operation!r}. Give one of them another `name`."
            )


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
    if isinstance(x, StringValue):
        at_end = rank == wanted + 1 and x.shape[-1] == 1
        return x[..., 0] if at_end else x[..., None] if rank == wanted - 1 and reference.shape[-1] == 1 else x
    if rank == wanted + 1 and x.shape[-1] == 1:
        x = ops.squeeze(x, axis=-1)
    elif rank == wanted - 1 and reference.shape[-1] == 1:
        x = ops.expand_dims(x, axis=-1)
    if mask is not None:
        x._keras_mask = mask
    return x
