"""Passes inside the bodies of loops, and loops that are merged; prune.py frees them of what nobody reads.

everywhere(run)   the pass `run` on a graph and on the bodies in it
merge_scans       the scan of the forward computation and the one its gradient made: one
own_operands      before lowering: constant arrays and numbers become operands in memory
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kcompile.ir.body import map_bodies
from kcompile.ir.graph import CONSTANT, Graph, Node, Value, rebuild, transplant
from kcompile.ir.op import OPS, Kind
from kcompile.ops.control import BodyBuilder, scan_of


def has_loops(graph: Graph) -> bool:
    """True if a live node has a body."""
    loops = {n for n in graph.nodes if n.op is not None and n.op.kind is Kind.CONTROL}
    return bool(loops) and not loops.isdisjoint(graph.live_nodes())


def everywhere(run: Callable[[Graph], Graph]) -> Callable[[Graph], Graph]:
    """The pass on a graph after it ran on all bodies in it."""

    def visit(graph: Graph, node: Node, inputs: tuple[Value, ...]):
        if node.is_source or node.op.kind is not Kind.CONTROL:
            return None
        attrs = map_bodies(on_all, node)
        return None if attrs is None else graph.emit(node.op, inputs, attrs)

    def on_all(graph: Graph) -> Graph:
        return run(rebuild(graph, visit) if has_loops(graph) else graph)

    return on_all


# merging ---------------------------------------------------------------------------------------


def merge_scans(graph: Graph) -> Graph:
    """Run scans over the same operands, whose carries are the same, as one that yields what all of them do."""
    groups: dict[tuple, list[Node]] = {}
    for node in graph.live_nodes():
        if not node.is_source and node.op.name == "scan":
            key = (node.inputs, *(node.attrs[k] for k in ("carries", "stacked", "length", "reverse", "guarded")))
            groups.setdefault(key, []).append(node)
    merged: dict[Node, tuple[Node, ...]] = {}
    for nodes in groups.values():
        group = [nodes[0]]
        group += [n for n in nodes[1:] if _merged_body([nodes[0], n]) is not None]
        if len(group) > 1:
            merged.update((n, tuple(group)) for n in group)
    if not merged:
        return graph
    made: dict[tuple[Node, ...], dict[Node, tuple[Value, ...]]] = {}

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]):
        group = merged.get(node)
        if group is None:
            return None
        if group not in made:
            made[group] = _emit_merged(new, group, inputs)
        return made[group][node]

    return rebuild(graph, visit)


def _merged_body(group: Sequence[Node]):
    """(body, per node the positions of its results in it), or None if the carries differ."""
    first = scan_of(group[0]).inside
    builder = BodyBuilder(*([v.type for v in values] for values in (first.carries, first.rows, first.whole)))
    places: dict[Value, int] = {}
    nexts: list[Value] | None = None
    positions: dict[Node, list[int]] = {}
    for node in group:
        inside = scan_of(node).inside
        sources = (inside.step, *inside.carries, *inside.rows, *inside.whole)
        known = dict(zip(sources, (builder.step, *builder.carries, *builder.rows, *builder.whole)))
        found = transplant(builder.graph, [*inside.next, *inside.yields], known)
        own, yields = found[: len(inside.next)], found[len(inside.next) :]
        if nexts is not None and own != nexts:
            return None
        nexts = own
        positions[node] = [*range(len(own)), *(len(own) + places.setdefault(v, len(places)) for v in yields)]
    return builder.finish(nexts or [], list(places)), positions


def _emit_merged(new: Graph, group: tuple[Node, ...], inputs: tuple[Value, ...]) -> dict[Node, tuple[Value, ...]]:
    body, positions = _merged_body(group)
    found = new.emit(group[0].op, inputs, {**group[0].attrs, "body": body})
    found = found if isinstance(found, tuple) else (found,)
    return {node: tuple(found[p] for p in positions[node]) for node in group}


# operands in memory ------------------------------------------------------------------------------


def own_operands(graph: Graph) -> Graph:
    """Give a loop's body all arrays as operands, and the loop all operands in memory.

    After: no body holds a constant array, and no operand of a loop is a number, which kernels have in their code.
    """

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]):
        if node.is_source or node.op.name != "scan":
            return None
        scan = scan_of(node)
        arrays = [n for n in scan.body.graph.live_nodes() if n.role == CONSTANT and n.output.type.size != 1]
        inside = scan.inside
        builder = BodyBuilder(
            [v.type for v in inside.carries],
            [v.type for v in inside.rows],
            [*(v.type for v in inside.whole), *(n.output.type for n in arrays)],
        )
        old = (inside.step, *inside.carries, *inside.rows, *inside.whole, *(n.output for n in arrays))
        known = dict(zip(old, (builder.step, *builder.carries, *builder.rows, *builder.whole)))
        body = builder.finish(
            transplant(builder.graph, inside.next, known), transplant(builder.graph, inside.yields, known)
        )
        operands = [*inputs, *(new.constant(n.data) for n in arrays)]
        owned = [OPS["cast"](v, dtype=v.dtype.name) if is_number(v) else v for v in operands]
        return new.emit(node.op, owned, {**node.attrs, "body": body})

    return rebuild(graph, visit) if has_loops(graph) else graph


def is_number(value: Value) -> bool:
    """True for a constant of one element, or a view of one."""
    while value.node.op is not None and value.node.op.name in ("reshape", "stop_gradient"):
        value = value.node.inputs[0]
    return value.node.role == CONSTANT and value.type.size == 1
