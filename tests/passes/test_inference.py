"""Scales and shifts behind a contraction move into its constant weights."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ir.parse import parse
from kcompile.ir.text import to_text
from kcompile.ir.types import Type, f32
from kcompile.ir.verify import verify
from kcompile.ops.contract import matmul
from kcompile.ops.conv import conv, depthwise_conv
from kcompile.passes.algebra import simplify
from kcompile.passes.fold import fold_constants
from kcompile.passes.inference import fold_scales

BATCH = dim.symbol("batch")


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 2.0, shape).astype(np.float32)


def op_names(graph):
    return [n.op.name for n in graph.live_nodes() if n.op]


def normalized(y, channels):
    """Batch normalization at inference with constant statistics."""
    mean, variance, gamma, beta = (y.graph.constant(numbers(channels, seed=n)) for n in range(1, 5))
    return (y - mean) * ops.rsqrt(variance + 1e-3) * gamma + beta


def optimised(graph):
    return fold_constants(simplify(fold_scales(fold_constants(simplify(graph)))))


@pytest.mark.parametrize(
    "layer, expected",
    [
        (lambda x: matmul(x, x.graph.constant(numbers(4, 6))), ["contract", "add"]),
        (lambda x: matmul(x, x.graph.constant(numbers(4, 6))) + x.graph.constant(numbers(6)), ["contract", "add"]),
        (lambda x: conv(x, x.graph.constant(numbers(3, 3, 4, 6)), padding="same"), ["pad", "contract", "add"]),
        (
            lambda x: conv(x, x.graph.constant(numbers(1, 1, 2, 6)), groups=2) + x.graph.constant(numbers(6)),
            ["reshape", "contract", "reshape", "add"],
        ),
        (lambda x: depthwise_conv(x, x.graph.constant(numbers(2, 2, 4, 1))), ["contract", "add"]),
        (
            lambda x: depthwise_conv(x, x.graph.constant(numbers(2, 2, 4, 2))),
            ["contract", "reshape", "add"],
        ),
    ],
)
def test_batch_normalization_vanishes(layer, expected):
    g = Graph("g")
    x = g.input("x", Type(f32, (BATCH, 5, 5, 4)))
    y = layer(x)
    g.output("y", normalized(y, y.shape[-1]))
    new = optimised(g)
    verify(new)
    assert op_names(new) == expected
    arrays = {"x": numbers(2, 5, 5, 4, seed=9)}
    np.testing.assert_allclose(run(new, arrays)[0]["y"], run(g, arrays)[0]["y"], rtol=1e-4)


def test_text():
    before = parse(
        "graph g(x: f32[batch,2]) {\n  %0: f32[2,2] = const([[1.0, 2.0], [3.0, 4.0]])\n"
        '  %1: f32[batch,2] = contract(x, %0, spec="m,k;k,n->m,n", sizes=())\n'
        "  %2: f32[2] = const([10.0, 100.0])\n  %3: f32[batch,2] = mul(%1, %2)\n  return y=%3\n}\n"
    )
    assert to_text(fold_scales(before)) == (
        "graph g(x: f32[batch,2]) {\n  %0: f32[2,2] = const([[10.0, 200.0], [30.0, 400.0]])\n"
        '  %1: f32[batch,2] = contract(x, %0, spec="m,k;k,n->m,n", sizes=())\n  return y=%1\n}\n'
    )


def test_a_scale_per_row_stays():
    g = Graph("g")
    x = g.input("x", Type(f32, (3, 4)))
    g.output("y", matmul(x, g.constant(numbers(4, 6))) * g.constant(numbers(3, 1)))
    assert op_names(fold_scales(g)) == ["contract", "mul"]


def test_a_product_that_is_read_elsewhere_stays():
    g = Graph("g")
    y = matmul(g.input("x", Type(f32, (BATCH, 4))), g.constant(numbers(4, 6)))
    g.output("raw", y)
    g.output("y", y * g.constant(numbers(6)))
    assert op_names(fold_scales(g)) == ["contract", "mul"]


def test_trainable_weights_stay():
    g = Graph("g")
    w = g.source("parameter", "w", Type(f32, (4, 6)))
    g.output("y", matmul(g.input("x", Type(f32, (BATCH, 4))), w) * g.constant(numbers(6)))
    assert op_names(fold_scales(g)) == ["contract", "mul"]
