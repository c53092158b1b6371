"""Constant folding with the NumPy references."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kcompile.ir import dim
from kcompile.ir.graph import Graph, Node, Value, rebuild
from kcompile.ir.interpret import apply
from kcompile.ir.op import Kind
from kcompile.ir.types import bf16

FOLD_LIMIT_BYTES = 1 << 16  # a larger result must not need more room than the constants it replaces

_COMPUTING = (
    Kind.ELEMENTWISE,
    Kind.REDUCE,
    Kind.WINDOW,
    Kind.TILES,
    Kind.CONTRACT,
    Kind.RANDOM,
    Kind.SCATTER,
    Kind.PACK,
)


def fold_constants(graph: Graph) -> Graph:
    """Replace every node whose inputs are all constants by its value.

    Before: any graph.
    After:  a node with only constant inputs has a symbolic size, or is a bfloat16 value, or only
            repeats numbers (a broadcast, which a kernel reads for nothing), or its result is above
            FOLD_LIMIT_BYTES and larger than its inputs (folding it would bloat exported files).
    """
    known = any(can_fold(n, n.inputs) for n in graph.live_nodes() if not n.is_source)
    return rebuild(graph, _visit) if known else graph


def _visit(graph: Graph, node: Node, inputs: tuple[Value, ...]):
    if node.is_source or not can_fold(node, inputs):
        return None
    with np.errstate(all="ignore"):
        results = apply(node, tuple(v.node.data for v in inputs), {})
    # a copy: a result may be a view into a large array that would be kept alive by it
    return tuple(graph.constant(np.array(r)) for r in results)


def can_fold(node: Node, inputs: Sequence[Value]) -> bool:
    """True if the node is known at compile time and worth being stored."""
    if not inputs or not all(v.is_constant for v in inputs):
        return False
    if any(not v.type.is_static or v.dtype is bf16 for v in node.outputs) or _has_symbol(tuple(node.attrs.values())):
        return False
    if node.op.kind in (Kind.CONTROL, Kind.OPAQUE):
        return False
    made = sum(v.type.nbytes for v in node.outputs)
    replaced = sum(v.type.nbytes for v in inputs)
    return made <= replaced or (made <= FOLD_LIMIT_BYTES and node.op.kind in _COMPUTING)


def _has_symbol(attr) -> bool:
    if isinstance(attr, tuple):
        return any(map(_has_symbol, attr))
    return not dim.is_static(attr)
