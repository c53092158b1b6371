"""Running a graph with the references; binding sizes."""

import numpy as np
import pytest

from kcompile.errors import ArgumentError, DTypeError, ShapeError
from kcompile.ir import dim
from kcompile.ir.graph import Graph
from kcompile.ir.interpret import bf16_to_f32, bind_symbols, f32_to_bf16, run
from kcompile.ir.parse import parse
from kcompile.ir.types import Type, bf16, f32

SUM = parse(
    "graph g(x: f32[batch,time], y: f32[batch,2*time], w: state f32[time]) {\n"
    "  %0: f32[batch,2*time] = exp(y)\n"
    "  %1: f32[batch*time] = reshape(x, shape=(batch*time,))\n"
    "  %2: f32[time] = add(w, 1.0)\n"
    "  w = %2\n"
    "  return a=%0, b=%1\n}\n"
)


def arrays(batch=2, time=3, wide=6):
    return {
        "x": np.arange(batch * time, dtype=np.float32).reshape(batch, time),
        "y": np.ones((batch, wide), np.float32),
        "w": np.zeros(time, np.float32),
    }


def test_outputs_and_assignments():
    outputs, assigned = run(SUM, arrays())
    np.testing.assert_allclose(outputs["a"], np.full((2, 6), np.e), rtol=1e-6)
    np.testing.assert_array_equal(outputs["b"], np.arange(6))
    np.testing.assert_array_equal(assigned["w"], np.ones(3))


def test_symbols_are_bound_once_and_checked():
    assert bind_symbols(SUM.sources, arrays(5, 4, 8)) == {"batch": 5, "time": 4}
    assert bind_symbols(SUM.sources, arrays(0, 4, 8)) == {"batch": 0, "time": 4}
    with pytest.raises(ShapeError) as caught:
        bind_symbols(SUM.sources, arrays(wide=7))
    assert "input 'y': expected size 6 (2*time, where time = 3 by 'x') in dimension 1, received 7" in str(caught.value)


def test_wrong_arguments_are_named():
    good = arrays()
    with pytest.raises(ArgumentError, match=r"input 'y' has no array; expected f32\[batch,2\*time\]"):
        bind_symbols(SUM.sources, {k: v for k, v in good.items() if k != "y"})
    with pytest.raises(DTypeError, match=r"state 'w': expected f32.*float64"):
        bind_symbols(SUM.sources, {**good, "w": np.zeros(3)})
    with pytest.raises(ShapeError, match="expected 2 dimensions"):
        bind_symbols(SUM.sources, {**good, "x": np.zeros(3, np.float32)})


def test_an_unknown_size_is_named():
    g = Graph()
    g.input("x", Type(f32, (2 * dim.symbol("time"),)))
    with pytest.raises(ShapeError, match="size 'time' in the shape of 'x' is unknown"):
        bind_symbols(g.sources, {"x": np.zeros(4, np.float32)})


def test_bfloat16_enters_and_leaves_as_bits():
    g = Graph()
    x = g.input("x", Type(bf16, (4,)))
    g.output("y", x + x)
    values = np.array([1.0, -2.5, np.inf, 3.140625], np.float32)
    out = run(g, {"x": f32_to_bf16(values)})[0]["y"]
    assert out.dtype == np.uint16
    np.testing.assert_array_equal(bf16_to_f32(out), 2 * values)


def test_bfloat16_rounds_half_to_even():
    # 1 + 2**-8 lies between 1 and 1 + 2**-7; 1 + 3 * 2**-8 between odd and even neighbours
    got = bf16_to_f32(f32_to_bf16(np.array([1 + 2**-8, 1 + 3 * 2**-8, np.nan, -0.0], np.float32)))
    np.testing.assert_array_equal(got, np.array([1.0, 1 + 2**-6, np.nan, -0.0], np.float32))
    assert np.signbit(got[3])
