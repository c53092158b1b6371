"""Numbers that no polynomial of sizes says: the largest of several, and one of two.

A rule gives such a number a name. Rules come in order, each may use the names before it; polynomials of sizes and
of these names say everything else. So a program can hold offsets that are exact for every batch size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kcompile.ir import dim
from kcompile.ir.dim import DimLike


@dataclass(frozen=True)
class Largest:
    """`name` is the largest of `of`."""

    name: str
    of: tuple[DimLike, ...]

    def value(self, sizes: Mapping[str, int]) -> int:
        return max(dim.evaluate(value, sizes) for value in self.of)


@dataclass(frozen=True)
class Either:
    """`name` is `first` where `low <= high`, else `second`."""

    name: str
    low: DimLike
    high: DimLike
    first: DimLike
    second: DimLike

    def value(self, sizes: Mapping[str, int]) -> int:
        is_first = dim.evaluate(self.low, sizes) <= dim.evaluate(self.high, sizes)
        return dim.evaluate(self.first if is_first else self.second, sizes)


Rule = Largest | Either


def with_rules(rules: Sequence[Rule], sizes: Mapping[str, int]) -> dict[str, int]:
    """The sizes, and the numbers that rules make of them."""
    named = dict(sizes)
    for rule in rules:
        named[rule.name] = rule.value(named)
    return named
