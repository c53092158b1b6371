"""simplify as a whole: text before, text expected, and the same numbers."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.autodiff import grad
from kcompile.errors import LoweringError
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ir.op import Kind, Op
from kcompile.ir.parse import parse
from kcompile.ir.text import to_text
from kcompile.ir.types import Type, f32, f64
from kcompile.ir.verify import verify
from kcompile.ops.conv import conv
from kcompile.passes.algebra import simplify
from kcompile.passes.legalise import legalise


def body(graph):
    """The statements of a graph's text, without origins."""
    return [line.split("  #")[0].strip() for line in to_text(graph).splitlines()[1:-1]]


def simplified(*lines, sources="x: f32[batch,4]"):
    return body(simplify(parse("\n".join([f"graph g({sources}) {{", *lines, "}"]))))


def test_identities_disappear():
    assert simplified(
        "%0: f32[batch,4] = mul(x, 1.0)",
        "%1: f32[batch,4] = add(%0, 0.0)",
        "%2: f32[batch,4] = neg(%1)",
        "%3: f32[batch,4] = neg(%2)",
        "%4: f32[batch,4] = reshape(%3, shape=(batch, 4))",
        "return y=%4",
    ) == ["return y=x"]


def test_places_join():
    assert simplified(
        "%0: f32[4,batch] = transpose(x, perm=(1, 0))",
        "%1: f32[batch,4] = transpose(%0, perm=(1, 0))",
        "%2: f32[2*batch,2] = reshape(%1, shape=(2*batch, 2))",
        "%3: f32[4*batch] = reshape(%2, shape=(4*batch,))",
        "return y=%3",
    ) == ["%0: f32[4*batch] = reshape(x, shape=(4*batch,))", "return y=%0"]


def test_constants_meet_and_divisions_become_products():
    assert simplified(
        "%0: f32[batch,4] = mul(2.0, x)",
        "%1: f32[batch,4] = div(%0, 8.0)",
        "%2: f32[batch,4] = sub(%1, 1.0)",
        "%3: f32[batch,4] = add(3.0, %2)",
        "return y=%3",
    ) == ["%0: f32[batch,4] = mul(x, 0.25)", "%1: f32[batch,4] = add(%0, 2.0)", "return y=%1"]


def test_inexact_division_stays():
    text = "graph g(x: f32[3]) {\n  %0: f32[3] = div(x, 3.0)\n  return y=%0\n}\n"
    assert "div" in to_text(simplify(parse(text)))


def test_a_bigger_zero_is_not_removed():
    lines = ["%0: f32[4] = const([0.0, 0.0, 0.0, 0.0])", "%1: f32[4] = add(w, %0)", "return y=%1"]
    assert simplified(*lines, sources="w: f32[1]") == lines


def test_repeated_operands_are_not_written_out():
    assert simplified(
        "%0: f32[batch,4] = broadcast_to(b, shape=(batch, 4))",
        "%1: f32[batch,4] = add(x, %0)",
        "return y=%1",
        sources="x: f32[batch,4], b: f32[4]",
    ) == ["%0: f32[batch,4] = add(x, b)", "return y=%0"]


def test_a_sum_over_a_repeated_axis_counts():
    assert simplified(
        "%0: f32[batch,4] = broadcast_to(w, shape=(batch, 4))",
        "%1: f32[4] = reduce_sum(%0, axes=(0,), keepdims=False)",
        "return y=%1",
        sources="x: f32[batch,4], w: f32[4]",
    ) == ['%0: f32[] = size(f32(0.0), value=batch, dtype="f32")', "%1: f32[4] = mul(w, %0)", "return y=%1"]


def test_one_number_that_lost_its_ones_is_left_alone():
    """The rule that takes the ones away once matched its own result for ever."""
    statements = ["%0: f32[] = reshape(x, shape=())", "%1: f32[3] = broadcast_to(%0, shape=(3,))", "return y=%1"]
    assert simplified(*statements, sources="x: f32[1,1]") == statements


def test_powers():
    assert simplified("%0: f32[batch,4] = pow(x, 2.0)", "return y=%0") == [
        "%0: f32[batch,4] = square(x)",
        "return y=%0",
    ]


def test_a_shared_contraction_is_not_cropped():
    lines = [
        '%0: f32[batch,3] = contract(x, w, spec="m,k;k,n->m,n", sizes=())',
        "%1: f32[batch,2] = slice(%0, starts=(0, 1), sizes=(batch, 2), strides=(1, 1))",
        "return y=%1, z=%0",
    ]
    assert simplified(*lines, sources="x: f32[batch,4], w: f32[4,3]") == lines
    cropped = simplified(*lines[:2], "return y=%1", sources="x: f32[batch,4], w: f32[4,3]")
    assert cropped == [
        "%0: f32[4,2] = slice(w, starts=(0, 1), sizes=(4, 2), strides=(1, 1))",
        '%1: f32[batch,2] = contract(x, %0, spec="m,k;k,n->m,n", sizes=())',
        "return y=%1",
    ]


def convolution_gradient():
    g = Graph("g")
    batch = dim.symbol("batch")
    x, w = g.input("x", Type(f64, (batch, 8, 2))), g.input("w", Type(f64, (3, 2, 3)))
    y = ops.relu(conv(x, w, 1, "same"))
    loss = ops.reduce_sum(y * y, axes=(0, 1, 2), keepdims=False) / 4.0
    for name, value in zip(("dx", "dw"), grad(loss, [x, w])):
        g.output(name, value)
    return g


def test_the_gradient_of_a_same_convolution_computes_no_border():
    g = convolution_gradient()
    s = simplify(g)
    verify(s)
    # the cotangent is padded by 1, not by 2 and cropped: one product of the input's own size
    assert s.outputs["dx"].node.op.name == "contract"
    padded = s.outputs["dx"].node.inputs[0]
    assert padded.node.op.name == "pad" and padded.node.attrs["low"] == (0, 1, 0)
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((3, 8, 2)), "w": rng.standard_normal((3, 2, 3))}
    for name, expected in run(g, arrays)[0].items():
        np.testing.assert_allclose(run(s, arrays)[0][name], expected, rtol=1e-12, atol=1e-12)


def test_simplify_is_idempotent_and_keeps_the_interface():
    g = convolution_gradient()
    w = g.source("state", "s", Type(f64, ()))
    g.assign(w, ops.neg(ops.neg(w + 0)))
    once = simplify(g)
    assert to_text(simplify(once)) == to_text(once)
    assert list(once.sources) == list(g.sources)
    assert once.assignments["s"].value is once.sources["s"]


def test_legalise_lists_all_that_have_no_lowering():
    odd = Op("odd", Kind.OPAQUE, lambda x: x, lambda x: x)
    g = Graph("g")
    x = g.input("x", Type(f32, (dim.symbol("batch"), 3)))
    with g.origin("first", "train.py:1"):
        y = odd(x)
    with g.origin("second", "train.py:2"):
        g.output("y", odd(ops.exp(y)))
    with pytest.raises(LoweringError) as caught:
        legalise(g)
    message = str(caught.value)
    assert "2 operation(s)" in message and "first  train.py:1" in message and "second  train.py:2" in message
    assert "odd(f32[batch,3])" in message
    fine = Graph("h")
    fine.output("y", ops.exp(fine.input("x", Type(f32, (3,)))))
    assert legalise(fine) is fine
