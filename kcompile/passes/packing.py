"""Where things of known size lie while they are alive: which lies on which.

A thing is a number. First fit in several orders: greedy by size (Pisarchyk, Lee 2020, "Efficient memory management
for deep neural net inference", section 4); where that leaves the peak above the live set, other orders, and orders in
which what made the peak comes first.

`beneath` turns offsets into the relation that outlasts them: what lies directly under each thing. Whatever the sizes
are, a thing that begins above the ends of all under it overlaps nothing.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence

Alive = tuple[int, int]  # the first and the last step, both included

REPAIRS = 16
CLOSE = 1.005  # of the live set: not worth a search


def live_set(alive: Sequence[Alive], sizes: Sequence[int]) -> int:
    """The largest sum of sizes alive at one step: no placement has a lower peak."""
    change: dict[int, int] = {}
    for (first, last), size in zip(alive, sizes):
        change[first] = change.get(first, 0) + size
        change[last + 1] = change.get(last + 1, 0) - size
    return max(itertools.accumulate(change[step] for step in sorted(change)), default=0)


def packed(
    alive: Sequence[Alive], sizes: Sequence[int], together: Sequence[bytes], known: Sequence[int] = ()
) -> tuple[list[int], list[int]]:
    """Of several orders to place things in, the one with the lowest peak.

    Args:    together: see `alive_together`; known: an order that was good for other sizes, tried first.
    Returns: an offset for each thing, and the order.
    """
    bound = live_set(alive, sizes)
    best: tuple[list[int], list[int]] = ([], [])
    best_peak = math.inf
    firsts = [sorted(range(len(sizes)), key=lambda n: (key(sizes[n], *alive[n]), alive[n][0], n)) for key in _ORDERS]
    for order in [list(known), *firsts] if known else firsts:
        for _ in range(REPAIRS):
            offsets = _first_fit(order, sizes, together)
            ends = [offset + size for offset, size in zip(offsets, sizes)]
            peak = max(ends, default=0)
            if peak < best_peak:
                best, best_peak = (offsets, order), peak
            if peak <= CLOSE * bound:
                return best
            highest = next(n for n in order if ends[n] == peak)
            if highest == order[0] or order is known:
                break
            order = [highest, *(n for n in order if n != highest)]  # what did not fit below goes first next time
    return best


_ORDERS: tuple[Callable[[int, int, int], int], ...] = (
    lambda size, first, last: -size,  # largest first: the best of the simple ones, most of the time
    lambda size, first, last: -size * (last - first + 1),  # largest area of size and time
    lambda size, first, last: first - last,  # longest alive
)


def alive_together(alive: Sequence[Alive]) -> list[bytes]:
    """For each thing, a byte for every thing: 1 if both are alive at some step."""
    return [bytes(first <= b and a <= last for a, b in alive) for first, last in alive]


def _first_fit(order: Sequence[int], sizes: Sequence[int], together: Sequence[bytes]) -> list[int]:
    """The lowest offset at which each thing overlaps none placed before it."""
    offsets = [0] * len(sizes)
    placed: list[tuple[int, int, int]] = []  # begin, end, thing, from the bottom up
    for n in order:
        beside, size, offset = together[n], sizes[n], 0
        for begin, end, other in placed:
            if beside[other]:
                if offset + size <= begin:
                    break
                if end > offset:
                    offset = end
        offsets[n] = offset
        bisect.insort(placed, (offset, offset + size, n))
    return offsets


def beneath(alive: Sequence[Alive], offsets: Sequence[int], sizes: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """What lies directly under each thing, from the bottom up: those alive with it and not under one that is, too."""
    order = sorted(range(len(offsets)), key=lambda n: (offsets[n], sizes[n], n))
    together = _bits_together([alive[n] for n in order])
    under: list[int] = []  # by place in the order: bits of the places below it, however far
    found: dict[int, tuple[int, ...]] = {}
    for place, n in enumerate(order):
        left = together[place] & ((1 << place) - 1)
        direct, below = [], 0
        while left:
            highest = left.bit_length() - 1
            direct.append(order[highest])
            below |= under[highest] | 1 << highest
            left &= ~below
        under.append(below)
        found[n] = tuple(direct)
    return found


def _bits_together(alive: Sequence[Alive]) -> list[int]:
    """For each thing, a bit for every thing that is alive at a step it is alive at."""
    begun = [0] * (max((last for _, last in alive), default=0) + 2)
    ended = begun.copy()
    for n, (first, last) in enumerate(alive):
        begun[first] |= 1 << n
        ended[last + 1] |= 1 << n
    begun = list(itertools.accumulate(begun, int.__or__))
    ended = list(itertools.accumulate(ended, int.__or__))
    return [begun[last] & ~ended[first] for first, last in alive]
