"""Matching and rewriting."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.errors import CompilerBug
from kcompile.ir.graph import Graph
from kcompile.ir.parse import parse
from kcompile.ir.pattern import Rule, attributes, computed, constant, match, rewrite, uniform, wildcards
from kcompile.ir.text import to_text
from kcompile.ir.types import Type, f32
from kcompile.ir.verify import verify

x, y = wildcards("x y")
s, t = attributes("s t")
c = constant("c")


@pytest.fixture
def graph():
    g = Graph("g")
    g.input("a", Type(f32, (2, 3)))
    g.input("b", Type(f32, (2, 3)))
    return g


def test_wildcards_bind_consistently(graph):
    a, b = graph.sources.values()
    assert match(x + x, a + a).x is a
    assert match(x + x, a + b) is None
    found = match(ops.exp(x) * y, b * ops.exp(a))  # commutative: either order
    assert found.x is a and found.y is b
    assert match(ops.exp(x) - y, b - ops.exp(a)) is None


def test_both_orders_are_tried_until_all_fits(graph):
    a, b = graph.sources.values()
    found = match((x + y) * ops.exp(x), (a + b) * ops.exp(b))
    assert found.x is b and found.y is a


def test_numbers_constants_attributes(graph):
    a, _ = graph.sources.values()
    assert match(x * 2, a * 2) is not None
    assert match(x * 2, a * 3) is None
    assert match(x * 2, a * ops.broadcast_to(graph.constant(2.0), shape=(2, 3))) is not None
    assert match(x * 2, a * graph.constant(np.full(3, 2.0, np.float32))) is not None
    assert match(x * c, a * a) is None
    assert match(x * c, a * 5).c.node.data == 5
    assert match(ops.reshape(x, shape=s), ops.reshape(a, shape=(6,))).s == (6,)
    assert match(ops.reduce_sum(x, axes=s, keepdims=True), ops.reduce_sum(a, axes=(0,), keepdims=False)) is None


def test_uniform(graph):
    assert uniform(graph.constant(np.full((2, 2), 7.0, np.float32))) == 7
    assert uniform(graph.constant([1.0, 2.0])) is None
    assert uniform(graph.constant(np.zeros((0,), np.float32))) is None
    assert uniform(graph.sources["a"]) is None


def test_rewrite_reaches_the_fixed_point(graph):
    a, _ = graph.sources.values()
    value = a
    for _ in range(20):
        value = ops.neg(value)
    graph.output("y", ops.exp(value) + 0)
    rules = (Rule("neg_neg", -(-(x)), x), Rule("add_zero", x + 0, x))  # noqa: B002
    applied = []
    new = rewrite(graph, rules, log=lambda name, node: applied.append(name))
    verify(new)
    assert [n.op.name for n in new.live_nodes() if n.op] == ["exp"]
    assert set(applied) == {"neg_neg", "add_zero"}


def test_the_engine_guards_types():
    g = parse(
        "graph g(a: f32[3]) {\n  %0: f32[2,3] = broadcast_to(0.0, shape=(2, 3))\n"
        "  %1: f32[2,3] = add(a, %0)\n  return y=%1\n}\n".replace("(0.0,", "(f32(0.0),")
    )
    assert to_text(rewrite(g, (Rule("add_zero", x + 0, x),))) == to_text(g)


def test_conditions_and_computed_parts(graph):
    a, _ = graph.sources.values()
    graph.output("y", ops.reshape(ops.reshape(a, shape=(6,)), shape=(3, 2)))
    graph.output("z", a * 4.0)
    halved = computed(lambda m: m.root.graph.constant(m.c.node.data / 2))
    rules = (
        Rule("twice", ops.reshape(ops.reshape(x, shape=s), shape=t), ops.reshape(x, shape=t)),
        Rule("halve", x * c, (x * halved) * halved, where=lambda m: m.c.node.data > 2),
    )
    new = rewrite(graph, rules)
    assert [n.op.name for n in new.live_nodes() if n.op] == ["reshape", "mul", "mul"]


def test_constants_move_right(graph):
    a, _ = graph.sources.values()
    graph.output("y", 2.0 * a)
    assert "mul(a, 2.0)" in to_text(rewrite(graph, ()))


def test_private_values(graph):
    a, b = graph.sources.values()
    inner = ops.exp(a)
    graph.output("y", ops.neg(inner))
    rule = Rule("swap", ops.neg(ops.exp(x)), ops.exp(ops.neg(x)), where=lambda m: m.is_private(m.root.node.inputs[0]))
    assert "exp(a)" not in to_text(rewrite(graph, (rule,)))
    graph.output("inner", inner)
    assert "exp(a)" in to_text(rewrite(graph, (rule,)))


def test_origins_are_inherited(graph):
    a, _ = graph.sources.values()
    with graph.origin("layer", "line"):
        graph.output("y", ops.square(ops.neg(a)))
    new = rewrite(graph, (Rule("square_neg", ops.square(-x), ops.square(x)),))
    assert new.outputs["y"].node.origin.layer == "layer"


def test_a_rule_needs_an_op_at_its_root():
    with pytest.raises(CompilerBug, match="must be an op"):
        Rule("bad", x, x)
