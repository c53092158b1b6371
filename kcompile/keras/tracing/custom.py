"""Gradients that are not those of the nodes: of a user's function, and of a branch that may not run.

Both record a graph from cotangents to cotangents beside the computation (ops/custom.py), so they work
wherever autodiff does: in steps of loops, in loops of loops, in gradients of gradients.

custom_gradient   f returns its result and a function that gives the arguments' cotangents for the result's
branch            a function traced apart, whose reads get no cotangent unless it is the branch that counts
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kcompile.autodiff import unbroadcast
from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.ir import op as op_table
from kcompile.ir.body import Body
from kcompile.ir.graph import PARAMETER, Node, Value, transplant
from kcompile.ir.types import broadcast_shapes
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.arena import VariableArena
from kcompile.keras.tracing.loops import BodyGraph, BodyScope, as_value
from kcompile.keras.tracing.scope import TraceGraph, TraceScope, current_scope, enter, unwrap
from kcompile.ops.custom import with_gradient


def custom_gradient(f: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the result of `f(*args, **kwargs)`; the gradient of the tensors in `args` is what `f` says.

    `f` returns (result, gradient function). The gradient function is called once, at trace time, with the
    cotangents of the results: one argument each, or one nested like the result if it takes a single one.
    """
    name = getattr(f, "__name__", "function")
    args = tree.map_structure(unwrap, tuple(args))
    made = f(*args, **kwargs)
    if not isinstance(made, tuple) or len(made) != 2 or not callable(made[1]):
        raise ArgumentError(f"custom_gradient: {name!r} must return (result, gradient function), received {made!r}")
    result, gradient = made
    scope = current_scope()
    if scope is None or scope.abstract:
        return result
    results = [as_value(scope.graph, v) for v in tree.flatten(result)]
    graph = BodyGraph(scope.graph)
    inside = BodyScope(graph, scope, {})
    cotangents = [graph.input(f"g{n}", v.type) for n, v in enumerate(results)]
    with enter(inside), graph.origin(scope.graph._origin.layer, scope.graph._origin.line):
        given = _called(gradient, cotangents, result)
    if inside.written or inside.losses:
        what = "assigns a variable" if inside.written else "adds a loss"
        raise NotSupportedError(f"custom_gradient: the gradient of {name!r} {what}")
    wrt, numbers = _matched(name, tree.flatten(args), tree.flatten(given))
    for n, (value, found) in enumerate(zip(wrt, numbers)):
        graph.output(f"d{n}", _fitted(name, n, graph, found, value))
    wrt = [scope.graph.adopt(v) for v in wrt]
    weight = _weight_read(scope, results, [scope.graph.adopt(a) for a in tree.flatten(args) if isinstance(a, Value)])
    found = with_gradient(scope.graph, Body(graph), results, wrt, list(graph.captured), weight)
    return tree.pack_sequence_as(result, found)


def _weight_read(scope: TraceScope, results: Sequence[Value], args: Sequence[Value]) -> str:
    """The path of a trained weight that the results depend on, but not by the arguments; or nothing."""
    stack: list[tuple[Value, Node | None]] = [(v, None) for v in results]
    seen = set(args)
    while stack:
        value, reader = stack.pop()
        if value in seen or not value.dtype.is_float:
            continue
        seen.add(value)
        if value.node.role == PARAMETER:
            return _path(scope.variables.get(value.node.name), reader) or value.node.name
        outside = {source: outer for outer, source in getattr(value.graph, "captured", {}).items()}
        if value in outside:
            stack.append((outside[value], None))
        elif not value.node.is_source and value.node.op.differentiable:
            stack += [(v, value.node) for v in value.node.inputs]
    return ""


def _path(owner: Any, reader: Node | None) -> str | None:
    """The path of a variable, or of the one of an arena that a slice reads."""
    if isinstance(owner, VariableArena) and reader is not None and "starts" in reader.attrs:
        at = dict(zip(owner.offsets, owner.variables))
        owner = at.get(reader.attrs["starts"][0], owner)
    return getattr(owner, "path", None)


def _called(gradient: Callable[..., Any], cotangents: Sequence[Value], result: Any) -> Any:
    """One argument per result, as TensorFlow has it, or one in the nesting of the result, as JAX has it."""
    if len(cotangents) > 1:
        try:
            inspect.signature(gradient).bind(*cotangents)
        except TypeError:
            return gradient(tree.pack_sequence_as(result, cotangents))
    return gradient(*cotangents)


def _matched(name: str, args: list, given: list) -> tuple[list[Value], list[Any]]:
    """The arguments that have a gradient, and what the gradient function says of each."""
    tensors = [a for a in args if hasattr(a, "shape")]
    if len(given) == len(args):
        pairs = list(zip(args, given))
    elif len(given) == len(tensors):
        pairs = list(zip(tensors, given))
    else:
        raise ArgumentError(
            f"custom_gradient: the gradient function of {name!r} returns {len(given)} gradients for "
            f"{len(args)} arguments"
        )
    kept = [(a, g) for a, g in pairs if isinstance(a, Value) and a.dtype.is_float and g is not None]
    return [a for a, _ in kept], [g for _, g in kept]


def _fitted(name: str, n: int, graph: TraceGraph, found: Any, like: Value) -> Value:
    """The cotangent in the dtype and shape of the argument."""
    value = as_value(graph, found)
    if value.dtype is not like.dtype:
        value = op_table.get("cast")(value, dtype=like.dtype.name)
    try:
        whole = broadcast_shapes(value.shape, like.shape)
    except ShapeError:
        whole = None
    if whole is None or whole not in (value.shape, like.shape):
        raise ShapeError(
            f"custom_gradient: the gradient function of {name!r} returns {value.type} for argument {n}, which is "
            f"{like.type}"
        )
    return value if value.shape == like.shape else unbroadcast(value, like.shape)


def branch(fn: Callable[[], Any], counts: Value, where: str) -> Any:
    """Return `fn()`, computed though it may not count: what it reads gets its cotangents only if `counts`.

    So a branch that does not count adds exactly nothing to a gradient, even where it has no finite value.
    """
    scope = current_scope()
    if scope.abstract:
        return fn()
    graph = BodyGraph(scope.graph)
    graph.floor = graph
    inside = BodyScope(graph, scope, {})
    with enter(inside), graph.origin(scope.graph._origin.layer, scope.graph._origin.line):
        made = tree.map_structure(unwrap, fn())
    if inside.written:
        path = next(iter(inside.written.values())).path
        raise NotSupportedError(f"{where} assigns {path!r}: use keras.ops.where on the new value instead")
    leaves = tree.flatten(made)
    wanted = [graph.adopt(v) for v in leaves if isinstance(v, Value)]
    wanted += [as_value(graph, loss) for _, loss in inside.losses]
    known = {source: _gated(scope.graph, outer, counts) for outer, source in graph.captured.items()}
    copied = iter(transplant(scope.graph, wanted, known))
    results = tree.pack_sequence_as(made, [next(copied) if isinstance(v, Value) else v for v in leaves])
    for (kept, _), loss in zip(inside.losses, copied, strict=True):
        scope.add_loss(kept, op_table.get("select")(scope.graph.adopt(counts), loss, 0.0))
    return results


def _gated(around: TraceGraph, value: Value, counts: Value) -> Value:
    """The value; its cotangent counts only where `counts`."""
    if not value.dtype.is_float:
        return value
    graph = BodyGraph(around)
    cotangent = graph.input("g0", value.type)
    graph.output("d0", op_table.get("select")(graph.adopt(counts), cotangent, 0.0))
    return with_gradient(around, Body(graph), [value], [value], list(graph.captured))[0]
