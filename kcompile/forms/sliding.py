"""Contractions that slide a window over every channel by itself: a depthwise convolution and its gradients.

    forward, data gradient:  y[b, i, c] = sum over r of     x[b, (i * step + r * gap + offset) / spread, c] * w[r, c]
    filter gradient:         w[r, c]    = sum over b, i of  x[b, (i * step + r * gap + offset) / spread, c] * y[b, i, c]

Products whose position is outside x, or is not a whole number, are left out: that is what a border of zeros
means, and zeros between the elements (the data gradient of a strided convolution). So a pad in front of such
a contraction needs no array of its own; `sliding` says which forms these are, for fusion and for code generation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kcompile.forms.records import Contract, Store
from kcompile.forms.scalar import Call, Const, Expr, Index, Load, Where
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, FloorDiv
from kcompile.ir.types import Shape

MAX_TAPS = 32  # positions of a window along one axis
MAX_WINDOW = 1024  # and along all of them


@dataclass(frozen=True)
class Slide:
    """Where one dimension of the array is read: (image * step + tap * gap + offset) / spread, in [0, size).

    is_bounded: False if every position is inside and a whole number.
    """

    image: Axis | None
    step: int
    tap: Axis | None
    gap: int
    offset: DimLike
    spread: int
    size: DimLike
    is_bounded: bool


@dataclass(frozen=True)
class Sliding:
    """A contraction in one of the two shapes above.

    array, slides: what windows slide over; one slide per dimension but the channel's.
    other:         the filter, or for the filter gradient (`is_sum`) the gradient of the result.
    taps, images:  axes of the window, and the others but the channel, in the order of the array.
    """

    array: Load
    slides: tuple[Slide, ...]
    other: Load
    channel: Axis
    channel_at: int  # the channel's dimension in `array`
    taps: tuple[Axis, ...]
    images: tuple[Axis, ...]
    is_sum: bool


def sliding(form: Contract, shapes: Mapping[str, Shape]) -> Sliding | None:
    """Say how a form slides windows; None if it does not. `shapes`: of the buffers."""
    if not all(isinstance(s, Store) for s in form.stores):
        return None  # sums of its columns are for the paths whose columns are tiles
    sides = ((form.lhs, form.rhs), (form.rhs, form.lhs))
    found = [s for array, other in sides for s in _readings(form, array, other, shapes)]
    # a small image could be a window too
    return min(found, key=lambda s: dim.product(t.extent for t in s.taps), default=None)


def _readings(form: Contract, array: Expr, other: Expr, shapes) -> Iterator[Sliding]:
    array, conditions = _bordered(_without_cast(array))
    other = _without_cast(other)
    if array is None or not isinstance(other, Load):
        return
    out = tuple(a for a in form.out_axes if a.extent != 1)
    over = tuple(a for a in form.over if a.extent != 1)
    store = form.stores[0]
    if store.buffer not in shapes:
        return
    places = [_innermost(i, shapes[n]) for i, n in ((array.index, array.buffer), (other.index, other.buffer))]
    places.append(_innermost(store.index, shapes[store.buffer]))
    channel_at = places[0]
    indices = (array.index, other.index, store.index)
    if any(p is None for p in places):
        return
    channel = _lone_axis(array.index[channel_at])
    if channel is None or channel not in out or any(i[p] != dim.of(channel) for i, p in zip(indices, places)):
        return
    rest = [(i, size) for n, (i, size) in enumerate(zip(array.index, shapes[array.buffer])) if n != channel_at]
    out = tuple(a for a in out if a is not channel and a != channel)
    in_other = {a for i in other.index for a in dim.atoms(i) if isinstance(a, Axis)}
    for is_sum, taps, images in ((False, over, out), (True, out, over)):
        partners = images if is_sum else taps
        if not in_other <= {channel, *partners} or (is_sum and not set(images) <= in_other):
            continue
        slides = _slides(rest, conditions, taps, images)
        if slides is not None and _is_worth_it(slides, taps):
            order = [s.image for s in slides if s.image]
            taps = tuple(s.tap for s in slides if s.tap)
            yield Sliding(array, slides, other, channel, channel_at, taps, tuple(order), is_sum)


def _is_worth_it(slides: Sequence[Slide], taps: Sequence[Axis]) -> bool:
    if any(not dim.is_static(t.extent) or not 0 < t.extent <= MAX_TAPS for t in taps):
        return False
    if dim.product(t.extent for t in taps) > MAX_WINDOW or not any(s.image for s in slides):
        return False
    if any(s.spread > 1 and not dim.is_static(s.offset) for s in slides):
        return False
    return any((s.image and s.tap) or s.is_bounded for s in slides)


def _without_cast(expr: Expr) -> Expr:
    while isinstance(expr, Call) and expr.fn == "cast" and expr.dtype.is_float and expr.args[0].dtype.is_float:
        if expr.args[0].dtype.size_bytes > expr.dtype.size_bytes:
            return expr
        expr = expr.args[0]
    return expr


def _bordered(expr: Expr) -> tuple[Load | None, list[Expr]]:
    """The array behind borders of zeros, and all conditions for being inside."""
    conditions: list[Expr] = []
    while isinstance(expr, Where):
        if not isinstance(expr.outside, Const) or expr.outside.value != 0:
            return None, []
        stack = [expr.condition]
        while stack:
            condition = stack.pop()
            if isinstance(condition, Call) and condition.fn == "and":
                stack += condition.args
            else:
                conditions.append(condition)
        expr = _without_cast(expr.inside)
    return (expr, conditions) if isinstance(expr, Load) else (None, [])


def _innermost(index: tuple[DimLike, ...], shape: Shape) -> int | None:
    """The last dimension of more than one element."""
    return next((n for n in reversed(range(len(index))) if shape[n] != 1), None)


def _lone_axis(value: DimLike) -> Axis | None:
    found = [a for a in dim.atoms(value) if isinstance(a, Axis)]
    return found[0] if len(found) == 1 and value == dim.of(found[0]) else None


def _slides(dims, conditions: list[Expr], taps: Sequence[Axis], images: Sequence[Axis]) -> tuple[Slide, ...] | None:
    """One slide per dimension if all indices and conditions have that shape, and no axis is in two of them."""
    slides, explained = [], set()
    for index, size in dims:
        split = _numerator(index)
        if split is None:
            return None
        numerator, spread = split
        bounds = {("ge", index, 0), ("lt", index, size)}
        grid = ("eq", numerator - index * spread, 0) if spread > 1 else None
        known = {_as_comparison(c) for c in conditions}
        if grid is not None and grid not in known:
            return None
        here = known & {*bounds, grid}
        explained |= here
        slide = _slide(numerator, spread, size, taps, images, bool(here))
        if slide is None:
            return None
        slides.append(slide)
    if any(_as_comparison(c) not in explained for c in conditions):
        return None
    used = [a for s in slides for a in (s.image, s.tap) if a is not None]
    if len(used) != len(set(used)) or set(used) != {*taps, *images}:
        return None
    return tuple(slides)


def _numerator(index: DimLike) -> tuple[DimLike, int] | None:
    """index = numerator / spread where it is a whole number."""
    if dim.is_static(index):
        return index, 1
    floors = [a for monomial in index.terms for a in monomial if isinstance(a, FloorDiv) and dim.has_axes(dim.of(a))]
    if not floors:
        return index, 1
    if len(floors) > 1 or dim.coefficient_of(index, floors[0]) != 1 or not dim.is_static(floors[0].denominator):
        return None
    spread = floors[0].denominator
    return floors[0].numerator + (index - dim.of(floors[0])) * spread, spread


def _slide(numerator: DimLike, spread: int, size, taps, images, is_bounded: bool) -> Slide | None:
    found: dict[bool, tuple[Axis, int]] = {}
    rest = numerator
    for axis in (a for a in dim.atoms(numerator) if isinstance(a, Axis)):
        coefficient = dim.coefficient_of(numerator, axis)
        is_tap = axis in taps
        if not dim.is_static(coefficient) or is_tap in found or not (is_tap or axis in images):
            return None
        found[is_tap] = (axis, coefficient)
        rest = rest - coefficient * dim.of(axis)
    if dim.has_axes(rest):
        return None
    image, step = found.get(False, (None, 0))
    tap, gap = found.get(True, (None, 0))
    if step < 0 or gap < 0:
        return None
    return Slide(image, step, tap, gap, rest, spread, size, is_bounded)


def _as_comparison(condition: Expr) -> tuple | None:
    if not isinstance(condition, Call) or len(condition.args) != 2:
        return None
    left, right = (_index_value(a) for a in condition.args)
    return None if left is None or right is None else (condition.fn, left, right)


def _index_value(expr: Expr) -> DimLike | None:
    if isinstance(expr, Index):
        return expr.value
    return int(expr.value) if isinstance(expr, Const) else None
