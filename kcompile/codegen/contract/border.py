"""Products with the zeros of a border, left out.

An image with a border is stored with it, so that every window lies inside. In small images much of a window meets the
border: a fifth of the products of 3x3 over 7x7. Along each dimension the place read is

    start + out * out_step + tap * tap_step            out: an axis of the result, tap: one of the sum

and anything but zero only from `low` to `high`: for each `out` a range of `tap`, for each `tap` a range of `out`.

    out outside of the register tile:  one place per tile; the loop over `tap` runs over its range only
    out along the register tile:       `tap` in segments, by how many rows at the begin or at the end meet the border;
                                       each segment has a loop of its own, over the other rows

Ranges are arithmetic on the tile's place, so one tile function serves the border and the inside. To leave out too
little is right as well: the zeros are there. Which product a loop leaves out depends on the place in the result alone.

A weight that is infinite or NaN makes NaN where it meets a zero that is multiplied: everywhere on the border in Keras
on JAX and in the interpreter, which multiply all of them, but not where products are left out here. Of 28x28 places, a
NaN in a corner of a 3x3 kernel reaches all 784 there and 756 here; the channel, and any loss, are NaN either way.
(Winograd is wider: an infinite weight makes NaN of its whole channel.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kcompile.codegen.contract.affine import affine
from kcompile.codegen.indices import IndexArithmetic
from kcompile.codegen.llvm_types import Index
from kcompile.forms.records import Contract
from kcompile.forms.scalar import Call, Expr, Load
from kcompile.ir import dim
from kcompile.ir.dim import Axis

MOST_CUT = 3  # rows of a tile left out at either end: each number of them is a loop of its own
MOST_LOOPS = 25  # of one tile function, one inside the other


@dataclass(frozen=True)
class Window:
    """Where one dimension is not border: low <= out * out_step + tap * tap_step < high. Both steps are positive."""

    out: Axis
    tap: Axis
    out_step: int
    tap_step: int
    low: int
    high: int

    def first_tap(self, place: int) -> int:
        """The first step of `tap`, maybe below 0, at which `out` = place is not in the lower border."""
        return -((self.out_step * place - self.low) // self.tap_step)

    def end_tap(self, place: int) -> int:
        """The one behind the last at which it is not in the upper border."""
        return -((self.out_step * place - self.high) // self.tap_step)


@dataclass(frozen=True)
class Segment:
    """Steps [begin, end) of `tap`, at which rows [cut_low, count - cut_high) of `count` are multiplied."""

    begin: Index
    end: Index
    cut_low: int
    cut_high: int


def windows(form: Contract) -> tuple[Window, ...]:
    """The windows of a form whose operands have borders of zeros; at most one per axis of the sum."""
    inside = {b.buffer: b.inside for b in form.borders}
    found: dict[Axis, Window] = {}
    for side in (form.lhs, form.rhs):
        read = _read(side)
        if read is None or read.buffer not in inside:
            continue
        for place, bounds in zip(read.index, inside[read.buffer], strict=True):
            window = _window(form, place, bounds)
            if window is not None:
                found.setdefault(window.tap, window)
    return tuple(found.values())


def _read(expr: Expr) -> Load | None:
    if isinstance(expr, Call) and expr.fn == "cast":
        expr = expr.args[0]
    return expr if isinstance(expr, Load) else None


def _window(form: Contract, place, bounds) -> Window | None:
    at = affine(place)
    if at is None or len(at.strides) != 2:
        return None
    extents, steps = [a.extent for a in at.strides], list(at.strides.values())
    if not all(dim.is_static(n) for n in (at.offset, *bounds, *extents, *steps)) or min(steps) < 0:
        return None
    outs, taps = ([a for a in at.strides if a in axes] for axes in (form.out_axes, form.over))
    if len(outs) != 1 or len(taps) != 1:
        return None
    low, high = (n - at.offset for n in bounds)
    window = Window(outs[0], taps[0], at.stride(outs[0]), at.stride(taps[0]), low, high)
    return window if live(window) < outs[0].extent * taps[0].extent else None


def live(window: Window) -> int:
    """Pairs of `out` and `tap` that are not in the border."""
    taps = window.tap.extent
    ranges = ((max(0, window.first_tap(i)), min(taps, window.end_tap(i))) for i in range(window.out.extent))
    return sum(max(0, end - begin) for begin, end in ranges)


def most_cut(window: Window, count: int, most: int = MOST_CUT) -> tuple[int, int]:
    """How many of `count` neighbouring rows a tile may find in the lower, and in the upper border; `most` at most."""
    reach = min(count - 1, most)
    last = window.out.extent - 1
    lower = sum(1 for i in range(window.out.extent) if window.first_tap(i) > 0)
    upper = sum(1 for i in range(window.out.extent) if window.end_tap(last - i) < window.tap.extent)
    return min(reach, lower), min(reach, upper)


def segments(
    b: IndexArithmetic, window: Window, place: Index, count: int, cuts: tuple[int, int], begin: Index, end: Index
) -> list[Segment]:
    """Cut steps [begin, end) of the window's `tap` for a tile whose rows have `out` from `place` on, `count` of them.

    Each step that some row needs is in one segment; in order. cuts: the most rows to leave out at either end.
    """
    lower, upper = cuts

    def first(row: int) -> Index:
        return _ceiling(b, window, window.low, b.add(place, row))

    def behind(row: int) -> Index:
        return _ceiling(b, window, window.high, b.add(place, row))

    begin, end = b.max(begin, first(count - 1)), b.max(begin, b.min(end, behind(0)))
    found = []
    # row `cut - 1` is in the border before its first step, `cut` rows with it
    for cut_low, cut_high, until in (
        *((cut, 0, first(cut - 1)) for cut in range(lower, 0, -1)),
        (0, 0, behind(count - 1) if upper else end),
        *((0, cut, behind(count - 1 - cut) if cut < upper else end) for cut in range(1, upper + 1)),
    ):
        until = b.max(begin, b.min(until, end))
        found.append(Segment(begin, until, cut_low, cut_high))
        begin = until
    return found


def _ceiling(b: IndexArithmetic, window: Window, bound: int, place: Index) -> Index:
    """The least step of `tap` at which the place read is not below `bound`."""
    return b.sub(0, b.floordiv(b.sub(b.mul(place, window.out_step), bound), window.tap_step))


def cuts(window: Window, count: int, in_tile: Sequence[tuple[Window, int]]) -> tuple[int, int]:
    """The most rows that a tile leaves out at either end.

    Args: in_tile: all windows whose `out` runs along the rows of the tile, and how many rows that is: their loops
          lie within each other.
    """
    most = MOST_CUT
    while most and math.prod(1 + sum(most_cut(w, rows, most)) for w, rows in in_tile) > MOST_LOOPS:
        most -= 1
    return most_cut(window, count, most)


def share(window: Window, counts: Sequence[int], in_tile: Sequence[tuple[Window, int]]) -> float:
    """The share of a window's products that is left, in tiles of `counts` rows one after the other."""
    done, place, ints = 0, 0, _Ints()
    for count in counts:
        for s in segments(ints, window, place, count, cuts(window, count, in_tile), 0, window.tap.extent):
            done += (s.end - s.begin) * (count - s.cut_low - s.cut_high)
        place += count
    return done / (window.out.extent * window.tap.extent)


class _Ints(IndexArithmetic):
    """Arithmetic on numbers that are all known."""
