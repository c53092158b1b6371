"""Operands of sums over several axes, turned so that these stand in one order."""

import numpy as np
import pytest

from kcompile import ops, pipeline
from kcompile.ir import dim, interpret
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, f32
from kcompile.passes.aligned import align_sums

BATCH, STEPS = dim.symbol("batch"), dim.symbol("steps")
SIZES = {"b": BATCH, "t": STEPS, "m": 16, "n": 24}


def product(spec):
    g = Graph("product")
    sides = spec.partition("->")[0].split(";")
    operands = [g.input(n, Type(f32, tuple(SIZES[c] for c in side.split(",")))) for n, side in zip("xy", sides)]
    g.output("z", ops.contract(*operands, spec=spec, sizes=tuple(SIZES.items())))
    return g


def copies(graph):
    return [n for n in graph.live_nodes() if not n.is_source and n.op.name == "cast"]


@pytest.mark.parametrize("spec", ["b,t,m;t,b,n->m,n", "t,b,n;b,t,m->n,m"])
def test_the_smaller_operand_is_turned(spec):
    graph = product(spec)
    turned = align_sums(graph)
    (copy,) = copies(turned)
    assert copy.output.shape == (STEPS, BATCH, 16)
    rng = np.random.default_rng(0)
    shapes = {n: tuple({BATCH: 3, STEPS: 5}.get(s, s) for s in v.shape) for n, v in graph.sources.items()}
    given = {n: rng.standard_normal(shape).astype("float32") for n, shape in shapes.items()}
    expected = interpret.run(graph, given)[0]["z"]
    np.testing.assert_allclose(interpret.run(turned, given)[0]["z"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(pipeline.compile(graph).run(given, {})["z"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", ["t,b,m;t,b,n->m,n", "b,m,t;t,b,n->m,n", "b,t,m;t,n,b->m,n"])
def test_other_operands_stay(spec):
    assert not copies(align_sums(product(spec)))
