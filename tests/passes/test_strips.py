"""Strips: rows of large values that are large themselves go through their loop a strip at a time."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import flags, ops, pipeline
from kcompile.autodiff import grad
from kcompile.codegen.program import Loop, runs
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, bf16, boolean, f32, u32
from kcompile.ops.contract import einsum
from kcompile.passes import strips
from kcompile.runtime.interpreted import InterpretedProgram

BATCH, TIME, MEMORY = dim.symbol("batch"), dim.symbol("time"), dim.symbol("memory")
HEADS, SIZE = 2, 4
STRIP = 8  # queries of a strip where lengths are named
LENGTHS = (0, 1, STRIP - 1, STRIP, STRIP + 1, 3 * STRIP + 5)


@pytest.fixture(autouse=True)
def small_strips(monkeypatch):
    """Strips of a few rows, so that small arrays show what large ones do."""
    monkeypatch.setattr(strips, "STRIP_ELEMENTS", 512)
    monkeypatch.setattr(strips, "NAMED_LENGTH", STRIP)


def softmax(x):
    top = ops.exp(x - ops.stop_gradient(ops.reduce_max(x, axes=(3,), keepdims=True)))
    return top / ops.reduce_sum(top, axes=(3,), keepdims=True)


def attention(queries, keys, *, gradient=True, mask=None, bias=None, causal=False, dropout=False, dtype=f32) -> Graph:
    graph = Graph("attention")
    given = [graph.input(n, Type(f32, (BATCH, t, HEADS, SIZE))) for n, t in zip("qkv", (queries, keys, keys))]
    q, k, v = (ops.cast(x, dtype=dtype.name) for x in given)
    scores = einsum("btnh,bsnh->bnts", q, k) * 0.5
    shape = (BATCH, HEADS, queries, keys)
    if bias is not None:
        given.append(graph.input("bias", Type(f32, bias)))
        scores = scores + given[-1]
    if causal:
        row, column = (ops.iota(graph.constant(0), shape=shape, axis=n, dtype="i32") for n in (2, 3))
        scores = ops.select(ops.le(column, row), scores, -1e9)
    if mask is not None:
        scores = ops.select(graph.input("mask", Type(boolean, mask)), scores, -1e9)
    shares = softmax(scores)
    if dropout:
        bits = ops.random_bits(graph.input("seed", Type(u32, (2,))), shape=shape)
        shares = ops.select(ops.lt(bits, np.uint32(2**31)), shares * 2.0, 0.0)
    result = einsum("bnts,bsnh->btnh", shares, v)
    result = ops.cast(result, dtype="f32")
    graph.output("y", result)
    if gradient:
        loss = ops.reduce_sum(ops.square(result), axes=(0, 1, 2, 3), keepdims=False)
        for name, value in zip(("dq", "dk", "dv", "db"), grad(loss, given)):
            graph.output(name, value)
    return graph


def data(graph: Graph, batch: int, time: int = 0, memory: int = 0) -> dict:
    rng = np.random.default_rng(batch)
    found = {}
    for name, value in graph.sources.items():
        shape = [dim.evaluate(d, {"batch": batch, "time": time, "memory": memory}) for d in value.shape]
        found[name] = rng.random(shape) < 0.7 if value.dtype is boolean else rng.standard_normal(shape).astype("f")
    if "seed" in found:
        found["seed"] = np.array([7, 9], np.uint32)
    return found


def agree(graph: Graph, *sizes: int, tolerance=2e-5) -> None:
    given = data(graph, *sizes)
    expected = InterpretedProgram(graph).run(given, {})
    found = pipeline.compile(graph).run(given, {})
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


def inner_loops(graph: Graph) -> list[Loop]:
    outer = [s for s in pipeline.build(graph).program.steps if isinstance(s, Loop)]
    return [s for loop in outer for s in loop.steps if isinstance(s, Loop)]


MASKS = {
    "none": None,
    "keys of each row": (BATCH, 1, 1, 51),
    "queries of each row": (BATCH, 1, 43, 1),
    "the same for all": (1, 1, 43, 51),
    "the same for all heads": (BATCH, 1, 43, 51),
}


@pytest.mark.parametrize("mask", MASKS)
def test_results_stay(mask):
    """43 queries are no multiple of a strip: the last one is shorter."""
    graph = attention(43, 51, mask=MASKS[mask])
    forward, backward = inner_loops(graph)
    assert forward.rows.total == backward.count == 5, "steps that carry nothing are rows"
    agree(graph, 3)


@pytest.mark.parametrize("queries", [45, 43], ids=["even", "ragged"])
def test_positions_and_random_numbers_are_those_of_the_whole(queries):
    graph = attention(queries, 51, causal=True, dropout=True)
    assert len(inner_loops(graph)) == 2
    agree(graph, 3)


def agree_at(graph: Graph, sizes, *, tolerance=2e-5) -> None:
    """One compilation, many sizes; one thread, two and four give the same bits."""
    one, *several = (pipeline.compile(graph, num_threads=n) for n in (1, 2, 4))
    for each in sizes:
        given = data(graph, *each)
        found, *others = (compiled.run(given, {}) for compiled in (one, *several))
        for name, value in InterpretedProgram(graph).run(given, {}).items():
            np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance, err_msg=f"{name} {each}")
            for again in others:
                np.testing.assert_array_equal(found[name], again[name])


NAMED = {
    "plain": {},
    "padded and causal": {"mask": (BATCH, 1, 1, TIME), "causal": True},
    "for each query": {"mask": (BATCH, 1, TIME, 1)},
    "given for each row, causal": {"mask": (BATCH, 1, TIME, TIME), "causal": True},
    "a bias for each head": {"bias": (HEADS, TIME, TIME), "dropout": True},
    "dropout": {"dropout": True},
    "bfloat16": {"dtype": bf16},
}


@pytest.mark.parametrize("options", NAMED)
def test_named_lengths(options):
    graph = attention(TIME, TIME, **NAMED[options])
    assert len(inner_loops(graph)) == 2, "forward; backward"
    agree_at(graph, [(2, time) for time in LENGTHS], tolerance=0.1 if options == "bfloat16" else 2e-5)


def test_lengths_of_queries_and_keys_may_differ():
    graph = attention(TIME, MEMORY, mask=(BATCH, 1, 1, MEMORY))
    assert len(inner_loops(graph)) == 2
    agree_at(graph, [(2, time, memory) for time, memory in ((1, 19), (9, 1), (29, 3), (5, 40))])


def test_a_named_length_gives_what_a_known_one_does():
    named, known = (attention(n, n, causal=True) for n in (TIME, 43))
    given = data(known, 3)
    expected = pipeline.compile(known).run(given, {})
    for name, value in pipeline.compile(named).run(given, {}).items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=2e-5, err_msg=name)


def test_what_attends_to_itself_is_queries_and_keys():
    """The same operand is split along its rows, and read whole."""
    graph = Graph("self")
    x = graph.input("x", Type(f32, (BATCH, TIME, SIZE)))
    result = einsum("bts,bsh->bth", softmax_of_three(einsum("bth,bsh->bts", x, x)), x)
    graph.output("y", result)
    loss = ops.reduce_sum(ops.square(result), axes=(0, 1, 2), keepdims=False)
    graph.output("dx", grad(loss, [x])[0])
    assert len(inner_loops(graph)) == 2
    agree_at(graph, [(5, time) for time in LENGTHS], tolerance=1e-4)


def softmax_of_three(x):
    top = ops.exp(x - ops.stop_gradient(ops.reduce_max(x, axes=(2,), keepdims=True)))
    return top / ops.reduce_sum(top, axes=(2,), keepdims=True)


@pytest.mark.parametrize("options", ["plain", "padded and causal", "given for each row, causal"])
def test_with_named_lengths_scratch_grows_with_the_length(options):
    """And the kernels of a strip are as many as those of a row."""
    graph = attention(TIME, TIME, **NAMED[options])
    program = pipeline.build(graph).program

    def nbytes(time: int) -> int:
        return program.arena_bytes_for({"batch": 2, "time": time, "workers": 1})

    assert nbytes(8192) <= 2 * nbytes(4096) + 4096
    assert [len(list(runs(s.steps))) for s in inner_loops(graph)] == [3, 6]


def test_the_loop_means_what_it_is_compiled_to():
    graph = attention(TIME, TIME, causal=True)
    given = data(graph, 2, 2 * STRIP + 3)
    for name, value in InterpretedProgram(pipeline.build(graph).graph).run(given, {}).items():
        np.testing.assert_allclose(value, InterpretedProgram(graph).run(given, {})[name], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("flag", ["poison", "verify", "compare"])
def test_named_lengths_with_checks(flag):
    with flags.scoped(**{flag: True}):
        graph = attention(TIME, TIME)
        agree(graph, 2, 2 * STRIP + 3)


def test_scratch_grows_with_the_length_not_its_square():
    def scratch(length: int) -> int:
        loops = [s for s in pipeline.build(attention(length, length)).program.steps if isinstance(s, Loop)]
        return max(dim.evaluate(s.arena_bytes, {}) for s in loops)

    assert scratch(384) <= 4 * scratch(96)


def test_small_rows_stay_whole():
    assert inner_loops(attention(20, 25)) == []


def test_a_sum_in_bfloat16_is_carried_in_float32():
    graph = attention(43, 51, dtype=bf16)
    (loop,) = [x for x in inner_loops(graph) if any(type(a).__name__ == "Carried" for a in x.arguments)]
    carried = [a.nbytes for a in loop.arguments if type(a).__name__ == "Carried"]
    assert carried == [51 * SIZE * 4] * 2
    agree(graph, 3, tolerance=0.1)


def test_threads_change_nothing():
    graph = attention(43, 51)
    given = data(graph, 5)
    results = [pipeline.compile(graph, num_threads=n).run(given, {}) for n in (1, 2, 3)]
    for other in results[1:]:
        for name, value in results[0].items():
            np.testing.assert_array_equal(other[name], value)


@pytest.mark.parametrize("flag", ["poison", "verify", "compare"])
def test_with_checks(flag):
    with flags.scoped(**{flag: True}):
        agree(attention(43, 51, mask=MASKS["the same for all"]), 3)


def test_nan_arrives_where_it_belongs():
    """The logarithm of what is not in the last strip is infinite; it must not reach the sums."""
    graph = Graph("odd")
    q, k = (graph.input(n, Type(f32, (BATCH, 47, HEADS, SIZE))) for n in "qk")
    scores = ops.log(ops.square(einsum("btnh,bsnh->bnts", q, k)))
    shares = scores / (ops.reduce_sum(ops.square(scores), axes=(3,), keepdims=True) + 1.0)
    graph.output("y", einsum("bnts,btnh->bsnh", shares, q))
    assert len(inner_loops(graph)) == 1
    given = data(graph, 3)
    agree(graph, 3)
    given["q"][1, 46, 0, 1] = np.nan
    found = pipeline.compile(graph).run(given, {})["y"]
    assert np.isnan(found[1, :, 0]).all()
    assert np.isfinite(found[[0, 2]]).all() and np.isfinite(found[1, :, 1]).all()
