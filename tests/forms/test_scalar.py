"""Scalar expressions: interning, constructors, walking; and the NumPy meaning of each operation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kcompile.errors import CompilerBug
from kcompile.forms import numeric, scalar
from kcompile.forms.scalar import SCALAR_OPS, call, cast, const, in_range, index, load, loaded, rewrite, where
from kcompile.ir.dim import Axis, of, symbol
from kcompile.ir.types import DTYPES, bf16, boolean, f32, f64, i32, i64, u32

N = symbol("n")
I = Axis("i", N)
x = load("x0", (of(I),), f32)
y = load("x1", (of(I),), f32)
flag = load("x2", (of(I),), boolean)


def test_equal_expressions_are_one_object():
    assert call("add", x, const(1, f32)) is call("add", load("x0", (of(I),), f32), const(1.0, f32))
    assert const(0.0, f32) is not const(-0.0, f32)
    assert const(float("nan"), f32) is const(float("nan"), f32)
    assert const(1, f32) is not const(1, f64)


def test_dtypes_of_results():
    assert call("add", x, y).dtype is f32
    assert call("lt", x, y).dtype is boolean
    assert call("select", flag, x, y).dtype is f32
    assert cast(x, i32).dtype is i32 and cast(x, f32) is x


def test_mixed_dtypes_and_wrong_arity_are_bugs():
    with pytest.raises(CompilerBug, match="mixed dtypes"):
        call("add", x, const(1, f64))
    with pytest.raises(CompilerBug, match="no scalar operation add of 1"):
        call("add", x)
    with pytest.raises(CompilerBug, match="no scalar operation mish"):
        call("mish", x)
    with pytest.raises(CompilerBug, match="select"):
        call("select", x, x, y)


def test_known_conditions_choose_at_once():
    assert where(const(True, boolean), x, y) is x and where(const(False, boolean), x, y) is y
    assert call("select", const(False, boolean), x, y) is y and call("select", flag, x, x) is x


def test_in_range_leaves_out_what_always_holds():
    assert in_range(of(I), N) is const(True, boolean)
    assert repr(in_range(of(I) - 1, N)) == "index(i - 1) >= 0".replace(" - ", "-")
    assert repr(in_range(of(I) + 1, N)) == "index(i+1) < index(n)"
    assert in_range(of(I) - 2, N + 5).fn == "ge"
    assert scalar.both(const(True, boolean), flag) is flag
    assert scalar.both(flag, const(False, boolean)) is const(False, boolean)


def test_index_and_loaded_undo_each_other():
    assert loaded(index(of(I)), N) == of(I)
    assert loaded(const(3, i64), N) == 3
    place = loaded(load("x3", (of(I),), i32), 10)
    moved = rewrite(load("x0", (place,), f32), on_axis=lambda axis: 2)
    assert moved is load("x0", (loaded(load("x3", (2,), i32), 10),), f32)


def test_rewrite_replaces_axes_and_loads():
    body = call("mul", call("add", x, y), index(of(I), f32))
    moved = rewrite(body, on_load=lambda e: const(2, f32) if e.buffer == "x1" else None, on_axis=lambda a: of(I) + 1)
    expected = call("mul", call("add", load("x0", (of(I) + 1,), f32), const(2, f32)), index(of(I) + 1, f32))
    assert moved is expected


def test_rewrite_does_not_build_a_branch_that_cannot_run():
    guarded = where(in_range(of(I) - 1, N), load("x0", (of(I) - 1,), f32), const(0, f32))
    assert rewrite(guarded, on_axis=lambda axis: 3 if axis is I else None) is not const(0, f32)
    four = Axis("j", 4)
    guarded = where(call("lt", index(of(four)), index(2)), load("x0", (of(four),), f32), const(0, f32))
    seen = []
    rewrite(guarded, on_load=seen.append, on_axis=lambda axis: 3)
    assert len(seen) <= 1


def test_walk_visits_operands_first_and_once():
    shared = call("exp", x)
    order = list(scalar.walk(call("mul", shared, call("add", shared, y))))
    assert len(order) == len({id(e) for e in order}) == 5
    assert order.index(x) < order.index(shared) < len(order) - 1


def test_loads_and_axes_inside_loaded_indices_are_found():
    j = Axis("j", 7)
    table = load("x0", (loaded(load("x1", (of(j),), i32), 5), of(I)), f32)
    assert {e.buffer for e in scalar.loads(table)} == {"x0", "x1"}
    assert scalar.axes_in(table) == {I, j}


def test_cost_counts_shared_work_once():
    shared = call("exp", x)
    once, twice = scalar.cost(shared), scalar.cost(call("add", shared, shared))
    assert twice == once + 1


# NumPy meaning ---------------------------------------------------------------------------------


def test_every_scalar_operation_has_a_meaning():
    assert set(SCALAR_OPS) | {"select"} == set(numeric.NUMPY)


@pytest.mark.parametrize("row", SCALAR_OPS.values(), ids=lambda row: row.name)
def test_result_dtype(row):
    kind = {"not": np.bool_, "and": np.bool_, "or": np.bool_, "xor": np.bool_, "mulhi": np.uint32}.get(row.name)
    kind = kind or (np.int32 if row.name.startswith(("bit", "sh")) and row.name != "bits" else np.float32)
    kind = np.uint32 if row.name == "frombits" else kind
    result = numeric.apply(row.name, *(np.ones(3, kind) for _ in range(row.arity)))
    expected = {"bool": np.bool_, "bits": np.uint32, "floats": np.float32}.get(row.result, kind)
    assert result.dtype == expected and result.shape == (3,)


@pytest.mark.parametrize("name", ["erf", "erfc", "expm1", "log1p", "atanh", "cosh", "exp2", "log10"])
def test_against_the_math_module(name):
    points = np.linspace(-0.9, 0.9, 31) if name == "atanh" else np.linspace(0.05, 3, 31)
    expected = [{"exp2": lambda v: 2.0**v}.get(name, getattr(math, name, None))(v) for v in points]
    np.testing.assert_allclose(numeric.apply(name, points), expected, rtol=1e-14)


def test_erfinv_undoes_erf():
    points = np.concatenate([np.linspace(-3.5, 3.5, 57), [1e-300, -1e-8, 5.5]])
    forward = numeric.apply("erf", points)
    # near 1 the argument's own rounding moves the result: divide by erf's slope
    slope = 2 / math.sqrt(math.pi) * np.exp(-points * points)
    error = np.abs(numeric.apply("erfinv", forward) - points) * slope
    assert np.all(error <= 4 * np.finfo(float).eps * np.abs(forward))


def test_erfinv_at_the_ends():
    result = numeric.apply("erfinv", np.asarray([1, -1, 0, 1.5, np.nan, -0.0]))
    np.testing.assert_array_equal(result, [np.inf, -np.inf, 0, np.nan, np.nan, -0.0])


def test_integer_conventions():
    a = np.asarray([7, -7, 7, -7, 5, np.iinfo(np.int32).min], np.int32)
    b = np.asarray([2, 2, -2, -2, 0, -1], np.int32)
    np.testing.assert_array_equal(numeric.apply("floordiv", a, b)[:5], [3, -4, -4, 3, 0])
    np.testing.assert_array_equal(numeric.apply("mod", a, b), [1, 1, -1, -1, 0, 0])
    power = numeric.apply("pow", np.asarray([2, -1, -1, 1, 3], np.int32), np.asarray([-1, -3, -2, -9, 4], np.int32))
    np.testing.assert_array_equal(power, [0, 0, 0, 0, 81])
    assert numeric.apply("mulhi", np.uint32([2**32 - 1]), np.uint32([2**32 - 1]))[0] == 2**32 - 2


def test_nan_propagates_through_max_and_min():
    a, b = np.float32([np.nan, 1, np.nan]), np.float32([0, np.nan, np.nan])
    assert np.isnan(numeric.apply("max", a, b)).all() and np.isnan(numeric.apply("min", a, b)).all()


def test_round_is_half_to_even():
    np.testing.assert_array_equal(numeric.apply("round", np.float32([0.5, 1.5, 2.5, -0.5])), [0, 2, 2, -0.0])


@pytest.mark.parametrize("to", ["i8", "u8", "i16", "i32", "u32", "i64", "u64"])
@pytest.mark.parametrize("source", [np.float16, np.float32, np.float64])
def test_convert_truncates_and_saturates(source, to):
    limits = np.iinfo(DTYPES[to].numpy)
    with np.errstate(over="ignore"):
        values = np.asarray([3.9, -3.9, np.nan, np.inf, -np.inf, 1e30, -1e30, 0.5], np.float64).astype(source)
    expected = [3, max(-3, limits.min), 0, limits.max, limits.min, limits.max, limits.min, 0]
    if source is np.float16:
        expected[5:7] = expected[3:5]  # 1e30 is infinity there
    assert numeric.convert(values, DTYPES[to]).tolist() == expected


def test_convert_to_bool_is_not_zero():
    assert numeric.convert(np.asarray([0.5, 0.0, -0.0, np.nan]), boolean).tolist() == [True, False, False, True]


def test_convert_to_bfloat16_rounds_half_to_even():
    ulp = 2.0**-7
    values = np.float32([1 + ulp / 2, 1 + 3 * ulp / 2, 1 + ulp / 2 + 1e-5, np.inf, np.nan])
    np.testing.assert_array_equal(numeric.convert(values, bf16), np.float32([1, 1 + 2 * ulp, 1 + ulp, np.inf, np.nan]))


def test_u32_constants_wrap_as_unsigned():
    assert cast(const(7, i64), u32) is const(7, u32)
