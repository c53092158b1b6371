"""Which kernels of a program give the same result every time until a weight changes.

A kernel that reads nothing but parameters, state and constants the program leaves alone, or what such kernels
make, runs before the others and its results are kept from run to run: transformed filters, cast or transposed
weights. The runtime runs them again only when one of the variables has changed (runtime/kept.py).

What a contraction reads of such values is called steady in its form: the kernel may keep a copy made for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from kcompile.forms.records import Contract
from kcompile.forms.scalar import Load, walk
from kcompile.ir.graph import CONSTANT, PARAMETER, STATE, Graph, Node, Value
from kcompile.ir.op import Kind
from kcompile.passes.alias import storage
from kcompile.passes.lower import KernelCall, LoopCall


def prepared_calls(graph: Graph, calls: Iterable[KernelCall | LoopCall]) -> list[KernelCall]:
    """Return the calls whose results may be kept, in order; none for a program that trains.

    Args:  calls: in an order in which they may run.
    """
    own = _must_be_written(graph)
    kept: list[KernelCall] = []
    made: set[Node] = set()  # of what the calls in `kept` write
    is_known = _known(graph, made)
    for call in calls:
        values = [*call.reads.values(), *call.writes.values()]
        if not isinstance(call, KernelCall) or not call.reads or not all(v.type.is_static for v in values):
            continue
        if all(map(is_known, call.reads.values())) and not any(v.node in own for v in call.writes.values()):
            kept.append(call)
            made |= {v.node for v in call.writes.values()}
    return kept


def with_steady(graph: Graph, calls: Iterable[KernelCall], kept: Iterable[KernelCall]) -> list[KernelCall]:
    """The same calls; contractions say which of their buffers `kept` calls make, or nothing changes."""
    is_known = _known(graph, {v.node for call in kept for v in call.writes.values()})

    def steady(form: Contract, reads: dict[str, Value]) -> tuple[str, ...]:
        sides = dict.fromkeys(e.buffer for e in walk(form.lhs, form.rhs) if isinstance(e, Load))
        return tuple(n for n in sides if n in reads and reads[n].type.is_static and is_known(reads[n]))

    return [
        replace(c, form=replace(c.form, steady=steady(c.form, c.reads))) if isinstance(c.form, Contract) else c
        for c in calls
    ]


def _known(graph: Graph, made: set[Node]) -> Callable[[Value], bool]:
    """Whether a value is the same in every run; nothing is in a program that trains."""
    changed = {a.target.node for a in graph.assignments.values()}
    trains = any(node.role == PARAMETER for node in changed)

    def is_known(value: Value) -> bool:
        node = storage(value)[0].node
        return not trains and (node in made or (node.role in (PARAMETER, STATE, CONSTANT) and node not in changed))

    return is_known


def _must_be_written(graph: Graph) -> set[Node]:
    """Nodes whose results have a place that is not ours to choose: results of the graph, pieces of packs."""
    values = list(graph.results)
    for node in graph.live_nodes():
        if not node.is_source and node.op.kind is Kind.PACK:
            values += node.inputs
    return {storage(v)[0].node for v in values}
