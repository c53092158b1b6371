"""Refuse, with a list, what has no lowering."""

from __future__ import annotations

from kcompile.errors import LoweringError
from kcompile.ir.graph import Graph, Node
from kcompile.ir.op import Kind


def legalise(graph: Graph) -> Graph:
    """Return the graph if the target can run it.

    After:  every live node is a source, a pack (its operands are written in place), a loop, or has a lowering.
    Raises: LoweringError listing every node that has none, with its origin.
    """
    missing = unlowerable(graph)
    if missing:
        listed = "\n".join(_line(node) for node in missing)
        raise LoweringError(f"{len(missing)} operation(s) have no native lowering:\n{listed}")
    return graph


def unlowerable(graph: Graph) -> list[Node]:
    """The live nodes without a lowering, in order."""
    without = (Kind.PACK, Kind.CONTROL)  # written in place; a loop over a body of its own
    return [n for n in graph.live_nodes() if not n.is_source and n.op.kind not in without and n.op.lower is None]


def _line(node: Node) -> str:
    operands = ", ".join(str(v.type) for v in node.inputs)
    where = f"  in  {node.origin}" if str(node.origin) else ""
    return f"  {node.op.name}({operands}){where}"
