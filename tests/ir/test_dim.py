"""Dims against plain integers: random expressions over axes and sizes, evaluated at every point."""

from __future__ import annotations

import itertools
import random

import pytest

from kcompile.errors import CompilerBug
from kcompile.ir import dim
from kcompile.ir.dim import NOMINAL_SIZE, Axis, Dim, FloorDiv, Symbol, assuming, nominal, of, symbol

N, M = symbol("n"), symbol("m")
AXES = (Axis("i", 6), Axis("j", 4), Axis("k", N), Axis("l", 4 * M))
SIZES = [{"n": 1, "m": 1}, {"n": 3, "m": 2}, {"n": 5, "m": 1}]


def value_at(value, point, sizes) -> int:
    """What `value` is for axis values `point`: an evaluator that shares no code with ir/dim.py."""
    if not isinstance(value, Dim):
        return value
    total = 0
    for monomial, coefficient in value.terms.items():
        for atom in monomial:
            if isinstance(atom, Symbol):
                coefficient *= sizes[atom.name]
            elif isinstance(atom, Axis):
                coefficient *= point[atom.name]
            else:
                coefficient *= value_at(atom.numerator, point, sizes) // value_at(atom.denominator, point, sizes)
        total += coefficient
    return total


def points():
    for sizes in SIZES:
        extents = [range(value_at(a.extent, {}, sizes)) for a in AXES]
        for places in itertools.product(*extents):
            yield dict(zip([a.name for a in AXES], places)), sizes


def random_pair(rng: random.Random, depth: int):
    """A Dim and a function that computes the same with Python's integers."""
    if depth == 0:
        kind = rng.randrange(6)
        if kind == 0:
            number = rng.randrange(-6, 13)
            return number, lambda p, s: number
        if kind == 1:
            size = rng.choice([N, M])
            return size, lambda p, s, name=str(size): s[name]
        axis = rng.choice(AXES)
        return of(axis), lambda p, s: p[axis.name]
    left, left_at = random_pair(rng, depth - 1)
    right, right_at = random_pair(rng, rng.randrange(depth))
    kind = rng.choice("+-*/%+/%")
    if kind == "+":
        return left + right, lambda p, s: left_at(p, s) + right_at(p, s)
    if kind == "-":
        return left - right, lambda p, s: left_at(p, s) - right_at(p, s)
    if kind == "*":
        factor = rng.choice([2, 3, 6, N])
        at = (lambda p, s: s["n"]) if factor is N else (lambda p, s: factor)
        return left * factor, lambda p, s: left_at(p, s) * at(p, s)
    divisor, divisor_at = rng.choice(
        [(d, lambda p, s, d=d: d) for d in (2, 3, 4, 6, 12)]
        + [(N, lambda p, s: s["n"]), (2 * M, lambda p, s: 2 * s["m"]), (N * M, lambda p, s: s["n"] * s["m"])]
    )
    if kind == "/":
        return left // divisor, lambda p, s: left_at(p, s) // divisor_at(p, s)
    return left % divisor, lambda p, s: left_at(p, s) % divisor_at(p, s)


@pytest.mark.parametrize("seed", range(150))
def test_random_expressions_keep_their_value_and_their_bounds(seed: int):
    rng = random.Random(seed)
    value, at = random_pair(rng, rng.randrange(1, 5))
    low, high = dim.bounds(value)
    nonnegative = dim.is_nonnegative(value)
    for point, sizes in points():
        expected = at(point, sizes)
        assert value_at(value, point, sizes) == expected, f"{value} at {point}, {sizes}"
        assert low is None or value_at(low, {}, sizes) <= expected, f"{value} >= {low} fails at {point}, {sizes}"
        assert high is None or expected <= value_at(high, {}, sizes), f"{value} <= {high} fails at {point}, {sizes}"
        assert not nonnegative or expected >= 0, f"{value} >= 0 fails at {point}, {sizes}"


@pytest.mark.parametrize("seed", range(40))
def test_substituting_numbers_for_axes_gives_the_same_as_evaluating(seed: int):
    rng = random.Random(1000 + seed)
    value, at = random_pair(rng, 3)
    for point, sizes in list(points())[::17]:
        bound = dim.substitute(value, lambda a, point=point: point.get(a.name) if isinstance(a, Axis) else None)
        assert dim.evaluate(bound, sizes) == at(point, sizes)


def test_splitting_and_joining_an_index_cancels():
    i = of(Axis("i", 4 * 6 * N))
    outer, inner = i // 6, i % 6
    assert 6 * outer + inner == i
    assert i // 12 == (i // 6) // 2
    assert N * (i // N) + i % N == i


def test_joining_and_splitting_an_index_cancels():
    b, t, c = (of(Axis(name, size)) for name, size in (("b", N), ("t", M), ("c", 5)))
    flat = (b * M + t) * 5 + c
    assert flat // (5 * M) == b
    assert flat // 5 == b * M + t
    assert (flat // 5) % M == t
    assert flat % 5 == c


def test_remainders_lie_below_their_divisor():
    i = of(Axis("i", 12 * N))
    assert dim.bounds(i % 6) == (0, 5)
    assert dim.bounds(i // 6 - 2 * (i // 12)) == (0, 1)
    assert dim.bounds(64 * (i % N) + 3) == (3, 64 * N - 61)
    assert (i % 6) // 6 == 0


def test_bounds_see_terms_that_cancel_inside_a_floor_division():
    row, column = of(Axis("row", 4)), of(Axis("column", 12))
    index = (12 * (3 - row) + column) // 16  # a (4, 12) value read backwards as (3, 16): 2 - row + (4*row + ...)//16
    assert dim.bounds(index) == (0, 2)


def test_an_axis_over_a_rounded_up_half_stays_inside_it():
    half = (N + 1) // 2
    assert dim.bounds(half - 1 - of(Axis("i", half))) == (0, half - 1)


def test_constants_are_plain_integers():
    assert N - N == 0 and isinstance(N - N, int)
    assert (2 * N) // N == 2 and isinstance((2 * N) // N, int)
    assert dim.is_static(N - N + 3) and not dim.is_static(N)
    assert of(Axis("i", 1)) == 0


def test_nonnegative_uses_that_sizes_are_at_least_one():
    assert dim.is_nonnegative(N - 1)
    assert not dim.is_nonnegative(N - 2)
    assert dim.is_nonnegative(N * M - N)
    assert dim.is_nonnegative(N - N // 2)
    assert dim.is_nonnegative(N - 2 * (N // 2))
    assert not dim.is_nonnegative(-1 * N)


def test_symbols_and_atoms():
    i = of(Axis("i", 3 * N))
    assert dim.symbols(i // M) == {"n", "m"}
    assert {type(a) for a in dim.atoms(i // M)} == {Axis, FloorDiv, Symbol}
    assert dim.has_axes(i + 1) and not dim.has_axes(N)


def test_coefficient_of_a_linear_axis():
    axis = Axis("i", 8)
    assert dim.coefficient_of(3 * of(axis) + N * of(axis) + 1, axis) == N + 3
    with pytest.raises(CompilerBug, match="not linear"):
        dim.coefficient_of(of(axis) * of(axis), axis)


def test_a_size_has_no_number_before_the_run():
    with pytest.raises(TypeError, match="only known when the program runs"):
        range(N)
    with pytest.raises(CompilerBug, match="'n' has no value"):
        dim.evaluate(N + 1, {})


def test_text_is_stable():
    assert str(2 * N * M - 3 * N + 1) == "2*m*n - 3*n + 1"
    assert str(-1 * N) == "-n"


def test_what_named_sizes_count_as():
    size = 3 * symbol("batch") + 1
    assert nominal(size) == 3 * NOMINAL_SIZE + 1
    with assuming(2):
        assert nominal(size) == 7
    assert nominal(size) == 3 * NOMINAL_SIZE + 1 and nominal(5) == 5
