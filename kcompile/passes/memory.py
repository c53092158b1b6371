"""Live ranges -> arena offsets: pure functions of sizes.

Sizes are polynomials of the named sizes, so "does A fit below B" has no answer at compile time.
Each buffer's size is therefore written as `coefficient * unit`, with the unit (1, batch,
batch*time, ...) a polynomial without common factor. Buffers of one unit share one region, planned
in coefficients alone: the plan is made once, holds for every batch size, and is emitted into the
program. A region begins where the one before it ends.

Source: greedy by size within a region (Pisarchyk, Lee 2020, "Efficient memory management for deep
neural net inference", section 4); where that leaves the peak above the live set, other orders, and orders
in which the buffer that made the peak comes first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from kcompile.errors import CompilerBug
from kcompile.ir import dim
from kcompile.ir.dim import Dim, DimLike, FloorDiv

ALIGN_BYTES = 64  # a cache line, and the widest vector


@dataclass(frozen=True)
class Buffer:
    """Something to place: its size, and the first and last step that touch it, both included."""

    name: str
    nbytes: DimLike
    first: int
    last: int


@dataclass(frozen=True)
class Region:
    """All buffers whose size is a multiple of `unit`; it needs `peak` bytes per unit."""

    unit: DimLike
    peak: int
    offset_bytes: DimLike

    @property
    def nbytes(self) -> DimLike:
        return self.peak * self.unit


@dataclass(frozen=True)
class Plan:
    """Where every buffer lies. Offsets and the total are polynomials of the named sizes."""

    buffers: tuple[Buffer, ...]
    offsets: dict[str, DimLike]
    regions: tuple[Region, ...]
    arena_bytes: DimLike
    slots: dict[str, tuple[int, int, int]]  # name -> (region number, offset per unit, size per unit)


def plan_memory(buffers: Sequence[Buffer]) -> Plan:
    """Place buffers in one arena so that none alive together overlap.

    Args:     buffers: sizes in bytes and live ranges, both ends included.
    Returns:  an offset per buffer, multiples of ALIGN_BYTES, and the arena size.
    Cost:     O(n²) in buffers; n is in the hundreds.
    """
    groups: dict[DimLike, list[tuple[Buffer, int]]] = {}
    for buffer in buffers:
        coefficient, unit = _factored(_without_small_floors(buffer.nbytes))
        groups.setdefault(unit, []).append((buffer, _aligned(coefficient)))
    offsets: dict[str, DimLike] = {}
    slots: dict[str, tuple[int, int, int]] = {}
    regions: list[Region] = []
    start: DimLike = 0
    for number, unit in enumerate(sorted(groups, key=str)):
        placed = _place(groups[unit])
        region = Region(unit, max((o + size for o, size in placed.values()), default=0), start)
        regions.append(region)
        for name, (offset, size) in placed.items():
            offsets[name] = start + offset * unit
            slots[name] = (number, offset, size)
        start = start + region.nbytes
    return Plan(tuple(buffers), offsets, tuple(regions), start, slots)


def _factored(nbytes: DimLike) -> tuple[int, DimLike]:
    """Write a size as coefficient * unit, the unit's coefficients having no common factor."""
    if not isinstance(nbytes, Dim):
        return int(nbytes), 1
    common = math.gcd(*nbytes.terms.values())
    unit = Dim({m: c // common for m, c in nbytes.terms.items()})
    return common, unit


def _without_small_floors(nbytes: DimLike) -> DimLike:
    """Round `c * batch + ((p * batch + q) // r)` up to a multiple of batch, where that costs little for any batch.

    So a buffer with a few rows of rounding (a Winograd transform's last tile) shares the region of all others.
    """
    if not isinstance(nbytes, Dim):
        return nbytes
    rounded: DimLike = nbytes
    for monomial, coefficient in nbytes.terms.items():
        found = _linear_bound(monomial, coefficient)
        if found is not None:
            unit, at_most, slope = found
            if at_most - slope > SMALL_SHARE * nbytes.terms.get(unit, 0):
                return nbytes
            rounded = rounded + Dim({unit: at_most}) - Dim({monomial: coefficient})
    return rounded


SMALL_SHARE = 0.02


def _linear_bound(monomial: tuple, coefficient: int) -> tuple[tuple, int, float] | None:
    """For coefficient * ((p * s + q) // r): the unit s, the least b with b * s not below it for s >= 0, and its slope.

    (p * s + q) // r <= b * s follows from q < r at s = 0, and from b >= (p + q) // r and b >= p / r at s >= 1.
    """
    if len(monomial) != 1 or not isinstance(monomial[0], FloorDiv) or coefficient < 0:
        return None
    numerator, r = monomial[0].numerator, monomial[0].denominator
    terms = dict(numerator.terms) if isinstance(numerator, Dim) else {}
    q = terms.pop((), 0)
    if not isinstance(r, int) or len(terms) != 1 or not 0 <= q < r:
        return None
    ((unit, p),) = terms.items()
    if p < 0:
        return None
    return unit, coefficient * max((p + q) // r, -(-p // r)), coefficient * p / r


def _aligned(nbytes: int) -> int:
    return max(ALIGN_BYTES, -(-nbytes // ALIGN_BYTES) * ALIGN_BYTES)


def _place(buffers: Sequence[tuple[Buffer, int]]) -> dict[str, tuple[int, int]]:
    """Lowest free offset for each buffer; of several orders to place them in, the one with the lowest peak."""
    bound = _live_set(buffers)
    best: dict[str, tuple[int, int]] = {}
    best_peak = math.inf
    for key in _ORDERS:
        order = sorted(buffers, key=lambda b: (*key(b), b[0].first, b[0].name))
        for _ in range(REPAIRS):
            placed = _first_fit(order)
            peak = max((o + size for o, size in placed.values()), default=0)
            if peak < best_peak:
                best, best_peak = placed, peak
            if peak == bound:
                return placed
            highest = next(b for b in order if sum(placed[b[0].name]) == peak)
            if highest is order[0]:
                break
            order = [highest, *(b for b in order if b is not highest)]  # what did not fit below goes first next time
    return best


_ORDERS = (
    lambda b: (-b[1],),  # largest first: the best of the simple ones, most of the time
    lambda b: (-b[1] * (b[0].last - b[0].first + 1),),  # largest area of size and time
    lambda b: (b[0].first - b[0].last,),  # longest alive
)
REPAIRS = 16


def _first_fit(order: Sequence[tuple[Buffer, int]]) -> dict[str, tuple[int, int]]:
    """The lowest offset at which each buffer overlaps none placed before it."""
    placed: list[tuple[Buffer, int, int]] = []
    for buffer, size in order:
        taken = sorted((o, s) for other, o, s in placed if _alive_together(buffer, other))
        offset = 0
        for other_offset, other_size in taken:
            if offset + size <= other_offset:
                break
            offset = max(offset, other_offset + other_size)
        placed.append((buffer, offset, size))
    return {b.name: (o, s) for b, o, s in placed}


def _live_set(buffers: Sequence[tuple[Buffer, int]]) -> int:
    """The largest sum of sizes alive at one step: no placement has a lower peak."""
    change: dict[int, int] = {}
    for buffer, size in buffers:
        change[buffer.first] = change.get(buffer.first, 0) + size
        change[buffer.last + 1] = change.get(buffer.last + 1, 0) - size
    return max(itertools.accumulate(change[step] for step in sorted(change)), default=0)


def _alive_together(a: Buffer, b: Buffer) -> bool:
    return a.first <= b.last and b.first <= a.last


def check_plan(plan: Plan) -> None:
    """Prove that no two buffers alive together overlap, for every value of the sizes.

    Raises: CompilerBug naming the two buffers. Written without the planner's own bookkeeping.
    """
    ends: DimLike = 0
    for region in plan.regions:
        if region.offset_bytes != ends:
            raise CompilerBug(f"region {region.unit} starts at {region.offset_bytes}, the one before ends at {ends}")
        ends = ends + region.nbytes
    if ends != plan.arena_bytes:
        raise CompilerBug(f"regions end at {ends}, the arena at {plan.arena_bytes}")
    for n, a in enumerate(plan.buffers):
        region_a, offset_a, size_a = plan.slots[a.name]
        coefficient, unit = _factored(_without_small_floors(a.nbytes))
        if unit != plan.regions[region_a].unit or coefficient > size_a or offset_a % ALIGN_BYTES:
            raise CompilerBug(f"buffer {a.name} of {a.nbytes} bytes got the slot {plan.slots[a.name]}")
        if offset_a + size_a > plan.regions[region_a].peak:
            raise CompilerBug(f"buffer {a.name} reaches beyond its region")
        for b in plan.buffers[n + 1 :]:
            region_b, offset_b, size_b = plan.slots[b.name]
            if region_a != region_b or not _alive_together(a, b):
                continue
            if offset_a < offset_b + size_b and offset_b < offset_a + size_a:
                raise CompilerBug(f"buffers {a.name} and {b.name} overlap while both are alive")


def lower_bound_bytes(buffers: Sequence[Buffer], sizes: dict[str, int]) -> int:
    """Largest number of bytes alive at one step: no plan can be smaller."""
    steps = {b.first for b in buffers} | {b.last for b in buffers}
    total = (sum(dim.evaluate(b.nbytes, sizes) for b in buffers if b.first <= s <= b.last) for s in steps)
    return max(total, default=0)
