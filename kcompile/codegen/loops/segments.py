"""Cut a loop where a condition on its axis changes: pad and concat along the vectorised axis.

A comparison that is linear in the axis holds on one side of a threshold. Between thresholds every such
condition is known, so the loops need no masks, on targets that have none too.
"""

from __future__ import annotations

from functools import cmp_to_key

from kcompile.codegen.loops.flat import stride
from kcompile.forms.scalar import Call, Expr, Index, Where, walk
from kcompile.forms.scalar import Const as ConstExpr
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike

MAX_CUTS = 8  # more loops than this cost more code than masks do

# (a fn b) as: (a - b + shift < 0) == sense
_COMPARISONS = {"lt": (0, True), "le": (-1, True), "ge": (0, False), "gt": (-1, False)}


def cuts(statements, axis: Axis) -> list[tuple[DimLike, dict[Expr, bool]]]:
    """Where conditions change along `axis`, ascending: (threshold, truth of each condition below it).

    At and above its threshold a condition is the opposite. Empty if there is nothing to cut, or too much.
    """
    below: dict[DimLike, dict[Expr, bool]] = {}
    for condition in _conditions(statements):
        found = _threshold(condition, axis)
        if found is not None:
            below.setdefault(found[0], {})[condition] = found[1]
    if not below or len(below) > MAX_CUTS or not _comparable(list(below)):
        return []
    order = sorted(below, key=cmp_to_key(lambda a, b: 0 if a == b else -1 if dim.is_nonnegative(b - a) else 1))
    return [(t, below[t]) for t in order]


def _conditions(statements) -> list[Expr]:
    """The comparisons that decide a Where."""
    found: dict[Expr, None] = {}
    stack = [n.condition for n in walk(*(s.value for s in statements)) if isinstance(n, Where)]
    while stack:
        node = stack.pop()
        if isinstance(node, Call) and node.fn in ("and", "or", "not"):
            stack += node.args
        elif isinstance(node, Call) and node.fn in _COMPARISONS:
            found[node] = None
    return list(found)


def _threshold(condition: Call, axis: Axis) -> tuple[DimLike, bool] | None:
    """(t, truth for axis < t) of a comparison of two indices that is linear in the axis."""
    sides = [_index(a) for a in condition.args]
    if None in sides:
        return None
    shift, sense = _COMPARISONS[condition.fn]
    difference = sides[0] - sides[1] + shift
    step = stride(difference, axis)
    if not isinstance(step, int) or step == 0:
        return None
    rest = difference - dim.of(axis) * step
    if step > 0:  # step*v + rest < 0  <=>  v < ceil(-rest / step)
        return dim.floordiv(-rest + (step - 1), step), sense
    return dim.floordiv(rest, -step) + 1, not sense  # <=>  v > rest / -step


def _index(node: Expr) -> DimLike | None:
    if isinstance(node, Index):
        return node.value
    return node.value if isinstance(node, ConstExpr) and node.dtype.is_integer else None


def _comparable(thresholds: list[DimLike]) -> bool:
    return all(
        dim.is_nonnegative(b - a) or dim.is_nonnegative(a - b)
        for n, a in enumerate(thresholds)
        for b in thresholds[n + 1 :]
    )


def truth(condition: Expr, decided: dict[Expr, bool]) -> bool | None:
    """What a condition is, given what some comparisons are; None if that does not tell."""
    if condition in decided:
        return decided[condition]
    if not isinstance(condition, Call) or condition.fn not in ("and", "or", "not"):
        return None
    parts = [truth(a, decided) for a in condition.args]
    if condition.fn == "not":
        return None if parts[0] is None else not parts[0]
    settling = condition.fn == "or"  # one True settles an or, one False an and
    if settling in parts:
        return settling
    return None if None in parts else not settling
