"""DType, Type and broadcasting."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile.errors import DTypeError, ShapeError
from kcompile.ir.dim import symbol
from kcompile.ir.types import DTYPES, Type, bf16, boolean, broadcast_shapes, dtype, f32, i32


@pytest.mark.parametrize("row", DTYPES.values(), ids=str)
def test_each_dtype_is_found_by_all_its_names(row):
    assert dtype(row.name) is row and dtype(row.keras) is row and dtype(row) is row
    if row is not bf16:
        assert dtype(row.numpy) is row and dtype(row.numpy.type) is row
        assert row.numpy.itemsize == row.size_bytes


def test_bfloat16_has_no_numpy_dtype():
    with pytest.raises(DTypeError, match="NumPy has no bfloat16"):
        _ = bf16.numpy


def test_an_unknown_dtype_is_named():
    with pytest.raises(DTypeError, match="complex64"):
        dtype(np.complex64)
    with pytest.raises(DTypeError, match="'float31'"):
        dtype("float31")


def test_categories():
    assert f32.is_float and not f32.is_integer
    assert i32.is_integer and not boolean.is_integer and not boolean.is_float


def test_type_of_symbolic_shape():
    n = symbol("batch")
    t = Type(f32, [n, 3])
    assert t.shape == (n, 3) and t.rank == 2 and t.size == 3 * n and t.nbytes == 12 * n
    assert not t.is_static and t.with_shape((2,)).is_static
    assert str(t) == "f32[batch,3]" and str(Type(f32, (2 * n - 1,))) == "f32[2*batch-1]"
    assert t == Type(f32, (n, 3)) and hash(t) == hash(Type(f32, (n, 3))) and t != t.with_dtype(i32)


@pytest.mark.parametrize(
    "shapes", [((3, 1), (1, 4)), ((), (2,)), ((5,), (2, 1)), ((1,), (0,)), ((2, 3), (2, 3), (3,))], ids=str
)
def test_broadcast_agrees_with_numpy(shapes):
    assert broadcast_shapes(*shapes) == np.broadcast_shapes(*shapes)


def test_symbolic_sizes_meet_themselves_or_one():
    n, m = symbol("n"), symbol("m")
    assert broadcast_shapes((n, 1), (1, m)) == (n, m)
    assert broadcast_shapes((n, 3), (n, 1)) == (n, 3)
    for other in (m, 2, n + 1):
        with pytest.raises(ShapeError, match="do not broadcast: n against"):
            broadcast_shapes((n,), (other,))


def test_a_dtype_equals_its_keras_name_and_numpys():
    assert f32 == "float32" and f32 == np.float32 and f32 == np.dtype("float32") and f32 in ("float16", "float32")
    assert f32 != "float64" and f32 != np.float64 and f32 != "f32" and f32 != 4 and bf16 == "bfloat16"
    assert {f32: 1}["float32"] == 1 and "float32" in {f32}
