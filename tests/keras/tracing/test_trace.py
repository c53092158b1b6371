"""What a trace records: symbols, sources, assignments, origins."""

import numpy as np
import pytest

from kcompile.errors import KcompileError, ShapeError
from kcompile.keras import Input, layers, ops
from kcompile.keras.tracing import KerasTensor, Variable, VariableArena, infer, trace
from kcompile.runtime.interpreted import InterpretedProgram


def run(traced, **inputs):
    return InterpretedProgram(traced.graph).run(inputs, traced.arrays())


def test_sizes_get_names():
    traced = trace(
        lambda v: {"a": v["x0"], "b": v["y0"]}, {"x0": KerasTensor((None, None, 3)), "y0": ((None, 2), "int32")}
    )
    assert str(traced.graph.sources["x0"].type) == "f32[batch,x0_1,3]"
    assert str(traced.graph.sources["y0"].type) == "i32[batch,2]"


def test_outputs_are_named_and_packed():
    traced = trace(lambda v: [v["x"] + 1, {"k": v["x"] * 2}], {"x": ((None,), "float32")})
    assert list(traced.graph.outputs) == ["y0", "y1"]
    x = np.arange(3, dtype="f")
    first, rest = traced.pack(run(traced, x=x))
    np.testing.assert_array_equal(first, x + 1)
    np.testing.assert_array_equal(rest["k"], x * 2)


def test_reading_after_assigning_sees_the_new_value():
    v = Variable([1.0, 2.0], name="v")

    def program(values):
        before = v * 1.0
        v.assign_add(values["x"])
        v.assign(v * 10.0)
        return {"before": before, "after": v.value}

    traced = trace(program, {"x": ((2,), "float32")})
    np.testing.assert_array_equal(v.numpy(), [1, 2])  # nothing is written while tracing
    assert list(traced.graph.assignments) == ["v"]
    found = run(traced, x=np.array([1, 1], "f"))
    np.testing.assert_array_equal(found["before"], [1, 2])
    np.testing.assert_array_equal(found["after"], [20, 30])
    np.testing.assert_array_equal(v.numpy(), [20, 30])


def test_arena_variables_are_slices_of_one_source():
    a, b = Variable([1.0, 2.0], name="a"), Variable([[3.0]], name="b")
    arena = VariableArena("params", [a, b])

    def program(values):
        y = ops.sum(a) * b
        arena.assign(arena.value * 2.0)  # as an elementwise optimizer does
        return {"y": y, "then": ops.sum(a) + ops.sum(b)}

    traced = trace(program, {}, arenas=[arena])
    assert list(traced.graph.sources) == ["params"]
    assert traced.graph.sources["params"].node.role == "parameter"
    found = run(traced)
    assert found["y"] == [[9]] and found["then"] == 12
    np.testing.assert_array_equal(a.numpy(), [2, 4])
    assert np.all(arena.buffer[2:16] == 0)


def test_single_assignments_inside_an_arena_are_packed():
    a, b = Variable([1.0, 2.0], name="a"), Variable([[3.0]], name="b", trainable=False)
    arena = VariableArena("slots", [a, b])

    def program(values):
        a.assign(a + 1.0)
        return {"a": a.value, "b": b.value}

    traced = trace(program, {}, arenas=[arena])
    assert list(traced.graph.assignments) == ["slots"]
    run(traced)
    np.testing.assert_array_equal(a.numpy(), [2, 3])
    np.testing.assert_array_equal(b.numpy(), [[3]])


def test_equal_names_become_different_sources():
    one, two = Variable([1.0], name="w"), Variable([2.0], name="w")
    traced = trace(lambda v: one + two, {})
    assert list(traced.graph.sources) == ["w", "w_1"] and traced.variables["w_1"] is two


def test_origins_name_layer_and_line():
    dense = layers.Dense(2, name="mine")
    dense.build((None, 3))
    traced = trace(lambda v: dense(v["x"]), {"x": KerasTensor((None, 3))})
    node = traced.graph.outputs["y0"].node
    assert node.origin.layer == "mine" and node.origin.line.startswith("test_trace.py:")


def test_numpy_on_a_traced_value_says_what_to_do():
    with pytest.raises(KcompileError, match=r"keras\.ops"):
        trace(lambda v: np.sin(v["x"]), {"x": ((2,), "float32")})
    with pytest.raises(KcompileError, match="where"):
        trace(lambda v: v["x"] if v["x"][0] > 0 else v["x"] * 2, {"x": ((2,), "float32")})


def test_infer_computes_nothing_and_keeps_exact_sizes():
    v = Variable([1.0])

    def fn(x):
        v.assign(v + 1.0)
        y = ops.reshape(x, (ops.shape(x)[0], -1))
        return {"flat": y, "sum": ops.sum(y)}

    found = infer(fn, [KerasTensor((None, None, 3))])
    assert found["flat"].shape == (None, None) and str(found["flat"].dims[1]) == "3*dim1"
    assert found["sum"].shape == () and v.numpy() == [1]


def test_sizes_as_numbers():
    traced = trace(lambda v: ops.sum(v["x"]) / ops.shape(v["x"])[0], {"x": ((None,), "float32")})
    assert run(traced, x=np.arange(5, dtype="f"))["y0"] == 2.0


def test_open_sizes_that_only_fit_if_they_are_equal_are_taken_as_equal():
    """A mask [batch, None, None] for queries [batch, None, n]: only the data can say that the sizes differ."""
    x, mask = Input((None, 4)), Input((None, None))
    made = mask * ops.matmul(x, ops.transpose(x, (0, 2, 1)))
    assert made.shape == (None, None, None)
    with pytest.raises(ShapeError, match="4 against 5"):
        x + Input((None, 5))
    with pytest.raises(ShapeError, match="do not broadcast"):
        Input((None, None, 4)) + Input((None, None, 5))
