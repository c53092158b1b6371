"""What the generated tests do not see: dtype rules, errors, conventions of gradients."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import autodiff, ops
from kcompile.errors import DTypeError, ShapeError
from kcompile.ir import interpret
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, bf16, boolean, f16, f32, f64, i32, u32


def test_operands_share_a_dtype():
    with pytest.raises(DTypeError, match="add expects operands of one dtype"):
        ops.add.infer(Type(f32, (2,)), Type(f64, (2,)))
    with pytest.raises(DTypeError, match="exp takes floats, received i32; cast it first"):
        ops.exp.infer(Type(i32, (2,)))
    with pytest.raises(DTypeError, match="mul takes numbers, received bool"):
        ops.mul.infer(Type(boolean, ()), Type(boolean, ()))
    with pytest.raises(DTypeError, match="select expects a bool condition"):
        ops.select.infer(Type(f32, ()), Type(f32, ()), Type(f32, ()))
    with pytest.raises(DTypeError, match="mulhi takes u32"):
        ops.mulhi.infer(Type(i32, ()), Type(u32, ()))
    with pytest.raises(ShapeError, match="do not broadcast"):
        ops.add.infer(Type(f32, (2,)), Type(f32, (3,)))
    with pytest.raises(ShapeError, match="add expects 2 operands, received 1"):
        ops.add.infer(Type(f32, (2,)))


def test_python_numbers_take_the_dtype_beside_them():
    for kind in (np.float16, np.float32, np.float64, np.int32):
        x = np.ones(3, kind)
        assert ops.add(x, 2).dtype == kind and ops.mul(2, x).dtype == kind
        assert ops.select(x > 0, x, 0).dtype == kind
    graph = Graph()
    flag, x = graph.input("flag", Type(boolean, (3,))), graph.input("x", Type(f64, (3,)))
    assert ops.select(flag, x, 0.0).type == Type(f64, (3,))
    assert ops.select(flag, 1, x).type == Type(f64, (3,))
    half = graph.input("half", Type(bf16, (3,)))
    assert (half * 2.0).type == Type(bf16, (3,))


def test_numbers_alone_are_32_bits_wide():
    assert ops.add(1.0, 2.0).dtype == np.float32 and ops.add(1, 2).dtype == np.int32


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_scalars_keep_their_dtype(kind):
    for op in (ops.sigmoid, ops.softplus, ops.erf, ops.rsqrt, ops.relu):
        result = op(np.asarray(0.5, kind))
        assert isinstance(result, np.ndarray) and result.dtype == kind and result.shape == ()


def test_extremes_stay_finite():
    x = np.float32([-1e4, -80, 0, 100, 1e4])
    np.testing.assert_allclose(ops.sigmoid(x), [0, np.exp(-80), 0.5, 1, 1], rtol=1e-5)
    np.testing.assert_allclose(ops.softplus(x), [0, np.exp(-80), np.log(2), 100, 1e4], rtol=1e-5)


def test_facts_name_what_commutes():
    for op in (ops.add, ops.mul, ops.maximum, ops.logical_and, ops.eq):
        assert op.facts["commutative"]
    for op in (ops.sub, ops.div, ops.pow, ops.lt, ops.shift_left):
        assert not op.facts


def gradients(op, *arrays, **attrs) -> list[np.ndarray]:
    graph = Graph()
    inputs = [graph.input(f"x{n}", Type(f32, a.shape)) for n, a in enumerate(arrays)]
    for n, g in enumerate(autodiff.grad(op(*inputs, **attrs), inputs)):
        graph.output(f"g{n}", g)
    outputs, _ = interpret.run(graph, {f"x{n}": a for n, a in enumerate(arrays)})
    return [outputs[f"g{n}"] for n in range(len(arrays))]


@pytest.mark.parametrize(
    "op, at, expected",
    [
        (ops.relu, [0.0], [0.0]),
        (ops.abs, [0.0], [0.0]),
        (ops.maximum, [1.0, 1.0], [0.5, 0.5]),
        (ops.minimum, [1.0, 1.0], [0.5, 0.5]),
        (ops.pow, [0.0, 2.0], [0.0, 0.0]),
        (ops.pow, [0.0, 0.0], [0.0, 0.0]),
        (ops.pow, [3.0, 0.0], [0.0, np.log(3.0)]),
        (ops.floor, [1.5], [0.0]),
        (ops.stop_gradient, [1.5], [0.0]),
        (ops.mod, [7.5, 2.0], [1.0, -3.0]),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_gradient_conventions(op, at, expected):
    actual = gradients(op, *(np.asarray(a, np.float32) for a in at))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_ties_of_a_maximum_share_the_gradient():
    (g,) = gradients(ops.reduce_max, np.float32([[1, 3, 3], [2, 2, 2]]), axes=(1,), keepdims=False)
    np.testing.assert_allclose(g, [[0, 0.5, 0.5], [1 / 3] * 3], rtol=1e-6)


def test_product_gradient_with_zeros():
    (g,) = gradients(ops.reduce_prod, np.float32([[2, 0, 3], [0, 0, 5], [2, 3, 4]]), axes=(1,), keepdims=True)
    np.testing.assert_allclose(g, [[0, 6, 0], [0, 0, 0], [12, 8, 6]], rtol=1e-6)


def test_half_sums_accumulate_in_single():
    ones = np.full((4096,), 1.0, np.float16)  # a running f16 sum would stop at 2048
    assert ops.reduce_sum(ones, axes=(0,), keepdims=False) == 4096
    form = ops.reduce_sum.lower(Type(f16, (4096,)), axes=(0,), keepdims=False)
    assert [b.type.dtype for b in form.buffers if b.role == "local"] == [f32]
