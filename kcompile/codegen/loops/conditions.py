"""Comparisons of indices in their simplest form: a floor division compared is its numerator compared.

    x // k + r < 0   <=>   x + k*r < 0          (x // k < m is x < k*m for whole m)

So that merging two axes of a padded array leaves conditions that are linear in the merged one.
"""

from __future__ import annotations

from kcompile.forms.scalar import Call, Const, Expr, Index, Where, call, cast, index, where
from kcompile.ir import dim
from kcompile.ir.dim import Axis, Dim, DimLike, FloorDiv

# (a fn b) as: (a - b + shift < 0) == sense
COMPARISONS = {"lt": (0, True), "le": (-1, True), "ge": (0, False), "gt": (-1, False)}


def sides(condition: Expr) -> tuple[DimLike, bool] | None:
    """(d, sense) where the condition says (d < 0) == sense; None if it does not compare indices."""
    if not isinstance(condition, Call) or condition.fn not in COMPARISONS:
        return None
    a, b = (_index(x) for x in condition.args)
    if a is None or b is None:
        return None
    shift, sense = COMPARISONS[condition.fn]
    return a - b + shift, sense


def _index(node: Expr) -> DimLike | None:
    if isinstance(node, Index):
        return node.value
    return node.value if isinstance(node, Const) and node.dtype.name == "i64" else None


def without_division(expr: Expr, axis: Axis, memo: dict) -> Expr:
    """Rebuild an expression with comparisons of floor divisions of `axis` made comparisons of it."""
    if expr in memo:
        return memo[expr]
    if isinstance(expr, Where):
        parts = [without_division(a, axis, memo) for a in expr.args]
        new = where(*parts)
    elif isinstance(expr, Call):
        new = _compared(expr, axis)
        if new is None:
            args = [without_division(a, axis, memo) for a in expr.args]
            new = cast(args[0], expr.dtype) if expr.fn == "cast" else call(expr.fn, *args)
    else:
        new = expr
    memo[expr] = new
    return new


def _compared(condition: Call, axis: Axis) -> Expr | None:
    found = sides(condition)
    if found is None:
        return None
    difference, sense = found
    while (simpler := _multiplied(difference, axis)) is not None:
        difference = simpler
    if difference is found[0]:
        return None
    return call("lt" if sense else "ge", index(difference), index(0))


def _multiplied(value: DimLike, axis: Axis) -> DimLike | None:
    """d' with (d' < 0) == (value < 0), one floor division of the axis less; None if there is none to undo."""
    if not isinstance(value, Dim):
        return None
    for monomial, coefficient in value.terms.items():
        if len(monomial) != 1 or not isinstance(monomial[0], FloorDiv) or coefficient not in (1, -1):
            continue
        division = monomial[0]
        if axis not in dim.atoms(division.numerator) or not isinstance(division.denominator, int):
            continue
        rest = value - Dim({monomial: coefficient})
        if axis in dim.atoms(rest):
            continue
        k = division.denominator
        if coefficient == 1:
            return division.numerator + rest * k
        return (rest + 1) * k - division.numerator - 1  # rest - x//k < 0  <=>  x >= k*(rest + 1)
    return None
