"""Live ranges -> arena offsets that hold for every batch size.

Sizes are polynomials of the named sizes, so "does A fit below B" has no answer at compile time. What has one is
"A lies beneath B": an order of all that is alive together. Each buffer begins where the highest of those directly
beneath it ends, whatever the sizes are: nothing overlaps, and nothing is left empty that the order does not ask for.

Orders come from placing the buffers for a few samples of the sizes (packing.py); the one that is best over all
samples is taken, or two, where one row and many ask for different ones. Then the program compares their totals.
Offsets are polynomials where one of the ends is the highest for all sizes, else names of rules (ir/rules.py) that
the program works out when it starts. Sizes are rounded up to whole cache lines, each buffer once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from kcompile.errors import CompilerBug
from kcompile.ir import dim
from kcompile.ir.dim import Dim, DimLike, Symbol
from kcompile.ir.rules import Either, Largest, Rule, with_rules
from kcompile.passes.packing import alive_together, beneath, live_set, packed

ALIGN_BYTES = 64  # a cache line, and the widest vector
SAMPLES = (1, 2, 8, 32, 128, 1000)  # of a named size
FEW, MANY = 8, 1000  # where there are several: each of them alone may be large
ENOUGH = 1.05  # of the live set: not worth a second order


@dataclass(frozen=True)
class Buffer:
    """Something to place: its size, and the first and last step that touch it, both included."""

    name: str
    nbytes: DimLike
    first: int
    last: int


@dataclass(frozen=True)
class Stack:
    """One order: what lies directly beneath each buffer, the offsets that follow, and where the highest ends."""

    beneath: dict[str, tuple[str, ...]]
    offsets: dict[str, DimLike]
    nbytes: DimLike


@dataclass(frozen=True)
class Plan:
    """Where every buffer lies. Offsets and the total are polynomials of the named sizes and of what `rules` name."""

    buffers: tuple[Buffer, ...]
    offsets: dict[str, DimLike]
    arena_bytes: DimLike
    rules: tuple[Rule, ...] = ()
    stacks: tuple[Stack, ...] = ()

    def named(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The sizes, and what the rules make of them."""
        return with_rules(self.rules, sizes)


def plan_memory(buffers: Sequence[Buffer], given: Mapping[str, int] | None = None, closed: bool = False) -> Plan:
    """Place buffers in one arena so that none alive together overlap.

    Args:     buffers: sizes in bytes and live ranges, both ends included.
              given: likely values of sizes that hardly vary.
              closed: without rules: where no end is the highest for all sizes, a polynomial that none exceeds.
    Returns:  an offset per buffer, multiples of ALIGN_BYTES, and the arena size.
    Cost:     O(n²) in buffers for each sample; n is in the hundreds.
    """
    if not buffers:
        return Plan((), {}, 0)
    sizes = [_rounded(b.nbytes) for b in buffers]
    orders = _chosen_orders(buffers, sizes, given or {}, 1 if closed else 2)
    rules = _Rules(closed)
    stacks = tuple(_stack(buffers, sizes, order, rules) for order in orders)
    offsets, total = stacks[0].offsets, stacks[0].nbytes
    if len(stacks) == 2:
        first, second = stacks
        offsets = {b.name: rules.either(first, second, first.offsets[b.name], second.offsets[b.name]) for b in buffers}
        total = rules.either(first, second, first.nbytes, second.nbytes)
    return Plan(tuple(buffers), offsets, total, tuple(rules.list), stacks)


def _rounded(nbytes: DimLike) -> DimLike:
    """Up to a multiple of ALIGN_BYTES."""
    if not isinstance(nbytes, Dim):
        return max(ALIGN_BYTES, -(-nbytes // ALIGN_BYTES) * ALIGN_BYTES)
    if all(c % ALIGN_BYTES == 0 for c in nbytes.terms.values()):
        return nbytes
    return ALIGN_BYTES * dim.floordiv(nbytes + (ALIGN_BYTES - 1), ALIGN_BYTES)


# orders ----------------------------------------------------------------------------------------

Order = dict[int, tuple[int, ...]]  # what lies directly beneath each buffer, by number, from the bottom up


def _chosen_orders(
    buffers: Sequence[Buffer], sizes: Sequence[DimLike], given: Mapping[str, int], at_most: int
) -> list[Order]:
    """One order, or two of which each sample may take the better one."""
    alive = [(b.first, b.last) for b in buffers]
    samples = [_numbers(sizes, sample) for sample in _samples(sizes, given)]
    orders: list[Order] = []
    together, known = alive_together(alive), []
    for numbers in reversed(samples):
        offsets, known = packed(alive, numbers, together, known)
        order = beneath(alive, offsets, numbers)
        if order not in orders:
            orders.append(order)
    bounds = [live_set(alive, numbers) for numbers in samples]
    excess = [[_height(order, n) / bound for n, bound in zip(samples, bounds)] for order in orders]
    best = min(excess, key=_badness)
    if max(best) > ENOUGH and at_most == 2 and len(orders) > 1:
        pairs = itertools.combinations(range(len(orders)), 2)
        chosen = min(pairs, key=lambda pair: _badness([*map(min, excess[pair[0]], excess[pair[1]])]))
        return [orders[n] for n in chosen]
    return [orders[excess.index(best)]]


def _badness(excess: list[float]) -> tuple[float, float]:
    """The worst sample counts as far as it is too bad."""
    return max(*excess, ENOUGH), sum(excess)


def _samples(sizes: Sequence[DimLike], given: Mapping[str, int]) -> list[dict[str, int]]:
    """Values of the named sizes: all alike, and, if there are several, each of them large beside small others."""
    names = sorted(set().union(*(dim.symbols(s) for s in sizes)) - set(given))
    if not names:
        return [dict(given)]
    values = [dict.fromkeys(names, count) for count in SAMPLES]
    if len(names) > 1:
        values += [{name: MANY if name == large else FEW for name in names} for large in names]
    return [{**{name: dim.at_most(name, count) for name, count in sample.items()}, **given} for sample in values]


def _numbers(sizes: Iterable[DimLike], sample: Mapping[str, int]) -> list[int]:
    """Sizes in bytes; a sample may be smaller than what a window needs, where a size comes out as nothing or less."""
    known: dict[DimLike, int] = {}
    return [known[s] if s in known else known.setdefault(s, max(ALIGN_BYTES, dim.evaluate(s, sample))) for s in sizes]


def _height(order: Order, sizes: Sequence[int]) -> int:
    """Where the highest buffer ends."""
    ends: dict[int, int] = {}
    for n, below in order.items():
        ends[n] = max((ends[m] for m in below), default=0) + sizes[n]
    return max(ends.values())


# offsets ---------------------------------------------------------------------------------------


class _Rules:
    """The rules of a plan while it is made."""

    def __init__(self, closed: bool):
        self.list: list[Rule] = []
        self.closed = closed
        self._known: dict[tuple, DimLike] = {}

    def largest(self, values: Iterable[DimLike]) -> DimLike:
        """The largest of some numbers, none of which is negative."""
        highest: list[DimLike] = []
        for value in dict.fromkeys(values):
            if not any(_reaches(other, value) for other in highest):
                highest = [other for other in highest if not _reaches(value, other)] + [value]
        if len(highest) < 2:
            return highest[0] if highest else 0
        if self.closed:
            terms = [v.terms if isinstance(v, Dim) else {(): v} for v in highest]
            return Dim({m: max(t.get(m, 0) for t in terms) for m in set().union(*terms)})
        return self._named(Largest, tuple(highest))

    def either(self, first: Stack, second: Stack, low: DimLike, high: DimLike) -> DimLike:
        """What belongs to the lower of two stacks."""
        return low if low == high else self._named(Either, first.nbytes, second.nbytes, low, high)

    def _named(self, kind: type, *values) -> DimLike:
        if (kind, *values) not in self._known:
            name = f"arena.{len(self.list)}"
            self.list.append(kind(name, *values))
            self._known[(kind, *values)] = dim.symbol(name)
        return self._known[(kind, *values)]


def _reaches(high: DimLike, low: DimLike) -> bool:
    """True if `high >= low` for all sizes, term by term."""
    difference = high - low
    return all(c >= 0 for c in difference.terms.values()) if isinstance(difference, Dim) else difference >= 0


def _stack(buffers: Sequence[Buffer], sizes: Sequence[DimLike], order: Order, rules: _Rules) -> Stack:
    offsets: dict[int, DimLike] = {}
    for n, below in order.items():
        offsets[n] = rules.largest(offsets[m] + sizes[m] for m in below)
    on_top = set(order).difference(*order.values())
    return Stack(
        {buffers[n].name: tuple(buffers[m].name for m in below) for n, below in order.items()},
        {buffers[n].name: offset for n, offset in offsets.items()},
        rules.largest(offsets[n] + sizes[n] for n in order if n in on_top),
    )


# proofs ----------------------------------------------------------------------------------------


def check_plan(plan: Plan) -> None:
    """Prove that no two buffers alive together overlap, for every value of the sizes.

    Each buffer must begin above the ends of what its stack says lies directly beneath it; of two that are alive
    together one must lie beneath the other, if not directly. Names may be used only after they are defined.

    Raises: CompilerBug naming the two buffers. Written without the planner's own bookkeeping.
    """
    rules = {rule.name: rule for rule in plan.rules}
    ends = {b.name: _rounded(b.nbytes) for b in plan.buffers}
    if not all(set(stack.offsets) == set(ends) for stack in plan.stacks):
        raise CompilerBug("a stack does not hold all buffers")
    for stack in plan.stacks:
        above = _far_beneath(stack)
        for a, b in itertools.combinations(plan.buffers, 2):
            together = a.first <= b.last and b.first <= a.last
            if together and b.name not in above[a.name] and a.name not in above[b.name]:
                raise CompilerBug(f"buffers {a.name} and {b.name} overlap while both are alive")
        for name, offset in stack.offsets.items():
            for lower in stack.beneath[name]:
                if not _proved(offset, stack.offsets[lower] + ends[lower], rules):
                    raise CompilerBug(f"buffers {lower} and {name} overlap while both are alive")
            if not _ends_below(stack, name, ends, rules):
                raise CompilerBug(f"buffer {name} reaches beyond the arena")
    for name, offset in [*plan.offsets.items(), (None, plan.arena_bytes)]:
        theirs = [stack.nbytes if name is None else stack.offsets[name] for stack in plan.stacks]
        if not _is_chosen(offset, theirs, [stack.nbytes for stack in plan.stacks], rules):
            raise CompilerBug(f"{name or 'the arena'} is placed at {offset}, by its stacks at {theirs}")


def _far_beneath(stack: Stack) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, below in stack.beneath.items():
        if not all(lower in found for lower in below):
            raise CompilerBug(f"buffer {name} lies on something that lies on it")
        found[name] = set(below).union(*(found[lower] for lower in below))
    return found


def _ends_below(stack: Stack, name: str, ends: Mapping[str, DimLike], rules: Mapping[str, Rule]) -> bool:
    """True if the buffer ends within the arena, or another one lies on it."""
    covered = any(name in below for below in stack.beneath.values())
    return covered or _proved(stack.nbytes, stack.offsets[name] + ends[name], rules)


def _proved(high: DimLike, low: DimLike, rules: Mapping[str, Rule]) -> bool:
    if _reaches(high, low):
        return True
    rule = rules.get(_name_of(high))
    return isinstance(rule, Largest) and any(_reaches(value, low) for value in rule.of)


def _name_of(value: DimLike) -> str | None:
    if isinstance(value, Dim) and len(value.terms) == 1:
        ((monomial, coefficient),) = value.terms.items()
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return monomial[0].name
    return None


def _is_chosen(value: DimLike, theirs: list[DimLike], totals: list[DimLike], rules: Mapping[str, Rule]) -> bool:
    if all(their == value for their in theirs):
        return True
    rule = rules.get(_name_of(value))
    return isinstance(rule, Either) and [rule.low, rule.high, rule.first, rule.second] == [*totals, *theirs]


def lower_bound_bytes(buffers: Sequence[Buffer], sizes: Mapping[str, int]) -> int:
    """Largest number of bytes alive at one step: no plan can be smaller."""
    return live_set([(b.first, b.last) for b in buffers], [dim.evaluate(b.nbytes, sizes) for b in buffers])
