"""A value that is also needed with a border is stored once, with the border.

    v -> pad(v), v -> others   ->   pad(v), slice(pad(v)) -> others

The gradient at a convolution's result is read padded for the data gradient and as it is for the filter
gradient; an activation is read padded by the next convolution and as it is by a shortcut. Both arrays in
memory are a pass over memory more than one. Inside the pad's kernel the value is an expression; whoever
else reads it finds it inside the border, which for a contraction is another row length.

Two borders around one value are one, if the wider of them holds the other on every side:

    pad(v, low 1), pad(v, low 0)   ->   p = pad(v, low 1), slice(p)
"""

from __future__ import annotations

from kcompile import ops
from kcompile.ir import dim
from kcompile.ir.graph import Graph, Node, Value, copy_node, rebuild
from kcompile.passes.alias import is_view
from kcompile.passes.roots import choose_roots, is_border, is_map_node


def store_padded(graph: Graph) -> Graph:
    """Let readers of a value read its padded copy.

    Before: any graph.
    After:  no map value that has to exist in memory is padded into another one, results of the graph excepted.
    """
    pads = [n for n in graph.live_nodes() if is_border(n)]
    if not pads:
        return graph
    graph = _one_border(graph, pads)
    pads = [n for n in graph.live_nodes() if is_border(n)]
    roots = choose_roots(graph)
    results = {v.node for v in graph.results}
    padding: dict[Node, Node] = {}  # value's node -> the pad that stores it
    for pad in pads:
        node = pad.inputs[0].node
        if pad in roots and node in roots and is_map_node(node) and not is_view(node) and node not in results:
            if not is_border(node):
                padding.setdefault(node, pad)
    if not padding:
        return graph
    stored: dict[Node, Value] = {}

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]) -> Value | None:
        if node in stored:
            return stored[node]
        pad = padding.get(node)
        if pad is None:
            return None
        value = copy_node(new, node, inputs)
        with new.origin(pad.origin.layer, pad.origin.line):
            stored[pad] = ops.pad(value, **pad.attrs)
        return ops.slice(stored[pad], starts=pad.attrs["low"], sizes=value.shape, strides=(1,) * value.rank)

    return rebuild(graph, visit)


def _one_border(graph: Graph, pads: list[Node]) -> Graph:
    """Cut narrow borders out of wider ones where both have to exist."""
    if len({p.inputs[0] for p in pads}) == len(pads):
        return graph
    roots = choose_roots(graph)
    around: dict[tuple[Value, object], list[Node]] = {}
    for pad in pads:
        if pad in roots:
            around.setdefault((pad.inputs[0], pad.attrs["value"]), []).append(pad)
    wider: dict[Node, Node] = {}
    for group in around.values():
        widest = next((p for p in group if all(_holds(p, other) for other in group)), None)
        if widest is not None:
            wider.update((p, widest) for p in group if p is not widest)
    if not wider:
        return graph
    made: dict[Node, Value] = {}

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]) -> Value | None:
        widest = wider.get(node)
        if widest is None:
            return None
        if widest not in made:
            made[widest] = ops.pad(inputs[0], **widest.attrs)
        starts = tuple(a - b for a, b in zip(widest.attrs["low"], node.attrs["low"]))
        return ops.slice(made[widest], starts=starts, sizes=node.output.shape, strides=(1,) * len(starts))

    return rebuild(graph, visit)


def _holds(wide: Node, narrow: Node) -> bool:
    pairs = zip((*wide.attrs["low"], *wide.attrs["high"]), (*narrow.attrs["low"], *narrow.attrs["high"]))
    return all(dim.is_nonnegative(a - b) for a, b in pairs)
