"""The verifier finds what is broken and names the node."""

import pytest

from kcompile import ops
from kcompile.errors import CompilerBug
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, f32
from kcompile.ir.verify import verify


def broken(change):
    g = Graph("g")
    x = g.input("x", Type(f32, (dim.symbol("batch"), 3)))
    y = ops.exp(x)
    z = ops.reduce_sum(y, axes=(1,), keepdims=False)
    w = g.source("state", "w", Type(f32, ()))
    g.output("z", z)
    g.assign(w, w + 1)
    verify(g)
    change(g, x, y, z)
    return g


def _retyped(g, x, y, z):
    y.type = Type(f32, (3,))


def _reordered(g, x, y, z):
    g.nodes.remove(y.node)
    g.nodes.append(y.node)


def _foreign(g, x, y, z):
    g.outputs["q"] = Graph("other").input("o", Type(f32, ()))


def _edges(g, x, y, z):
    g.index.add_edge(x.node, z.node)


def _assigned(g, x, y, z):
    g.assignments["w"].value = z


def _symbol(g, x, y, z):
    g.input("bad", Type(f32, (dim.symbol("a b"),)))


@pytest.mark.parametrize(
    "change, message",
    [
        (_retyped, "differ from the inferred"),
        (_reordered, "before it exists"),
        (_foreign, "output 'q'.*is not of this graph"),
        (_edges, "other edges in the index"),
        (_assigned, r"is assigned to w: f32\[\]"),
        (_symbol, "no identifier"),
    ],
)
def test_broken_graphs_are_refused(change, message):
    with pytest.raises(CompilerBug, match=message):
        verify(broken(change))


def test_the_message_shows_the_neighbours():
    g = broken(_retyped)
    with pytest.raises(CompilerBug) as caught:
        verify(g)
    assert "<node %1 exp>" in str(caught.value)
    assert "reads <x f32[batch,3]>" in str(caught.value)
    assert "read by <node %2 reduce_sum>" in str(caught.value)
