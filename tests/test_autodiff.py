"""grad: one sweep, every rule reached through whole expressions; central differences in float64."""

import numpy as np
import pytest

from kcompile import ops
from kcompile.autodiff import grad
from kcompile.errors import CompilerBug, NotSupportedError
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import bf16_to_f32, f32_to_bf16, run
from kcompile.ir.op import Kind, Op
from kcompile.ir.types import Type, bf16, f32, f64
from kcompile.ir.verify import verify
from kcompile.ops.contract import matmul
from kcompile.ops.conv import conv

STEP = 1e-6  # central differences in float64: error about STEP**2 and 1e-16 / STEP


def check(build, *shapes, symbols=None, seed=0):
    """Compare the gradient of sum(build(*inputs)) with central differences, all inputs at once."""
    rng = np.random.default_rng(seed)
    g = Graph("g")
    declared = symbols or shapes
    inputs = [g.input(f"x{n}", Type(f64, shape)) for n, shape in enumerate(declared)]
    loss = build(*inputs)
    loss = ops.reduce_sum(loss, axes=tuple(range(loss.rank)), keepdims=False)
    g.output("loss", loss)
    for n, value in enumerate(grad(loss, inputs)):
        assert value.type == inputs[n].type
        g.output(f"d{n}", value)
    verify(g)
    arrays = {f"x{n}": rng.uniform(0.2, 2.0, shape) for n, shape in enumerate(shapes)}
    outputs, _ = run(g, arrays)
    for n, shape in enumerate(shapes):
        direction = rng.standard_normal(shape)
        plus, minus = (
            run(g, {**arrays, f"x{n}": arrays[f"x{n}"] + sign * STEP * direction})[0]["loss"] for sign in (1, -1)
        )
        expected = (plus - minus) / (2 * STEP)
        np.testing.assert_allclose((outputs[f"d{n}"] * direction).sum(), expected, rtol=2e-6, atol=1e-6)


def softmax(x):
    e = ops.exp(x - ops.reduce_max(x, axes=(x.rank - 1,), keepdims=True))
    return e / ops.reduce_sum(e, axes=(x.rank - 1,), keepdims=True)


def layer_norm(x, scale, shift):
    mean = ops.reduce_sum(x, axes=(1,), keepdims=True) / x.shape[1]
    d = x - mean
    variance = ops.reduce_sum(d * d, axes=(1,), keepdims=True) / x.shape[1]
    return d * ops.rsqrt(variance + 1e-3) * scale + shift


@pytest.mark.parametrize(
    "build, shapes",
    [
        (lambda a, b: ops.tanh(a * b + a) * b, [(3, 4), (3, 4)]),
        (lambda a, b: a * b, [(3, 4), (4,)]),  # broadcasting is undone
        (lambda a, b: ops.exp(a) / b, [(2, 1, 4), (3, 1)]),
        (lambda a, b: a + b, [(1, 4), (3, 1)]),
        (lambda a: a * a * a, [(5,)]),  # one value read several times
        (lambda a, w: ops.log(softmax(matmul(a, w))), [(3, 4), (4, 5)]),
        (layer_norm, [(3, 5), (5,), (5,)]),
        (lambda a: ops.transpose(ops.reshape(a, shape=(2, 6)), perm=(1, 0)) * np.arange(12.0).reshape(6, 2), [(3, 4)]),
        (lambda a, b: ops.square(ops.concat(a, b, axis=1)), [(2, 3), (2, 1)]),
        (lambda a: ops.maximum(ops.reduce_max(a, axes=(0,), keepdims=False), 0.5) ** 2, [(4, 3)]),
        (lambda x, w: ops.square(conv(x, w, 2, "same")), [(2, 7, 6, 2), (3, 3, 2, 3)]),
    ],
)
def test_gradients(build, shapes):
    check(build, *shapes)


def test_symbolic_sizes():
    n = dim.symbol("n")
    check(lambda a, w: ops.square(matmul(a, w)), (3, 4), (4, 2), symbols=[(n, 4), (4, 2)])
    check(lambda a, b: ops.sigmoid(a * b), (3, 4), (4,), symbols=[(n, 4), (4,)])
    check(lambda x, w: ops.square(conv(x, w, 2, "same")), (2, 7, 2), (3, 2, 2), symbols=[(n, 7, 2), (3, 2, 2)])


def test_symbolic_spatial_size():
    n, time = dim.symbol("n"), dim.symbol("time")
    for length in (5, 6, 7):
        check(
            lambda x, w: ops.square(conv(x, w, 2, "same")), (2, length, 2), (3, 2, 2), symbols=[(n, time, 2), (3, 2, 2)]
        )
        check(
            lambda x, w: ops.square(conv(x, w, 1, "causal", 2)), (2, length, 2), (2, 2, 1),
            symbols=[(n, time, 2), (2, 2, 1)],
        )  # fmt: skip


def test_second_derivatives():
    def gradient_penalty(x, w):
        y = ops.tanh(conv(x, w, 2, "same"))
        (d,) = grad(ops.reduce_sum(y * y, axes=(0, 1, 2), keepdims=False), [x])
        return ops.square(d)

    check(gradient_penalty, (2, 5, 2), (3, 2, 2))


def test_zeros_where_the_loss_does_not_depend():
    g = Graph()
    a, b = g.input("a", Type(f32, (3,))), g.input("b", Type(f32, (dim.symbol("n"), 2)))
    loss = ops.reduce_sum(a, axes=(0,), keepdims=False)
    da, db = grad(loss, [a, b])
    g.output("da", da)
    g.output("db", db)
    out = run(g, {"a": np.ones(3, np.float32), "b": np.ones((4, 2), np.float32)})[0]
    np.testing.assert_array_equal(out["da"], np.ones(3))
    np.testing.assert_array_equal(out["db"], np.zeros((4, 2)))


def test_gradient_stops():
    g = Graph()
    x = g.input("x", Type(f64, (3,)))
    loss = ops.reduce_sum(ops.stop_gradient(x) * x + ops.floor(x), axes=(0,), keepdims=False)
    g.output("d", grad(loss, [x])[0])
    np.testing.assert_array_equal(run(g, {"x": np.array([1.0, 2.0, 3.0])})[0]["d"], [1, 2, 3])


def test_gradient_of_an_inner_value():
    g = Graph()
    x = g.input("x", Type(f64, ()))
    y = ops.exp(x)
    dy, dx = grad(y * y, [y, x])
    g.output("dy", dy)
    g.output("dx", dx)
    out = run(g, {"x": np.array(0.5)})[0]
    np.testing.assert_allclose([out["dy"], out["dx"]], [2 * np.exp(0.5), 2 * np.exp(1.0)])


def test_bfloat16():
    g = Graph()
    x = g.input("x", Type(bf16, (3,)))
    loss = ops.reduce_sum(ops.relu(x * 3 - 1) * 0.5, axes=(0,), keepdims=False)
    g.output("d", grad(loss, [x])[0])
    bits = run(g, {"x": f32_to_bf16(np.array([1.0, 0.25, -1.0]))})[0]["d"]
    np.testing.assert_array_equal(bf16_to_f32(bits), [1.5, 0, 0])


def test_only_what_lies_between_is_visited():
    g = Graph()
    x, w = g.input("x", Type(f32, (3,))), g.input("w", Type(f32, (3,)))
    frozen = ops.tanh(ops.exp(x))
    loss = ops.reduce_sum(frozen * w, axes=(0,), keepdims=False)
    before = len(g.nodes)
    grad(loss, [w])
    assert "tanh" not in [n.origin.layer for n in g.nodes[before:]]
    assert all(n.op is None or n.op.name in ("reshape", "broadcast_to", "mul") for n in g.nodes[before:])


def test_origins_carry_the_layer():
    g = Graph()
    x = g.input("x", Type(f32, (3,)))
    with g.origin("dense", "train.py:3"):
        y = ops.exp(x)
    (d,) = grad(ops.reduce_sum(y, axes=(0,), keepdims=False), [x])
    assert d.node.origin.layer == "dense/grad" and d.node.origin.line == "train.py:3"


def test_a_missing_rule_is_named():
    mystery = Op("mystery", Kind.ELEMENTWISE, lambda x: x, lambda x: x)
    g = Graph()
    x = g.input("x", Type(f32, (3,)))
    with g.origin("my_layer", "train.py:9"):
        y = mystery(x)
    with pytest.raises(NotSupportedError) as caught:
        grad(ops.reduce_sum(y, axes=(0,), keepdims=False), [x])
    assert "'mystery' has no gradient rule" in str(caught.value)
    assert "my_layer  train.py:9" in str(caught.value)


def test_a_wrong_rule_is_named():
    wrong = Op("wrong", Kind.SHAPE, lambda x: x, lambda x: x, vjp=lambda g, y, x: (ops.reshape(g, shape=(3, 1)),))
    g = Graph()
    x = g.input("x", Type(f32, (1, 3)))
    with pytest.raises(CompilerBug, match=r"vjp of wrong: cotangent f32\[3,1\] for an operand f32\[1,3\]"):
        grad(ops.reduce_sum(wrong(x), axes=(0, 1), keepdims=False), [x])
