"""Gradients by one reverse sweep over the ops' vjp rules, appended to the same graph.

1. mark the nodes that lie between `wrt` and `loss`;
2. walk them backwards; ask each op for the cotangents of its operands;
3. add up cotangents of a value that is read several times.

Broadcasting is undone here, in `_fitted`, and nowhere else: no vjp rule mentions it.
"""

from __future__ import annotations

from collections.abc import Sequence

from kcompile.errors import CompilerBug, NotSupportedError
from kcompile.ir import op as op_table
from kcompile.ir.graph import Node, Value
from kcompile.ir.types import Shape


def grad(loss: Value, wrt: Sequence[Value]) -> list[Value]:
    """Return d sum(loss) / d v for every v in `wrt`, as values of the same graph.

    Shapes:  each result has the type of its `wrt`; zeros where the loss does not depend on it.
    Raises:  NotSupportedError naming an op on the way that has no vjp, with its origin.
    """
    if not loss.dtype.is_float:
        raise CompilerBug(f"the gradient of a loss of dtype {loss.dtype} was asked for")
    wrt = list(wrt)
    found = pullback([loss], [_full(loss, 1.0)], wrt)
    return [_full(v, 0.0) if g is None else g for v, g in zip(wrt, found)]


def pullback(
    results: Sequence[Value], given: Sequence[Value], wrt: Sequence[Value], part: range | None = None
) -> list[Value | None]:
    """Return the cotangents of `wrt` for `given` ones of `results`; None where no result depends on a value.

    part: numbers of the graph's nodes that count; what others compute is constant. All by default.
    """
    cotangents: dict[Value, Value] = {}
    for value, cotangent in zip(results, given, strict=True):
        before = cotangents.get(value)
        cotangents[value] = cotangent if before is None else op_table.get("add")(before, cotangent)
    wanted = set(wrt)
    for node in reversed(_between(results, wanted, part)):
        incoming = tuple(cotangents.get(v) for v in node.outputs)
        for value in node.outputs:
            if value not in wanted:
                cotangents.pop(value, None)
        if all(g is None for g in incoming):
            continue
        with node.output.graph.origin(_grad_layer(node), node.origin.line):
            for operand, cotangent in zip(node.inputs, _vjp(node, incoming), strict=True):
                if cotangent is None or not operand.dtype.is_float:
                    continue
                fitted = _fitted(cotangent, operand, node)
                before = cotangents.get(operand)
                cotangents[operand] = fitted if before is None else op_table.get("add")(before, fitted)
    return [cotangents.get(v) for v in wrt]


def _grad_layer(node: Node) -> str:
    return f"{node.origin.layer}/grad" if node.origin.layer else "grad"


def _between(results: Sequence[Value], wanted: set[Value], part: range | None) -> list[Node]:
    """Nodes on a differentiable way from `wanted` to `results`, in order."""
    ancestors: set[Node] = set()
    stack = [v.node for v in results]
    while stack:
        node = stack.pop()
        if node not in ancestors:
            ancestors.add(node)
            stack.extend(v.node for v in node.inputs)
    reached: set[Value] = set(wanted)
    nodes = []
    every = results[0].graph.nodes if results else ()
    for node in every if part is None else every[part.start : part.stop]:
        if node in ancestors and not node.is_source and node.op.differentiable:
            if any(v in reached and v.dtype.is_float for v in node.inputs):
                reached.update(v for v in node.outputs if v.dtype.is_float)
                nodes.append(node)
    return nodes


def _vjp(node: Node, incoming: tuple[Value | None, ...]) -> Sequence[Value | None]:
    if node.op.vjp is None:
        where = f"\n  in  {node.origin}" if str(node.origin) else ""
        types = ", ".join(str(v.type) for v in node.inputs)
        raise NotSupportedError(f"op {node.op.name!r} has no gradient rule{where}\n  got {node.op.name}({types})")
    if len(node.outputs) == 1:
        return node.op.vjp(incoming[0], node.output, *node.inputs, **node.attrs)
    filled = tuple(_full(v, 0.0) if g is None else g for g, v in zip(incoming, node.outputs))
    return node.op.vjp(filled, node.outputs, *node.inputs, **node.attrs)


def _fitted(cotangent: Value, operand: Value, node: Node) -> Value:
    """Sum a cotangent over the dimensions along which the op repeated `operand`."""
    if cotangent.type == operand.type:
        return cotangent
    if cotangent.dtype is not operand.dtype:
        raise CompilerBug(f"vjp of {node.op.name}: cotangent {cotangent.type} for an operand {operand.type}")
    tail = cotangent.shape[cotangent.rank - operand.rank :]
    if 0 < cotangent.rank < operand.rank or any(n not in (1, m) for n, m in zip(operand.shape, tail)):
        raise CompilerBug(f"vjp of {node.op.name}: cotangent {cotangent.type} for an operand {operand.type}")
    return _summed(cotangent, operand.shape)


def _summed(cotangent: Value, shape: Shape) -> Value:
    """`unbroadcast`; a sign, or a divisor that was repeated as the operand was, is applied to the sum."""
    node = cotangent.node
    if not node.is_source and node.op.name == "neg":
        return op_table.get("neg")(_summed(node.inputs[0], shape))
    if not node.is_source and node.op.name == "div" and node.inputs[1].shape == tuple(shape):
        return op_table.get("div")(_summed(node.inputs[0], shape), node.inputs[1])
    return unbroadcast(cotangent, shape)


def unbroadcast(cotangent: Value, shape: Shape) -> Value:
    """Return `cotangent` summed to `shape`, which broadcasts to its shape."""
    extra = cotangent.rank - len(shape)
    repeated = tuple(range(extra)) + tuple(
        extra + n for n, size in enumerate(shape) if size == 1 and cotangent.shape[extra + n] != 1
    )
    if repeated:
        cotangent = op_table.get("reduce_sum")(cotangent, axes=repeated, keepdims=True)
    if cotangent.rank > len(shape):
        cotangent = op_table.get("reshape")(cotangent, shape=cotangent.shape[extra:])
    if cotangent.shape != tuple(shape):  # a rule returned something smaller, such as a constant
        cotangent = op_table.get("broadcast_to")(cotangent, shape=tuple(shape))
    return cotangent


def _full(like: Value, number: float) -> Value:
    """`number` in the type of `like`."""
    constant = like.graph.constant(number, like.dtype)
    return constant if like.rank == 0 else op_table.get("broadcast_to")(constant, shape=like.shape)
