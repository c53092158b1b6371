"""The slow meaning of forms, on forms written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile.errors import CompilerBug
from kcompile.forms import interpret
from kcompile.forms.records import (
    ACC,
    IN,
    INOUT,
    LOCAL,
    OUT,
    Accumulate,
    Buffer,
    Contract,
    Loops,
    Nest,
    Store,
)
from kcompile.forms.scalar import call, cast, const, in_range, index, load, loaded, where
from kcompile.ir.dim import Axis, of, symbol
from kcompile.ir.interpret import bf16_to_f32, f32_to_bf16
from kcompile.ir.types import Type, bf16, boolean, f16, f32, i32

N = symbol("n")
I, R = Axis("i", N), Axis("r", 4)
i, r = of(I), of(R)
ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def buffer(name, role, *shape, dtype=f32):
    return Buffer(name, Type(dtype, shape), role)


def test_map_with_a_symbolic_size():
    form = Loops(
        (buffer("x", IN, N), buffer("y", OUT, N)),
        (I,),
        (Store("y", (i,), call("add", load("x", (i,), f32), index(i, f32))),),
    )
    result = interpret.run(form, {"x": np.float32([5, 5, 5])}, {"n": 3})
    np.testing.assert_array_equal(result["y"], [5, 6, 7])


def test_nest_accumulates_per_outer_point():
    form = Loops(
        (buffer("x", IN, N, 4), buffer("y", OUT, N), buffer("best", LOCAL)),
        (I,),
        (
            Nest((R,), (Accumulate("best", (), "max", load("x", (i, r), f32)),)),
            Nest((R,), (Accumulate("y", (i,), "sum", call("sub", load("x", (i, r), f32), load("best", (), f32))),)),
        ),
    )
    result = interpret.run(form, {"x": ROWS}, {"n": 3})["y"]
    np.testing.assert_array_equal(result, (ROWS - ROWS.max(1, keepdims=True)).sum(1))


def test_empty_nest_gives_the_identity():
    empty = Axis("e", 0)
    for how, expected in (("sum", 0), ("prod", 1), ("max", -np.inf), ("min", np.inf)):
        form = Loops(
            (buffer("x", IN, N, 0), buffer("y", OUT, N)),
            (I,),
            (Nest((empty,), (Accumulate("y", (i,), how, load("x", (i, of(empty)), f32)),)),),
        )
        np.testing.assert_array_equal(interpret.run(form, {"x": ROWS[:, :0]}, {"n": 3})["y"], [expected] * 3)


def test_statements_of_a_nest_run_in_order_point_by_point():
    # a running total: y[r] = total so far
    form = Loops(
        (buffer("x", IN, 4), buffer("total", LOCAL), buffer("y", OUT, 4)),
        (),
        (
            Nest(
                (R,),
                (
                    Accumulate("total", (), "sum", load("x", (r,), f32)),
                    Store("y", (r,), load("total", (), f32)),
                ),
            ),
        ),
    )
    np.testing.assert_array_equal(interpret.run(form, {"x": np.float32([1, 2, 3, 4])})["y"], [1, 3, 6, 10])


def test_stores_of_a_nest_that_overlap_keep_the_order_of_the_points():
    stores = (Store("y", (r,), index(r, f32)), Store("y", (r + 1,), const(9, f32)))
    form = Loops((buffer("y", OUT, 5),), (), (Nest((R,), stores),))
    np.testing.assert_array_equal(interpret.run(form, {})["y"], [0, 1, 2, 3, 9])


def test_store_then_scatter_adds_to_what_was_stored():
    place = loaded(load("at", (r,), i32), 3)
    c = Axis("c", 3)
    form = Loops(
        (buffer("at", IN, 4, dtype=i32), buffer("y", OUT, 3)),
        (),
        (
            Nest((c,), (Store("y", (of(c),), const(10, f32)),)),
            Nest((R,), (Accumulate("y", (place,), "sum", const(1, f32)),)),
        ),
    )
    np.testing.assert_array_equal(interpret.run(form, {"at": np.int32([0, 2, 2, 0])})["y"], [12, 10, 12])
    with pytest.raises(CompilerBug, match="leaves"):
        interpret.run(form, {"at": np.int32([0, 3, 2, 0])})


def test_where_guards_its_loads_and_only_those():
    shifted = load("x", (i - 1,), f32)
    inside = in_range(i - 1, N)
    form = Loops(
        (buffer("x", IN, N), buffer("y", OUT, N)),
        (I,),
        (Store("y", (i,), where(inside, shifted, const(-1, f32))),),
    )
    np.testing.assert_array_equal(interpret.run(form, {"x": np.float32([1, 2, 3])}, {"n": 3})["y"], [-1, 1, 2])
    negated = call("not", inside)
    wrong = Loops(form.buffers, form.outer, (Store("y", (i,), where(negated, const(-1, f32), shifted)),))
    with pytest.raises(CompilerBug, match="leaves dimension 0"):
        interpret.run(wrong, {"x": np.float32([1, 2, 3])}, {"n": 3})


def test_inout_is_read_before_it_is_written_and_inputs_stay():
    x = np.float32([1, 2, 3])
    form = Loops((buffer("w", INOUT, N),), (I,), (Store("w", (i,), call("square", load("w", (i,), f32))),))
    np.testing.assert_array_equal(interpret.run(form, {"w": x}, {"n": 3})["w"], [1, 4, 9])
    np.testing.assert_array_equal(x, [1, 2, 3])


def test_bool_accumulation():
    form = Loops(
        (buffer("x", IN, 4, dtype=boolean), buffer("y", OUT, dtype=boolean)),
        (),
        (Nest((R,), (Accumulate("y", (), "max", load("x", (r,), boolean)),)),),
    )
    assert interpret.run(form, {"x": np.asarray([0, 0, 1, 0], bool)})["y"]
    assert not interpret.run(form, {"x": np.zeros(4, bool)})["y"]


def test_an_element_never_written_is_reported():
    form = Loops((buffer("y", OUT, 8),), (R,), (Store("y", (2 * r,), const(1, f32)),))
    with pytest.raises(CompilerBug, match="4 elements of y are never written"):
        interpret.run(form, {})


def test_wrong_arrays_and_missing_sizes_are_reported():
    form = Loops((buffer("x", IN, N), buffer("y", OUT, N)), (I,), (Store("y", (i,), load("x", (i,), f32)),))
    with pytest.raises(CompilerBug, match="x is f32"):
        interpret.run(form, {"x": np.zeros(3)}, {"n": 3})
    with pytest.raises(CompilerBug, match="'n' has no value"):
        interpret.run(form, {"x": np.zeros(3, np.float32)})


def test_contract_sums_in_its_own_dtype_and_runs_the_epilogue():
    k = Axis("k", 3)
    j = Axis("j", 2)
    form = Contract(
        (buffer("a", IN, N, 3, dtype=f16), buffer("b", IN, 3, 2, dtype=f16), buffer("y", OUT, N, 2, dtype=f16)),
        (I, j),
        (k,),
        load("a", (i, of(k)), f16),
        load("b", (of(k), of(j)), f16),
        (Store("y", (i, of(j)), cast(call("max", load(ACC, (), f32), const(0, f32)), f16)),),
        f32,
    )
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)).astype(np.float16), rng.normal(size=(3, 2)).astype(np.float16)
    result = interpret.run(form, {"a": a, "b": b}, {"n": 4})["y"]
    expected = np.maximum(a.astype(np.float32) @ b.astype(np.float32), 0).astype(np.float16)
    np.testing.assert_array_equal(result, expected)


def test_bfloat16_is_rounded_after_every_step():
    x = load("x", (r,), bf16)
    form = Loops(
        (buffer("x", IN, 4, dtype=bf16), buffer("y", OUT, 4, dtype=bf16)),
        (R,),
        (Store("y", (r,), call("sub", call("add", x, const(256, bf16)), const(256, bf16))),),
    )
    bits = f32_to_bf16(np.float32([1, 2, 3, 0.5]))  # at 256 bfloat16 counts in steps of 2
    np.testing.assert_array_equal(bf16_to_f32(interpret.run(form, {"x": bits})["y"]), [0, 2, 4, 0])


def test_stores_to_one_inout_buffer_that_follow_each_other_are_one_assignment():
    left, right = load("x", (i, 0), f32), load("x", (i, 1), f32)
    form = Loops((buffer("x", INOUT, N, 2),), (I,), (Store("x", (i, 0), right), Store("x", (i, 1), left)))
    result = interpret.run(form, {"x": np.float32([[1, 2], [3, 4]])}, {"n": 2})
    np.testing.assert_array_equal(result["x"], [[2, 1], [4, 3]])
