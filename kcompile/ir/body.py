"""Body: a graph as an attribute of a node, for ops that run one many times.

Two bodies are equal if they compute the same: the text of the graph and its constants decide, so equal
nodes with bodies merge like all others. A body is never changed; a pass makes another one.

Its sources are inputs. Sizes named in it are those of the graph around it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from kcompile.ir.graph import CONSTANT, Graph, Node
from kcompile.ir.interpret import evaluate
from kcompile.ir.text import HoldsGraph, to_text


class Body(HoldsGraph):
    """A graph with a hash. `sizes` are the values of its named sizes, once they are known."""

    __slots__ = ("__dict__", "graph", "sizes")

    def __init__(self, graph: Graph, sizes: Mapping[str, int] | None = None):
        self.graph, self.sizes = graph, sizes

    @cached_property
    def digest(self) -> str:
        """A hash of everything the body computes."""
        found = hashlib.sha256(to_text(self.graph, origins=False, name="body").encode())
        for node in self.graph.live_nodes():
            if node.role == CONSTANT:
                found.update(f"{node.data.dtype.str} {node.data.shape};".encode())
                found.update(np.ascontiguousarray(node.data).tobytes())
        return found.hexdigest()

    @property
    def name(self) -> str:
        """The name texts call it by."""
        return f"body_{self.digest[:10]}"

    def bound(self, sizes: Mapping[str, int]) -> Body:
        """The same body, to be run with these sizes."""
        return Body(self.graph, dict(sizes))

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the references once on arrays in the order of the sources; results in the order of the outputs."""
        named = dict(zip(self.graph.sources, arrays, strict=True))
        return evaluate(self.graph, named, self.sizes or {})

    def __eq__(self, other) -> bool:
        return isinstance(other, Body) and (self.graph is other.graph or self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<{self.name}>"


def bodies_of(node: Node) -> list[Body]:
    """The bodies among a node's attributes."""
    return [] if node.is_source else [a for a in node.attrs.values() if isinstance(a, Body)]


def map_bodies(change: Callable[[Graph], Graph], node: Node) -> dict | None:
    """The node's attributes with `change` applied to its bodies; None if there is nothing to change."""
    changed = {}
    for key, value in node.attrs.items():
        if isinstance(value, Body):
            graph = change(value.graph)
            if graph is not value.graph:
                changed[key] = Body(graph)
    return {**node.attrs, **changed} if changed else None
