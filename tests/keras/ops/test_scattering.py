"""Writing at looked-up places: against real Keras, compiled, and by finite differences."""

import numpy as np
import pytest

from kcompile.errors import KcompileError
from kcompile.keras import ops
from kcompile.keras.tracing import trace
from tests.keras.ops.checking import check, check_compiled, check_gradient, ids

RNG = np.random.default_rng(0)


def f(*shape):
    return RNG.standard_normal(shape).astype("float32")


ROWS = np.array([[0], [2], [2], [3]], "int32")
POINTS = np.array([[0, 1], [2, 0], [2, 3]], "int32")
IDS = np.array([0, 2, 2, 1, 0], "int32")

CASES = [
    ("scatter", (ROWS, f(4, 3), (5, 3)), {}),
    ("scatter", (POINTS, f(3), (3, 4)), {}),
    ("scatter_update", (f(5, 3), ROWS[:2], f(2, 3)), {}),
    ("scatter_update", (f(3, 4), POINTS, f(3)), {}),
    *(("scatter_update", (f(5, 3), ROWS, f(4, 3)), {"reduction": r}) for r in ("add", "max", "min", "mul")),
    ("slice_update", (f(4, 5), np.array([1, 2], "int32"), f(2, 3)), {}),
    ("slice_update", (f(4, 5), (0, 1), f(4, 2)), {}),
    ("slice_update", (f(4, 5), np.array([3, 4], "int32"), f(2, 3)), {}),  # is moved inside
    ("slice", (f(4, 5), np.array([1, 2], "int32"), (2, 3)), {}),
    *((f"segment_{how}", (f(5, 3), IDS), {"num_segments": 3}) for how in ("sum", "max", "min", "prod")),
    ("segment_max", (f(5, 2), IDS), {"num_segments": 4}),
    ("segment_sum", (f(5, 2), IDS), {"num_segments": 2}),  # ids beyond are dropped
    ("segment_max", (np.arange(5, dtype="int32"), IDS), {"num_segments": 4}),
]


@pytest.mark.parametrize("name, args, kwargs", CASES, ids=ids(CASES))
def test_function(name, args, kwargs, real_keras):
    check(real_keras, name, args, kwargs)


def test_compiled(real_keras):
    check_compiled(real_keras, CASES)


SMOOTH = [c for c in CASES if c[2] != {"num_segments": 4}]  # the maximum of an empty segment is infinite


@pytest.mark.parametrize("name, args, kwargs", SMOOTH, ids=ids(SMOOTH))
def test_gradient(name, args, kwargs):
    check_gradient(name, args, kwargs)


def test_the_last_update_wins():
    x = np.zeros((3, 2), "float32")
    found = ops.scatter_update(x, np.array([[1], [1], [1]], "int32"), np.float32([[1, 1], [2, 2], [3, 3]]))
    np.testing.assert_array_equal(found, [[0, 0], [3, 3], [0, 0]])


def test_segments_need_their_number_in_a_trace():
    x = f(5, 3)
    np.testing.assert_array_equal(ops.segment_max(x, IDS), [x[IDS == i].max(0) for i in range(3)])
    with pytest.raises(KcompileError, match="num_segments"):
        trace(lambda v: ops.segment_sum(v["x"], v["i"]), {"x": ((5, 3), "float32"), "i": ((5,), "int32")})


def test_an_open_batch_is_updated():
    program = trace(
        lambda v: ops.slice_update(v["x"], (0, 1), ops.zeros((ops.shape(v["x"])[0], 2))), {"x": ((None, 4), "float32")}
    )
    from kcompile.runtime.interpreted import InterpretedProgram

    x = f(3, 4)
    expected = x.copy()
    expected[:, 1:3] = 0
    np.testing.assert_array_equal(InterpretedProgram(program.graph).run({"x": x}, {})["y0"], expected)
