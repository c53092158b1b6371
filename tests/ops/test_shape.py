"""Index maps of shape ops: addresses that cancel, symbolic sizes, errors."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import ops
from kcompile.errors import DTypeError, ShapeError
from kcompile.forms import interpret, verify
from kcompile.forms.compose import evaluate
from kcompile.forms.records import indices, operand
from kcompile.forms.scalar import Load
from kcompile.ir import dim
from kcompile.ir.dim import FloorDiv, symbol
from kcompile.ir.types import Type, f32, i32
from kcompile.ops.shape import reshape_groups

BATCH, TIME = symbol("batch"), symbol("time")


def divisions(form) -> int:
    """How many floor divisions an element's address takes."""
    (store,) = form.body
    assert isinstance(store.value, Load)
    return len({a for part in store.value.index for a in dim.atoms(part) if isinstance(a, FloorDiv)})


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ((BATCH, 40, 40), (BATCH, 1600), 1),  # i // 40; the remainder reuses it
        ((BATCH, 1600), (BATCH, 40, 40), 0),
        ((BATCH, 28, 28, 1), (BATCH, 28, 28), 0),
        ((BATCH, 28, 28), (BATCH, 28, 28, 1), 0),
        ((BATCH * TIME, 64), (BATCH, TIME, 64), 0),
        ((BATCH, TIME, 64), (BATCH * TIME, 64), 1),
        ((BATCH, 6), (6 * BATCH,), 1),
        ((6 * BATCH,), (BATCH, 6), 0),
        ((BATCH, TIME, 4, 16), (BATCH, TIME, 64), 1),
        ((1, BATCH), (BATCH, 1, 1), 0),
    ],
    ids=str,
)
def test_symbolic_reshape(old, new, expected):
    form = ops.reshape.lower(Type(f32, old), shape=new)
    verify.verify(form)
    assert divisions(form) <= expected
    sizes = {"batch": 3, "time": 2}
    shape = tuple(dim.evaluate(n, sizes) for n in old)
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    result = interpret.run(form, {"x0": x}, sizes)["y"]
    np.testing.assert_array_equal(result.ravel(), x.ravel())
    assert result.shape == tuple(dim.evaluate(n, sizes) for n in new)


def test_reshape_and_back_is_the_same_address():
    there = ops.reshape.lower(Type(f32, (BATCH, 40, 40)), shape=(BATCH, 1600))
    back = ops.reshape.lower(Type(f32, (BATCH, 1600)), shape=(BATCH, 40, 40))
    at = indices(back.outer)
    x = Type(f32, (BATCH, 40, 40))
    element = evaluate(back, at, lambda n, place: evaluate(there, place, lambda n, inner: operand(n, inner, x)))
    assert element is operand(0, at, x)


def test_reshape_groups_are_as_short_as_possible():
    assert reshape_groups((2, 3, 4), (6, 4)) == [(range(0, 2), range(0, 1)), (range(2, 3), range(1, 2))]
    assert reshape_groups((BATCH, 4, 5), (BATCH, 20)) == [(range(0, 1), range(0, 1)), (range(1, 3), range(1, 2))]
    assert reshape_groups((4, 6), (6, 4)) == [(range(0, 2), range(0, 2))]


def test_reshape_counts_symbolically():
    with pytest.raises(ShapeError, match=r"\(batch, 4\) holds 4\*batch elements, \(batch, 5\) holds 5\*batch"):
        ops.reshape.infer(Type(f32, (BATCH, 4)), shape=(BATCH, 5))
    with pytest.raises(ShapeError):
        ops.reshape.infer(Type(f32, (BATCH, 4)), shape=(8,))


def test_slice_of_a_symbolic_axis_is_guarded_only_where_needed():
    whole = Type(f32, (BATCH, 4))
    rest = ops.slice.lower(whole, starts=(1, 0), sizes=(BATCH - 1, 4), strides=(1, 1))
    half = ops.slice.lower(whole, starts=(0, 0), sizes=(BATCH // 2, 4), strides=(2, 1))
    first = ops.slice.lower(whole, starts=(0, 0), sizes=(3, 4), strides=(1, 1))
    for form, guarded in ((rest, False), (half, False), (first, True)):
        verify.verify(form)
        assert isinstance(form.body[0].value, Load) is not guarded
    x = np.arange(20, dtype=np.float32).reshape(5, 4)
    np.testing.assert_array_equal(interpret.run(rest, {"x0": x}, {"batch": 5})["y"], x[1:])
    np.testing.assert_array_equal(interpret.run(half, {"x0": x}, {"batch": 5})["y"], x[:4:2])
    np.testing.assert_array_equal(interpret.run(first, {"x0": x}, {"batch": 5})["y"], x[:3])


def test_concat_of_symbolic_sizes():
    form = ops.concat.lower(Type(f32, (BATCH, 2)), Type(f32, (TIME, 2)), axis=0)
    verify.verify(form)
    a, b = np.ones((3, 2), np.float32), np.full((2, 2), 5, np.float32)
    result = interpret.run(form, {"x0": a, "x1": b}, {"batch": 3, "time": 2})["y"]
    np.testing.assert_array_equal(result, np.concatenate([a, b]))


def test_padding_that_pads_nothing_has_no_condition():
    form = ops.pad.lower(Type(f32, (BATCH, 4)), low=(0, 0), high=(0, 0), interior=(0, 0), value=0)
    assert isinstance(form.body[0].value, Load)
    crop = ops.pad.lower(Type(f32, (BATCH, 4)), low=(0, -1), high=(0, -1), interior=(0, 0), value=0)
    assert isinstance(crop.body[0].value, Load)


def test_symbolic_padding_with_interior():
    form = ops.pad.lower(Type(f32, (BATCH,)), low=(1,), high=(2,), interior=(1,), value=0)
    verify.verify(form)
    result = interpret.run(form, {"x0": np.float32([1, 2, 3])}, {"batch": 3})["y"]
    np.testing.assert_array_equal(result, [0, 1, 0, 2, 0, 3, 0, 0])


def test_size_is_a_number_of_the_run():
    form = ops.size.lower(Type(f32, (BATCH, 4)), value=4 * BATCH, dtype="f32")
    result = interpret.run(form, {"x0": np.zeros((3, 4), np.float32)}, {"batch": 3})["y"]
    assert result == 12 and result.dtype == np.float32


@pytest.mark.parametrize(
    "op, attrs, message",
    [
        (ops.broadcast_to, {"shape": (2, 5)}, r"\(batch, 4\) does not broadcast to \(2, 5\)"),
        (ops.transpose, {"perm": (0, 0)}, "is not a permutation"),
        (ops.slice, {"starts": (0, 2), "sizes": (BATCH, 3), "strides": (1, 1)}, "elements 2 to 4 of axis 1"),
        (ops.slice, {"starts": (0, 0), "sizes": (BATCH, 2), "strides": (1, -1)}, "strides are positive"),
        (ops.slice, {"starts": (0,), "sizes": (1,), "strides": (1,)}, "starts has 1 entries"),
        (ops.pad, {"low": (0, -3), "high": (0, -2), "interior": (0, 0), "value": 0}, "crop more than"),
        (ops.concat, {"axis": 2}, "axis 2 is not an axis"),
        (ops.reverse, {"axes": (1, 1)}, "not distinct axes"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_errors_say_what_is_wrong(op, attrs, message):
    with pytest.raises(ShapeError, match=message):
        op.infer(Type(f32, (BATCH, 4)), **attrs)


def test_concat_wants_one_dtype_and_equal_other_sizes():
    with pytest.raises(DTypeError, match="one dtype"):
        ops.concat.infer(Type(f32, (2,)), Type(i32, (2,)), axis=0)
    with pytest.raises(ShapeError, match="differ in another dimension"):
        ops.concat.infer(Type(f32, (2, 3)), Type(f32, (2, 4)), axis=0)
