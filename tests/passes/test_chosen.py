"""A sum of what a comparison with a count chooses reads one element, wherever labels point."""

import numpy as np
import pytest

from kcompile import ops, pipeline
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ir.types import Type, f32, i32
from kcompile.passes.algebra import simplify
from kcompile.passes.chosen import counted_axis

BATCH = dim.symbol("batch")
LABELS = np.array([0, 4, -1, 5, 2**31 - 1, -(2**31), 3, 2], np.int32)


def chosen(graph, labels, count, x):
    graph.output("picked", ops.reduce_sum(ops.select(ops.eq(count, labels), x, 0.0), axes=(1,), keepdims=False))
    graph.output("hit", ops.reduce_sum(ops.cast(ops.eq(labels, count), dtype="f32"), axes=(1,), keepdims=True))
    weighted = ops.select(ops.eq(labels, count), ops.exp(x * 0.5), 0.0)
    graph.output("all", ops.reduce_sum(weighted, axes=(0, 1), keepdims=True))


def op_names(graph):
    return [n.op.name for n in graph.live_nodes() if not n.is_source]


@pytest.mark.parametrize("counts", ["iota", "constant", "whole constant"])
def test_labels_in_and_out_of_range(counts):
    graph = Graph("chosen")
    x = graph.input("x", Type(f32, (8 if counts == "whole constant" else BATCH, 5)))
    labels = graph.input("labels", Type(i32, (x.shape[0], 1)))
    line = np.arange(5, dtype=np.int32)
    count = {
        "iota": lambda: ops.iota(graph.constant(0), shape=(1, 5), axis=1, dtype="i32"),
        "constant": lambda: graph.constant(line.reshape(1, 5)),
        "whole constant": lambda: graph.constant(np.ascontiguousarray(np.broadcast_to(line, (8, 5)))),
    }[counts]()
    chosen(graph, labels, count, x)
    given = {"x": np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32), "labels": LABELS[:, None]}
    given["x"][1, 2] = np.nan  # not the chosen one: a select leaves nothing of it behind
    wanted, _ = run(graph, given)
    simple = simplify(graph)
    assert op_names(simple).count("pick") == 2
    assert op_names(simple).count("reduce_sum") == 1  # over the batch
    for found in (run(simple, given)[0], pipeline.compile(graph).run(given, {})):
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_along_an_axis_in_the_middle_of_numbers_that_are_the_same_there():
    graph = Graph("chosen")
    x, w = graph.input("x", Type(f32, (3, 4, 2))), graph.input("w", Type(f32, (3, 1, 2)))
    labels = graph.input("labels", Type(i32, (3, 1, 2)))
    count = graph.constant(np.arange(4, dtype=np.int32).reshape(4, 1))
    for name, value in (("x", x), ("w", w)):
        picked = ops.select(ops.eq(labels, count), value, 0.0)
        graph.output(name, ops.reduce_sum(picked, axes=(1,), keepdims=name == "w"))
    draw = np.random.default_rng(1)
    given = {n: draw.standard_normal(v.shape).astype(np.float32) for n, v in (("x", x), ("w", w))}
    given["labels"] = np.array([0, 1, 2, 3, 4, -1], np.int32).reshape(3, 1, 2)
    wanted, _ = run(graph, given)
    assert op_names(simplify(graph)).count("pick") == 1  # what is the same along the axis is not looked up
    found = pipeline.compile(graph).run(given, {})
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)


def test_what_counts():
    graph = Graph("counts")
    line = np.arange(4, dtype=np.int32)
    counts = {
        0: [line, line.reshape(4, 1), np.repeat(line[:, None], 3, 1)],
        1: [line.reshape(1, 4), np.repeat(line[None], 3, 0)],
        None: [line + 1, line[::-1].copy(), line.astype(np.float32), np.zeros((1, 4), np.int32), line[:1]],
    }
    for axis, arrays in counts.items():
        for array in arrays:
            assert counted_axis(graph.constant(array)) == axis
    assert counted_axis(graph.input("x", Type(i32, (4,)))) is None


def test_labels_that_change_along_the_count_are_compared_one_by_one():
    graph = Graph("no")
    x, labels = graph.input("x", Type(f32, (3, 4))), graph.input("labels", Type(i32, (3, 4)))
    count = graph.constant(np.arange(4, dtype=np.int32))
    graph.output("y", ops.reduce_sum(ops.select(ops.eq(labels, count), x, 0.0), axes=(1,), keepdims=False))
    assert "pick" not in op_names(simplify(graph))
