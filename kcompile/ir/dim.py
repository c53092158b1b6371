"""Sizes and indices as integer polynomials.

A `Dim` is a polynomial with integer coefficients over atoms. An atom is a named size (`batch`), a
loop axis with its extent (`i0 < batch`), a floor division of two Dims that does not simplify, or a
value known only inside a kernel (a gathered index). Remainders are spelled `x - y * (x // y)`, so
that splitting an index and joining it again cancels by plain polynomial arithmetic: the address of
a reshaped value needs no special rule.

Anything constant is a Python int: `Dim` appears only where a symbol does. All named sizes are at
least 0 and, where a comparison needs it, at least 1.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral

from kcompile.errors import CompilerBug

NOMINAL_SIZE = 32  # what a named size is taken to be when a decision must guess: a common batch
_assumed: ContextVar[int] = ContextVar("assumed", default=NOMINAL_SIZE)


@dataclass(frozen=True)
class Symbol:
    """A named size that a program learns at run time."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Axis:
    """A loop index: runs over 0 <= axis < extent."""

    name: str
    extent: DimLike

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class FloorDiv:
    """`numerator // denominator` that no rule simplifies; the denominator is positive."""

    numerator: DimLike
    denominator: DimLike

    def __str__(self) -> str:
        return f"({self.numerator})//({self.denominator})"


@dataclass(frozen=True)
class Loaded:
    """An integer computed inside a kernel (a gathered index), known to lie in [0, extent)."""

    value: object  # a forms.scalar expression
    extent: DimLike

    def __str__(self) -> str:
        return f"[{self.value}]"


Atom = "Symbol | Axis | FloorDiv | Loaded"
Monomial = "tuple[Atom, ...]"  # sorted by text; the empty tuple is the constant term
DimLike = "int | Dim"


class Dim:
    """An immutable integer polynomial: a mapping from monomials to non-zero coefficients."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: Mapping[Monomial, int], in_order: bool = False):
        """`in_order` promises that the terms are sorted already and none is 0."""
        if not in_order:
            kept = [(m, c) for m, c in terms.items() if c]
            if len(kept) > 1:
                kept.sort(key=_term_order)
            terms = dict(kept)
        self.terms = terms
        self._hash = hash(tuple(terms.items()))

    # arithmetic -------------------------------------------------------------------------------

    def __add__(self, other: DimLike) -> DimLike:
        terms = dict(self.terms)
        if not isinstance(other, Dim):  # the constant term is the last one
            if not isinstance(other, Integral):
                return NotImplemented  # a tensor knows what to do
            constant = terms.pop((), 0) + int(other)
            if constant:
                terms[()] = constant
            return Dim(terms, in_order=True)
        for monomial, coefficient in _terms(other).items():
            terms[monomial] = terms.get(monomial, 0) + coefficient
        return _make(terms)

    __radd__ = __add__

    def __neg__(self) -> DimLike:
        return Dim({m: -c for m, c in self.terms.items()}, in_order=True)

    def __sub__(self, other: DimLike) -> DimLike:
        return self + (-other)

    def __rsub__(self, other: DimLike) -> DimLike:
        return other + (-self)

    def __mul__(self, other: DimLike) -> DimLike:
        if not isinstance(other, Dim):
            if not isinstance(other, Integral):
                return NotImplemented
            factor = int(other)
            if factor == 1:
                return self
            return Dim({m: c * factor for m, c in self.terms.items()}, in_order=True) if factor else 0
        terms: dict[Monomial, int] = {}
        for m1, c1 in self.terms.items():
            for m2, c2 in _terms(other).items():
                key = tuple(sorted(m1 + m2, key=_atom_key))
                terms[key] = terms.get(key, 0) + c1 * c2
        return _make(terms)

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> DimLike:
        return floordiv(self, other)

    def __rfloordiv__(self, other: DimLike) -> DimLike:
        return floordiv(other, self)

    def __mod__(self, other: DimLike) -> DimLike:
        return self - other * floordiv(self, other)

    def __rmod__(self, other: DimLike) -> DimLike:
        return other - self * floordiv(other, self)

    # comparison -------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self._hash == other._hash and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __bool__(self) -> bool:
        return True  # a Dim is never the constant 0

    def __index__(self) -> int:
        raise TypeError(f"the size {self} is only known when the program runs")

    __int__ = __index__

    def _unordered(self, other: object) -> bool:
        if not isinstance(other, (Dim, Integral)):
            return NotImplemented  # a tensor knows what to do
        raise TypeError(
            f"whether {self} is more or less than {other} is only known when the program runs: compare tensors, such "
            "as keras.ops.convert_to_tensor of a size, and choose with keras.ops.where or cond"
        )

    __lt__ = __le__ = __gt__ = __ge__ = _unordered

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self.terms.items():
            factors = [str(a) for a in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, str(abs(coefficient)))
            sign = "-" if coefficient < 0 else "+"
            text += ("-" if sign == "-" else "") if not text else f" {sign} "
            text += "*".join(factors)
        return text

    __repr__ = __str__


def _term_order(term: tuple[Monomial, int]) -> tuple:
    return _order(term[0])


@lru_cache(maxsize=65536)
def _atom_key(atom: Atom) -> tuple[str, str]:
    return (type(atom).__name__, str(atom))


@lru_cache(maxsize=65536)
def _order(monomial: Monomial) -> tuple:
    return (-len(monomial), tuple([_atom_key(a) for a in monomial]))


def _terms(value: DimLike) -> Mapping[Monomial, int]:
    return value.terms if isinstance(value, Dim) else {(): int(value)}


def _make(terms: Mapping[Monomial, int]) -> DimLike:
    kept = {m: c for m, c in terms.items() if c}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    return Dim(kept)


def of(atom: Atom) -> DimLike:
    """Return the Dim that is just this atom; an axis of extent 1 is 0."""
    if isinstance(atom, Axis) and atom.extent == 1:
        return 0
    return Dim({(atom,): 1}, in_order=True)


def symbol(name: str) -> Dim:
    """Return the size called `name`."""
    return Dim({(Symbol(name),): 1})


def is_static(value: DimLike) -> bool:
    """True for a size known at compile time."""
    return not isinstance(value, Dim)


def floordiv(numerator: DimLike, denominator: DimLike) -> DimLike:
    """Return `numerator // denominator` (denominator > 0), simplified with what axes' extents prove."""
    if not isinstance(numerator, Dim) and not isinstance(denominator, Dim):
        return numerator // denominator
    if denominator == 1:
        return numerator
    if numerator == denominator:
        return 1
    return _floordiv(numerator, denominator)


@lru_cache(maxsize=65536)
def _floordiv(numerator: DimLike, denominator: DimLike) -> DimLike:
    quotient, rest = _split(numerator, denominator)
    low, high = bounds(rest)
    if low is not None and high is not None:
        if is_nonnegative(low) and is_nonnegative(denominator - 1 - high):
            return quotient
        if is_nonnegative(low + denominator) and is_nonnegative(-1 - high):
            return quotient - 1
    if isinstance(denominator, int) and isinstance(rest, int):
        return quotient + rest // denominator
    nested = _single_floordiv(rest)
    if nested is not None:  # (x // a) // b == x // (a * b)
        return quotient + floordiv(nested.numerator, nested.denominator * denominator)
    if quotient == 0:
        rest = numerator
    return quotient + Dim({(FloorDiv(rest, denominator),): 1})


def _single_floordiv(value: DimLike) -> FloorDiv | None:
    if isinstance(value, Dim) and len(value.terms) == 1:
        ((monomial, coefficient),) = value.terms.items()
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], FloorDiv):
            return monomial[0]
    return None


def _split(numerator: DimLike, denominator: DimLike) -> tuple[DimLike, DimLike]:
    """Split numerator = denominator * quotient + rest, moving whole multiples term by term."""
    divisor = list(_terms(denominator).items())
    lead, lead_coefficient = divisor[0]
    quotient: DimLike = 0
    rest: DimLike = numerator
    if len(divisor) == 1:
        for monomial, coefficient in _terms(numerator).items():
            cofactor = _without(monomial, lead)
            whole = coefficient // lead_coefficient  # floor: leaves a remainder of the divisor's sign
            if cofactor is None or not whole:
                continue
            part = _make({cofactor: whole})
            quotient, rest = quotient + part, rest - part * denominator
        return quotient, rest
    for _ in range(len(_terms(numerator))):  # polynomial long division by the leading term
        found = next(
            ((m, c) for m, c in _terms(rest).items() if _without(m, lead) is not None and c % lead_coefficient == 0),
            None,
        )
        if found is None:
            break
        part = _make({_without(found[0], lead): found[1] // lead_coefficient})
        quotient, rest = quotient + part, rest - part * denominator
    return quotient, rest


def _without(monomial: Monomial, factor: Monomial) -> Monomial | None:
    remaining = list(monomial)
    for atom in factor:
        if atom not in remaining:
            return None
        remaining.remove(atom)
    return tuple(remaining)


# what is provable ------------------------------------------------------------------------------


def bounds(value: DimLike) -> tuple[DimLike | None, DimLike | None]:
    """Return inclusive bounds of `value` over all axis values, in terms of symbols; None if unknown."""
    if not isinstance(value, Dim):
        return value, value
    return _bounds(value)


@lru_cache(maxsize=65536)
def _bounds(value: Dim) -> tuple[DimLike | None, DimLike | None]:
    low: DimLike | None = 0
    high: DimLike | None = 0
    for monomial, coefficient in value.terms.items():
        term_low, term_high = _monomial_bounds(monomial)
        if coefficient < 0:
            term_low, term_high = term_high, term_low
        low = None if low is None or term_low is None else low + coefficient * term_low
        high = None if high is None or term_high is None else high + coefficient * term_high
    for tighter in _remainders_replaced(value):
        other_low, other_high = bounds(tighter)
        if other_low is not None and (low is None or _is_better(other_low - low, other_low, low)):
            low = other_low
        if other_high is not None and (high is None or _is_better(high - other_high, other_high, high)):
            high = other_high
    for joined, denominator in _floors_joined(value):
        other_low, other_high = bounds(joined)
        if isinstance(other_low, int):
            floor = other_low // denominator
            low = floor if low is None or _is_better(floor - low, floor, low) else low
        if isinstance(other_high, int):
            floor = other_high // denominator
            high = floor if high is None or _is_better(high - floor, floor, high) else high
    return low, high


def _floors_joined(value: Dim) -> list[tuple[DimLike, int]]:
    """(d * rest + x, d) for `value` = rest + x // d: the same number once divided, with terms that may cancel."""
    found = []
    for atom in _linear_floors(value):
        if isinstance(atom.denominator, int) and coefficient_of(value, atom) == 1:
            rest = value - Dim({(atom,): 1})
            if not is_static(rest):
                found.append((atom.denominator * rest + atom.numerator, atom.denominator))
    return found


def _is_better(gain: DimLike, new: DimLike, old: DimLike) -> bool:
    """True if a bound is tighter by `gain` for certain, or not for certain looser and a plain number."""
    return is_nonnegative(gain) or (is_static(new) and not is_static(old) and not is_nonnegative(-gain))


def _remainders_replaced(value: Dim) -> list[DimLike]:
    """`value` with one remainder x - d * (x // d) in it replaced by a fresh axis that runs below d."""
    found = []
    for atom in _linear_floors(value):
        factor = -coefficient_of(value, atom)
        whole, rest = _split(factor, atom.denominator)
        if rest == 0:  # value = whole * (x - d * (x // d)) + others
            times, numerator, step = whole, atom.numerator, atom.denominator
        else:  # x // (c * d) is (x // c) // d: value = (x // c) - d * ((x // c) // d) + others
            inner, rest = _split(atom.denominator, factor)
            if rest != 0 or factor == 1 or not is_nonnegative(factor):
                continue
            times, numerator, step = 1, floordiv(atom.numerator, inner), factor
        others = value - times * (numerator - step * Dim({(atom,): 1}))
        replaced = others + times * of(Axis(f"({numerator})%({step})", step))
        if _floor_divisions(replaced) < _floor_divisions(value):  # each step gets simpler: this ends
            found.append(replaced)
    return found


def _linear_floors(value: Dim) -> list[FloorDiv]:
    """The floor divisions that occur in `value` to the first power only, in a fixed order."""
    found = {a for monomial in value.terms for a in monomial if isinstance(a, FloorDiv)}
    return sorted((a for a in found if all(m.count(a) < 2 for m in value.terms)), key=_atom_key)


def _floor_divisions(value: DimLike) -> int:
    return len({a for monomial in _terms(value) for a in monomial if isinstance(a, FloorDiv)})


def _monomial_bounds(monomial: Monomial) -> tuple[DimLike | None, DimLike | None]:
    low: DimLike = 1
    high: DimLike | None = 1
    for atom in monomial:  # every atom is non-negative, so bounds multiply
        atom_low, atom_high = _atom_bounds(atom)
        if atom_low is None:
            return None, None
        low = low * atom_low
        high = None if high is None or atom_high is None else high * atom_high
    return low, high


def _atom_bounds(atom: Atom) -> tuple[DimLike | None, DimLike | None]:
    if isinstance(atom, Symbol):
        itself = Dim({(atom,): 1})
        return itself, itself
    if isinstance(atom, (Axis, Loaded)):
        return 0, atom.extent - 1
    if not has_axes(atom.numerator) and not has_axes(atom.denominator):
        itself = Dim({(atom,): 1})
        return itself, itself
    low, high = bounds(atom.numerator)
    if low is None or not is_nonnegative(low):
        return None, None
    if high is None:
        return 0, None
    return 0, _loose_floordiv(high, atom.denominator)


def _loose_floordiv(high: DimLike, denominator: DimLike) -> DimLike:
    if isinstance(high, int) and isinstance(denominator, int):
        return high // denominator
    quotient = floordiv(high, denominator)
    return quotient


def is_nonnegative(value: DimLike) -> bool:
    """True if `value >= 0` follows for every axis value and every size >= 1. False means unknown."""
    if not isinstance(value, Dim):
        return value >= 0
    low = value if not has_axes(value) else bounds(value)[0]
    if low is None:
        return False
    if not isinstance(low, Dim):
        return low >= 0
    # substitute each symbol s = 1 + s', s' >= 0: all coefficients non-negative is sufficient
    # (floor divisions stay as they are: simplifying one assumes s >= 1, which s' need not be)
    shifted = substitute(low, lambda a: Dim({(a,): 1}) + (1 if isinstance(a, Symbol) else 0))
    if all(c >= 0 for c in _terms(shifted).values()) and not any(
        isinstance(a, FloorDiv) and not is_nonnegative(a.numerator) for m in _terms(low) for a in m
    ):
        return True
    return any(is_nonnegative(scaled) for scaled in _floors_removed(low))


def _floors_removed(value: Dim) -> list[DimLike]:
    """Multiples of `value`, made smaller or left equal, without one subtracted floor division."""
    smaller = []
    for atom in _linear_floors(value):
        if isinstance(atom.denominator, int):
            factor = -coefficient_of(value, atom)
            if is_nonnegative(factor):  # d * (rest - factor * (x // d)) >= d * rest - factor * x
                rest = value + factor * Dim({(atom,): 1})
                smaller.append(atom.denominator * rest - factor * atom.numerator)
    return smaller


def has_axes(value: DimLike) -> bool:
    """True if a loop axis or a loaded value occurs in `value`."""
    return any(isinstance(a, (Axis, Loaded)) for a in atoms(value))


def atoms(value: DimLike) -> frozenset[Atom]:
    """All atoms of `value`, those inside floor divisions included."""
    return _atoms(value) if isinstance(value, Dim) else frozenset()


@lru_cache(maxsize=65536)
def _atoms(value: Dim) -> frozenset[Atom]:
    found: set[Atom] = set()
    for monomial in value.terms:
        for atom in monomial:
            found.add(atom)
            if isinstance(atom, FloorDiv):
                found |= atoms(atom.numerator) | atoms(atom.denominator)
    return frozenset(found)


def symbols(value: DimLike) -> frozenset[str]:
    """Names of the sizes `value` depends on, through axis extents too."""
    names: set[str] = set()
    for atom in atoms(value):
        if isinstance(atom, Symbol):
            names.add(atom.name)
        elif isinstance(atom, Axis):
            names |= symbols(atom.extent)
    return frozenset(names)


def coefficient_of(value: DimLike, atom: Atom) -> DimLike:
    """Return c where value = c * atom + rest and rest is free of atom; CompilerBug if not linear."""
    if not isinstance(value, Dim):
        return 0
    terms: dict[Monomial, int] = {}
    for monomial, coefficient in value.terms.items():
        if atom in monomial:
            remaining = _without(monomial, (atom,))
            if atom in remaining:
                raise CompilerBug(f"{value} is not linear in {atom}")
            terms[remaining] = coefficient
    return _make(terms)


def substitute(value: DimLike, replace: Callable[[Atom], DimLike | None]) -> DimLike:
    """Rebuild `value` with each atom replaced where `replace` returns something else than None."""
    if not isinstance(value, Dim):
        return value
    total: DimLike = 0
    same: dict[Monomial, int] = {}  # terms in which nothing changes
    for monomial, coefficient in value.terms.items():
        news = [replace(atom) for atom in monomial]
        if all(n is None for n in news) and not any(isinstance(a, FloorDiv) for a in monomial):
            same[monomial] = coefficient
            continue
        product: DimLike = coefficient
        for atom, new in zip(monomial, news):
            if new is None:
                if isinstance(atom, FloorDiv):
                    new = floordiv(substitute(atom.numerator, replace), substitute(atom.denominator, replace))
                else:
                    new = Dim({(atom,): 1}, in_order=True)
            product = product * new
        total = total + product
    if len(same) == len(value.terms):
        return value
    return total + _make(same) if same else total


def evaluate(value: DimLike, sizes: Mapping[str, int]) -> int:
    """Return the number `value` stands for, given every named size (symbols only, no axes)."""
    if not isinstance(value, Dim):
        return int(value)
    total = 0
    for monomial, coefficient in value.terms.items():
        product = coefficient
        for atom in monomial:
            if isinstance(atom, Symbol):
                if atom.name not in sizes:
                    raise CompilerBug(f"size {atom.name!r} has no value; known: {sorted(sizes)}")
                product *= sizes[atom.name]
            elif isinstance(atom, FloorDiv):
                product *= evaluate(atom.numerator, sizes) // evaluate(atom.denominator, sizes)
            else:
                raise CompilerBug(f"{atom} has no value outside a kernel")
        total += product
    return total


def nominal(value: DimLike) -> int:
    """Return a likely number for a size, where a decision has to guess: every named size counts as NOMINAL_SIZE.

    A name that ends in a number says how many there are at most.
    """
    return value if is_static(value) else evaluate(value, _Nominal())


@contextlib.contextmanager
def assuming(size: int) -> Iterator[None]:
    """Within this block every named size counts as `size` in `nominal`: what would be decided for such sizes?"""
    token = _assumed.set(size)
    try:
        yield
    finally:
        _assumed.reset(token)


def at_most(name: str, count: int) -> int:
    """`count`, or what a name says there are at most: 16 of rows_of_16, the rows of a loop's task (passes/rows.py)."""
    said = re.search(r"_of_(\d+)$", name)
    return min(int(said[1]), count) if said else count


class _Nominal(dict):
    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> int:
        return at_most(name, _assumed.get())


def degree(sizes: Iterable[DimLike]) -> int:
    """Return how fast the product of sizes grows with the named ones: 2 for time * time."""
    return sum(max(map(len, d.terms)) for d in sizes if not is_static(d))


def product(sizes) -> DimLike:
    """Return the product of sizes; 1 for none."""
    total: DimLike = 1
    for size in sizes:
        total = total * size
    return total
