"""What ir/graph.py promises: merging, dead nodes, origins, errors that say where."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.errors import CompilerBug, KcompileError, ShapeError
from kcompile.ir import dim
from kcompile.ir.graph import Graph, inline, rebuild
from kcompile.ir.types import Type, f32, f64
from kcompile.ir.verify import verify


def small():
    g = Graph("small")
    x = g.input("x", Type(f32, (dim.symbol("batch"), 3)))
    return g, x


def test_equal_nodes_are_one():
    g, x = small()
    assert ops.exp(x) is ops.exp(x)
    assert ops.exp(x) is not ops.log(x)
    assert ops.reshape(x, shape=(dim.symbol("batch") * 3,)) is ops.reshape(x, shape=(3 * dim.symbol("batch"),))


def test_small_constants_merge_and_large_ones_by_content():
    g, _ = small()
    assert g.constant(1.0) is g.constant(1.0)
    assert g.constant(0.0) is not g.constant(-0.0)
    big = np.ones(5000, np.float32)
    assert g.constant(big) is g.constant(big)
    changed = big.copy()
    changed[3] = 2
    assert g.constant(changed) is not g.constant(big)


def test_python_numbers_take_the_dtype_beside_them():
    g = Graph()
    x = g.input("x", Type(f64, (2,)))
    assert (x * 2).dtype is f64
    assert (1.5 - x).dtype is f64


def test_rebuild_drops_dead_nodes_and_keeps_inputs():
    g, x = small()
    ops.exp(x)
    g.input("unused", Type(f32, ()))
    g.output("y", ops.neg(x))
    new = rebuild(g, lambda graph, node, inputs: None)
    assert [n.op.name for n in new.nodes if n.op] == ["neg"]
    assert list(new.sources) == ["x", "unused"]
    verify(new)


def test_rebuild_refuses_another_type():
    g, x = small()
    g.output("y", ops.exp(x))
    wrong = lambda graph, node, inputs: ops.reduce_sum(inputs[0], axes=(0,), keepdims=False) if node.op else None  # noqa: E731
    with pytest.raises(CompilerBug, match=r"turned %1: f32\[batch,3\] into f32\[3\]"):
        rebuild(g, wrong)


def test_inline_binds_sources():
    g, x = small()
    g.output("y", ops.exp(x) + 1)
    into = Graph("into")
    z = into.input("z", Type(f32, (7, 3)))
    # sizes are checked by infer again, so a graph of symbols can be inlined at numbers
    y = inline(g, into, {"x": z})["y"]
    assert y.type == z.type


def test_errors_name_layer_line_and_operands():
    g, x = small()
    with g.origin("encoder/dense", "train.py:4"), pytest.raises(ShapeError) as caught:
        ops.add(x, g.constant(np.zeros(4, np.float32)))
    assert "encoder/dense  train.py:4" in str(caught.value)
    assert "add(f32[batch,3], f32[4])" in str(caught.value)


def test_symbolic_values_refuse_numpy_and_truth():
    _, x = small()
    with pytest.raises(KcompileError, match=r"use keras\.ops"):
        np.asarray(x)
    with pytest.raises(KcompileError, match="unknown while tracing"):
        bool(x > 0)


def test_assignment_needs_a_variable_of_the_same_type():
    g, x = small()
    w = g.source("parameter", "w", Type(f32, (3,)))
    with pytest.raises(CompilerBug, match="only parameters and state"):
        g.assign(x, x)
    with pytest.raises(CompilerBug, match=r"expected f32\[3\]"):
        g.assign(w, g.constant(1.0))
