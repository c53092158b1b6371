"""Sorting, searching, quantiles: against real Keras, compiled, and by finite differences."""

import numpy as np
import pytest

from kcompile.errors import KcompileError
from kcompile.keras import ops
from kcompile.keras.tracing import trace
from tests.keras.ops.checking import arrays_of, check, check_compiled, check_gradient, ids

RNG = np.random.default_rng(0)


def f(*shape):
    return RNG.standard_normal(shape).astype("float32")


def i(*shape, high=5):
    return RNG.integers(0, high, shape).astype("int32")


NAN = f(3, 6)
NAN[0, 2] = NAN[2, 1] = np.nan
NAN[1] = np.nan
EDGES = np.sort(f(7))

CASES = [
    ("sort", (f(3, 4),), {}),
    ("sort", (f(3, 4, 2),), {"axis": 1}),
    ("sort", (i(40),), {}),
    ("sort", (f(3, 4),), {"axis": None}),
    ("sort", (f(2, 150),), {}),
    ("sort", (NAN,), {}),
    ("argsort", (i(3, 9),), {}),
    ("argsort", (f(5, 3),), {"axis": 0}),
    ("argsort", (f(2, 3),), {"axis": None}),
    ("top_k", (f(3, 7), 2), {}),
    ("top_k", (i(2, 9), 4), {}),
    ("in_top_k", (i(6, high=4), f(6, 4), 2), {}),
    ("in_top_k", (i(6, high=4), i(6, 4).astype("float32"), 2), {}),
    ("searchsorted", (EDGES, f(3, 4)), {}),
    ("searchsorted", (np.sort(i(9)), i(6)), {}),
    ("searchsorted", (np.sort(i(9)), i(6)), {"side": "right"}),
    ("digitize", (f(3, 4), EDGES), {}),
    ("isin", (i(3, 4), i(3)), {}),
    ("isin", (i(3, 4), i(3)), {"invert": True}),
    ("median", (f(3, 5),), {}),
    ("median", (f(3, 4),), {"axis": 1}),
    ("median", (f(2, 3, 4),), {"axis": (0, 2), "keepdims": True}),
    ("median", (i(3, 4),), {"axis": 0}),
    ("median", (NAN,), {"axis": 1}),
    ("quantile", (f(3, 5), 0.3), {}),
    ("quantile", (f(3, 5), np.float32([0.1, 0.5, 1.0])), {"axis": 1}),
    ("quantile", (f(3, 5), np.float32([0.1, 0.5])), {"axis": 0, "keepdims": True}),
    *(("quantile", (f(4, 6), 0.37), {"axis": 1, "method": m}) for m in ("lower", "higher", "nearest", "midpoint")),
    ("percentile", (f(3, 5), 30.0), {"axis": 1}),
    ("nanmedian", (NAN,), {"axis": 1}),
    ("nanquantile", (NAN, 0.25), {"axis": 0}),
    ("nanpercentile", (NAN, 75.0), {}),
]
SINGLE = {"sort", "argsort", "median", "top_k", "quantile"}


@pytest.mark.parametrize("name, args, kwargs", CASES, ids=ids(CASES))
def test_function(name, args, kwargs, real_keras):
    check(
        real_keras,
        name,
        args,
        kwargs,
        open_batch=name in SINGLE and kwargs.get("axis", 0) is not None and len(arrays_of(args)) == 1,
    )


def test_compiled(real_keras):
    check_compiled(real_keras, CASES)


@pytest.mark.parametrize(
    "name, args, kwargs",
    [
        ("sort", (f(3, 4),), {"axis": 0}),
        ("top_k", (f(3, 7), 3), {}),
        ("median", (f(3, 4),), {"axis": 1}),
        ("quantile", (f(3, 5), np.float32([0.1, 0.6])), {"axis": 1}),  # q = 0.5 of 5 elements is a corner
        ("nanmedian", (f(3, 5),), {"axis": 0}),
    ],
)
def test_gradient(name, args, kwargs):
    check_gradient(name, args, kwargs)


def test_argpartition_has_the_kth_in_place():
    x = f(3, 9)
    found = np.take_along_axis(x, np.asarray(ops.argpartition(x, 4)), -1)
    assert (found[:, :4] <= found[:, 4:5]).all() and (found[:, 5:] >= found[:, 4:5]).all()


@pytest.mark.parametrize(
    "name, args, kwargs",
    [
        ("unique", (i(9),), {}),
        ("unique", (i(9),), {"return_index": True, "return_inverse": True, "return_counts": True}),
        ("unique", (i(5, 2, high=2),), {"axis": 0}),
        ("unique", (i(9),), {"size": 8, "fill_value": -1}),
        ("bincount", (i(9),), {}),
        ("bincount", (i(9),), {"weights": f(9), "minlength": 8}),
        ("bincount", (i(3, 6),), {"minlength": 7}),
        ("histogram", (f(50),), {}),
        ("histogram", (f(50),), {"bins": 7, "range": (-1, 1)}),
        ("nonzero", (i(3, 4, high=2),), {}),
    ],
)
def test_sizes_that_depend_on_the_numbers(name, args, kwargs, real_keras):
    check(real_keras, name, args, kwargs, traced=False)


def test_what_a_trace_cannot_size_says_so():
    for call in (lambda v: ops.unique(v["x"]), lambda v: ops.nonzero(v["x"]), lambda v: ops.bincount(v["x"])):
        with pytest.raises(KcompileError, match=r"only known when the program runs|while tracing"):
            trace(call, {"x": ((5,), "int32")})
    traced = trace(lambda v: ops.bincount(v["x"], minlength=4), {"x": ((5,), "int32")})
    assert traced.graph is not None


def test_search_along_an_open_size():
    from kcompile.runtime.interpreted import InterpretedProgram

    line, values = np.sort(f(11)), f(5)
    program = trace(lambda v: ops.searchsorted(v["a"], v["b"]), {"a": ((None,), "float32"), "b": ((5,), "float32")})
    found = InterpretedProgram(program.graph).run({"a": line, "b": values}, {})["y0"]
    np.testing.assert_array_equal(found, np.searchsorted(line, values))
