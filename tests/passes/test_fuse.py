"""Graphs that fusion and placing once got wrong, as small as they come; most were found by tests/test_fuzz.py."""

import numpy as np
import pytest

from kcompile import ops, pipeline
from kcompile.autodiff import grad
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ir.parse import parse
from kcompile.ir.types import Type, f32, u32
from kcompile.passes.fuse import CONTRACT, fuse
from kcompile.passes.roots import MAX_DEPTH, choose_roots
from tests.simulate import simulate

BATCH, SEED = dim.symbol("batch"), Type(u32, (2,))

GRAPHS = {
    "a piece of a value that nothing else needs": """
        graph g(x: f32[4,5]) {
          %0: f32[4,5] = mul(x, 2.0)
          %1: f32[2,5] = slice(%0, starts=(1, 0), sizes=(2, 5), strides=(1, 1))
          return y=%1
        }""",
    "a piece of a contraction's epilogue": """
        graph g(x: f32[8,5], w: f32[5,3]) {
          %0: f32[8,3] = contract(x, w, spec="m,k;k,n->m,n", sizes=())
          %1: f32[8,3] = add(%0, 1.0)
          %2: f32[2,3] = slice(%1, starts=(6, 0), sizes=(2, 3), strides=(1, 1))
          return y=%2
        }""",
    "a value, a piece of it, and it under another shape": """
        graph g(x: f32[4,5]) {
          %0: f32[4,5] = exp(x)
          %1: f32[20] = reshape(%0, shape=(20,))
          %2: f32[3] = slice(%1, starts=(7,), sizes=(3,), strides=(1,))
          return whole=%0, flat=%1, piece=%2
        }""",
    "a contraction over values repeated along a result axis": """
        graph g(x: f32[8,5,2], w: f32[1,4]) {
          %0: f32[3,8,5,2] = broadcast_to(x, shape=(3, 8, 5, 2))
          %1: f32[3,8,5,1] = slice(%0, starts=(0, 0, 0, 1), sizes=(3, 8, 5, 1), strides=(1, 1, 1, 3))
          %2: f32[3,8,5,4] = contract(%1, w, spec="a,b,m,k;k,n->a,b,m,n", sizes=())
          return y=%2
        }""",
    "a border around what tiles make, and what they leave out": """
        graph g(x: f32[2,7,5,3], g: f32[2,3,2,3], h: f32[2,7,5,3]) {
          %0: f32[2,7,5,3] = window_max_gradient(x, g, window=(1, 2, 2, 1), strides=(1, 2, 2, 1), dilation=())
          %1: f32[2,7,5,3] = mul(%0, h)
          %2: f32[2,10,6,3] = pad(%1, low=(0, 1, 0, 0), high=(0, 2, 1, 0), interior=(0, 0, 0, 0), value=0)
          return y=%2, inside=%1
        }""",
    "a reshape read backwards": """
        graph g(x: f32[3,16]) {
          %0: f32[3,16] = square(x)
          %1: f32[4,12] = reshape(%0, shape=(4, 12))
          %2: f32[4,12] = reverse(%1, axes=(0,))
          return y=%2
        }""",
}


@pytest.mark.parametrize("text", GRAPHS.values(), ids=GRAPHS)
def test_graph(text):
    graph = parse("\n".join(line.removeprefix("        ") for line in text.strip().splitlines()))
    draw = np.random.default_rng(0)
    given = {n: draw.standard_normal(v.shape).astype(np.float32) for n, v in graph.sources.items()}
    expected, _ = run(graph, given)
    found, _ = simulate(graph, given)
    for name, wanted in expected.items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-6, err_msg=name)


def test_a_border_around_tiles_is_no_kernel_of_its_own():
    name = "a border around what tiles make, and what they leave out"
    graph = parse("\n".join(line.removeprefix("        ") for line in GRAPHS[name].strip().splitlines()))
    assert len(fuse(graph).clusters) == 1


def test_a_value_that_is_compared_with_its_own_maximum_is_computed_once():
    """The gradient of a maximum: computed twice, x * w + 1 may differ from its maximum in the last bit."""
    graph = Graph("g")
    x, w = graph.input("x", Type(f32, (dim.symbol("batch"), 5, 3))), graph.source("parameter", "w", Type(f32, (5, 3)))
    value = ops.add(ops.mul(x, w), 1.0)
    loss = ops.reduce_sum(ops.reduce_max(value, axes=(1, 2), keepdims=False), axes=(0,), keepdims=False)
    graph.output("slope", grad(loss, [w])[0])
    roots = choose_roots(graph)
    assert any(n.op.name == "add" for n in roots)
    smooth = Graph("softmax")
    value = ops.add(smooth.input("x", Type(f32, (4, 3))), 1.0)
    smooth.output("y", ops.exp(ops.sub(value, ops.reduce_max(value, axes=(1,), keepdims=True))))
    assert not any(n.op.name == "add" for n in choose_roots(smooth))  # nobody looks for equals: cheap to repeat


def test_a_long_chain_is_cut_into_kernels():
    lines = [f"%{n}: f32[3] = {'sin' if n % 2 else 'cos'}({f'%{n - 1}' if n else 'x'})" for n in range(1000)]
    graph = parse("\n".join(["graph g(x: f32[3]) {", *lines, "return y=%999", "}"]))
    given = {"x": np.linspace(-1, 1, 3).astype(np.float32)}
    expected, _ = run(graph, given)
    found, _ = simulate(graph, given)
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5)
    fusion = fuse(graph)
    assert 1000 // MAX_DEPTH <= len(fusion.clusters) < 3 * 1000 // MAX_DEPTH


def test_rows_that_meet_become_one_kernel():
    """A number of each row is made from one array and one from another, and a third value needs both."""
    graph = Graph("meet")
    x, y = (graph.input(n, Type(f32, (dim.symbol("batch"), 40))) for n in "xy")
    high, total = ops.reduce_max(x, axes=(1,), keepdims=True), ops.reduce_sum(y, axes=(1,), keepdims=True)
    exponentials = ops.exp(x - high)
    graph.output("z", exponentials * total - y)
    graph.output("high", high)
    (cluster,) = fuse(graph).clusters
    assert len(cluster.units) >= 3
    draw = np.random.default_rng(0)
    given = {n: draw.standard_normal((5, 40)).astype(np.float32) for n in "xy"}
    wanted, _ = run(graph, given)
    found, _ = simulate(graph, given)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_rows_that_meet_stay_apart_if_another_kernel_lies_between():
    graph = Graph("between")
    x, w = graph.input("x", Type(f32, (6, 6))), graph.input("w", Type(f32, (6, 6)))
    scaled = x * ops.reduce_sum(x, axes=(1,), keepdims=True)
    product = ops.contract(scaled, w, spec="m,k;k,n->m,n", sizes=())
    total = ops.reduce_sum(ops.exp(product), axes=(1,), keepdims=True)
    graph.output("y", product * total + scaled * total)
    given = {n: np.random.default_rng(3).uniform(-0.5, 0.5, (6, 6)).astype(np.float32) for n in "xw"}
    wanted, _ = run(graph, given)
    np.testing.assert_allclose(simulate(graph, given)[0]["y"], wanted["y"], rtol=1e-5, atol=1e-6)


def dropped():
    """A product with dropout, whose mask is needed again."""
    graph = Graph("dropped")
    x, w, seed = graph.input("x", Type(f32, (BATCH, 7))), graph.input("w", Type(f32, (7, 33))), graph.input("s", SEED)
    mask = ops.random_bits(seed, shape=(BATCH, 33)) < np.uint32(1 << 30)
    product = ops.contract(x, w, spec="m,k;k,n->m,n", sizes=())
    graph.output("y", ops.select(mask, ops.relu(product), 0.0))
    graph.output("mask", mask)
    return graph


def test_the_mask_of_a_dropout_is_drawn_in_the_epilogue():
    (cluster,) = fuse(dropped()).clusters
    assert cluster.kind == CONTRACT and len(cluster.units) == 3
    native, draw = pipeline.compile(dropped()), np.random.default_rng(0)
    for rows in (1, 20):
        given = {n: draw.standard_normal(s).astype(np.float32) for n, s in (("x", (rows, 7)), ("w", (7, 33)))}
        given["s"] = np.array([3, 4], np.uint32)
        expected, _ = run(dropped(), given)
        found = native.run(given, {})
        np.testing.assert_array_equal(found["mask"], expected["mask"])
        np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5, atol=1e-6)


def test_the_mask_stays_apart_if_the_product_is_stored_anyway():
    graph = dropped()
    (product,) = [n for n in graph.live_nodes() if not n.is_source and n.op.name == "contract"]
    graph.output("grad", ops.exp(product.output))
    assert len(fuse(graph).clusters) == 2


def test_a_mask_made_from_an_array_stays_apart():
    graph = Graph("compared")
    x, w, z = (graph.input(n, Type(f32, s)) for n, s in (("x", (8, 7)), ("w", (7, 33)), ("z", (8, 33))))
    mask = ops.exp(z) < 1.0
    product = ops.contract(x, w, spec="m,k;k,n->m,n", sizes=())
    graph.output("y", ops.select(mask, product, 0.0))
    graph.output("mask", mask)
    assert len(fuse(graph).clusters) == 2
