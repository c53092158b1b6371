"""Rows that decide conditions before their lanes do: which versions there are, and that each is right."""

import pytest

from kcompile.codegen.loops.versions import MOST_NODES, MOST_VERSIONS, Choice, versions
from kcompile.forms.records import IN, OUT, Buffer, Loops, Store, axes_for
from kcompile.forms.scalar import Where, call, const, in_range, index, load, walk, where
from kcompile.ir.dim import of
from kcompile.ir.types import Type, f32
from tests.codegen.loops.kernels import check


def leaves(tree) -> list[tuple]:
    return leaves(tree.then) + leaves(tree.otherwise) if isinstance(tree, Choice) else [tree]


def conditions_left(tree) -> int:
    return sum(isinstance(n, Where) for leaf in leaves(tree) for s in leaf for n in walk(s.value))


def pieces(place, end: int, inside, outside):
    """As a concat of two: each piece states its whole range."""
    last = where(call("ge", index(place - end), index(0)), outside, const(0, f32))
    return where(call("lt", index(place), index(end)), inside, last)


def interpolated(rows: int, lanes: int):
    """y[2i + p, c]: three quarters of row i and a quarter of the one before or behind, edges repeated."""
    i, p, c = axes_for((rows, 2, lanes))
    here = load("x", (of(i) * lanes + of(c),), f32)
    first, last = (load("x", (n * lanes + of(c),), f32) for n in (0, rows - 1))
    above, below = (load("x", ((of(i) + n) * lanes + of(c),), f32) for n in (-1, 1))
    before = pieces(of(i), 1, first, above)
    behind = pieces(of(i), rows - 1, below, last)
    other = pieces(of(p), 1, before, behind)
    value = call("add", call("mul", here, const(0.75, f32)), call("mul", other, const(0.25, f32)))
    store = Store("y", ((of(i) * 2 + of(p)) * lanes + of(c),), value)
    sizes = Type(f32, (rows * lanes,)), Type(f32, (2 * rows * lanes,))
    return (i, p, c), store, sizes


@pytest.mark.parametrize(("rows", "lanes"), [(5, 24), (1, 17), (3, 3)])
def test_interpolation_branches_by_row(rows, lanes):
    axes, store, (small, large) = interpolated(rows, lanes)
    tree = versions((store,), axes[-1])
    if lanes >= 8:  # a phase is one question, and each phase has one edge
        assert len(leaves(tree)) == 4 and conditions_left(tree) == 0
    else:
        assert tree == (store,)
    check(Loops((Buffer("x", small, IN), Buffer("y", large, OUT)), axes, (store,)), guarded=True)


def test_what_an_answer_implies_is_not_asked():
    """Rows of three pieces each way, every piece stating its range: nine versions."""
    y, x, c = axes_for((3, 3, 24))

    def three(place, parts):
        late = where(call("ge", index(place - 2), index(0)), parts[2], const(0, f32))
        middle = call("and", call("ge", index(place - 1), index(0)), call("lt", index(place - 1), index(1)))
        return where(call("lt", index(place), index(1)), parts[0], where(middle, parts[1], late))

    loads = [[load("x", ((3 * n + m) * 24 + of(c),), f32) for m in (2, 0, 1)] for n in (1, 2, 0)]
    store = Store("y", ((of(y) * 3 + of(x)) * 24 + of(c),), three(of(y), [three(of(x), row) for row in loads]))
    tree = versions((store,), c)
    assert len(leaves(tree)) == 9 and conditions_left(tree) == 0
    size = Type(f32, (9 * 24,))
    check(Loops((Buffer("x", size, IN), Buffer("y", size, OUT)), (y, x, c), (store,)), guarded=True)


def test_too_many_versions_are_none():
    i, c = axes_for((40, 16))
    zero = const(0, f32)
    terms = [where(in_range(of(i) - n, 40), load("x", ((of(i) - n) * 16 + of(c),), f32), zero) for n in range(1, 18)]
    total = terms[0]
    for t in terms[1:]:
        total = call("add", total, t)
    store = Store("y", (of(i) * 16 + of(c),), total)
    assert len(leaves(versions((store,), c))) <= MOST_VERSIONS
    flat = Type(f32, (640,))
    check(Loops((Buffer("x", flat, IN), Buffer("y", flat, OUT)), (i, c), (store,)), guarded=True)


def nodes(statements) -> int:
    return sum(1 for s in statements for _ in walk(s.value))


@pytest.mark.parametrize(("width", "is_copied"), [(2, True), (60, False)])
def test_large_bodies_are_not_copied_for_their_border(width, is_copied):
    """Sums over a window with a border above and below: versions share a budget of expressions."""
    i, c = axes_for((6, 16))
    total = const(0, f32)
    for n in range(width):
        for step in (-1, 1):
            x = where(in_range(of(i) + step, 6), load("x", ((of(i) + step) * 16 + of(c),), f32), const(0, f32))
            total = call("add", total, call("mul", x, const(1 + n, f32)))
    store = Store("y", (of(i) * 16 + of(c),), total)
    found = leaves(versions((store,), c))
    assert (len(found) > 1) == is_copied and (not is_copied or sum(map(nodes, found)) <= MOST_NODES)
    flat = Type(f32, (96,))
    check(Loops((Buffer("x", flat, IN), Buffer("y", flat, OUT)), (i, c), (store,)), guarded=True)
