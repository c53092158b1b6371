"""One loop over lanes for each outcome of the conditions that do not change along the lanes.

Interpolation, padding and concatenation along a row axis ask for every row which piece it lies in. Asked inside the
loop over lanes, the answers turn plain loads into masked or gathered ones. So the rows branch first:

    for every row:  if i < 1: lanes of the first piece, no condition left;  else: lanes of the second

A comparison and its opposite are one question, what an answer implies is none, and neither is what it makes
unreachable: rows put together from three pieces each way are nine versions.

What is computed from many elements of a border (the transform of a tile) stays one loop: beside its arithmetic the
masked loads cost nothing that can be measured, and a copy for each answer is most of the program's code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kcompile.codegen.loops.conditions import sides
from kcompile.codegen.loops.flat import mentions
from kcompile.codegen.loops.segments import conditions_of, truth
from kcompile.forms.scalar import Call, Expr, Where, call, cast, walk, where
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, Loaded

MOST_VERSIONS = 32
MOST_NODES = 512  # expressions in all versions together
MOST_NODES_ALONG = 2048  # ... where points share a loop, and with it what they read: most of it is not written again
LEAST_LANES = 8  # shorter loops are written out: a branch per row costs as much as they do


@dataclass(frozen=True)
class Choice:
    """Versions for when a condition holds, and for when it does not."""

    condition: Expr
    then: Choice | tuple
    otherwise: Choice | tuple


def versions(statements: tuple, lane: Axis, *, along: Axis | None = None) -> Choice | tuple:
    """The statements with what rows decide decided: a tree of choices; as they are if there is nothing or too much.

    along: an axis of points that go through one version together; what depends on it is not asked.
    """
    if along is None and dim.is_static(lane.extent) and lane.extent < LEAST_LANES:
        return statements
    inside, nodes = ((lane,), MOST_NODES) if along is None else ((lane, along), MOST_NODES_ALONG)
    found = _tree(statements, inside, MOST_VERSIONS, nodes)
    return statements if found is None else found


def _tree(statements: tuple, inside: tuple[Axis, ...], most: int, nodes: int) -> Choice | tuple | None:
    """None if there are more than `most` versions, or more than so many nodes in them."""
    if _nodes(statements) > nodes:  # what an answer settles can make them fewer, seldom by much
        return None
    questions = {c: found for c in conditions_of(statements) if (found := _question(c, inside)) is not None}
    if not questions:
        return statements
    if most < 2:
        return None
    condition, (asked, sense) = next(iter(questions.items()))
    branches = []
    for holds in (True, False):
        decided = _implied(questions, asked, holds == sense)
        left = most - (_count(branches[0]) if branches else 1)
        branch = _tree(settled(statements, decided), inside, left, nodes)
        if branch is None:
            return None
        nodes -= _size(branch)
        branches.append(branch)
    return Choice(condition, *branches)


def _implied(questions: dict[Expr, tuple[DimLike, bool]], asked: DimLike, is_negative: bool) -> dict[Expr, bool]:
    """What is known of the questions where `asked` is negative, or is not: the same of all that lies beyond it."""
    decided = {}
    for condition, (difference, sense) in questions.items():
        further = difference - asked
        if dim.is_static(further) and (further <= 0 if is_negative else further >= 0):
            decided[condition] = is_negative == sense
    return decided


def _count(tree: Choice | tuple) -> int:
    return _count(tree.then) + _count(tree.otherwise) if isinstance(tree, Choice) else 1


def _size(tree: Choice | tuple) -> int:
    return _size(tree.then) + _size(tree.otherwise) if isinstance(tree, Choice) else _nodes(tree)


def _nodes(statements: tuple) -> int:
    return sum(1 for _ in walk(*(s.value for s in statements)))


def _question(condition: Expr, inside: tuple[Axis, ...]) -> tuple[DimLike, bool] | None:
    """(d, sense) of a comparison (d < 0) == sense that sizes and row axes decide."""
    found = sides(condition)
    if (
        found is None
        or any(mentions(found[0], a) for a in inside)
        or any(isinstance(a, Loaded) for a in dim.atoms(found[0]))
    ):
        return None
    return found


def settled(statements: tuple, decided: dict[Expr, bool]) -> tuple:
    """The statements with only the branches that are taken where some conditions are known."""
    memo: dict[Expr, Expr] = {}
    return tuple(replace(s, value=_without(s.value, decided, memo)) for s in statements)


def _open_part(condition: Expr, decided: dict[Expr, bool]) -> Expr:
    """A condition that is not decided, without the side of it that is: it would be asked for again."""
    if isinstance(condition, Call) and condition.fn in ("and", "or", "not"):
        sides_left = [_open_part(a, decided) for a in condition.args if truth(a, decided) is None]
        return sides_left[0] if len(sides_left) < len(condition.args) else call(condition.fn, *sides_left)
    return condition


def _without(e: Expr, decided: dict[Expr, bool], memo: dict[Expr, Expr]) -> Expr:
    """The expression with only the branches that are taken."""
    if e in memo:
        return memo[e]
    new = e
    if isinstance(e, Where):
        known = truth(e.condition, decided)
        if known is None:
            parts = (_without(a, decided, memo) for a in (e.inside, e.outside))
            new = where(_open_part(e.condition, decided), *parts)
        else:
            new = _without(e.inside if known else e.outside, decided, memo)
    elif isinstance(e, Call):
        args = [_without(a, decided, memo) for a in e.args]
        if any(a is not b for a, b in zip(args, e.args)):
            new = cast(args[0], e.dtype) if e.fn == "cast" else call(e.fn, *args)
    memo[e] = new
    return new
