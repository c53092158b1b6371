"""gather and scatter_add beyond the samples: errors, clamping, repeated rows; pack's gaps."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import ops
from kcompile.errors import DTypeError, ShapeError
from kcompile.forms import interpret, verify
from kcompile.ir.dim import symbol
from kcompile.ir.types import Type, f32, f64, i32
from kcompile.ops.pack import gaps

N = symbol("n")


def test_gather_with_a_symbolic_count_clamps():
    form = ops.gather.lower(Type(f32, (10, 2)), Type(i32, (N,)), axis=0)
    verify.verify(form)
    table = np.arange(20, dtype=np.float32).reshape(10, 2)
    places = np.int32([3, -5, 99])
    result = interpret.run(form, {"x0": table, "x1": places}, {"n": 3})["y"]
    np.testing.assert_array_equal(result, table[[3, 0, 9]])
    np.testing.assert_array_equal(result, ops.gather(table, places, axis=0))


def test_scatter_add_with_a_symbolic_count_adds_repeats():
    form = ops.scatter_add.lower(Type(f32, (4, 2)), Type(i32, (N,)), Type(f32, (N, 2)))
    verify.verify(form)
    updates = np.float32([[1, 2], [3, 4], [5, 6]])
    arrays = {"x0": np.ones((4, 2), np.float32), "x1": np.int32([1, 3, 1]), "x2": updates}
    np.testing.assert_array_equal(interpret.run(form, arrays, {"n": 3})["y"], [[1, 1], [7, 9], [1, 1], [4, 5]])


def test_errors_say_what_is_wrong():
    with pytest.raises(DTypeError, match="integer indices"):
        ops.gather.infer(Type(f32, (3,)), Type(f32, (2,)), axis=0)
    with pytest.raises(ShapeError, match="axis 1 is not an axis"):
        ops.gather.infer(Type(f32, (3,)), Type(i32, (2,)), axis=1)
    with pytest.raises(ShapeError, match="has no elements"):
        ops.gather.infer(Type(f32, (0,)), Type(i32, (2,)), axis=0)
    with pytest.raises(ShapeError, match="need updates of shape"):
        ops.scatter_add.infer(Type(f32, (3, 2)), Type(i32, (4,)), Type(f32, (4, 3)))
    with pytest.raises(DTypeError, match="one dtype"):
        ops.scatter_add.infer(Type(f32, (3, 2)), Type(i32, (4,)), Type(f64, (4, 2)))
    with pytest.raises(ShapeError, match="axis 2 is not an axis"):
        ops.iota.infer(Type(f32, ()), shape=(2, 3), axis=2, dtype="i32")


def test_gaps_are_what_no_operand_covers():
    assert gaps([3, 1, 2], (2, 8, 16), 20) == [(0, 2), (5, 3), (9, 7), (18, 2)]
    assert gaps([4], (0,), 4) == []


def test_overlapping_operands_are_refused():
    for offsets, size in (((0, 2), 10), ((0, 8), 10)):
        with pytest.raises(ShapeError, match="pack: operands overlap"):
            ops.pack.infer(Type(f32, (3,)), Type(f32, (3,)), offsets=offsets, size=size)
