"""The gradient of a maximum over windows that share no element, found by comparing.

    window_max_gradient   x [.., n, ..], dy [.., count, ..] -> dx [.., n, ..]

A tile is the `stride` elements of x per dimension that begin with a window. The form is one nest over tiles: the
window is walked through in registers (see unpool.py for who wins), and every element of the tile is stored once,
dy where the walk ended and zero elsewhere. What no tile covers is zero: a nest per dimension with a rest. A last
tile that is cut short has a nest of its own. So x is read once, and nothing has to be kept from the forward pass.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from kcompile.errors import DTypeError, ShapeError
from kcompile.forms.records import OUT, Buffer, Loops, Nest, Store, border, operand_buffers
from kcompile.forms.scalar import Expr, call, const, load
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Shape, Type, shape_text
from kcompile.ops.elementwise import draw
from kcompile.ops.unpool import MOST_WALKED, picked, walk, window_argmax, window_unpool
from kcompile.ops.window_shapes import CASES, attrs_of, tap_offsets, window_shape


def is_found_by_comparing(shape: Shape, window, strides, dilation=()) -> bool:
    """True if windows lie apart, a tile is small enough to be written out, and its size is known.

    Of larger windows the kept places take less than a hundredth of the operand's memory.
    """
    reach = [(k - 1) * gap + 1 for k, gap in zip(window, dilation or (1,) * len(window))]
    apart = all(r <= s for r, s in zip(reach, strides))
    known = all(dim.is_static(n) or r == s for n, r, s in zip(shape, reach, strides))
    return apart and known and math.prod(strides) <= MOST_WALKED


def _infer(x: Type, dy: Type, *, window, strides, dilation=()) -> Type:
    counts = window_shape("window_max_gradient", x.shape, window, strides, dilation)
    if dy.shape != counts:
        raise ShapeError(f"window_max_gradient: {dy} does not have the shape {shape_text(counts)} of the windows")
    if x.dtype is not dy.dtype or not x.dtype.is_float:
        raise DTypeError(f"window_max_gradient takes two operands of one floating dtype, received {x} and {dy}")
    if not is_found_by_comparing(x.shape, window, strides, dilation):
        raise ShapeError(
            f"window_max_gradient: windows {tuple(window)} every {tuple(strides)} overlap or are too large"
        )
    return x


def _ref(x, dy, *, window, strides, dilation=()):
    attrs = attrs_of(window, strides, dilation)
    return window_unpool(np.asarray(dy), window_argmax(x, **attrs), **attrs, shape=np.shape(x))


def _vjp(g, y, x, dy, *, window, strides, dilation=()):
    attrs = attrs_of(window, strides, dilation)
    return None, picked(g, window_argmax(x, **attrs), **attrs)


@dataclass(frozen=True)
class _Run:
    """Tiles along one dimension that look alike: an axis over them, and which one it means."""

    axis: Axis
    tile: DimLike
    width: int  # elements of x


def _runs(n: int, size: DimLike, count: DimLike, stride: int) -> list[_Run]:
    """The tiles along dimension n: whole ones, and a last one that ends with x."""
    missing = count * stride - size
    short = missing if dim.is_static(missing) and missing > 0 else 0
    axis = Axis(f"t{n}", count - (1 if short else 0))
    found = [_Run(axis, dim.of(axis), stride)] if axis.extent != 0 or not short else []
    return found + ([_Run(Axis(f"t{n}", 1), count - 1, stride - short)] if short else [])


def _lower(x: Type, dy: Type, *, window, strides, dilation=()) -> Loops:
    """dx[i * stride + o] = dy[i] where the walk through window i ends at o, else 0."""
    offsets = {offset: position for position, offset in tap_offsets(window, dilation)}
    every = [_runs(n, *row) for n, row in enumerate(zip(x.shape, dy.shape, strides))]
    body = [_tiles(runs, x, strides, offsets) for runs in itertools.product(*every)]
    tiled = [_least(count * stride, size) for size, count, stride in zip(x.shape, dy.shape, strides)]
    rests = tuple(size - inside for size, inside in zip(x.shape, tiled))
    for axes, place in border(tuple(tiled), (0,) * x.rank, rests):
        body.append(Nest(axes, (Store("y", place, const(0, x.dtype)),)))
    buffers = (*operand_buffers((x, dy)), Buffer("y", x, OUT))
    return Loops(buffers, (), tuple(body), "window_max_gradient")


def _least(covered: DimLike, size: DimLike) -> DimLike:
    """The smaller of the two; only of known sizes may the first be larger."""
    return min(covered, size) if dim.is_static(covered) and dim.is_static(size) else covered


def _tiles(runs: tuple[_Run, ...], x: Type, strides, offsets: dict[tuple[int, ...], int]) -> Nest:
    corner = tuple(run.tile * stride for run, stride in zip(runs, strides))

    def place(offset: tuple[int, ...]) -> tuple[DimLike, ...]:
        return tuple(c + o for c, o in zip(corner, offset))

    winners = _winners([load("x0", place(offset), x.dtype) for offset in offsets])
    zero, value = const(0, x.dtype), load("x1", tuple(run.tile for run in runs), x.dtype)
    stores = []
    for offset in itertools.product(*(range(run.width) for run in runs)):
        position = offsets.get(offset)
        wins = None if position is None else winners[position]
        stored = zero if position is None else value if wins is None else call("select", wins, value, zero)
        stores.append(Store("y", place(offset), stored))
    return Nest(tuple(run.axis for run in runs), tuple(stores))


def _winners(elements: list[Expr]) -> list[Expr | None]:
    """Whether the walk ends at each element: it came there, and stayed ever after. None: whatever happens."""
    found: list[Expr | None] = []
    after: Expr | None = None
    for stays, _ in reversed(walk(elements)):
        came = call("not", stays)
        found.append(came if after is None else call("and", came, after))
        after = stays if after is None else call("and", stays, after)
    return [*reversed([*found, after])]


_TILED = (
    *(case for case in CASES if is_found_by_comparing(*case)),
    ((2, 5, 7, 3), (1, 2, 3, 1), (1, 2, 3, 1), ()),  # rests
    ((1, 6, 8, 2), (1, 2, 1, 1), (1, 4, 2, 1), ()),  # a last tile that is cut short, gaps
    ((2, 10, 1), (1, 2, 1), (1, 5, 1), (1, 3, 1)),
    ((3, 4, 4, 2, 17), (1, 2, 2, 2, 1), (1, 2, 2, 2, 1), ()),
)


def _samples(rng):
    for n, (shape, *rest) in enumerate(_TILED):
        dtype = ("f64", "f32")[n % 2]
        counts = window_shape("window_max_gradient", shape, *rest)
        yield (draw(rng, dtype, shape), draw(rng, dtype, counts)), attrs_of(*rest)
    ties = np.asarray([[3, 3, 1, np.nan, 0, -0.0, np.nan, 2]], np.float32)
    yield (ties, np.asarray([[1, 2, 3, 4]], np.float32)), attrs_of((1, 2), (1, 2), ())


window_max_gradient = register(
    Op(
        "window_max_gradient",
        Kind.TILES,
        _infer,
        _ref,
        _vjp,
        _lower,
        _samples,
        cost=4,
        facts={"computes_operands": True},
    )
)
