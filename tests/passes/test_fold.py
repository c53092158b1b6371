"""Constant folding: what is folded, and what is left alone."""

import numpy as np

from kcompile import ops
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ir.parse import parse
from kcompile.ir.text import to_text
from kcompile.ir.types import Type, f32
from kcompile.ir.verify import verify
from kcompile.passes.fold import FOLD_LIMIT_BYTES, fold_constants


def test_constant_arithmetic_is_done():
    before = parse(
        "graph g(x: f32[2]) {\n  %0: f32[2] = const([1.0, 4.0])\n  %1: f32[2] = sqrt(%0)\n"
        "  %2: f32[2] = add(%1, 0.5)\n  %3: f32[2] = mul(x, %2)\n  return y=%3\n}\n"
    )
    expected = "graph g(x: f32[2]) {\n  %0: f32[2] = const([1.5, 2.5])\n  %1: f32[2] = mul(x, %0)\n  return y=%1\n}\n"
    after = fold_constants(before)
    verify(after)
    assert to_text(after) == expected


def test_repeating_a_number_is_not_stored():
    text = (
        "graph g(x: f32[100,100]) {\n  %0: f32[100,100] = broadcast_to(f32(2.0), shape=(100, 100))\n"
        "  %1: f32[100,100] = mul(x, %0)\n  return y=%1\n}\n"
    )
    assert to_text(fold_constants(parse(text))) == text


def test_large_results_are_stored_only_if_they_replace_as_much():
    g = Graph()
    count = FOLD_LIMIT_BYTES // 4
    big = g.constant(np.arange(count * 2, dtype=np.float32).reshape(count, 2))
    g.output("same", ops.neg(big))
    g.output("outer", ops.contract(big, g.constant(np.ones((2, 3), np.float32)), spec="m,k;k,n->m,n", sizes=()))
    folded = fold_constants(g)
    assert folded.outputs["same"].is_constant
    assert not folded.outputs["outer"].is_constant
    for name, expected in run(g, {})[0].items():
        np.testing.assert_array_equal(run(folded, {})[0][name], expected)


def test_a_piece_of_a_large_constant_is_a_copy():
    g = Graph()
    big = g.constant(np.zeros(10000, np.float32))
    g.output("y", ops.reshape(ops.slice(big, starts=(10,), sizes=(6,), strides=(1,)), shape=(2, 3)))
    data = fold_constants(g).outputs["y"].node.data
    assert data.shape == (2, 3) and (data.base is None or data.base.nbytes == data.nbytes)


def test_symbolic_sizes_stay():
    text = (
        "graph g(x: f32[batch]) {\n"
        '  %0: f32[] = size(f32(0.0), value=batch, dtype="f32")\n  %1: f32[batch] = div(x, %0)\n  return y=%1\n}\n'
    )
    assert to_text(fold_constants(parse(text))) == text


def test_states_are_not_constants():
    g = Graph()
    s = g.source("state", "s", Type(f32, ()))
    g.output("y", s * 2)
    assert not fold_constants(g).outputs["y"].is_constant
