"""Results get storage of their own to be written to."""

from __future__ import annotations

from kcompile.ir.graph import Graph, Value, copy_node
from kcompile.ir.op import OPS
from kcompile.passes.alias import storage


def own_results(graph: Graph) -> Graph:
    """Give every result storage of its own to be written to.

    Before: a result may be a source, a constant, a view of one, a piece of a larger value, or the same value as
            another result.
    After:  each is a value that some kernel computes, or all of one under another shape.
    """
    copied = OPS["cast"]

    def needs_copy(value: Value) -> bool:
        base = storage(value)[0]
        return base.node.is_source or base.type.size != value.type.size

    if not any(needs_copy(v) for v in graph.results):
        return graph
    fresh = Graph(graph.name)
    mapped: dict[Value, Value] = {}
    for node in graph.live_nodes():
        with fresh.origin(node.origin.layer, node.origin.line):
            made = copy_node(fresh, node, tuple(mapped[v] for v in node.inputs))
        mapped.update(zip(node.outputs, made if isinstance(made, tuple) else (made,)))

    def owned(value: Value) -> Value:
        moved = mapped[value]
        return copied(moved, dtype=moved.dtype.name) if needs_copy(value) else moved

    for name, value in graph.outputs.items():
        fresh.output(name, owned(value))
    for assignment in graph.assignments.values():
        fresh.assign(mapped[assignment.target], owned(assignment.value))
    return fresh
