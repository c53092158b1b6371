"""Sums that follow from other sums are not made by another pass over memory."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.autodiff import grad
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ir.parse import parse
from kcompile.ir.types import Type, f32
from kcompile.passes.algebra import simplify
from kcompile.passes.sums import reuse_sums


def sums(graph):
    return [n.inputs[0] for n in graph.live_nodes() if n.op and n.op.name == "reduce_sum"]


def numbers(graph, seed=0):
    draw = np.random.default_rng(seed)
    sizes = {"batch": 4}
    return {
        n: draw.standard_normal([dim.evaluate(size, sizes) for size in v.shape]).astype(np.float32)
        for n, v in graph.sources.items()
    }


def same(before, after, given):
    wanted, _ = run(before, given)
    found, _ = run(after, given)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def text(source):
    return parse("\n".join(line.removeprefix("        ") for line in source.strip().splitlines()))


CENTRED = """
        graph g(x: f32[8,3], g: f32[8,3], a: f32[3], b: f32[1,3]) {
          %0: f32[1,3] = reduce_sum(x, axes=(0,), keepdims=True)
          %1: f32[1,3] = mul(%0, 0.125)
          %2: f32[8,3] = sub(x, %1)
          %3: f32[8,3] = mul(%2, b)
          %4: f32[8,3] = mul(g, a)
          %5: f32[8,3] = OP(%4, %3)
          %6: f32[3] = reduce_sum(%5, axes=(0,), keepdims=False)
          %7: f32[3] = reduce_sum(g, axes=(0,), keepdims=False)
          return y=%6, z=%7
        }"""


@pytest.mark.parametrize("op", ["add", "sub"])
def test_a_centred_term_sums_to_zero(op):
    before = text(CENTRED.replace("OP", op))
    after = reuse_sums(before)
    assert sorted(v.node.name for v in sums(after)) == ["g", "g", "x"]  # with and without the axis kept
    same(before, after, numbers(before))


def test_two_terms_could_cancel_and_stay():
    before = text(CENTRED.replace("OP", "mul").replace("%5: f32[8,3] = mul(%4, %3)", "%5: f32[8,3] = sub(%4, x)"))
    assert len(sums(reuse_sums(before))) == len(sums(before))
    assert any(v.node.op and v.node.op.name == "sub" for v in sums(reuse_sums(before)))


def test_a_product_with_what_varies_along_the_axis_stays():
    before = text(CENTRED.replace("OP", "mul"))
    assert any(v.node.op and v.node.op.name == "mul" for v in sums(reuse_sums(before)))


@pytest.mark.parametrize("count", [0.25, 0.126])
def test_only_the_mean_centres(count):
    before = text(CENTRED.replace("OP", "add").replace("0.125", str(count)))
    assert any(v.node.op for v in sums(reuse_sums(before)))


def test_not_a_number_still_shows():
    before = text(CENTRED.replace("OP", "add"))
    given = numbers(before)
    given["x"][2, 1] = np.nan
    found, _ = run(reuse_sums(before), given)
    assert np.isnan(found["y"]).tolist() == [False, True, False]


@pytest.mark.parametrize("kept", [True, False])
def test_the_gradient_of_a_normalisation_sums_twice(kept):
    """Batch normalization: the gradient needs the sums for the shift and for the scale, and no third."""
    graph = Graph("g")
    batch = dim.symbol("batch")
    x, g = (graph.input(n, Type(f32, (batch, 6, 3))) for n in "xg")
    gamma, beta = (graph.source("parameter", n, Type(f32, (3,))) for n in ("gamma", "beta"))
    count = ops.size(x, value=6 * batch, dtype="f32")

    def mean(value):
        total = ops.reduce_sum(value, axes=(0, 1), keepdims=kept)
        return ops.reshape(ops.div(total, count), shape=(1, 1, 3))

    centred = x - mean(x)
    scale = ops.rsqrt(mean(ops.square(centred)) + 1e-3) * gamma
    y = centred * scale + beta
    loss = ops.reduce_sum(ops.mul(y, g), axes=(0, 1, 2), keepdims=False)
    for name, value in zip(("dx", "dgamma", "dbeta"), grad(loss, [x, gamma, beta])):
        graph.output(name, value)
    before = simplify(graph)
    after = simplify(reuse_sums(before))
    same(before, after, numbers(before))
    whole = {v for v in sums(after) if v.rank == 3}
    assert len(whole) == 4, "x, its squares, g, g * x"
    assert len({v for v in sums(before) if v.rank == 3}) == 5
