"""Promotion is that of real Keras, as a table over all pairs of dtypes."""

import itertools

import numpy as np
import pytest

from kcompile.errors import DTypeError
from kcompile.keras.tracing.dtypes import result_type, standardize_dtype

NARROW = ["bool", "uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "bfloat16", "float32"]


PAIRS = list(itertools.combinations_with_replacement([*NARROW, int, float], 2))


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_pairs_as_keras(pair, real_keras):
    expected = real_keras.backend.result_type(*pair)
    if pair in (("uint32", "int8"), ("uint32", "int16"), ("uint32", "int32")):
        expected = "int64"  # JAX as Keras runs it has no 64-bit integers
    assert result_type(*pair) == expected
    assert result_type(*reversed(pair)) == expected


@pytest.mark.parametrize(
    "dtypes, expected",
    [
        (("int64", "float32"), "float32"),
        (("int64", float), "float32"),
        (("int64", "float16"), "float16"),
        (("uint64", "int8"), "float32"),
        (("float32", "float64"), "float64"),
        (("float16", "bfloat16", "float16"), "float32"),
        ((bool, int), "int32"),
        (("int8", int), "int8"),
    ],
)
def test_what_is_not_in_the_table(dtypes, expected):
    assert result_type(*dtypes) == expected


def test_spellings():
    assert standardize_dtype(None) == "float32"
    assert standardize_dtype(np.float64) == standardize_dtype("f64") == "float64"
    assert standardize_dtype(np.dtype("uint8")) == "uint8"
    assert standardize_dtype(float) == "float32"
    with pytest.raises(DTypeError, match="unknown dtype"):
        standardize_dtype("float31")
