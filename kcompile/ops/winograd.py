"""The three steps of a 3x3 convolution with fewer multiplications: Winograd's F(m x m, 3 x 3).

    winograd_filter   w [3, 3, c, n]            -> u [p, n / panel, c, panel]
    winograd_input    x [b, h, w, c]            -> v [b, p, th, tw, c]
    winograd_output   v * u [b, p, th, tw, n]   -> y [b, oh, ow, n]

p counts the (m + 2)^2 points of a tile. It stands behind b, so that the rows of a product are a number known
while compiling, which register tiles can cover evenly. Columns of u lie in panels, so that a tile reads one
stream. Between input and output stands one contraction per point, which takes (m + 2)^2 / (9 m^2) of the
multiplications of the direct way: 4/9 for m = 2, 1/4 for m = 4.

Forms: the input's is one nest for all tiles; an element that lies outside for some of them is loaded under a
condition, which is the same for all channels: a mask, and code of one size however many borders there are.
The output's is one nest per kind of tile: what of a tile is kept is known while the form is made. The statements
of a nest share their sums: points a and -a differ in the sign of the odd terms only.

Source: Lavin and Gray 2015 (arXiv:1509.09308); matrices by Cook and Toom's construction from interpolation
points; points near 1 in magnitude keep the error small (Barabasz et al. 2020, arXiv:1803.10986).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np

from kcompile.errors import DTypeError, ShapeError
from kcompile.forms.records import OUT, Buffer, Loops, Nest, Store, operand_buffers
from kcompile.forms.scalar import Expr, both, call, const, in_range, load, where
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.op import Kind, Op, register
from kcompile.ir.types import Type, boolean
from kcompile.ops.elementwise import draw

WINDOW = 3
POINTS = {  # and infinity
    2: (0, 1, -1),
    3: (0, Fraction(3, 4), Fraction(-3, 4), 2),
    4: (0, Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2)),
}


# matrices ----------------------------------------------------------------------------------------


@lru_cache
def matrices(tile: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, B, G) of F(tile, 3) in float64: y = A ((G g) * (B d)) for d of tile + 2 elements.

    Rows of B and G are scaled to a length near 1 by powers of two, which A takes back.
    """
    points = [Fraction(p) for p in POINTS[tile]]
    size = tile + WINDOW - 1
    a = np.array([[float(p**i) for p in points] + [float(i == tile - 1)] for i in range(tile)])
    b, g = np.zeros((size, size)), np.zeros((size, WINDOW))
    for row, p in enumerate(points):
        others = [q for q in points if q != p]
        scale = math.prod(p - q for q in others)
        b[row, : size - 1] = [float(c) for c in _from_roots(others)]
        g[row] = [float(p**k / scale) for k in range(WINDOW)]
    b[-1] = [float(c) for c in _from_roots(points)]
    g[-1, -1] = 1.0
    for matrix in (b, g):
        scales = 2.0 ** -np.round(np.log2(np.linalg.norm(matrix, axis=1)))
        matrix *= scales[:, None]
        a /= scales
    return a, b, g


def _from_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of prod(x - root), the constant first."""
    found = [Fraction(1)]
    for root in roots:
        found = [low - root * high for low, high in zip([Fraction(0), *found], [*found, Fraction(0)])]
    return found


def tile_count(size: int, tile: int) -> int:
    """How many tiles cover `size` results."""
    return -(-size // tile)


# sums of expressions -----------------------------------------------------------------------------

Cell = "Expr | None"  # None: a zero that is known while the form is made


def _transformed(matrix: np.ndarray, grid: list[list[Cell]]) -> list[list[Cell]]:
    """matrix @ grid @ matrix^T, zeros left out."""
    columns = [_product(matrix, list(column)) for column in zip(*grid)]  # one per column of the grid
    return [_product(matrix, [column[i] for column in columns]) for i in range(len(matrix))]


def _product(matrix: np.ndarray, values: list[Cell]) -> list[Cell]:
    """matrix @ values; what two rows or two columns share up to signs is summed once."""
    pairs = _mirrored(matrix.T)
    if pairs:  # columns for a and -a: their sum serves the even rows, their difference the odd ones
        values = list(values)
        matrix = matrix.copy()
        for i, j in pairs:
            values[i], values[j] = _plus(values[i], values[j]), _plus(values[i], values[j], -1.0)
            even, odd = (matrix[:, i] + matrix[:, j]) / 2, (matrix[:, i] - matrix[:, j]) / 2
            matrix[:, i], matrix[:, j] = even, odd
        return [_sum(row, values) for row in matrix]
    found: list[Cell] = [None] * len(matrix)
    twice = _mirrored(matrix)
    for i, j in twice:
        even, odd = (_sum((matrix[i] + s * matrix[j]) / 2, values) for s in (1, -1))
        found[i], found[j] = _plus(even, odd), _plus(even, odd, -1.0)
    alone = set(range(len(matrix))) - {n for pair in twice for n in pair}
    for i in alone:
        found[i] = _sum(matrix[i], values)
    return found


def _mirrored(matrix: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of neighbouring rows that differ in the sign of every second element."""
    signs = np.where(np.arange(matrix.shape[1]) % 2, -1.0, 1.0)
    pairs = []
    for i in range(len(matrix) - 1):
        same = any(np.array_equal(matrix[i + 1], sign * signs * matrix[i]) for sign in (1, -1))
        if same and np.count_nonzero(matrix[i]) > 1:
            pairs.append((i, i + 1))
    return pairs


def _sum(coefficients: np.ndarray, values: list[Cell]) -> Cell:
    terms = [(float(c), v) for c, v in zip(coefficients, values) if c != 0 and v is not None]
    terms.sort(key=lambda term: abs(term[0]) != 1)  # what needs no product first
    total: Cell = None
    for coefficient, value in terms:
        total = _plus(total, value, coefficient)
    return total


def _plus(total: Cell, value: Cell, coefficient: float = 1.0) -> Cell:
    """total + coefficient * value."""
    if value is None:
        return total
    if abs(coefficient) != 1:
        value, coefficient = call("mul", value, const(coefficient, value.dtype)), 1.0
    if total is None:
        return value if coefficient > 0 else call("neg", value)
    return call("add" if coefficient > 0 else "sub", total, value)


# tiles by kind -----------------------------------------------------------------------------------


def _runs(masks: list[tuple[bool, ...]]) -> list[tuple[int, int, tuple[bool, ...]]]:
    """(first, count, mask) of neighbours with equal masks."""
    found = []
    first = 0
    for mask, group in itertools.groupby(masks):
        count = len(list(group))
        found.append((first, count, mask))
        first += count
    return found


def _kinds(name: str, masks: list[tuple[bool, ...]]) -> list[tuple[Axis, DimLike, tuple[bool, ...]]]:
    """(axis, tile number, mask) of each run of tiles that look alike."""
    kinds = []
    for first, count, mask in _runs(masks):
        axis = Axis(name, count)
        kinds.append((axis, dim.of(axis) + first, mask))
    return kinds


def _kept(tiles: int, tile: int, size: int) -> list[tuple[bool, ...]]:
    """Which results of each tile exist."""
    return [tuple(t * tile + i < size for i in range(tile)) for t in range(tiles)]


def _check(name: str, tile: int, rank: int, x: Type) -> None:
    if tile not in POINTS:
        raise ShapeError(f"{name}: tiles of {tile} are not known; known: {sorted(POINTS)}")
    if x.rank != rank:
        raise ShapeError(f"{name} expects an operand of rank {rank}, received {x}")
    if x.dtype.name not in ("f32", "f64"):
        raise DTypeError(f"{name} computes in float32 or float64, received {x}")


# filter ------------------------------------------------------------------------------------------


def _filter_infer(w: Type, *, tile: int, panel: int) -> Type:
    _check("winograd_filter", tile, 4, w)
    if tuple(w.shape[:2]) != (WINDOW, WINDOW):
        raise ShapeError(f"winograd_filter expects a filter of 3 x 3, received {w}")
    c, n = w.shape[2:]
    if not dim.is_static(n) or panel < 1 or n % panel:
        raise ShapeError(f"winograd_filter: panels of {panel} columns do not make up a filter of {w}")
    return Type(w.dtype, ((tile + 2) ** 2, n // panel, c, panel))


def _filter_ref(w, *, tile: int, panel: int):
    w = np.asarray(w)
    g = matrices(tile)[2].astype(w.dtype)
    c, n = w.shape[2:]
    found = np.einsum("ir,rscqn,js->ijqcn", g, w.reshape(3, 3, c, n // panel, panel), g)
    return found.astype(w.dtype).reshape((tile + 2) ** 2, n // panel, c, panel)


def _filter_lower(w: Type, *, tile: int, panel: int) -> Loops:
    result = _filter_infer(w, tile=tile, panel=panel)
    axes = (Axis("q", result.shape[1]), Axis("c", w.shape[2]), Axis("n", panel))
    at = tuple(dim.of(a) for a in axes)
    place = (at[1], at[0] * panel + at[2])
    grid = [[load("x0", (r, s, *place), w.dtype) for s in range(WINDOW)] for r in range(WINDOW)]
    cells = _transformed(matrices(tile)[2], grid)
    stores = [Store("y", (p, *at), value) for p, value in enumerate(itertools.chain(*cells))]
    return Loops(
        (*operand_buffers((w,)), Buffer("y", result, OUT)), (), (Nest(axes, tuple(stores)),), "winograd_filter"
    )


def _filter_samples(rng):
    for tile, panel, shape in (
        (2, 5, (3, 3, 2, 5)),
        (4, 17, (3, 3, 3, 17)),
        (4, 1, (3, 3, 1, 1)),
        (2, 16, (3, 3, 3, 48)),
        (3, 16, (3, 3, 2, 16)),
    ):
        yield (draw(rng, "f64", shape),), {"tile": tile, "panel": panel}
        yield (draw(rng, "f32", shape),), {"tile": tile, "panel": panel}


winograd_filter = register(
    Op("winograd_filter", Kind.TILES, _filter_infer, _filter_ref, None, _filter_lower, _filter_samples, cost=8,
       differentiable=False)
)  # fmt: skip


# input -------------------------------------------------------------------------------------------


def _input_infer(x: Type, *, tile: int, low, out) -> Type:
    _check("winograd_input", tile, 4, x)
    if not all(dim.is_static(n) for n in x.shape[1:3]):
        raise ShapeError(f"winograd_input needs the size of its images, received {x}")
    tiles = tuple(tile_count(n, tile) for n in out)
    return Type(x.dtype, (x.shape[0], (tile + 2) ** 2, *tiles, x.shape[3]))


def _input_ref(x, *, tile: int, low, out):
    x = np.asarray(x)
    b = matrices(tile)[1].astype(x.dtype)
    tiles = [tile_count(n, tile) for n in out]
    high = [t * tile + 2 - p - n for t, p, n in zip(tiles, low, x.shape[1:3])]
    grown = np.pad(x, [(0, 0), *((p, max(h, 0)) for p, h in zip(low, high)), (0, 0)])
    rows, columns = (np.add.outer(np.arange(t) * tile, np.arange(tile + 2)) for t in tiles)
    cut = grown[:, rows][:, :, :, columns]  # b, th, i, tw, j, c
    found = np.einsum("ir,btrusc,js->bijtuc", b, cut, b).astype(x.dtype)
    return found.reshape(x.shape[0], (tile + 2) ** 2, *found.shape[3:])


def _input_lower(x: Type, *, tile: int, low, out) -> Loops:
    result = _input_infer(x, tile=tile, low=low, out=out)
    axes = tuple(Axis(n, size) for n, size in zip(("b", "t", "u", "c"), (x.shape[0], *result.shape[2:])))
    at = tuple(dim.of(a) for a in axes)
    zero = const(0, x.dtype)
    rows, columns = (
        [_inside(place * tile - first + i, size) for i in range(tile + 2)]
        for place, first, size in zip(at[1:3], low, x.shape[1:3])
    )

    def element(i: int, j: int) -> Cell:
        place = (at[1] * tile - low[0] + i, at[2] * tile - low[1] + j)
        value = where(both(rows[i], columns[j]), load("x0", (at[0], *place, at[3]), x.dtype), zero)
        return None if value is zero else value

    cells = _transformed(matrices(tile)[1], [[element(i, j) for j in range(tile + 2)] for i in range(tile + 2)])
    stores = [Store("y", (at[0], p, *at[1:]), zero if v is None else v) for p, v in enumerate(itertools.chain(*cells))]
    return Loops((*operand_buffers((x,)), Buffer("y", result, OUT)), (), (Nest(axes, tuple(stores)),), "winograd_input")


def _inside(place: DimLike, size: int) -> Expr:
    """Whether an element of a tile lies inside the input; a constant if it is so, or not, for all tiles."""
    least, most = dim.bounds(place)
    return const(False, boolean) if most < 0 or least >= size else in_range(place, size)


_CASES = (  # tile, images, channels, low, out
    (2, (2, 4, 6), 5, (1, 1), (4, 6)),
    (2, (1, 5, 7), 17, (1, 1), (5, 7)),
    (4, (2, 8, 8), 16, (1, 1), (8, 8)),
    (4, (1, 14, 7), 3, (1, 1), (14, 7)),
    (4, (1, 9, 10), 4, (0, 0), (7, 8)),
    (3, (2, 5, 7), 4, (0, 1), (3, 6)),
    (3, (1, 6, 5), 17, (1, 1), (6, 5)),
    (4, (0, 6, 6), 4, (0, 0), (4, 4)),
    (2, (1, 1, 1), 1, (1, 1), (1, 1)),
    (4, (1, 6, 5), 2, (0, 2), (5, 6)),
)


def _input_samples(rng):
    for n, (tile, images, channels, low, out) in enumerate(_CASES):
        attrs = {"tile": tile, "low": low, "out": out}
        yield (draw(rng, ("f64", "f32")[n % 2], (*images, channels)),), attrs


winograd_input = register(
    Op("winograd_input", Kind.TILES, _input_infer, _input_ref, None, _input_lower, _input_samples, cost=8,
       differentiable=False)
)  # fmt: skip


# output ------------------------------------------------------------------------------------------


def _output_infer(m: Type, *, tile: int, out) -> Type:
    _check("winograd_output", tile, 5, m)
    tiles = tuple(tile_count(n, tile) for n in out)
    if m.shape[1] != (tile + 2) ** 2 or tuple(m.shape[2:4]) != tiles:
        raise ShapeError(f"winograd_output: {m} does not hold {tiles} tiles of {(tile + 2) ** 2} points")
    return Type(m.dtype, (m.shape[0], *out, m.shape[4]))


def _output_ref(m, *, tile: int, out):
    m = np.asarray(m)
    a = matrices(tile)[0].astype(m.dtype)
    points = m.reshape(m.shape[0], tile + 2, tile + 2, *m.shape[2:])
    found = np.einsum("ip,bpqtun,jq->btiujn", a, points, a).astype(m.dtype)
    b, t, _, u, _, n = found.shape
    return np.ascontiguousarray(found.reshape(b, t * tile, u * tile, n)[:, : out[0], : out[1]])


def _output_lower(m: Type, *, tile: int, out) -> Loops:
    result = _output_infer(m, tile=tile, out=out)
    batch, channel = Axis("b", m.shape[0]), Axis("n", m.shape[4])
    matrix, side = matrices(tile)[0], tile + 2
    kinds = [_kinds(name, _kept(n, tile, size)) for name, n, size in zip(("t", "u"), m.shape[2:4], out)]
    body = []
    for (row_axis, row, rows), (column_axis, column, columns) in itertools.product(*kinds):
        at = (row, column, dim.of(channel))
        grid = [[load("x0", (dim.of(batch), i * side + j, *at), m.dtype) for j in range(side)] for i in range(side)]
        cells = _transformed(matrix, grid)
        stores = tuple(
            Store("y", (dim.of(batch), row * tile + i, column * tile + j, dim.of(channel)), cells[i][j])
            for i, is_row in enumerate(rows)
            for j, is_column in enumerate(columns)
            if is_row and is_column
        )
        body.append(Nest((batch, row_axis, column_axis, channel), stores))
    buffers = (*operand_buffers((m,)), Buffer("y", result, OUT))
    return Loops(buffers, (), tuple(body), "winograd_output")


def _output_samples(rng):
    for n, (tile, images, channels, _, out) in enumerate(_CASES):
        tiles = tuple(tile_count(size, tile) for size in out)
        shape = (images[0], (tile + 2) ** 2, *tiles, channels)
        points = (
            draw(rng, ("f32", "f64")[n % 2], shape) / 16
        )  # results are sums of up to 36 points with factors up to 5
        yield (points,), {"tile": tile, "out": out}


winograd_output = register(
    Op("winograd_output", Kind.TILES, _output_infer, _output_ref, None, _output_lower, _output_samples, cost=8,
       differentiable=False)
)  # fmt: skip
