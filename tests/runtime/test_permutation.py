"""Orders of rows: each a permutation, given by the seed, every one as likely as every other."""

import numpy as np
import pytest

from kcompile.codegen.permute import FIRST, GOLDEN, SECOND
from kcompile.runtime import permutation

MASK = 2**64 - 1


def drawn(n: int, seed: int) -> np.ndarray:
    order = np.full(n, -1, np.int64)
    permutation.fill_permutation(order, np.random.default_rng(seed))
    return order


def reference(n: int, seed: int) -> list[int]:
    order: list[int] = []
    for i in range(n):
        z = seed = (seed + GOLDEN) & MASK
        z = ((z ^ (z >> 30)) * FIRST) & MASK
        z = ((z ^ (z >> 27)) * SECOND) & MASK
        j = ((z ^ (z >> 31)) * (i + 1)) >> 64
        order.append(order[j] if j < i else i)
        order[j] = i
    return order


@pytest.mark.parametrize("n", [0, 1, 2, 31, 2048, 2049, 5000])
def test_every_row_once_and_the_same_for_the_same_seed(n):
    order = drawn(n, seed=3)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    np.testing.assert_array_equal(order, drawn(n, seed=3))
    if n > 30:
        assert (order != drawn(n, seed=4)).any()


def test_the_native_shuffle_is_that_of_the_papers():
    for n, seed in ((0, 1), (1, 5), (2, -7), (700, 2**63 - 1)):
        order = np.empty(n, np.int64)
        permutation._permute()(order.ctypes.data, n, seed)
        assert order.tolist() == reference(n, seed & MASK)


def test_all_orders_of_three_rows_are_about_equally_likely():
    counts = dict.fromkeys([(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)], 0)
    seeds = np.random.default_rng(0).integers(-(2**63), 2**63, 6000)
    order = np.empty(3, np.int64)
    for seed in seeds:
        permutation._permute()(order.ctypes.data, 3, int(seed))
        counts[tuple(order.tolist())] += 1
    assert max(abs(n - 1000) for n in counts.values()) < 150  # five standard deviations
