"""Fuse, lower, place and plan together: the program computes what its graph means."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.autodiff import grad
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import run
from kcompile.ir.types import Type, f32, i32
from kcompile.ops.contract import matmul
from kcompile.ops.conv import conv
from kcompile.passes.fuse import fuse
from kcompile.passes.lower import lower
from kcompile.passes.place import place
from kcompile.passes.results import own_results
from tests.simulate import simulate

BATCH = dim.symbol("batch")


def softmax(x):
    shifted = ops.sub(x, ops.reduce_max(x, axes=(1,), keepdims=True))
    e = ops.exp(shifted)
    return ops.div(e, ops.reduce_sum(e, axes=(1,), keepdims=True))


def softmax_graph() -> Graph:
    g = Graph("softmax")
    g.output("p", softmax(g.input("x", Type(f32, (BATCH, 10)))))
    return g


def dense_training() -> Graph:
    """Two dense layers, softmax cross-entropy, gradient arena, momentum over the whole arena."""
    g = Graph("train")
    x = g.input("x", Type(f32, (BATCH, 6)))
    labels = g.input("labels", Type(i32, (BATCH,)))
    flat = g.source("parameter", "params", Type(f32, (128,)))
    slot = g.source("state", "momentum", Type(f32, (128,)))
    total = g.source("state", "total", Type(f32, ()))
    shapes = {"w1": (0, (6, 8)), "b1": (48, (8,)), "w2": (64, (8, 4)), "b2": (96, (4,))}
    weights = {}
    for name, (offset, shape) in shapes.items():
        size = int(np.prod(shape))
        piece = ops.slice(flat, starts=(offset,), sizes=(size,), strides=(1,))
        weights[name] = ops.reshape(piece, shape=shape)
    hidden = ops.relu(ops.add(matmul(x, weights["w1"]), weights["b1"]))
    p = softmax(ops.add(matmul(hidden, weights["w2"]), weights["b2"]))
    column = ops.reshape(labels, shape=(BATCH, 1))
    hot = ops.cast(ops.eq(column, ops.iota(column, shape=(BATCH, 4), axis=1, dtype="i32")), dtype="f32")
    rows = ops.neg(ops.reduce_sum(ops.mul(hot, ops.log(p)), axes=(1,), keepdims=False))
    count = ops.size(rows, value=BATCH, dtype="f32")
    loss = ops.div(ops.reduce_sum(rows, axes=(0,), keepdims=False), count)
    grads = grad(loss, list(weights.values()))
    pieces = [ops.reshape(d, shape=(int(np.prod(s)),)) for d, (_, s) in zip(grads, shapes.values())]
    packed = ops.pack(*pieces, offsets=tuple(o for o, _ in shapes.values()), size=128)
    velocity = ops.add(ops.mul(slot, 0.9), packed)
    g.assign(slot, velocity)
    g.assign(flat, ops.sub(flat, ops.mul(velocity, 0.1)))
    g.assign(total, ops.add(total, loss))
    g.output("loss", loss)
    return g


def convolution_training() -> Graph:
    g = Graph("conv")
    x = g.input("x", Type(f32, (BATCH, 6, 6, 2)))
    w = g.source("parameter", "w", Type(f32, (3, 3, 2, 4)))
    scale = g.source("parameter", "scale", Type(f32, (4,)))
    y = conv(x, w, strides=(1, 1), padding="same", dilation=(1, 1), groups=1)
    axes = (0, 1, 2)
    count = ops.mul(ops.size(y, value=BATCH, dtype="f32"), 36.0)
    mean = ops.div(ops.reduce_sum(y, axes=axes, keepdims=True), count)
    centred = ops.sub(y, mean)
    variance = ops.div(ops.reduce_sum(ops.square(centred), axes=axes, keepdims=True), count)
    normal = ops.mul(ops.mul(centred, ops.rsqrt(ops.add(variance, 1e-3))), scale)
    pooled = ops.window_max(ops.relu(normal), window=(1, 2, 2, 1), strides=(1, 2, 2, 1), dilation=(1, 1, 1, 1))
    loss = ops.reduce_sum(ops.square(ops.reshape(pooled, shape=(BATCH, 36))), axes=(0, 1), keepdims=False)
    for value, d in zip((w, scale), grad(loss, [w, scale])):
        g.assign(value, ops.sub(value, ops.mul(d, 0.01)))
    g.output("loss", loss)
    return g


GRAPHS = [softmax_graph, dense_training, convolution_training]


def arrays_for(graph: Graph, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    made = {}
    for name, value in graph.sources.items():
        shape = tuple(dim.evaluate(s, {"batch": rows}) for s in value.shape)
        if value.dtype is i32:
            made[name] = draw.integers(0, 4, shape).astype(np.int32)
        else:
            made[name] = np.asarray(draw.standard_normal(shape), np.float32)
    return made


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("rows", [1, 5])
def test_program_means_its_graph(make, rows):
    graph = make()
    arrays = arrays_for(graph, rows)
    outputs, assigned = run(graph, arrays)
    got_outputs, got_assigned = simulate(graph, arrays)
    for name, expected in {**outputs, **assigned}.items():
        got = got_outputs[name] if name in outputs else got_assigned[name]
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-5, err_msg=name)


def kernels(graph: Graph) -> list[str]:
    return [c.form.name for c in lower(fuse(own_results(graph)))]


def test_softmax_is_one_kernel():
    assert len(kernels(softmax_graph())) == 1


def test_optimizer_is_one_kernel():
    assert kernels(dense_training())[-1] == "add_sub"


def test_results_that_are_sources_are_copied():
    g = Graph("swap")
    a, b = (g.source("state", n, Type(f32, (3,))) for n in "ab")
    g.assign(a, b)
    g.assign(b, a)
    g.output("same", a)
    arrays = {"a": np.arange(3, dtype=np.float32), "b": np.full(3, 7, np.float32)}
    outputs, assigned = simulate(g, arrays)
    np.testing.assert_array_equal(assigned["a"], arrays["b"])
    np.testing.assert_array_equal(assigned["b"], arrays["a"])
    np.testing.assert_array_equal(outputs["same"], arrays["a"])


def test_a_temporary_is_written_over():
    """The normalised rows take the place of what they are made from, which nothing reads afterwards."""
    g = Graph("donate")
    x = g.input("x", Type(f32, (BATCH, 8)))
    w = g.source("parameter", "w", Type(f32, (8, 16)))
    y = matmul(x, w)
    mean = ops.div(ops.reduce_sum(y, axes=(0,), keepdims=True), 4.0)
    centred = ops.exp(ops.sub(y, mean))
    g.output("z", matmul(centred, ops.transpose(w, perm=(1, 0))))
    placed = place(g, lower(fuse(own_results(g))))
    assert sum(b.nbytes == 64 * BATCH for b in placed.buffers) == 1
    arrays = arrays_for(g, 4)
    np.testing.assert_allclose(simulate(g, arrays)[0]["z"], run(g, arrays)[0]["z"], rtol=2e-5)


def test_a_temporary_that_is_read_later_stays():
    g = Graph("keep")
    x = g.input("x", Type(f32, (BATCH, 8)))
    w = g.source("parameter", "w", Type(f32, (8, 16)))
    y = matmul(x, w)
    mean = ops.div(ops.reduce_sum(y, axes=(0,), keepdims=True), 4.0)
    z = matmul(ops.exp(ops.sub(y, mean)), ops.transpose(w, perm=(1, 0)))
    g.output("z", ops.add(z, matmul(y, ops.transpose(w, perm=(1, 0)))))
    arrays = arrays_for(g, 4)
    np.testing.assert_allclose(simulate(g, arrays)[0]["z"], run(g, arrays)[0]["z"], rtol=2e-5)
