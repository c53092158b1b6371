"""Which kernels of a program give the same result every time until a weight changes.

A kernel that reads nothing but parameters, state and constants the program leaves alone, or what such kernels
make, runs before the others and its results are kept from run to run: transformed filters, cast or transposed
weights. The runtime runs them again only when one of the variables has changed (runtime/kept.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from kcompile.ir.graph import CONSTANT, PARAMETER, STATE, Graph, Node, Value
from kcompile.ir.op import Kind
from kcompile.passes.alias import storage
from kcompile.passes.lower import KernelCall, LoopCall


def prepared_calls(graph: Graph, calls: Iterable[KernelCall | LoopCall]) -> list[KernelCall]:
    """Return the calls whose results may be kept, in order; none for a program that trains.

    Args:  calls: in an order in which they may run.
    """
    changed = {a.target.node for a in graph.assignments.values()}
    if any(node.role == PARAMETER for node in changed):
        return []
    own = _must_be_written(graph)
    kept: list[KernelCall] = []
    made: set[Node] = set()  # of what the calls in `kept` write

    def is_known(value: Value) -> bool:
        node = storage(value)[0].node
        return node in made or (node.role in (PARAMETER, STATE, CONSTANT) and node not in changed)

    for call in calls:
        values = [*call.reads.values(), *call.writes.values()]
        if not isinstance(call, KernelCall) or not call.reads or not all(v.type.is_static for v in values):
            continue
        if all(map(is_known, call.reads.values())) and not any(v.node in own for v in call.writes.values()):
            kept.append(call)
            made |= {v.node for v in call.writes.values()}
    return kept


def _must_be_written(graph: Graph) -> set[Node]:
    """Nodes whose results have a place that is not ours to choose: results of the graph, pieces of packs."""
    values = list(graph.results)
    for node in graph.live_nodes():
        if not node.is_source and node.op.kind is Kind.PACK:
            values += node.inputs
    return {storage(v)[0].node for v in values}
