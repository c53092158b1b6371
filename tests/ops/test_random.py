"""Philox against the published known answers, and the layout of counters."""

from __future__ import annotations

import numpy as np
import pytest

from kcompile import ops
from kcompile.errors import DTypeError
from kcompile.forms import interpret
from kcompile.ir.dim import symbol
from kcompile.ir.types import Type, i32, u32
from kcompile.ops.random import philox_arrays


# Known-answer vectors for philox2x32-10 that the authors distribute with Random123.
@pytest.mark.parametrize(
    "low, high, key, expected",
    [
        (0x00000000, 0x00000000, 0x00000000, (0xFF1DAE59, 0x6CD10DF2)),
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, (0x2C3F628B, 0xAB4FD7AD)),
        (0x243F6A88, 0x85A308D3, 0x13198A2E, (0xDD7CE038, 0xF62A4C12)),
    ],
)
def test_known_answers(low, high, key, expected):
    assert tuple(int(word) for word in philox_arrays(low, high, key)) == expected


def test_an_element_depends_on_seed_and_position_only():
    seed = np.uint32([7, 11])
    whole = ops.random_bits(seed, shape=(4, 5))
    np.testing.assert_array_equal(ops.random_bits(seed, shape=(20,)), whole.ravel())
    np.testing.assert_array_equal(ops.random_bits(seed, shape=(2, 5)), whole[:2])
    assert int(whole[1, 2]) == int(philox_arrays(7, 11, 7)[0])
    for other in ([8, 11], [7, 12]):
        assert np.mean(ops.random_bits(np.uint32(other), shape=(20,)) == whole.ravel()) < 0.5


def test_symbolic_shape_keeps_the_high_counter_word():
    n = symbol("n")
    form = ops.random_bits.lower(Type(u32, (2,)), shape=(n, 3))
    seed = np.uint32([1, 2])
    result = interpret.run(form, {"x0": seed}, {"n": 4})["y"]
    np.testing.assert_array_equal(result, ops.random_bits(seed, shape=(4, 3)))


def test_bits_are_balanced():
    bits = ops.random_bits(np.uint32([3, 0]), shape=(4096,))
    ones = [(bits >> np.uint32(b) & np.uint32(1)).mean() for b in range(32)]
    assert np.all(np.abs(np.asarray(ones) - 0.5) < 5 * 0.5 / np.sqrt(4096))  # five standard deviations
    assert len(np.unique(bits)) > 4090


def test_seed_type_is_checked():
    with pytest.raises(DTypeError, match=r"u32\[2\]"):
        ops.random_bits.infer(Type(i32, (2,)), shape=(3,))
