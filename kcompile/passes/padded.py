"""A value that is also needed with a border is stored once, with the border.

    v -> pad(v), v -> others   ->   pad(v), slice(pad(v)) -> others

The gradient at a convolution's result is read padded for the data gradient and as it is for the filter
gradient; an activation is read padded by the next convolution and as it is by a shortcut. Both arrays in
memory are a pass over memory more than one. Inside the pad's kernel the value is an expression; whoever
else reads it finds it inside the border, which for a contraction is another row length.
"""

from __future__ import annotations

from kcompile import ops
from kcompile.ir import dim
from kcompile.ir.graph import Graph, Node, Value, copy_node, rebuild
from kcompile.passes.alias import is_view
from kcompile.passes.fuse import choose_roots, is_map_node


def store_padded(graph: Graph) -> Graph:
    """Let readers of a value read its padded copy.

    Before: any graph.
    After:  no map value that has to exist in memory is padded into another one, results of the graph excepted.
    """
    pads = [n for n in graph.live_nodes() if _only_adds_border(n)]
    if not pads:
        return graph
    roots = choose_roots(graph)
    results = {v.node for v in graph.results}
    padding: dict[Node, Node] = {}  # value's node -> the pad that stores it
    for pad in pads:
        node = pad.inputs[0].node
        if pad in roots and node in roots and is_map_node(node) and not is_view(node) and node not in results:
            if not _only_adds_border(node):
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


def _only_adds_border(node: Node) -> bool:
    if node.is_source or node.op.name != "pad" or any(node.attrs["interior"]):
        return False
    return all(dim.is_nonnegative(n) for n in (*node.attrs["low"], *node.attrs["high"]))
