"""Large values between products, a row at a time: the attention matrix is never stored whole.

A batched product may make more than it reads (queries with keys), and another reduce that again (shares with
values). What lies between is needed row by row of the common axes - batch, head - so the products, and all that
happens between them, become the body of a loop over these rows (row_bodies.py). A task of it is a row (rows.py),
and the large values live in the core's own cache, one row of them for each worker. Of rows that are too large for
that the body makes strips (strips.py).

    region   nodes whose results have the large shape, the reductions of these along other axes and what is
             computed from reductions, the products that read large values and make small ones, and sums of rows
    level    how often a node's operands have left the region on the way to it: the gradient of a region reads
             what was computed from its results. Each level is a loop
    between  what a later level needs of an earlier one: small values are yielded; large ones are computed again

So the gradient of attention keeps two numbers per query (maximum, sum) and pays one more product.
"""

from __future__ import annotations

from kcompile.ir.graph import Graph, Node, Value, copy_node
from kcompile.passes.algebra import simplify
from kcompile.passes.regions import Region, Users, count_common, grows, region_of
from kcompile.passes.row_bodies import RowBody
from kcompile.passes.spread import spread
from kcompile.target import Target


def block_rows(graph: Graph, target: Target) -> Graph:
    """Put every region into loops over its rows.

    After: no value of a region's large shape is stored, other than a row of it, and what is needed whole elsewhere.
    """
    seeds = [n for n in graph.live_nodes() if grows(n, target)]
    if not seeds:
        return graph
    ready = spread(graph, {tuple(n.output.shape): count_common(n) for n in seeds})
    regions = _regions(ready, target)
    return simplify(_rewritten(ready, regions)) if regions else graph


def _regions(graph: Graph, target: Target) -> list[Region]:
    live = graph.live_nodes()
    seeds = [n for n in live if grows(n, target)]
    users: Users = {}
    for node in live:
        for value in dict.fromkeys(node.inputs):
            users.setdefault(value, []).append(node)
    regions: list[Region] = []
    taken: set[Node] = set()
    for seed in seeds:
        region = None if seed in taken else region_of(graph, users, seed)
        if region is not None and not taken.intersection(region.all):
            regions.append(region)
            taken.update(region.all)
    return regions


def _levels(region: Region) -> dict[Node, int]:
    """The level of each of the region's nodes; of others the highest they are computed from."""
    levels: dict[Node, int] = {}
    for node in region.graph.live_nodes():
        before = [(v.node, levels[v.node]) for v in node.inputs]
        if region.has(node):
            within = (n for n, _ in before if region.has(n) and not region.is_end(n))
            left = (level + 1 for n, level in before if not region.has(n) or region.is_end(n))
            levels[node] = max(1, *(levels[n] for n in within), *left, 1)
        else:
            levels[node] = max((level for _, level in before), default=0)
    return levels


def _bodies(region: Region) -> list[RowBody]:
    """The loops of a region, the last first: what it needs of an earlier one, that one yields."""
    levels = _levels(region)
    kept = set(region.graph.results)
    last = max(levels[n] for n in region.all)
    outputs: dict[int, list[Value]] = {n: [] for n in range(1, last + 1)}
    for node in region.graph.live_nodes():
        if region.is_end(node) or node in region.small:
            leaves = node.output in kept or any(not region.has(u) for u in region.users.get(node.output, ()))
            if region.is_end(node) or leaves:
                outputs[levels[node]].append(node.output)
        elif node in region.taken:
            outputs[levels[node]].append(node.output)
    found: list[RowBody] = []
    for level in sorted(outputs, reverse=True):
        if outputs[level]:
            body = RowBody(region, levels, level, outputs[level])
            found.append(body)
            for value in body.operands:
                if value.node in region.small and value not in outputs[levels[value.node]]:
                    outputs[levels[value.node]].append(value)
    return found


def _rewritten(graph: Graph, regions: list[Region]) -> Graph:
    maker = {v: body for region in regions for body in _bodies(region) for v in body.outputs}
    new = Graph(graph.name)
    mapped: dict[Value, Value] = {}
    for value in graph.sources.values():
        mapped[value] = new.source(value.node.role, value.node.name, value.type)
    stack = [*reversed(graph.results)]
    while stack:
        value = stack[-1]
        if value in mapped:
            stack.pop()
            continue
        body = maker.get(value)
        needed = body.operands if body else value.node.inputs
        missing = [v for v in needed if v not in mapped]
        if missing:
            stack += missing
            continue
        stack.pop()
        with new.origin(value.node.origin.layer, value.node.origin.line):
            if body:
                mapped.update(zip(body.outputs, body.emit(new, mapped)))
            else:
                made = copy_node(new, value.node, tuple(mapped[v] for v in value.node.inputs))
                mapped.update(zip(value.node.outputs, made if isinstance(made, tuple) else (made,)))
    for name, value in graph.outputs.items():
        new.output(name, mapped[value])
    for assignment in graph.assignments.values():
        new.assign(mapped[assignment.target], mapped[assignment.value])
    return new
