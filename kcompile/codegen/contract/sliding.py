"""The sliding path: a window over every channel by itself (forms/sliding.py), vectors along the channels.

    for row of the result, tile of `columns` neighbours in it, block of channels:
        for outer tap whose row of the array exists:
            each vector of the array is loaded once and meets every tap it belongs to

The tile's places relative to the array are constants, so what lies between the elements of a spread array costs
nothing. Tiles that may reach over the border are written apart from the inner ones: where sizes are known each
for its place, so that only products that exist are left; otherwise with masks.

A filter gradient has its accumulators in the taps instead and runs over the columns; rows are shared among tasks,
whose partial sums a second phase adds in order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kcompile.codegen.contract.affine import Memory, ceildiv, extent, memory_of
from kcompile.codegen.contract.plan import PRODUCTS_PER_OPERATION
from kcompile.codegen.contract.tiles import FMA_LATENCY, FMA_PER_CYCLE
from kcompile.forms.records import Contract, Store
from kcompile.forms.scalar import cast, cost
from kcompile.forms.sliding import Slide, Sliding, sliding
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, nominal
from kcompile.ir.types import DType, Shape
from kcompile.target import Target

MAX_COLUMNS = 16  # of a tile: more gain no reuse, and their code grows
MAX_TILE_ROWS = 4
HEAVY_COST, HEAVY_TILE = 32, 6  # an epilogue of this many operations is unrolled over so many points only
LOAD_COST, WEIGHT_COST = 1.0, 0.25  # of a vector of the array, which is rarely in the first-level cache, and of a tap
UNROLLED = 256  # multiply-adds of one vector that are written out for one tile
MAX_SUM_COLUMNS = 8  # of a filter gradient
SUM_REGISTERS = 5  # beside the sums of a whole window
MAX_BORDER_TILES = 4  # written out for one row
MIN_GROUP = 4  # vectors of neighbouring channels, for the sake of prefetching
GROUP_BYTES = 1024  # channels of one task of a filter gradient
TASK_CYCLES = 20_000
SHARE_CYCLES = 30_000  # a share's partial sums must be added again
TASKS_WANTED = 32


@dataclass(frozen=True)
class Segment:
    """`count` tiles of `columns` columns from column `start` on; inner ones reach over no border."""

    start: int
    count: int
    columns: int
    is_inner: bool


@dataclass(frozen=True)
class SlidingPlan:
    """along: the slide tiles run along; across: the one they have `height` rows of, or None; outer: the others.

    rows:      axes of the images but along's, the last one across's; a row of tiles is `height` rows.
    period:    tiles start at multiples of it, so that their places in a spread array are constants.
    vectors:   of channels in one tile.
    segments:  of one row; None: its size is known at run time only, or too many tiles touch a border.
    per_task:  rows of tiles of one task; shares: tasks for all rows (of one group of channels).
    group:     channels of one task of a filter gradient, in vectors.
    is_whole:  a filter gradient sums all taps of the window at once, where all its rows exist.
    """

    form: Contract
    shapes: Mapping[str, Shape]
    sliding: Sliding
    other: Memory
    dtype: DType
    lanes: int
    along: Slide
    outer: tuple[Slide, ...]
    rows: tuple[Axis, ...]
    across: Slide | None
    height: int
    columns: int
    period: int
    vectors: int
    is_unrolled: bool
    segments: tuple[Segment, ...] | None
    per_task: DimLike
    shares: DimLike
    group: int
    cycles: float
    is_whole: bool = False

    @property
    def channels(self) -> DimLike:
        return self.sliding.channel.extent

    @property
    def stores(self) -> tuple[Store, ...]:
        return self.form.stores

    @property
    def along_taps(self) -> int:
        return self.along.tap.extent if self.along.tap else 1

    @property
    def row_axes(self) -> tuple[Axis, ...]:
        """`rows` in steps of tiles."""
        return tile_rows(self.rows, self.height)

    @property
    def row_count(self) -> DimLike:
        return extent(self.row_axes)

    @property
    def has_rows_beyond(self) -> bool:
        """True if the last tile may have rows that are not the result's."""
        return self.height > 1 and not (dim.is_static(self.rows[-1].extent) and self.rows[-1].extent % self.height == 0)

    @property
    def across_taps(self) -> int:
        return self.across.tap.extent if self.across and self.across.tap else 1

    @property
    def groups(self) -> DimLike:
        return ceildiv(self.channels, self.group * self.lanes)

    @property
    def tasks(self) -> DimLike:
        return self.shares * self.groups

    @property
    def taps(self) -> int:
        return extent(self.sliding.taps)

    @property
    def padded_channels(self) -> DimLike:
        return ceildiv(self.channels, self.lanes) * self.lanes

    @property
    def partial_elements(self) -> DimLike:
        """Elements of the partial sums of a filter gradient."""
        return self.shares * self.taps * self.padded_channels if self.sliding.is_sum else 0

    @property
    def cost_per_task(self) -> DimLike:
        points = self.per_task * self.along.image.extent * self.group * self.lanes
        return points * (self.taps // PRODUCTS_PER_OPERATION + 1)

    def describe(self) -> str:
        """One line for people: path, tile, blocks."""
        window = "x".join(str(t.extent) for t in self.sliding.taps) or "1"
        parts = [f"sliding {self.height}x{self.columns}x{self.vectors * self.lanes}", f"window {window}"]
        if self.sliding.is_sum:
            parts.append(f"sum in {self.shares} shares x {self.groups} groups")
        return ", ".join(parts)


def plan(form: Contract, target: Target) -> SlidingPlan | None:
    """Decide everything for a form that slides; None for others."""
    shapes = {b.name: b.type.shape for b in form.buffers}
    found = sliding(form, shapes)
    if found is None:
        return None
    other = memory_of(cast(found.other, form.dtype), shapes, form.dtype)
    at = max(n for n, s in enumerate(found.slides) if s.image)
    along = found.slides[at]
    lanes = target.lanes(form.dtype.size_bytes)
    taps = along.tap.extent if along.tap else 1
    rest = [s for n, s in enumerate(found.slides) if n != at]
    across = None if found.is_sum else next((s for s in reversed(rest) if s.image), None)
    period = _period(along)
    most = target.vector_registers - 2 - min(taps, target.vector_registers // 4)
    if sum(cost(s.value) for s in form.stores) > HEAVY_COST:
        most = min(most, HEAVY_TILE)
    width = max(1, -(-nominal(found.channel.extent) // lanes))
    height, columns = _tile(along, across, extent(found.taps), most)
    if height == 1:
        across = None
    outer = tuple(s for s in rest if s is not across)
    busy = FMA_LATENCY * FMA_PER_CYCLE
    is_whole = False
    if found.is_sum:
        columns = min(MAX_SUM_COLUMNS, columns)
        fit = target.vector_registers * 5 // 8 // taps
        # The other operand is then loaded once for all rows of the window. That pays where vectors lie in two lines.
        uneven = dim.is_static(found.channel.extent) and found.channel.extent % lanes != 0
        is_whole = uneven and taps < extent(found.taps) <= target.vector_registers - SUM_REGISTERS
        if is_whole:
            fit = target.vector_registers * 5 // 8 // extent(found.taps)
        vectors = max(1, min(fit, 4 if taps > 1 else busy, width))
    else:
        points = height * columns
        vectors = max(1, min(-(-busy // points), (most + 1) // points, width))
    all_taps = extent(found.taps)
    unrolled = all_taps * columns * height <= UNROLLED
    rows = tuple(a for a in found.images if a != along.image)
    points = max(1, nominal(along.image.extent)) * width
    cycles = height * points * (all_taps / FMA_PER_CYCLE + 1)  # of one row of tiles
    count = extent(tile_rows(rows, height))
    total = cycles * max(1, nominal(count))
    group = _group(found, along, outer, vectors, lanes * form.dtype.size_bytes, width, target)
    if found.is_sum:
        group = -(-max(1, GROUP_BYTES // (lanes * form.dtype.size_bytes)) // vectors) * vectors
        groups = -(-width // group)
        wanted = max(1, min(TASKS_WANTED // groups, round(total / groups / SHARE_CYCLES)))
        per_task = ceildiv(count, wanted)
        if dim.is_static(per_task):
            per_task = max(1, per_task)
            wanted = -(-count // per_task)
    else:
        per_task = max(1, round(TASK_CYCLES * -(-width // group) / max(1.0, cycles)))
        wanted = ceildiv(count, per_task)
    return SlidingPlan(
        form,
        shapes,
        found,
        other,
        form.dtype,
        lanes,
        along,
        outer,
        rows,
        across,
        height,
        columns,
        period,
        vectors,
        unrolled,
        _segments(along, columns, period),
        per_task,
        wanted,
        group,
        total,
        is_whole,
    )


def _group(found: Sliding, along: Slide, outer, vectors: int, vector_bytes: int, width: int, target: Target) -> int:
    """Vectors of channels, so many that the rows of the array a window needs stay in the first-level cache."""
    rows = extent(s.tap for s in outer if s.tap)
    row_bytes = max(1, nominal(along.size)) * vector_bytes
    fit = max(MIN_GROUP, target.l1d_bytes // 2 // (rows * row_bytes))
    fit = max(1, min(fit, width) // vectors) * vectors
    return -(-width // -(-width // fit) // vectors) * vectors if fit < width else width


def tile_rows(rows: tuple[Axis, ...], height: int) -> tuple[Axis, ...]:
    """The axes of rows, the last one in steps of `height`."""
    if height == 1:
        return rows
    return (*rows[:-1], Axis(f"{rows[-1].name}.tile", ceildiv(rows[-1].extent, height)))


def _period(slide: Slide) -> int:
    """Tiles start at multiples of it, so that their places in a spread array are constants."""
    return slide.spread // math.gcd(slide.step, slide.spread)


def _tile(along: Slide, across: Slide | None, taps: int, most: int) -> tuple[int, int]:
    """(height, columns): the tile that loads least per point; a load of the array outweighs one of the filter."""
    best = None
    tall = _period(across) if across and taps <= UNROLLED // 4 else 0
    heights = {1} | {h for h in range(1, MAX_TILE_ROWS + 1) if tall and h % tall == 0}
    for height in sorted(heights):
        for columns in range(_period(along), MAX_COLUMNS + 1, _period(along)):
            if best is not None and (height * columns > most or (height > 1 and height * columns * taps > UNROLLED)):
                break
            points, loads, weights = 1, 1, height * taps
            for slide, size in ((along, columns), (across, height)):
                if slide is None:
                    continue
                count = nominal(slide.image.extent)
                points *= size
                loads *= len(places_of(slide, size)) if height > 1 or slide is along else 1
                covered = -(-max(1, count) // size) * size / max(1, count)
                loads, weights = loads * covered, weights * covered
            if across is not None and height == 1:
                loads *= across.tap.extent if across.tap else 1
            score = (LOAD_COST * loads + WEIGHT_COST * weights) / points
            if best is None or score < best[0]:
                best = (score, height, columns)
    return best[1], best[2]


def place_of(along: Slide, column: int, tap: int) -> int | None:
    """Where a column's tap reads, relative to the tile's first place; None if between elements.

    Without spread the offset, which may be known only at run time, is part of the first place.
    """
    place = column * along.step + tap * along.gap
    if along.spread == 1:
        return place
    place += along.offset
    return None if place % along.spread else place // along.spread


def places_of(along: Slide, columns: int) -> list[int]:
    """All places a tile reads, relative to its first."""
    taps = along.tap.extent if along.tap else 1
    found = {place_of(along, u, r) for u in range(columns) for r in range(taps)}
    return sorted(p for p in found if p is not None)


def _segments(along: Slide, columns: int, period: int) -> tuple[Segment, ...] | None:
    size = along.image.extent
    if not all(dim.is_static(n) for n in (size, along.offset, along.size)):
        return None
    found: list[Segment] = []
    for start in range(0, size, columns):
        here = min(columns, size - start)
        first = start * along.step // along.spread if along.spread > 1 else start * along.step + along.offset
        places = [first + p for p in places_of(along, here)]
        inside = all(0 <= p < along.size for p in places) or not along.is_bounded
        is_inner = here == columns and inside
        if is_inner and found and found[-1].is_inner:
            found[-1] = Segment(found[-1].start, found[-1].count + 1, columns, True)
        else:
            found.append(Segment(start, 1, here, is_inner))
    return tuple(found) if sum(not s.is_inner for s in found) <= MAX_BORDER_TILES else None
