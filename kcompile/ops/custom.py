"""custom: values that other nodes compute, with a gradient of their own.

Operands: the results as they were computed, the values the gradient is for, then what the body reads besides
cotangents. Results: the first operands, unchanged. The body's sources are, in order, the cotangents of the
results and the values it reads; its outputs the cotangents of the values the gradient is for. No gradient
flows through the nodes that computed the results.

A custom node means something to autodiff only: the pipeline's first pass removes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from kcompile.errors import NotSupportedError
from kcompile.ir.body import Body
from kcompile.ir.graph import Graph, Node, Value, inline, rebuild
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type


def with_gradient(
    graph: Graph, body: Body, results: Sequence[Value], wrt: Sequence[Value], read: Sequence[Value], weight: str = ""
) -> tuple[Value, ...]:
    """Emit a custom node: `results`, whose cotangents `body` turns into those of `wrt`.

    Args: weight: a weight that the results depend on by another way; then there is no gradient.
    """
    attrs = {"body": body, "results": len(results), "weight": weight}
    found = graph.emit(custom, (*results, *wrt, *read), attrs)
    return found if isinstance(found, tuple) else (found,)


def drop_custom(graph: Graph) -> Graph:
    """After: no node that means something to autodiff only; gradients have been taken."""

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]):
        return inputs[: node.attrs.get("results", 1)] if _is_dropped(node) else None

    return rebuild(graph, visit) if any(map(_is_dropped, graph.live_nodes())) else graph


def _is_dropped(node: Node) -> bool:
    return not node.is_source and node.op.facts.get("gradient_only", False)


def _infer(*types: Type, body: Body, results: int, weight: str):
    return types[:results]


def _ref(*arrays, body: Body, results: int, weight: str):
    return arrays[0] if results == 1 else tuple(arrays[:results])


def _vjp(incoming, outputs, *inputs, body: Body, results: int, weight: str):
    incoming = incoming if isinstance(incoming, tuple) else (incoming,)
    end = results + len(body.graph.outputs)
    read = inputs[end:]
    if weight:
        raise NotSupportedError(
            f"a function with a custom gradient reads the weight {weight!r}, which is not among its arguments: the "
            "weight would get no gradient. Pass it as an argument."
        )
    found = inline(body.graph, inputs[0].graph, dict(zip(body.graph.sources, (*incoming, *read))))
    return (*(None for _ in range(results)), *found.values(), *(None for _ in read))


def _samples(rng):
    """None: a body is a graph, not an array; tests/keras/ops/test_control.py has its own."""
    return ()


custom = register(Op("custom", Kind.CONTROL, _infer, _ref, _vjp, None, _samples, facts={"gradient_only": True}))
