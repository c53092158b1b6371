"""Writing the sliding path: rows, tiles of a row, blocks of channels; results and sums. See sliding.py."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llvmlite import ir

from kcompile.codegen.contract.affine import extent
from kcompile.codegen.contract.epilogue import Along, store_vector
from kcompile.codegen.contract.frame import ROLLED, SHARED_SPACE, Frame, Signature
from kcompile.codegen.contract.sliding import SlidingPlan, place_of, places_of
from kcompile.codegen.contract.tile_loops import multiply_add
from kcompile.codegen.contract.tiles import FMA_LATENCY, FMA_PER_CYCLE
from kcompile.codegen.contract.unflatten import unflatten
from kcompile.codegen.contract.widen import widened
from kcompile.codegen.kernel import Phase
from kcompile.codegen.llvm_types import I64, Index, memory_type
from kcompile.codegen.module import Param, leave_loop
from kcompile.ir import dim
from kcompile.ir.dim import Axis
from kcompile.ir.types import DType


def emit_phases(module, target, sig: Signature, plan: SlidingPlan, name: str) -> tuple[Phase, ...]:
    """Write all functions of the kernel; return its phases."""
    leave_loop(module)  # large images take a tenth longer with the passes for code in vectors
    more = [Param(p, I64) for p in ("task", "first", "end", "channel", "channels")]
    frame = Frame.internal(module, target, f"{name}.rows", sig, more)
    (_SumRows if plan.sliding.is_sum else _MapRows)(frame, plan).write()
    _emit_tasks(module, target, sig, plan, name, frame.b.fn)
    phase = Phase(name, plan.tasks, plan.cost_per_task)
    if not plan.sliding.is_sum:
        return (phase,)
    _emit_sum(module, target, sig, plan, f"{name}_sum")
    return phase, Phase(f"{name}_sum", plan.taps, plan.shares * plan.channels)


def _emit_tasks(module, target, sig: Signature, plan: SlidingPlan, name: str, rows_fn) -> None:
    frame = Frame.exported(module, target, name, sig)
    b = frame.b
    rows, per_task, channels = (frame.index(n) for n in (plan.row_count, plan.per_task, plan.channels))
    with b.loop("task", b["begin"], b["end"], **ROLLED) as task:
        groups = frame.index(plan.groups)
        share, group = b.div_nonneg(task, groups), b.mod_nonneg(task, groups)
        low = b.mul(group, plan.group * plan.lanes)
        high = b.min(b.add(low, plan.group * plan.lanes), channels)
        first = b.mul(share, per_task)
        end = b.min(b.add(first, per_task), rows)
        b.call(rows_fn, [*frame.leading(), *(b.index(n) for n in (share, first, end, low, high))])
    b.ret()


def _emit_sum(module, target, sig: Signature, plan: SlidingPlan, name: str) -> None:
    """Add the shares of one tap in their order, then evaluate the stores."""
    frame = Frame.exported(module, target, name, sig)
    b, dtype = frame.b, plan.dtype
    add = b.fadd if dtype.is_float else b.ll.or_ if dtype.category == "bool" else b.ll.add
    wide, taps = frame.index(plan.padded_channels), plan.taps
    with b.loop("tap", b["begin"], b["end"], **ROLLED) as tap:
        places = unflatten(frame, plan.sliding.taps, tap)
        for c, (mask,), valid in _blocks(frame, plan, 1, 0, frame.index(plan.channels)):
            with b.carried_loop("share", 0, frame.index(plan.shares), [b.zero(dtype, plan.lanes)]) as loop:
                place = b.add(b.mul(b.add(b.mul(loop.index, taps), tap), wide), c)
                value = b.load_vector(frame.pointers[SHARED_SPACE], dtype, place, plan.lanes)
                loop.next(add(loop.carried[0], value))
            _finish(frame.with_places({**places, plan.sliding.channel: c}), plan, loop.results[0], mask, valid)
    b.ret()


def _finish(frame: Frame, plan: SlidingPlan, value: ir.Value, mask, valid) -> None:
    at = Along(frame, plan.sliding.channel, plan.lanes, mask, valid, value)
    for store in plan.stores:
        store_vector(at, store)


def _blocks(frame: Frame, plan: SlidingPlan, vectors: int, low: Index, high: Index) -> Iterator:
    """Channels [low, high) in blocks: (first channel, masks of its vectors, valid lanes of the last one).

    What is written for a block goes into a loop. Where the channels are known, the last block has as many vectors as
    are left, the last of them perhaps masked: one pass over rows less than if it went by itself.
    """
    b, lanes, size = frame.b, plan.lanes, plan.channels
    count = b.sub(high, low)
    whole = b.mul(b.div_nonneg(count, vectors * lanes), vectors * lanes)
    known = size if dim.is_static(size) else None
    if known is None or known >= vectors * lanes:
        with b.loop("channel", low, b.add(low, whole), vectors * lanes, **ROLLED) as c:
            yield c, [None] * vectors, None
    done = b.add(low, whole)
    if known is not None:
        left = known % (vectors * lanes)
        if left:
            valid = left % lanes or None
            last = b.tail_mask(lanes, valid) if valid else None
            with b.if_(b.compare("<", done, high)):
                yield done, [*[None] * (-(-left // lanes) - 1), last], valid
        return
    if vectors > 1:
        whole = b.mul(b.div_nonneg(b.sub(high, done), lanes), lanes)
        with b.loop("channel", done, b.add(done, whole), lanes, **ROLLED) as c:
            yield c, [None], None
        done = b.add(done, whole)
    with b.if_(b.compare("<", done, high)):
        valid = b.sub(high, done)
        yield done, [b.tail_mask(lanes, valid)], valid


@dataclass
class _Row:
    """A row of the array under one combination of outer taps: where it starts, and whether it exists."""

    base: ir.Value
    exists: bool | ir.Value
    taps: dict[Axis, Index]
    place: int


@dataclass
class _Tile:
    """Columns from `start` on; `first` is the array's place that theirs are relative to."""

    start: Index
    columns: int
    first: Index
    is_inner: bool


class _Rows:
    """Writes the function of one task: its rows, their tiles, blocks of channels."""

    def __init__(self, frame: Frame, plan: SlidingPlan):
        self.frame, self.plan, self.b = frame, plan, frame.b
        self.load = plan.sliding.array
        shape = plan.shapes[self.load.buffer]
        steps, step = [], 1
        for size in reversed(shape):
            steps.append(step)
            step = step * size
        steps = [s for n, s in enumerate(reversed(steps)) if n != plan.sliding.channel_at]
        self.strides = dict(zip(plan.sliding.slides, (frame.index(s) for s in steps)))
        self.along_stride = self.strides[plan.along]
        self.along_size = frame.index(plan.along.size)

    def rows(self) -> contextlib.AbstractContextManager:
        return self.b.loop("row", self.b["first"], self.b["end"], **ROLLED)

    def enter(self, row: Index) -> Frame:
        """The frame with the places of a row's axes."""
        places = unflatten(self.frame, self.plan.row_axes, row)
        if self.plan.height > 1:
            first = self.b.mul(places.pop(self.plan.row_axes[-1]), self.plan.height)
            places[self.plan.rows[-1]] = first
        return self.frame.with_places(places)

    # places ---------------------------------------------------------------------------------

    def row_of(self, frame: Frame, taps: dict[Axis, Index], place_across: int = 0) -> _Row:
        """The array's row under the given outer taps, `place_across` rows from the tile's first."""
        b = self.b
        total: Index = 0
        exists: bool | ir.Value = True
        for slide in self.plan.outer:
            place = frame.index(slide.offset)
            if slide.image is not None:
                place = b.add(place, b.mul(frame.places[slide.image], slide.step))
            if slide.tap is not None:
                place = b.add(place, b.mul(taps[slide.tap], slide.gap))
            if slide.is_bounded:
                exists = b.both(exists, b.compare(">=", place, 0))
            if slide.spread > 1:
                if slide.is_bounded:
                    exists = b.both(exists, b.compare("==", b.mod_nonneg(place, slide.spread), 0))
                place = b.div_nonneg(place, slide.spread)
            if slide.is_bounded:
                exists = b.both(exists, b.compare("<", place, frame.index(slide.size)))
            total = b.add(total, b.mul(place, self.strides[slide]))
        if self.plan.across is not None:
            slide = self.plan.across
            place = b.add(self.first_place(slide, frame.places[slide.image]), place_across)
            if slide.is_bounded:
                exists = b.both(exists, b.compare(">=", place, 0))
            if slide.is_bounded or self.plan.has_rows_beyond:
                exists = b.both(exists, b.compare("<", place, frame.index(slide.size)))
            total = b.add(total, b.mul(place, self.strides[slide]))
        return _Row(self.moved(frame.pointers[self.load.buffer], self.load.dtype, total), exists, taps, place_across)

    def moved(self, base: ir.Value, dtype: DType, elements: Index) -> ir.Value:
        """An address that may lie outside, as long as nobody reads there."""
        if isinstance(elements, int) and elements == 0:
            return base
        return self.b.ll.gep(base, [self.b.index(elements)], source_etype=memory_type(dtype))

    def first_place(self, slide, start: Index) -> Index:
        """The array's place that a tile's places (`place_of`) are relative to."""
        first = self.b.mul(start, slide.step)
        if slide.spread > 1:
            return self.b.div_nonneg(first, slide.spread)
        return self.b.add(first, self.frame.index(slide.offset))

    def tile(self, start: Index, columns: int, is_inner: bool) -> _Tile:
        return _Tile(start, columns, self.first_place(self.plan.along, start), is_inner)

    def tiles(self, emit: Callable[[_Tile], None]) -> None:
        """Write every tile of a row; inner ones in a loop."""
        plan, b = self.plan, self.b
        if plan.segments is not None:
            for part in plan.segments:
                if part.count == 1:
                    emit(self.tile(part.start, part.columns, part.is_inner))
                    continue
                end = part.start + part.count * part.columns
                with b.loop("tile", part.start, end, part.columns, **ROLLED) as start:
                    emit(self.tile(start, part.columns, True))
            return
        size = self.frame.index(plan.along.image.extent)
        with b.loop("tile", 0, size, plan.columns, **ROLLED) as start:
            tile = self.tile(start, plan.columns, True)
            inner = b.compare("<=", b.add(start, plan.columns), size)
            places = places_of(plan.along, plan.columns)
            if plan.along.is_bounded and places:
                inner = b.both(inner, b.compare(">=", b.add(tile.first, places[0]), 0))
                inner = b.both(inner, b.compare("<", b.add(tile.first, places[-1]), self.along_size))
            with b.if_else(inner, likely=True) as (then, otherwise):
                with then:
                    emit(tile)
                with otherwise:
                    emit(self.tile(start, plan.columns, False))

    def has_column(self, tile: _Tile, column: int) -> bool | ir.Value:
        """True where the tile's column is one of the row's; known for tiles that are written for their place."""
        if tile.is_inner or self.plan.segments is not None:
            return True
        return self.b.compare("<", self.b.add(tile.start, column), self.frame.index(self.plan.along.image.extent))

    # values ---------------------------------------------------------------------------------

    def array_vector(self, row: _Row, tile: _Tile, place: int, channel: Index, mask) -> ir.Value | None:
        """A vector of the array; None where it is known not to exist."""
        b = self.b
        here = b.add(tile.first, place)
        exists: bool | ir.Value = True
        if not tile.is_inner and self.plan.along.is_bounded:
            exists = b.both(b.compare(">=", here, 0), b.compare("<", here, self.along_size))
        elif not tile.is_inner and self.plan.segments is None:  # columns behind the last one
            exists = b.compare("<", here, self.along_size)
        if exists is False:
            return None
        at = self.moved(row.base, self.load.dtype, b.add(b.mul(here, self.along_stride), channel))
        return self.vector(at, self.load.dtype, self.masked(exists, mask))

    def masked(self, exists: bool | ir.Value, mask):
        if exists is True:
            return mask
        every = self.b.splat(self.b.condition(exists), self.plan.lanes)
        return every if mask is None else self.b.ll.and_(every, mask)

    def vector(self, at: ir.Value, dtype: DType, mask) -> ir.Value:
        b = self.b
        value = b.load_vector(at, dtype, 0, self.plan.lanes) if mask is None else b.load_masked(at, dtype, 0, mask)
        return widened(b, value, dtype, self.plan.dtype)

    def other_at(self, frame: Frame, places: dict[Axis, Index], channel: Index) -> ir.Value:
        """The address of the other operand at the frame's places and these."""
        b, memory = self.b, self.plan.other
        total = b.add(frame.index(memory.at.offset), channel)
        for axis, place in {**frame.places, **places}.items():
            total = b.add(total, b.mul(place, frame.index(memory.stride(axis))))
        return self.moved(frame.pointers[memory.buffer], memory.dtype, total)

    def outer_axes(self) -> tuple[Axis, ...]:
        return tuple(s.tap for s in self.plan.outer if s.tap is not None)

    def zeros(self, count: int) -> list[ir.Value]:
        return [self.b.zero(self.plan.dtype, self.plan.lanes)] * count


def _guarded(b, exists: bool | ir.Value, values: list[ir.Value], more) -> list[ir.Value]:
    """`more(values)` where something exists, else the values as they are."""
    if exists is True:
        return more(values)
    if exists is False:
        return values
    before = b.ll.block
    with b.if_(exists):
        changed = more(values)
        inside = b.ll.block
    merged = []
    for old, new in zip(values, changed):
        phi = b.ll.phi(old.type)
        phi.add_incoming(old, before)
        phi.add_incoming(new, inside)
        merged.append(phi)
    return merged


class _MapRows(_Rows):
    """Results: accumulators are the columns of a tile."""

    def write(self) -> None:
        with self.rows() as row:
            frame = self.enter(row)
            self.tiles(lambda tile: self.channels(frame, tile))
        self.b.ret()

    def channels(self, frame: Frame, tile: _Tile) -> None:
        b = self.b
        rows = self.outer_rows(frame) if self.plan.is_unrolled else None
        for c, masks, valid in _blocks(frame, self.plan, self.plan.vectors, b["channel"], b["channels"]):
            acc = self.zeros(self.plan.height * tile.columns * len(masks))
            if rows is not None:
                for row in rows:
                    acc = self.row(frame, tile, row, c, masks, acc)
            else:
                with b.carried_loop("window", 0, extent(self.outer_axes()), acc, unroll=False) as loop:
                    row = self.row_of(frame, unflatten(frame, self.outer_axes(), loop.index))
                    loop.next(*self.row(frame, tile, row, c, masks, list(loop.carried)))
                acc = loop.results
            self.finish(frame, tile, c, masks, valid, acc)

    def outer_rows(self, frame: Frame) -> list[_Row]:
        axes = self.outer_axes()
        taps = [unflatten(frame, axes, n) for n in range(extent(axes))]
        places = [0] if self.plan.across is None else places_of(self.plan.across, self.plan.height)
        return [self.row_of(frame, outer, place) for outer in taps for place in places]

    def row(self, frame: Frame, tile: _Tile, row: _Row, c: Index, masks: list, acc: list) -> list:
        return _guarded(self.b, row.exists, acc, lambda acc: self.products(frame, tile, row, c, masks, acc))

    def products(self, frame: Frame, tile: _Tile, row: _Row, c: Index, masks: list, acc: list) -> list:
        """Every vector of the array with the taps that bring it to a point of the tile."""
        plan, new = self.plan, list(acc)
        lines = [(0, {})]
        if plan.across is not None:
            lines = _meeting(plan.across, plan.height, plan.across_taps)[row.place]
            lines = [(v, {plan.across.tap: q} if plan.across.tap else {}) for v, q in lines]
        meets = _meeting(plan.along, tile.columns, plan.along_taps)
        for j, mask in enumerate(masks):
            channel = self.b.add(c, j * plan.lanes)
            weights = {}
            for place in sorted(meets):
                x = self.array_vector(row, tile, place, channel, mask)
                if x is None:
                    continue
                for (u, r), (line, taps) in ((at, line) for line in lines for at in meets[place]):
                    if (line, r) not in weights:
                        taps = {**row.taps, **taps, **({plan.along.tap: r} if plan.along.tap else {})}
                        at = self.other_at(frame, taps, channel)
                        weights[line, r] = self.vector(at, plan.other.dtype, mask)
                    slot = (line * tile.columns + u) * len(masks) + j
                    new[slot] = multiply_add(self.b, plan.dtype, x, weights[line, r], new[slot])
        return new

    def finish(self, frame: Frame, tile: _Tile, c: Index, masks: list, valid, acc: list) -> None:
        b = self.b
        for line in range(self.plan.height):
            with contextlib.ExitStack() as lines:
                here = frame
                if line:
                    image = self.plan.across.image
                    here = frame.with_places({image: b.add(frame.places[image], line)})
                    if self.plan.has_rows_beyond:
                        lines.enter_context(b.if_(b.compare("<", here.places[image], frame.index(image.extent))))
                for u in range(tile.columns):
                    with contextlib.ExitStack() as stack:
                        has = self.has_column(tile, u)
                        if has is not True:
                            stack.enter_context(b.if_(has))
                        for j, mask in enumerate(masks):
                            places = {self.plan.along.image: b.add(tile.start, u)}
                            places[self.plan.sliding.channel] = b.add(c, j * self.plan.lanes)
                            value = acc[(line * tile.columns + u) * len(masks) + j]
                            _finish(here.with_places(places), self.plan, value, mask, None if mask is None else valid)


def _meeting(slide, count: int, taps: int) -> dict[int, list[tuple[int, int]]]:
    """For every place a tile reads: the points it is read for, each with its tap."""
    found: dict[int, list[tuple[int, int]]] = {}
    for r in range(taps):
        for u in range(count):
            place = place_of(slide, u, r)
            if place is not None:
                found.setdefault(place, []).append((u, r))
    return found


class _SumRows(_Rows):
    """A filter gradient: accumulators are the taps along the row, or of the whole window if registers hold them.

    Several of each where they are few.
    """

    def write(self) -> None:
        b, plan = self.b, self.plan
        wide, size = self.frame.index(plan.padded_channels), plan.dtype.size_bytes
        self.partial = b.at(self.frame.pointers[SHARED_SPACE], plan.dtype, b.mul(b["task"], b.mul(wide, plan.taps)))
        mine = b.sub(b["channels"], b["channel"])
        mine = b.mul(b.ceildiv(mine, plan.lanes), plan.lanes * size)
        with b.loop("tap", 0, plan.taps, **ROLLED) as tap:
            b.fill_bytes(b.at(self.partial, plan.dtype, b.add(b.mul(tap, wide), b["channel"])), 0, mine)
        with self.rows() as row:
            frame = self.enter(row)
            for c, masks, _ in _blocks(frame, plan, plan.vectors, b["channel"], b["channels"]):
                if not plan.is_whole:
                    self.tap_by_tap(frame, c, masks)
                    continue
                rows = self.outer_rows(frame)
                with b.if_else(functools.reduce(b.both, (row.exists for row in rows)), likely=True) as (
                    then,
                    otherwise,
                ):
                    with then:
                        self.add_rows(frame, list(enumerate(rows)), c, masks)
                    with otherwise:
                        self.tap_by_tap(frame, c, masks)
        b.ret()

    def outer_rows(self, frame: Frame) -> list[_Row]:
        axes = self.outer_axes()
        return [self.row_of(frame, unflatten(frame, axes, n)) for n in range(extent(axes))]

    def tap_by_tap(self, frame: Frame, c: Index, masks: list) -> None:
        """The sums over a row of columns for one row of the array after the other."""
        b = self.b
        with b.loop("window", 0, extent(self.outer_axes()), **ROLLED) as outer:
            array_row = self.row_of(frame, unflatten(frame, self.outer_axes(), outer))
            with b.if_(array_row.exists):
                self.add_rows(frame, [(outer, array_row)], c, masks)

    def add_rows(self, frame: Frame, rows: list[tuple[Index, _Row]], c: Index, masks: list) -> None:
        """The sums over one row of columns, added to the partial ones; `rows` of the array with their outer taps."""
        b, plan, vectors = self.b, self.plan, len(masks)
        taps = plan.along_taps
        self.sets = max(1, -(-FMA_LATENCY * FMA_PER_CYCLE // (len(rows) * taps * vectors)))
        each = taps * vectors * self.sets

        def products(tile: _Tile, acc: list) -> list:
            parts = [(row, acc[n * each : (n + 1) * each]) for n, (_, row) in enumerate(rows)]
            return [v for row, part in parts for v in self.products(frame, tile, row, c, masks, part)]

        sums = self.over_tiles(self.zeros(each * len(rows)), products)
        wide = self.frame.index(plan.padded_channels)
        for n, (outer, r) in enumerate((outer, r) for outer, _ in rows for r in range(taps)):
            place = b.add(b.mul(b.add(b.mul(outer, taps), r), wide), c)
            for j in range(vectors):
                mine = sums[(n * vectors + j) * self.sets : (n * vectors + j + 1) * self.sets]
                total = mine[0]
                for more in mine[1:]:
                    total = self.plus(total, more)
                at = b.add(place, j * plan.lanes)
                old = b.load_vector(self.partial, plan.dtype, at, plan.lanes)
                b.store_vector(self.plus(old, total), self.partial, plan.dtype, at)

    def plus(self, x: ir.Value, y: ir.Value) -> ir.Value:
        b, dtype = self.b, self.plan.dtype
        return b.fadd(x, y) if dtype.is_float else b.ll.or_(x, y) if dtype.category == "bool" else b.ll.add(x, y)

    def over_tiles(self, acc: list, more) -> list:
        """`tiles` with accumulators handed on."""
        plan, b = self.plan, self.b
        if plan.segments is not None:
            for part in plan.segments:
                if part.count == 1:
                    acc = more(self.tile(part.start, part.columns, part.is_inner), acc)
                    continue
                end = part.start + part.count * part.columns
                with b.carried_loop("tile", part.start, end, acc, part.columns, unroll=False) as loop:
                    loop.next(*more(self.tile(loop.index, part.columns, True), list(loop.carried)))
                acc = loop.results
            return acc
        size = self.frame.index(plan.along.image.extent)
        with b.carried_loop("tile", 0, size, acc, plan.columns, unroll=False) as loop:
            loop.next(*more(self.tile(loop.index, plan.columns, False), list(loop.carried)))
        return loop.results

    def products(self, frame: Frame, tile: _Tile, row: _Row, c: Index, masks: list, acc: list) -> list:
        """Every column's vector with the array's under each tap."""
        b, plan, new = self.b, self.plan, list(acc)
        for j, mask in enumerate(masks):
            channel = b.add(c, j * plan.lanes)
            read: dict[int, ir.Value | None] = {}
            for u in range(tile.columns):
                at = self.other_at(frame, {plan.along.image: b.add(tile.start, u)}, channel)
                y = None
                for r in range(plan.along_taps):
                    place = place_of(plan.along, u, r)
                    if place is None:
                        continue
                    if place not in read:
                        read[place] = self.array_vector(row, tile, place, channel, mask)
                    if read[place] is None:
                        continue
                    if y is None:
                        y = self.vector(at, plan.other.dtype, self.masked(self.has_column(tile, u), mask))
                    slot = (r * len(masks) + j) * self.sets + u % self.sets
                    new[slot] = multiply_add(b, plan.dtype, read[place], y, new[slot])
        return new
