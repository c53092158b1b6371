"""The text of a graph is exact and parses back."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.errors import CompilerBug
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ir.parse import parse
from kcompile.ir.text import blobs, to_text
from kcompile.ir.types import Type, boolean, f32, f64, i32
from kcompile.ir.verify import verify
from kcompile.ops.contract import matmul

TEXT = """\
graph dense(x: f32[batch,4], w: param f32[4,3], "dense/bias": state f32[3]) {
  %0: f32[batch,3] = contract(x, w, spec="m,k;k,n->m,n", sizes=())  # dense_1  train.py:12
  %1: f32[batch,3] = add(%0, "dense/bias")  # dense_1
  %2: f32[batch,3] = maximum(%1, 0.5)  #   train.py:13
  %3: f32[3*batch] = reshape(%2, shape=(3*batch,))
  %4: f32[3] = mul("dense/bias", 0.1)
  "dense/bias" = %4
  return y=%3, "a/b"=x, c=f64(2.5)
}
"""


def test_text_parses_and_prints_the_same():
    graph = parse(TEXT)
    verify(graph)
    assert to_text(graph) == TEXT
    assert str(graph) == TEXT
    assert graph.nodes[3].origin.layer == "dense_1" and graph.nodes[3].origin.line == "train.py:12"


def every_feature():
    g = Graph("every feature")
    batch, time = dim.symbol("batch"), dim.symbol("time")
    x = g.input("x", Type(f32, (batch, time, 4)))
    flag = g.source("state", "lambda", Type(boolean, ()))
    w = g.constant(np.arange(20, dtype=np.float32).reshape(4, 5))
    with g.origin('layer "q"', ""):
        y = matmul(x, w)
    y = ops.select(flag, y, float("-inf")) * np.float32(0.1)
    y = ops.pad(y, low=(0, 1, 0), high=(0, 0, -1), interior=(0, 0, 0), value=float("-inf"))
    half = dim.floordiv(time + 1, 2)
    y = ops.slice(y, starts=(0, 0, 0), sizes=(batch, 1, 2), strides=(1, 1, 1)) + ops.size(x, value=half, dtype="f32")
    g.output("y", y)
    g.output("big", ops.cast(w, dtype="f64") + np.float64(1) / 3)
    g.output("table", g.constant([[1.5, float("nan")], [float("inf"), -0.0]]) + 0.0)
    g.output("ids", g.constant(np.array([3, -1], np.int32)) * 2)
    g.output("true", ops.logical_not(g.constant(True)))
    return g


def test_round_trip_of_every_kind_of_constant_and_attribute():
    g = every_feature()
    text = to_text(g)
    again = parse(text, blobs(g))
    verify(again)
    assert to_text(again) == text
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((2, 3, 4)).astype(np.float32), "lambda": np.array(True)}
    for name, expected in run(g, arrays)[0].items():
        got = run(again, arrays)[0][name]
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


def test_a_large_constant_must_be_given():
    g = every_feature()
    with pytest.raises(CompilerBug, match="sha:"):
        parse(to_text(g))


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-45, 3.4e38, 16777217.0])
def test_floats_survive_exactly(value):
    g = Graph()
    x = g.input("x", Type(f32, (1,)))
    g.output("y", x * g.constant(value))
    g.output("z", ops.cast(x, dtype="f64") * g.constant(value, f64))
    again = parse(to_text(g))
    numbers = [n.data[()] for n in again.nodes if n.role == "constant"]
    assert numbers == [np.float32(value), np.float64(value)]


def test_wrong_type_and_wrong_line_are_named():
    with pytest.raises(CompilerBug, match=r"states f32\[4,batch\], inferred is f32\[batch,4\]"):
        parse("graph g(x: f32[batch,4]) {\n  %0: f32[4,batch] = exp(x)\n  return y=%0\n}\n")
    with pytest.raises(CompilerBug, match="cannot read '%0: f32"):
        parse("graph g(x: f32[batch,4]) {\n  %0: f32[batch,4] = exp(q)\n  return y=%0\n}\n")


def test_many_sources_get_a_line_each():
    g = Graph("wide")
    values = [g.input(f"input_number_{n}", Type(i32, (n + 1, 2))) for n in range(8)]
    g.output("y", values[3])
    assert to_text(parse(to_text(g))) == to_text(g)
    assert "\n    input_number_3: i32[4,2],\n" in to_text(g)
