"""Sizes of tiles and blocks: pure functions of a problem's sizes and the target.

The register tile is `rows` x `vectors`: rows broadcast from lhs, vectors loaded from rhs. Its cost
per step of k is what the busiest unit needs: the multipliers, the load ports, or the latency of a
chain of dependent additions. Nothing here is tuned to one shape; a named size counts as NOMINAL_SIZE.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kcompile.codegen.contract.affine import Memory, ceildiv, extent
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, nominal
from kcompile.target import Target

# Of every current wide core: two multiply-adds and two loads per cycle, a multiply-add takes 4 cycles.
FMA_PER_CYCLE = 2
LOADS_PER_CYCLE = 2
FMA_LATENCY = 4
PAIR_LATENCY = 6  # of two products and two additions at once (pairs.py); as many of them per cycle
# Cycles a load costs even where multiplications hide it: rows of rhs come from the second-level cache.
VECTOR_PRESSURE, SCALAR_PRESSURE = 0.5, 0.02
CROWDED_LOAD = 1.2  # cycles of a scalar load whose line has left the first-level cache before it was read whole
FRESH_LOAD = 1.6  # of a line that several loads ask for while it comes from the second-level cache; measured
FRESH_LINES = 2  # from step to step: nearer ones are a stream, fetched ahead
L1_WAY_BYTES = 4096  # addresses this far apart share a set; a page wherever that cache is indexed before translation
FREE_WAYS = 2  # of a set, for everything but rows of lhs
TILE_OVERHEAD = 16  # cycles to enter and leave a tile: addresses, loop exit, call
UNROLL_FMAS = 48  # multiply-adds in an unrolled loop body: enough to hide the loop, small for the decoder
MAX_ROWS = 24
REST_ROWS = 4
TAIL_PENALTY = 1.02  # a column tail doubles the code: only for a gain
MAX_VECTORS = 8
LINE_ELEMENTS = 16  # of a cache line, about
FOLD_ROW = 3  # cycles to add up what a row of a tile has in its folded vector


@dataclass(frozen=True)
class RowTile:
    """Which rows one tile covers: `count` steps of axis `along` times all of `inside`.

    sizes: every number of steps a tile may have, largest first. Tiles of sizes[0] are laid out first;
    what is left is covered by the smaller ones, greedily.
    """

    along: Axis
    inside: tuple[Axis, ...]
    outside: tuple[Axis, ...]
    sizes: tuple[int, ...]

    @property
    def inner_rows(self) -> int:
        return extent(self.inside)

    @property
    def max_rows(self) -> int:
        return self.sizes[0] * self.inner_rows


@dataclass(frozen=True)
class Columns:
    """How the vector axis is cut: blocks of `vectors` vectors, then a tail of `tail_vectors`.

    tail_lanes: elements in the last vector of the tail; 0 if full; None if known only at run time.
    folds: steps of k that this last vector takes at once, or each of its parts (folded.py).
    upright: True if its columns are summed along the rows of the tile (upright.py).
    """

    vectors: int
    tail_vectors: int
    tail_lanes: int | None
    folds: tuple[int, ...] = ()
    upright: bool = False

    @property
    def fold(self) -> int:
        """Steps of k that the tail takes together."""
        return max(self.folds, default=1)


def chains(rows: int, vectors: int, latency: int = FMA_LATENCY) -> int:
    """Partial sums per result that keep the multipliers busy in a tile of so few of them."""
    return max(1, latency * FMA_PER_CYCLE // max(1, rows * vectors))


def step_cost(
    rows: int,
    vectors: int,
    lhs_is_vector: bool,
    chains: int = 1,
    latency: int = FMA_LATENCY,
    row_loads: float = 1.0,
) -> float:
    """Cycles per step of k of one tile. row_loads: see `loads_of_row`."""
    products = rows * vectors
    loads = vectors + (products if lhs_is_vector else rows * row_loads)
    busy = max(products / FMA_PER_CYCLE, loads / LOADS_PER_CYCLE, latency / chains)
    return busy + VECTOR_PRESSURE * vectors + SCALAR_PRESSURE * rows


def loads_of_row(k: Sequence[Axis], along: Axis, lhs: Memory | None, target: Target) -> float:
    """Loads that a scalar of lhs is worth: more than one if a step reads a line for the first time in all of them.

    That is so where rows lie side by side, and each step in lines of its own, which no stream brings near.
    """
    if lhs is None or not k:
        return 1.0
    size, line = lhs.dtype.size_bytes, target.cache_line_bytes
    shared = 0 < abs(nominal(lhs.stride(along))) * size < line
    far = abs(nominal(lhs.stride(k[-1]))) * size >= FRESH_LINES * line
    return FRESH_LOAD if shared and far and nominal(extent(k)) * line > target.l1d_bytes else 1.0


def crowded_rows(tile: RowTile, k: Sequence[Axis], lhs: Memory | None, target: Target) -> int:
    """Rows of a tile whose lines crowd each other out of the first-level cache between two steps of k.

    Rows a page apart all fall into one set. That matters where k runs along a line, which is then read in many steps.
    """
    if lhs is None or not k:
        return 0
    size, line = lhs.dtype.size_bytes, target.cache_line_bytes
    if not 0 < abs(nominal(lhs.stride(k[-1]))) * size < line:
        return 0
    offsets = [0]
    for axis, count in ((tile.along, tile.sizes[0]), *((a, a.extent) for a in tile.inside)):
        stride = nominal(lhs.stride(axis)) * size
        offsets = [o + i * stride for o in offsets for i in range(count)]
    lines = {o // line for o in offsets}
    ways = max(1, target.l1d_bytes // L1_WAY_BYTES - FREE_WAYS)
    crowded = _crowded(lines, L1_WAY_BYTES // line, ways)
    far = max(nominal(lhs.stride(a)) * nominal(a.extent) for a in (*tile.outside, tile.along)) * size > target.l2_bytes
    # Measured: lines that come from afar lie in their way as well if they are two pages apart, and twice as soon.
    return max(crowded, _crowded(lines, 2 * L1_WAY_BYTES // line, ways // 2)) if far else crowded


def _crowded(lines: set[int], sets: int, ways: int) -> int:
    """How many of these lines share a set with more than it has room for."""
    counts = Counter(at % sets for at in lines)
    return sum(count for count in counts.values() if count > ways)


def folded_part(k: Sequence[Axis], folds: Sequence[int]) -> float:
    """Vectors per step of k that the columns of a folded tail take."""
    steps = k[-1].extent
    return sum(-(-steps // fold) for fold in folds) / steps


def folded_cost(rows: int, vectors: int, part: float, chains: int = 1, latency: int = FMA_LATENCY) -> float:
    """The same of a tile whose last vector takes 1 / `part` steps at once (`folded_part`).

    Its factors are loaded apart, so many neighbours at a time, some of which lie in two lines.
    """
    plain = vectors - 1
    products = rows * (plain + part)
    loads = plain + part + rows * ((1 if plain else 0) + part + (1 - part) / LINE_ELEMENTS)
    busy = max(products / FMA_PER_CYCLE, loads / LOADS_PER_CYCLE, latency / chains * (1 if plain else part))
    return busy + VECTOR_PRESSURE * (plain + part) + SCALAR_PRESSURE * rows


def upright_cost(rows: int, vectors: int, left: int, lanes: int, chains: int = 1, row_loads: float = 1.0) -> float:
    """The same of a tile whose last `left` columns are summed along its rows (upright.py).

    Whole vectors along rows begin anywhere, so that most lie in two lines.
    """
    plain, strips = vectors - 1, -(-rows // lanes)
    products = rows * plain + strips * left
    loads = plain + (rows * row_loads if plain else 0) + strips + rows / lanes + left
    busy = max(products / FMA_PER_CYCLE, loads / LOADS_PER_CYCLE, FMA_LATENCY / chains)
    return busy + VECTOR_PRESSURE * (plain + strips) + SCALAR_PRESSURE * (rows + left)


def fits_upright(rows: int, vectors: int, left: int, lanes: int, target: Target) -> bool:
    """Accumulators, one row of rhs vectors, the vectors of lhs, and one in flight."""
    plain, strips = vectors - 1, -(-rows // lanes)
    return rows * plain + strips * left + plain + strips + 1 <= target.vector_registers


def fits_registers(rows: int, vectors: int, target: Target) -> bool:
    """Accumulators, one row of rhs vectors, one broadcast, and one to spare for the register allocator.

    Broadcasts that are used once are memory operands with AVX-512; elsewhere several are in flight.
    """
    in_flight = 4 if vectors == 1 and target.vector_bytes != 64 else 1
    return rows * vectors + vectors + in_flight + 1 <= target.vector_registers


def row_sizes(size: DimLike, largest: int, inner_rows: int = 1) -> tuple[int, ...]:
    """Steps per tile along an axis: balanced where the size is known.

    Otherwise what the largest tile leaves is covered by tiles of about REST_ROWS rows, of half as many, of one step:
    few functions to compile, and already the first of them keeps the multipliers busy.
    """
    if not dim.is_static(size):
        middle = max(1, REST_ROWS // inner_rows)
        return tuple(dict.fromkeys(s for s in (largest, middle, max(1, middle // 2), 1) if s <= largest))
    if size <= 0:
        return (1,)
    tiles = -(-size // largest)
    big = -(-size // tiles)
    return (big, size % big) if size % big else (big,)


def cover(size: int, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """(tile size, how many) that cover `size` greedily."""
    found = []
    for step in sizes:
        count, size = divmod(size, step)
        if count:
            found.append((step, count))
    return found


def split_columns(
    size: DimLike, vectors: int, lanes: int, folds: tuple[int, ...] = (), upright: bool = False
) -> Columns:
    """Cut a vector axis into blocks of `vectors`."""
    if not dim.is_static(size):
        return Columns(vectors, vectors, None)
    size = max(1, size)  # no tasks will run, but there must be a tile to emit
    vectors = min(vectors, -(-size // lanes))
    rest = size % (vectors * lanes)
    return Columns(vectors, -(-rest // lanes), rest % lanes, folds, upright)


def column_blocks(size: DimLike, columns: Columns, lanes: int) -> DimLike:
    """Number of column blocks, the tail included."""
    return ceildiv(size, columns.vectors * lanes)


def choose(
    m: tuple[Axis, ...],
    size_n: DimLike,
    k: Sequence[Axis],
    lanes: int,
    target: Target,
    lhs_is_vector: bool,
    lhs: Memory | None = None,
    latency: int = FMA_LATENCY,
    folds: tuple[int, ...] = (),
    left: int = 0,
) -> tuple[RowTile, int, float]:
    """Return the row tile, the vectors per block and the estimated cycles for the whole of m x n.

    lhs: where it lies; None if it is computed and then dense. folds, left: see `folded_cost`, `upright_cost`.
    """
    best = None
    part = folded_part(k, folds) if folds else 1.0
    steps = max(1, nominal(extent(k)))
    for rows in row_tiles(m)[:1] if left else row_tiles(m):
        row_loads = loads_of_row(k, rows.along, lhs, target)
        for vectors in range(2 if left else 1, MAX_VECTORS + 1):
            if vectors > 1 and (vectors - 1) * lanes >= nominal(size_n):
                break
            for largest in range(1, MAX_ROWS // max(1, rows.inner_rows) + 1):
                wide = vectors + max(0, len(folds) - 1)
                if not _fits(largest * rows.inner_rows, wide, size_n, left, lanes, target):
                    break
                sizes = row_sizes(rows.along.extent, largest, rows.inner_rows)
                if sizes[0] != largest and dim.is_static(rows.along.extent):
                    continue
                tile = RowTile(rows.along, rows.inside, rows.outside, sizes)
                cost = tile_cost(tile, vectors, size_n, steps, lanes, lhs_is_vector, latency, part, left, row_loads)
                crowded = crowded_rows(tile, k, lhs, target)
                if crowded:
                    tiles = nominal(extent(tile.outside) * ceildiv(tile.along.extent, sizes[0]))
                    cost += CROWDED_LOAD * crowded * steps * tiles * -(-nominal(size_n) // (lanes * vectors))
                if best is None or cost < best[2]:
                    best = (tile, vectors, cost)
    assert best is not None  # one row of one vector always fits
    return best


def _fits(rows: int, vectors: int, size_n: DimLike, left: int, lanes: int, target: Target) -> bool:
    """True if the tiles of all column blocks fit into registers."""
    if not left:
        return fits_registers(rows, vectors, target)
    tail = -(-size_n // lanes) % vectors or vectors
    has_whole = size_n >= vectors * lanes
    return fits_upright(rows, tail, left, lanes, target) and (not has_whole or fits_registers(rows, vectors, target))


def row_tiles(m: tuple[Axis, ...]) -> list[RowTile]:
    """Every choice of the axis a tile runs along; the axes inside it are taken whole."""
    if not m:
        return [RowTile(Axis("row", 1), (), (), (1,))]
    found = [RowTile(m[-1], (), m[:-1], (1,))]
    for position in range(len(m) - 2, -1, -1):
        inside = m[position + 1 :]
        if not all(dim.is_static(a.extent) for a in inside) or extent(inside) > MAX_ROWS // 2:
            break
        found.append(RowTile(m[position], inside, m[:position], (1,)))
    return found


def tile_cost(
    tile: RowTile,
    vectors: int,
    size_n: DimLike,
    k: int,
    lanes: int,
    lhs_is_vector: bool,
    latency: int = FMA_LATENCY,
    part: float = 1.0,
    left: int = 0,
    row_loads: float = 1.0,
) -> float:
    """Estimated cycles for all tiles."""
    known = dim.is_static(tile.along.extent) and dim.is_static(size_n)
    parallel = chains(tile.max_rows, vectors, latency) if known else 1
    n = max(1, nominal(size_n))
    all_vectors = -(-n // lanes)
    blocks = [(vectors, all_vectors // vectors)]
    rest = all_vectors % vectors
    if rest or part < 1 or left:
        blocks = [(vectors, (all_vectors - 1) // vectors), (rest or vectors, 1)]
    outside = max(1, nominal(extent(tile.outside)))
    total = 0.0
    for steps, count in cover(max(1, nominal(tile.along.extent)), tile.sizes):
        rows = steps * tile.inner_rows
        for number, (wide, how_many) in enumerate(blocks):
            if part < 1 and number:
                cycles = folded_cost(rows, wide, part, parallel, latency) * k + FOLD_ROW * rows
            elif left and number:
                cycles = upright_cost(rows, wide, left, lanes, parallel, row_loads) * k + FOLD_ROW * rows
            else:
                cycles = step_cost(rows, wide, lhs_is_vector, parallel, latency, row_loads) * k
            total += (cycles + TILE_OVERHEAD + rows * wide) * count * how_many
    return total * outside * (TAIL_PENALTY if len(blocks) > 1 and all_vectors > vectors else 1.0)


def unroll_steps(size: int | None, rows: int, vectors: int) -> int:
    """How many steps of the innermost k axis one loop body holds; `size` is None if not known."""
    limit = max(1, min(8, UNROLL_FMAS // max(1, rows * vectors)))
    if size is None:
        return limit
    if size <= 2 * limit:
        return max(1, size)
    exact = [u for u in range(max(2, limit // 2), limit + 1) if size % u == 0]
    return exact[-1] if exact else limit


def k_block(k_axes: Sequence[Axis], steps: int | None, multiple: int = 1) -> tuple[int, DimLike]:
    """Where to cut k so that a block has about `steps` steps (None: do not cut).

    multiple: blocks of the last axis have a multiple of so many steps, but for its last one.

    Returns: (position of the axis that is cut, steps of it per block); (0, its extent) if k is whole.
    """
    inner: DimLike = 1
    for position in range(len(k_axes) - 1, -1, -1) if steps is not None else ():
        size = k_axes[position].extent
        if not dim.is_static(size) or inner * size > steps:
            most = max(1, steps // inner)
            if dim.is_static(size):
                most = -(-size // -(-size // most))  # blocks of one size
            return position, most if inner != 1 else -(-most // multiple) * multiple
        inner = inner * size
    return 0, (k_axes[0].extent if k_axes else 1)
