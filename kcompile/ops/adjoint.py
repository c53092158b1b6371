"""The adjoint of a contraction: the cotangent of one operand, as contractions again.

An operand with plain dimensions only gets a permuted spec. A windowed dimension p = i*s + r turns
round: with stride 1 the cotangent is padded and the other operand reversed; with stride s,
p = s*u + f splits into s phases, each a stride-1 problem over every s-th filter element, so no zeros
are multiplied. Phases with equally many elements are one contraction, side by side in its result; others
are contractions of their own, if the zeros that would make them equal cost more than putting their results
together. With stride and dilation both above 1 the cotangent is spread out with zeros. So it is for
windows over every channel by itself, whose kernel leaves products with such zeros out.

Source: transposed convolution as padded correlation, Dumoulin and Visin 2016, chapter 4.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kcompile.errors import NotSupportedError
from kcompile.ir import dim
from kcompile.ir import op as op_table
from kcompile.ir.dim import DimLike
from kcompile.ops.shape import broadcast_to, concat, pad, reshape, reverse, slice
from kcompile.ops.spec import Affine, Spec, letters_of, plain_letter


def full_transpose(x, w, strides, dilation, sizes):
    """Transposed convolution with results of the given spatial sizes, counted from the first tap on.

    Shapes:  x [b, *spatial, c_in], w [*window, c_out, c_in] -> [b, *sizes, c_out].
    """
    rank = len(sizes)
    spread, taps = [f"i{n}" for n in range(rank)], [f"r{n}" for n in range(rank)]
    windows = [((i, s), (r, d)) for i, r, s, d in zip(spread, taps, strides, dilation)]
    known = dict(zip(["b", *spread, "n"], x.shape)) | dict(zip([*taps, "c", "n"], w.shape))
    return cotangent(
        (_one("b"), *windows, _one("c")),
        (x.shape[0], *sizes, w.shape[-2]),
        tuple(_one(letter) for letter in (*taps, "c", "n")),
        w,
        ("b", *spread, "n"),
        x,
        known,
        g_first=True,
    )


def _one(letter: str) -> Affine:
    return ((letter, 1),)


@dataclass
class _Side:
    """An operand of a gradient under construction."""

    value: object
    dims: list[Affine]

    def letters(self) -> tuple[str, ...]:
        return letters_of(self.dims)

    def axis(self, letter: str) -> int:
        return self.dims.index(((letter, 1),))

    def padded(self, axis: int, low: DimLike, high: DimLike, interior: int = 0) -> None:
        self.value = _pad_axis(self.value, axis, low, high, interior)

    def reversed(self, axis: int) -> None:
        if self.value.shape[axis] != 1:
            self.value = reverse(self.value, axes=(axis,))


@dataclass(frozen=True)
class _Window:
    """A target dimension of size `size`: position = spread * step + tap * gap."""

    axis: int
    size: DimLike
    spread: str
    step: int
    tap: str | None
    gap: int


def cotangent(target, shape, other_dims, other, out, g, known, g_first: bool):
    """The cotangent of the operand with dimensions `target`."""
    plain = [plain_letter(d) for d in target]
    if len({p for p in plain if p}) != len([p for p in plain if p]):
        raise NotSupportedError("contract: the gradient of an operand that repeats a letter (a diagonal)")
    known = dict(known)
    sides = [_Side(g, [((letter, 1),) for letter in out]), _Side(other, list(other_dims))]
    windows = [_window(n, d, shape[n], known, out) for n, d in enumerate(target) if plain[n] is None]
    if not windows:
        return _contracted(sides, plain, shape, known, g_first)
    phased = [] if _is_by_channel(plain, sides) else [w for w in windows if _has_phases(w, sides)]
    apart = _apart(phased, windows, sides, plain, known)
    joint = [w for w in phased if w not in apart]
    if apart:
        return _by_phase(apart, joint, windows, sides, plain, shape, known, g_first)
    return _around(windows, joint, sides, plain, shape, known, g_first)


# Products with zeros of a padded filter, per element of the result, from which on phases are computed apart; apart,
# they take one more pass over the result. Side by side, phases of few channels fill a vector better.
MOST_ZEROS = 3
FEW_CHANNELS = 4


def _window(axis: int, d: Affine, size: DimLike, known, out) -> _Window:
    if len(d) > 2:
        raise NotSupportedError(f"contract: the gradient of a dimension of three letters {d}")
    if len(d) == 1:
        return _Window(axis, size, d[0][0], d[0][1], None, 1)
    # the letter that reaches less far is the one that is summed: it becomes the taps of the reversed filter
    (first, c1), (second, c2) = d
    if _is_smaller(known[first] * c1, known[second] * c2, first not in out and second in out):
        (first, c1), (second, c2) = (second, c2), (first, c1)
    return _Window(axis, size, first, c1, second, c2)


def _is_smaller(a: DimLike, b: DimLike, otherwise: bool) -> bool:
    if dim.is_static(a) and dim.is_static(b):
        return a < b or (a == b and otherwise)
    if dim.is_static(a) != dim.is_static(b):
        return dim.is_static(a)
    return otherwise


def _holder(letter: str, sides: Sequence[_Side]) -> list[_Side]:
    holders = [side for side in sides if letter in side.letters()]
    if any(((letter, 1),) not in side.dims for side in holders):
        raise NotSupportedError(f"contract: the gradient where both operands are windows over {letter!r}")
    return holders


def _has_phases(w: _Window, sides: Sequence[_Side]) -> bool:
    """True if stride phases apply: a stride, no dilation, a fixed number of taps held by one operand."""
    return (
        w.tap is not None
        and w.step > 1
        and w.gap == 1
        and all(len(_holder(letter, sides)) == 1 for letter in (w.spread, w.tap))
        and _holder(w.spread, sides)[0] is not _holder(w.tap, sides)[0]
    )


def _is_by_channel(plain, sides: Sequence[_Side]) -> bool:
    """True if every channel has a window of its own: such a contraction steps over zeros (forms/sliding.py)."""
    channel = plain[-1]
    return channel is not None and all(side.dims[-1] == _one(channel) for side in sides)


def _apart(phased: Sequence[_Window], windows: Sequence[_Window], sides, plain, known) -> list[_Window]:
    """The windows whose phases are computed apart: those whose filters would be padded, if that costs much."""
    padded = [w for w in phased if _waste(w, known) > 1]
    if not all(dim.is_static(known[w.tap]) for w in padded):
        return padded
    summed = {letter for side in sides for letter in side.letters()} - {*plain, *(w.spread for w in windows)}
    useful = math.prod(dim.nominal(known[letter]) for letter in summed) / math.prod(w.step for w in phased)
    if useful * (math.prod(_waste(w, known) for w in padded) - 1) <= MOST_ZEROS:
        return []
    channels = known[plain[-1]] if plain[-1] else FEW_CHANNELS + 1
    is_narrow = dim.is_static(channels) and channels <= FEW_CHANNELS
    return [w for w in padded if not (is_narrow and w.axis == len(plain) - 2)]


def _waste(w: _Window, known) -> float:
    """Taps that a filter has once its phases have equally many, over those it has."""
    taps = known[w.tap]
    if not dim.is_static(taps):
        return math.inf
    return 1.0 if taps <= w.step else -(-taps // w.step) * w.step / taps


def _ceil(n: DimLike, step: int) -> DimLike:
    return dim.floordiv(n + step - 1, step)


def _fresh(letter: str, known: Mapping) -> str:
    return next(name for name in (f"{letter}{n}" for n in itertools.count()) if name not in known)


def _around(windows, phased, sides, plain, shape, known, g_first):
    """One contraction: padded cotangent against the reversed filter; all phases side by side."""
    result_letters = list(plain)
    phases: list[tuple[_Window, str, str]] = []
    for w in windows:
        if w in phased:
            u, f = _join_phases(w, sides, known)
            result_letters[w.axis] = u
            phases.append((w, u, f))
        else:
            result_letters[w.axis] = _turn(w, sides, known)
    letters, wanted = [], []
    for n, letter in enumerate(result_letters):
        letters.append(letter)
        wanted.append(shape[n])
        for w, u, f in phases:
            if w.axis == n:
                wanted[-1] = known[u]
                letters.append(f)
                wanted.append(known[f])
    result = _contracted(sides, letters, tuple(wanted), known, g_first)
    return _interleaved(result, phases, letters, shape, known) if phases else result


def _turn(w: _Window, sides, known) -> str:
    """Pad what holds the spread letter, reverse what holds the taps; returns the letter of the position."""
    p = _fresh("p", known)
    taps = 1 if w.tap is None else known[w.tap]
    reach = w.gap * (taps - 1)
    count = known[w.spread]
    for side in _holder(w.spread, sides):
        axis = side.axis(w.spread)
        side.padded(axis, reach, w.size - 1 - (count - 1) * w.step, w.step - 1)
        side.dims[axis] = ((p, 1),) if w.tap is None else ((p, 1), (w.tap, w.gap))
    if w.tap is not None:
        for side in _holder_of_tap(w.tap, sides):
            side.reversed(side.axis(w.tap))
    known[p] = w.size
    return p


def _holder_of_tap(tap: str, sides) -> list[_Side]:
    return [side for side in sides if ((tap, 1),) in side.dims]


def _join_phases(w: _Window, sides, known) -> tuple[str, str]:
    """Split the taps into [turns, phases] and pad the spread; returns the letters of block and phase."""
    u, f, t = (_fresh_into(name, known) for name in ("u", "f", "t"))
    taps = known[w.tap]
    turns = -(-taps // w.step)
    known[u], known[t] = _ceil(w.size, w.step), turns
    known[f] = w.step if turns > 1 else taps  # phases without a tap are zeros, added at the end
    (filter_side,) = _holder(w.tap, sides)
    axis = filter_side.axis(w.tap)
    filter_side.padded(axis, 0, turns * known[f] - taps)
    before = tuple(filter_side.value.shape)
    filter_side.value = reshape(filter_side.value, shape=(*before[:axis], turns, known[f], *before[axis + 1 :]))
    filter_side.reversed(axis)
    filter_side.dims[axis : axis + 1] = [((t, 1),), ((f, 1),)]
    (spread_side,) = _holder(w.spread, sides)
    axis = spread_side.axis(w.spread)
    spread_side.padded(axis, turns - 1, known[u] - known[w.spread])
    spread_side.dims[axis] = ((u, 1), (t, 1))
    return u, f


def _fresh_into(letter: str, known: dict) -> str:
    name = _fresh(letter, known)
    known[name] = 0  # reserved; the caller sets it
    return name


def _interleaved(result, phases, letters, shape, known):
    """Join the axes [u, f] to u * step + f, and cut or fill to the exact sizes."""
    for w, _, f in phases:
        if known[f] != w.step:
            result = _pad_axis(result, letters.index(f), 0, w.step - known[f])
    joined = list(shape)
    for w, u, _ in phases:
        joined[w.axis] = known[u] * w.step
    result = reshape(result, shape=tuple(joined))
    for w, u, _ in phases:
        result = _pad_axis(result, w.axis, 0, w.size - known[u] * w.step)
    return result


def _pad_axis(x, axis: int, low: DimLike, high: DimLike, interior: int = 0):
    if low == 0 and high == 0 and not interior:
        return x

    def at(n: DimLike) -> tuple:
        return tuple(n if i == axis else 0 for i in range(len(x.shape)))

    return pad(x, low=at(low), high=at(high), interior=at(interior), value=0)


def _by_phase(phased, joint, windows, sides, plain, shape, known, g_first):
    """A contraction per phase of some windows over every step-th tap, interleaved afterwards; joint: the others'."""
    blocks = {w: _ceil(w.size, w.step) for w in phased}
    wanted = [blocks[w] if (w := _at_axis(phased, n)) else size for n, size in enumerate(shape)]
    others = [w for w in windows if w not in phased]

    def phase(chosen: tuple[int, ...]):
        """The positions step * u + chosen, for all u."""
        mine = [_Side(side.value, list(side.dims)) for side in sides]
        sizes = dict(known)
        ones = []
        for w, f in zip(phased, chosen):
            taps = max(0, -(-(known[w.tap] - f) // w.step))
            (holder,) = _holder(w.tap, mine)
            axis = holder.axis(w.tap)
            holder.value = _every(holder.value, axis, f, taps, w.step)
            sizes[w.tap] = taps
            ones.append(_Window(w.axis, blocks[w], w.spread, 1, w.tap, 1))
        return _around([*ones, *others], joint, mine, plain, tuple(wanted), sizes, g_first)

    def stacked(level: int, chosen: tuple[int, ...]):
        if level == len(phased):
            return phase(chosen)
        w = phased[level]
        live = min(w.step, known[w.tap])
        # deeper levels have already added their own axis behind theirs: place this one by position
        parts = [stacked(level + 1, (*chosen, f)) for f in range(live)]
        axis = w.axis + 1
        parts = [reshape(p, shape=(*p.shape[:axis], 1, *p.shape[axis:])) for p in parts]
        joined = concat(*parts, axis=axis) if len(parts) > 1 else parts[0]
        joined = _pad_axis(joined, axis, 0, w.step - live)
        merged = (*joined.shape[: w.axis], blocks[w] * w.step, *joined.shape[w.axis + 2 :])
        return _pad_axis(reshape(joined, shape=merged), w.axis, 0, w.size - blocks[w] * w.step)

    return stacked(0, ())


def _at_axis(windows: Sequence[_Window], axis: int) -> _Window | None:
    return next((w for w in windows if w.axis == axis), None)


def _every(x, axis: int, start: int, count: int, step: int):
    rank = len(x.shape)
    return slice(
        x,
        starts=tuple(start if n == axis else 0 for n in range(rank)),
        sizes=tuple(count if n == axis else size for n, size in enumerate(x.shape)),
        strides=tuple(step if n == axis else 1 for n in range(rank)),
    )


def _contracted(sides, letters, shape, known, g_first: bool):
    """sum of the product of both sides, with the given letters; those that neither side has are repeated."""
    first, second = sides if g_first else reversed(sides)
    present = set(first.letters()) | set(second.letters())
    kept = tuple(letter for letter in letters if letter in present)
    spec = Spec(tuple(first.dims), tuple(second.dims), kept)
    stated = {plain_letter(d) for side in spec.sides for d in side}
    sizes = tuple((letter, known[letter]) for letter in letters_of(*spec.sides) if letter not in stated)
    result = op_table.get("contract")(first.value, second.value, spec=str(spec), sizes=sizes)
    if len(kept) != len(letters):
        thin = tuple(size if letter in present else 1 for letter, size in zip(letters, shape))
        result = broadcast_to(reshape(result, shape=thin), shape=tuple(shape))
    return result
