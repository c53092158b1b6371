"""Cut a loop where a condition on its axis changes: pad and concat along the vectorised axis.

A comparison that is linear in the axis holds on one side of a threshold. Between thresholds every such
condition is known, so the loops need no masks, on targets that have none too.
"""

from __future__ import annotations

from functools import cmp_to_key

from kcompile.codegen.loops.conditions import COMPARISONS, sides
from kcompile.codegen.loops.flat import stride
from kcompile.forms.scalar import Call, Expr, Where, walk
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike

MAX_CUTS = 8  # more loops than this cost more code than masks do


def cuts(statements, axis: Axis) -> list[tuple[DimLike, dict[Expr, bool]]]:
    """Where conditions change along `axis`, ascending: (threshold, truth of each condition below it).

    At and above its threshold a condition is the opposite. Empty if there is nothing to cut, or too much.
    """
    below: dict[DimLike, dict[Expr, bool]] = {}
    for condition in conditions_of(statements):
        found = _threshold(condition, axis)
        if found is not None:
            below.setdefault(found[0], {})[condition] = found[1]
    inside = [t for t in below if not (_never_negative(-t) or _never_negative(t - axis.extent))]
    if not below or len(inside) > MAX_CUTS or not _comparable(list(below)):
        return []
    order = sorted(below, key=cmp_to_key(lambda a, b: 0 if a == b else -1 if _never_negative(b - a) else 1))
    return [(t, below[t]) for t in order]


def conditions_of(statements) -> list[Expr]:
    """The comparisons that decide a Where."""
    found: dict[Expr, None] = {}
    stack = [n.condition for n in walk(*(s.value for s in statements)) if isinstance(n, Where)]
    seen: set[Expr] = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, Call) and node.fn in ("and", "or", "not"):
            stack += node.args
        elif isinstance(node, Call) and node.fn in COMPARISONS:
            found[node] = None
    return list(found)


def _threshold(condition: Call, axis: Axis) -> tuple[DimLike, bool] | None:
    """(t, truth for axis < t) of a comparison of two indices that is linear in the axis."""
    found = sides(condition)
    if found is None:
        return None
    difference, sense = found
    step = stride(difference, axis)
    if not isinstance(step, int) or step == 0:
        return None
    rest = difference - dim.of(axis) * step
    if step > 0:  # step*v + rest < 0  <=>  v < ceil(-rest / step)
        return dim.floordiv(-rest + (step - 1), step), sense
    return dim.floordiv(rest, -step) + 1, not sense  # <=>  v > rest / -step


def _comparable(thresholds: list[DimLike]) -> bool:
    pairs = [(a, b) for n, a in enumerate(thresholds) for b in thresholds[n + 1 :]]
    return all(_never_negative(b - a) or _never_negative(a - b) for a, b in pairs)


def _never_negative(value: DimLike) -> bool:
    """True if value >= 0 for all sizes, 0 included."""
    low = dim.bounds(value)[0]
    if not isinstance(low, dim.Dim):
        return low is not None and low >= 0
    return all(c >= 0 and all(isinstance(a, dim.Symbol) for a in m) for m, c in low.terms.items())


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
