"""What every graph must satisfy; run after every pass in tests and under KCOMPILE_VERIFY=1."""

from __future__ import annotations

import re

from kcompile.errors import CompilerBug, KcompileError
from kcompile.ir import dim
from kcompile.ir.body import bodies_of
from kcompile.ir.graph import Graph, Node, Value
from kcompile.ir.roles import CONSTANT, PARAMETER, SOURCE_ROLES, STATE


def verify(graph: Graph) -> None:
    """Check a graph. Raises: CompilerBug naming the node, with its neighbours, and what is wrong with it."""
    place = {node: n for n, node in enumerate(graph.nodes)}
    if len(place) != len(graph.nodes):
        raise CompilerBug(f"graph {graph.name}: a node is listed twice")
    for node in graph.nodes:
        _check_edges(graph, node, place)
        _check_types(graph, node)
        for body in bodies_of(node):
            verify(body.graph)
    for name, source in graph.sources.items():
        if source.node not in place or source.node.name != name or source.node.role == CONSTANT:
            raise _bug(graph, source.node, f"is listed as source {name!r}")
    for label, value in graph.outputs.items():
        _check_member(graph, value, place, f"output {label!r}")
    for name, assignment in graph.assignments.items():
        target, value = assignment.target, assignment.value
        _check_member(graph, value, place, f"the value assigned to {name!r}")
        if graph.sources.get(name) is not target or target.node.role not in (PARAMETER, STATE):
            raise _bug(graph, target.node, f"is assigned as {name!r} but is no parameter or state of this graph")
        if target.type != value.type:
            raise _bug(graph, value.node, f"is assigned to {name}: {target.type}")


def _check_edges(graph: Graph, node: Node, place: dict[Node, int]) -> None:
    for value in node.inputs:
        if value.graph is not graph or value.node not in place:
            raise _bug(graph, node, f"reads {value!r}, which is not of this graph")
        if place[value.node] >= place[node]:
            raise _bug(graph, node, f"reads {value!r} before it exists")
        if value.node.outputs[value.index] is not value:
            raise _bug(graph, node, f"reads {value!r}, which is not a result of its node")
    if node not in graph.index or set(graph.index.predecessors(node)) != {v.node for v in node.inputs}:
        raise _bug(graph, node, "has other edges in the index than operands")


def _check_types(graph: Graph, node: Node) -> None:
    for value in node.outputs:
        for name in {s for size in value.shape for s in dim.symbols(size)}:
            if not re.fullmatch(r"[A-Za-z_]\w*", name):
                raise _bug(graph, node, f"has a size called {name!r}, which is no identifier")
    if node.is_source:
        if node.role not in SOURCE_ROLES or node.inputs or len(node.outputs) != 1:
            raise _bug(graph, node, "is not a well-formed source")
        if node.role == CONSTANT and node.data.shape != node.output.shape:
            raise _bug(graph, node, f"holds numbers of shape {node.data.shape}")
        return
    try:
        inferred = node.op.infer(*(v.type for v in node.inputs), **node.attrs)
    except KcompileError as error:
        raise _bug(graph, node, f"is ill-typed: {error}") from error
    types = inferred if isinstance(inferred, tuple) else (inferred,)
    if types != tuple(v.type for v in node.outputs):
        raise _bug(graph, node, f"has stored types that differ from the inferred {types}")


def _check_member(graph: Graph, value: Value, place: dict[Node, int], what: str) -> None:
    if value.graph is not graph or value.node not in place:
        raise CompilerBug(f"graph {graph.name}: {what}, {value!r}, is not of this graph")


def _bug(graph: Graph, node: Node, wrong: str) -> CompilerBug:
    operands = ", ".join(repr(v) for v in node.inputs) or "nothing"
    readers = ", ".join(repr(n) for n in graph.nodes if any(v.node is node for v in n.inputs)) or "nobody"
    types = ", ".join(str(v.type) for v in node.outputs)
    where = f"\n  in  {node.origin}" if str(node.origin) else ""
    return CompilerBug(
        f"graph {graph.name}: {node!r}: {types} {wrong}{where}\n  reads {operands}\n  read by {readers}"
        "\n  hint: KCOMPILE_DEBUG=3 prints the graph after every pass"
    )
