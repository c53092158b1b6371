"""Blocks: batched products whose result is large run a row at a time; nothing large is stored, results stay."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import flags, ops, pipeline
from kcompile.autodiff import grad
from kcompile.codegen.program import Loop, Run, runs
from kcompile.errors import NotSupportedError, ShapeError
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, boolean, f32, f64, u32
from kcompile.ops.contract import einsum
from kcompile.ops.control import BodyBuilder, Nest, run_scan
from kcompile.passes.blocks import block_rows
from kcompile.passes.lower import LoopCall
from kcompile.runtime.interpreted import InterpretedProgram
from kcompile.target import X86_64_V3

BATCH = dim.symbol("batch")
HEADS, QUERIES, KEYS, SIZE = 2, 43, 51, 4


def softmax(x):
    top = ops.exp(x - ops.stop_gradient(ops.reduce_max(x, axes=(3,), keepdims=True)))
    return top / ops.reduce_sum(top, axes=(3,), keepdims=True)


def attention(
    *, gradient: bool, mask: tuple | None = None, bias: tuple | None = None, escapes: bool = False, summed: bool = False
) -> Graph:
    graph = Graph("attention")
    q = graph.input("q", Type(f32, (BATCH, QUERIES, HEADS, SIZE)))
    k, v = (graph.input(n, Type(f32, (BATCH, KEYS, HEADS, SIZE))) for n in "kv")
    scores = einsum("btnh,bsnh->bnts", q, k) * 0.5
    wrt = {"dq": q, "dk": k, "dv": v}
    if bias is not None:
        wrt["db"] = graph.input("bias", Type(f32, bias))
        scores = scores + wrt["db"]
    if mask is not None:
        scores = ops.select(graph.input("mask", Type(boolean, mask)), scores, -1e9)
    shares = softmax(scores)
    result = einsum("bnts,bsnh->btnh", shares, v)
    graph.output("y", result)
    if escapes:
        graph.output("shares", shares)
    if summed:
        graph.output("summed", ops.reduce_sum(shares, axes=(1,), keepdims=False))
    if gradient:
        loss = ops.reduce_sum(ops.square(result), axes=(0, 1, 2, 3), keepdims=False)
        for name, value in zip(wrt, grad(loss, list(wrt.values()))):
            graph.output(name, value)
    return graph


def data(graph: Graph, batch: int) -> dict:
    rng = np.random.default_rng(batch)
    found = {}
    for name, value in graph.sources.items():
        shape = [dim.evaluate(d, {"batch": batch}) for d in value.shape]
        found[name] = rng.random(shape) < 0.7 if value.dtype is boolean else rng.standard_normal(shape).astype("f")
    if "seed" in found:
        found["seed"] = np.array([7, 9], np.uint32)
    return found


def agree(graph: Graph, batch: int = 5, **options) -> None:
    given = data(graph, batch)
    expected = InterpretedProgram(graph).run(given, {})
    found = pipeline.compile(graph, **options).run(given, {})
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-5, err_msg=name)


def loops(graph: Graph) -> list[Loop]:
    return [s for s in pipeline.build(graph).program.steps if isinstance(s, Loop)]


def stored(graph: Graph) -> list:
    """Values of a row of scores, or more, that kernels outside of loops write."""
    calls = [c for c in pipeline.build(graph).calls if not isinstance(c, LoopCall)]
    return [v for c in calls for v in c.writes.values() if tuple(v.shape[-2:]) == (QUERIES, KEYS)]


BIASES = {
    "each head": (HEADS, QUERIES, KEYS),
    "all heads": (QUERIES, KEYS),
    "each row": (BATCH, 1, QUERIES, KEYS),
    "each key": (HEADS, 1, KEYS),
    "each number": (BATCH, HEADS, QUERIES, KEYS),
}


@pytest.mark.parametrize("bias", BIASES)
def test_the_gradient_of_a_bias_is_summed_in_the_loop(bias):
    """Over the batch, the heads or both: a loop in the loop carries the sum, in one order for all threads."""
    graph = attention(gradient=True, bias=BIASES[bias])
    assert len(loops(graph)) == 2
    assert not stored(graph)
    agree(graph, 1)
    given = data(graph, 5)
    one, three = (pipeline.compile(graph, num_threads=n).run(given, {}) for n in (1, 3))
    for name, value in InterpretedProgram(graph).run(given, {}).items():
        np.testing.assert_allclose(one[name], value, rtol=5e-5, atol=5e-5, err_msg=name)
        np.testing.assert_array_equal(one[name], three[name])


MASKS = {
    "none": None,
    "keys of each row": (BATCH, 1, 1, KEYS),
    "queries of each row": (BATCH, 1, QUERIES, 1),
    "the same for all": (1, 1, QUERIES, KEYS),
    "the same for all heads": (BATCH, 1, QUERIES, KEYS),
    "the same for the batch": (HEADS, QUERIES, KEYS),
    "each number": (BATCH, HEADS, QUERIES, KEYS),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "gradient"])
def test_results_stay(mask, gradient):
    graph = attention(gradient=gradient, mask=MASKS[mask])
    assert len(loops(graph)) == 1 + gradient
    assert not stored(graph)
    for batch in (1, 5):
        agree(graph, batch)


def test_a_computed_mask_is_computed_for_each_row():
    """The same for all heads and as large as a row of scores: nothing of it is stored."""
    graph = Graph("masked")
    q, k = (graph.input(n, Type(f32, (BATCH, t, HEADS, SIZE))) for n, t in (("q", QUERIES), ("k", KEYS)))
    queries, keys = (graph.input(n, Type(boolean, (BATCH, t))) for n, t in (("m", QUERIES), ("n", KEYS)))
    mask = ops.logical_and(ops.reshape(queries, shape=(BATCH, QUERIES, 1)), ops.reshape(keys, shape=(BATCH, 1, KEYS)))
    row, column = (ops.iota(graph.constant(0), shape=(1, QUERIES, KEYS), axis=n, dtype="i32") for n in (1, 2))
    mask = ops.logical_and(mask, ops.le(column, row))
    scores = einsum("btnh,bsnh->bnts", q, k)
    shares = softmax(ops.select(ops.reshape(mask, shape=(BATCH, 1, QUERIES, KEYS)), scores, -1e9))
    graph.output("y", einsum("bnts,bsnh->btnh", shares, k))
    assert len(loops(graph)) == 1
    assert not stored(graph)
    agree(graph)


def additive(length: int, size: int) -> Graph:
    graph = Graph("additive")
    q, k = (graph.input(n, Type(f32, (BATCH, length, size))) for n in "qk")
    pairs = ops.reshape(q, shape=(BATCH, length, 1, size)) + ops.reshape(k, shape=(BATCH, 1, length, size))
    top = ops.exp(ops.reduce_sum(ops.tanh(pairs) * 0.1, axes=(3,), keepdims=False))
    result = einsum("bts,bsh->bth", top / ops.reduce_sum(top, axes=(2,), keepdims=True), k)
    graph.output("y", result)
    loss = ops.reduce_sum(ops.square(result), axes=(0, 1, 2), keepdims=False)
    for name, value in zip(("dq", "dk"), grad(loss, [q, k])):
        graph.output(name, value)
    return graph


@pytest.mark.parametrize(("length", "size", "expected"), [(8, 8, 0), (48, 24, 2), (48, 48, 2)])
def test_sums_of_pairs_run_in_loops_where_they_outgrow_a_cache(length, size, expected):
    """Keys may have as many numbers as there are keys: values of the scores' sizes are not all scores."""
    graph = additive(length, size)
    with flags.scoped(target="x86-64-v3"):
        steps = pipeline.build(graph).program.steps
    assert sum(isinstance(s, Loop) for s in steps) == expected
    agree(graph, 3)


def test_a_sum_over_all_rows_is_one_over_each_first():
    """The gradient of a number that scales all scores."""
    graph = Graph("scaled")
    q, k = (graph.input(n, Type(f32, (BATCH, t, HEADS, SIZE))) for n, t in (("q", QUERIES), ("k", KEYS)))
    scale = graph.input("scale", Type(f32, ()))
    result = einsum("bnts,bsnh->btnh", softmax(einsum("btnh,bsnh->bnts", q, k) * scale), k)
    loss = ops.reduce_sum(ops.square(result), axes=(0, 1, 2, 3), keepdims=False)
    graph.output("y", result)
    graph.output("d", grad(loss, [scale])[0])
    assert len(loops(graph)) == 2
    given = {**data(graph, 3), "scale": np.float32(0.5)}
    found, expected = pipeline.compile(graph).run(given, {}), InterpretedProgram(graph).run(given, {})
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)


def test_of_the_gradient_only_small_numbers_are_kept():
    """Two numbers a query, what is added up over queries, and no product outside the loops."""
    steps = pipeline.build(attention(gradient=True)).program.steps
    outside = [s.kernel.name for s in steps if isinstance(s, Run)]
    assert not any("contract" in name for name in outside)
    forward, backward = (s for s in steps if isinstance(s, Loop))
    assert len(list(runs(forward.steps))) == 3
    assert len(list(runs(backward.steps))) == 6
    sizes = {
        dim.evaluate(a.row_bytes, {}) for loop in (forward, backward) for a in loop.arguments if hasattr(a, "row_bytes")
    }
    assert max(sizes) < QUERIES * KEYS * 4


def test_a_row_is_all_that_is_stored_of_a_large_value():
    built = pipeline.build(attention(gradient=True))
    eight, nine = (built.program.arena_bytes_for({"batch": rows, "workers": 0}) for rows in (8, 9))
    large = HEADS * QUERIES * KEYS * 4
    assert nine - eight < 4 * large
    each = max(dim.evaluate(s.arena_bytes, {}) for s in built.program.steps if isinstance(s, Loop))
    assert each <= 4 * QUERIES * KEYS * 4 + 4096


def test_what_is_read_whole_elsewhere_is_stored_by_the_loop():
    """The shares, and nothing else."""
    graph = attention(gradient=True, escapes=True)
    assert len(loops(graph)) == 2
    assert not stored(graph)
    agree(graph)


def test_shares_may_be_summed_over_heads():
    """In the loop; of two sums along different axes, one reads what the loop stores."""
    for bias in (None, BIASES["each head"]):
        graph = attention(gradient=True, bias=bias, summed=True)
        assert len(loops(graph)) == 2
        assert not [v for v in stored(graph) if v.rank == 4]
        agree(graph, 3)


def test_where_much_is_read_elsewhere_nothing_changes():
    graph = attention(gradient=False)
    whole = [n.output for n in graph.live_nodes() if tuple(n.output.shape) == (BATCH, HEADS, QUERIES, KEYS)]
    for n, value in enumerate(whole[-2:]):
        graph.output(f"whole{n}", value)
    assert block_rows(graph, X86_64_V3) is graph


def test_a_large_value_that_mixes_rows_is_read_where_it_is_stored():
    """A mask whose heads are put side by side."""
    graph = Graph("joined")
    q, k = (graph.input(n, Type(f32, (BATCH, t, HEADS, SIZE))) for n, t in (("q", QUERIES), ("k", KEYS)))
    parts = [graph.input(n, Type(boolean, (BATCH, 1, QUERIES, KEYS))) for n in "mn"]
    scores = ops.select(ops.concat(*parts, axis=1), einsum("btnh,bsnh->bnts", q, k), -1e9)
    result = einsum("bnts,bsnh->btnh", softmax(scores), k)
    graph.output("y", result)
    graph.output("d", grad(ops.reduce_sum(ops.square(result), axes=(0, 1, 2, 3), keepdims=False), [k])[0])
    assert len(loops(graph)) == 2
    assert [v.dtype for v in stored(graph)] == [boolean]
    agree(graph)


def test_the_loops_mean_what_they_are_compiled_to():
    graph = attention(gradient=True, mask=MASKS["the same for all heads"], bias=BIASES["each head"])
    given = data(graph, 3)
    for name, value in InterpretedProgram(pipeline.build(graph).graph).run(given, {}).items():
        np.testing.assert_allclose(value, InterpretedProgram(graph).run(given, {})[name], rtol=5e-5, atol=5e-5)


def dropout(kind, bias: bool) -> Graph:
    """Attention of which half the shares are left out, and its gradient."""
    graph = Graph("dropout")
    q, k = (graph.input(n, Type(kind, (BATCH, KEYS, HEADS, SIZE))) for n in "qk")
    seed = graph.input("seed", Type(u32, (2,)))
    scores = einsum("btnh,bsnh->bnts", q, k)
    shift = graph.input("shift", Type(kind, (HEADS, KEYS, KEYS)))
    shares = softmax(scores + shift if bias else scores)
    bits = ops.random_bits(seed, shape=(BATCH, HEADS, KEYS, KEYS))
    shares = ops.select(ops.lt(bits, np.uint32(2**31)), shares * 2.0, 0.0)
    result = einsum("bnts,bsnh->btnh", shares, k)
    graph.output("y", result)
    for name, value in zip(
        ("dq", "dk", "ds"), grad(ops.reduce_sum(ops.square(result), axes=(0, 1, 2, 3), keepdims=False), [q, k, shift])
    ):
        if bias or name != "ds":
            graph.output(name, value)
    return graph


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "summed over the batch"])
def test_random_numbers_of_rows_are_those_of_all(bias):
    """Dropout: each row draws its part, again for the gradient. Little is left of some sums: beside float64."""
    graph = dropout(f32, bias)
    assert len(loops(graph)) == 2
    given = data(graph, 5)
    wide = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in given.items()}
    expected = InterpretedProgram(dropout(f64, bias)).run(wide, {})
    found = pipeline.compile(graph).run(given, {})
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-5, err_msg=name)


def test_products_that_do_not_grow_are_left_alone():
    graph = Graph("small")
    q, k = (graph.input(n, Type(f32, (BATCH, 8, HEADS, 64))) for n in "qk")
    graph.output("y", softmax(einsum("btnh,bsnh->bnts", q, k)))
    assert block_rows(graph, X86_64_V3) is graph


def test_threads_change_nothing():
    graph = attention(gradient=True, mask=MASKS["the same for all heads"])
    given = data(graph, 7)
    results = [pipeline.compile(graph, num_threads=n).run(given, {}) for n in (1, 2, 3, 4)]
    for other in results[1:]:
        for name, value in results[0].items():
            np.testing.assert_array_equal(other[name], value)


@pytest.mark.parametrize("flag", ["poison", "verify", "compare"])
def test_with_checks(flag):
    with flags.scoped(**{flag: True}):
        agree(attention(gradient=True, mask=MASKS["the same for all heads"], bias=BIASES["each head"]))


def test_nan_arrives():
    graph = attention(gradient=False)
    given = data(graph, 3)
    given["k"][1, 2, 0, 1] = np.nan
    found = pipeline.compile(graph).run(given, {})["y"]
    assert np.isnan(found[1, :, 0]).all()
    assert np.isfinite(found[[0, 2]]).all() and np.isfinite(found[1, :, 1]).all()


def test_a_step_reads_the_rows_along_its_own_axes():
    nest = Nest((3, 4, 5), ((0,), (2,), (0, 2), (0, 1, 2), ()))
    steps = [(i, j, k) for i in range(3) for j in range(4) for k in range(5)]
    read = [[nest.row(n, t) for n in range(5)] for t in range(60)]
    assert read == [[i, k, 5 * i + k, t, 0] for t, (i, j, k) in enumerate(steps)]
    assert [nest.rows(n) for n in range(5)] == [3, 5, 15, 60, 1]
    assert [nest.is_whole(n) for n in range(5)] == [False, False, False, True, False]


def test_a_nest_that_does_not_fit_is_refused():
    """Two heads, one row for each: a body that copies it."""
    builder = BodyBuilder([], [Type(f32, (4,))])
    body = builder.finish([], builder.rows)
    graph = Graph("loop")
    x = graph.input("x", Type(f32, (2, 4)))
    (found,) = run_scan(graph, body, [], [x], [], BATCH * 2, reverse=False, nest=Nest((BATCH, 2), ((1,),)))
    assert found.shape == (BATCH * 2, 4)
    for nest in (Nest((BATCH, 2), ((0,),)), Nest((BATCH, 3), ((1,),)), Nest((BATCH, 2), ((1,), (1,)))):
        with pytest.raises(ShapeError):
            run_scan(graph, body, [], [x], [], BATCH * 2, reverse=False, nest=nest)
    with pytest.raises(NotSupportedError, match="nest"):
        grad(ops.reduce_sum(found, axes=(0, 1), keepdims=False), [x])
