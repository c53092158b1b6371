"""Random contractions: any mix of axes, orders, windows, named sizes and dtypes, against NumPy."""

import random

import pytest

from kcompile.ir.dim import symbol
from tests.codegen.contract.check import check

SIZES = (1, 2, 3, 5, 8, 13, 16, 17, 33, 40)


def draw(seed: int):
    """Return (spec, sizes, values of the named sizes, dtype)."""
    rng = random.Random(seed)
    letters = iter("abcdefgh")
    parts = [[next(letters) for _ in range(rng.choice(counts))] for counts in ((0, 0, 1, 2), *[(0, 1, 1, 2)] * 3)]
    batch, m, n, k = parts
    sizes, actual = {}, {}
    for letter in (*batch, *m, *n, *k):
        sizes[letter] = rng.choice(SIZES)
        if rng.random() < 0.25:
            sizes[letter] = symbol(f"s{letter}")
            actual[f"s{letter}"] = rng.choice((0, 1, 2, 5, 16, 31))
    sides = [batch + m + k, batch + n + k, batch + m + n]
    for side in sides:
        rng.shuffle(side)
    lhs, rhs, out = sides
    if m and k and rng.random() < 0.5:  # a window: one axis of m and one of k share a dimension
        row, step = rng.choice(m), rng.choice(k)
        window = f"{row}*{rng.choice((1, 2, 3))}+{step}*{rng.choice((1, 2))}"
        lhs = [window if c == row else c for c in lhs if c != step]
        for letter in (row, step):  # of size 0 the dimension would not be a window
            if f"s{letter}" in actual:
                actual[f"s{letter}"] = max(1, actual[f"s{letter}"])
    spec = f"{','.join(lhs)};{','.join(rhs)}->{','.join(out)}"
    return spec, sizes, actual, rng.choice(("f32", "f32", "f64", "i32"))


@pytest.mark.parametrize("seed", range(40))
def test_random_contraction(seed):
    spec, sizes, actual, kind = draw(seed)
    check(spec, sizes, actual, kind)
