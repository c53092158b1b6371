"""Tile sizes: they cover every row and column, and fit the registers."""

import pytest

from kcompile.codegen.contract.tiles import (
    choose,
    cover,
    fits_registers,
    k_block,
    row_sizes,
    row_tiles,
    split_columns,
    unroll_steps,
)
from kcompile.ir.dim import Axis, symbol
from kcompile.target import AARCH64_NEON, X86_64_V2, X86_64_V3, X86_64_V4

BATCH = symbol("batch")


@pytest.mark.parametrize("size", [1, 2, 5, 13, 14, 15, 26, 27, 784])
@pytest.mark.parametrize("largest", [1, 6, 14])
def test_known_rows_are_covered_by_at_most_two_kinds_of_tile(size, largest):
    sizes = row_sizes(size, largest)
    assert len(sizes) <= 2 and max(sizes) <= largest
    assert sum(step * count for step, count in cover(size, sizes)) == size


@pytest.mark.parametrize("largest", [1, 2, 3, 4, 6, 14, 24])
def test_any_number_of_rows_is_covered(largest):
    sizes = row_sizes(BATCH, largest)
    assert sizes[0] == largest and sizes[-1] == 1 and len(sizes) <= 4
    for size in range(50):
        assert sum(step * count for step, count in cover(size, sizes)) == size


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 47, 48, 49, 512])
@pytest.mark.parametrize("vectors", [1, 2, 3])
def test_columns_are_covered(size, vectors):
    columns = split_columns(size, vectors, 16)
    whole, rest = divmod(max(1, size), columns.vectors * 16)
    assert whole + bool(rest) >= 1 and -(-rest // 16) == columns.tail_vectors
    assert columns.tail_lanes == rest % 16 or columns.tail_lanes == rest % (columns.vectors * 16)


@pytest.mark.parametrize("target", [X86_64_V2, X86_64_V3, X86_64_V4, AARCH64_NEON])
@pytest.mark.parametrize("rows", [1, 5, 9, 32, 1000, BATCH])
@pytest.mark.parametrize("columns", [1, 10, 64, 1000, BATCH])
def test_chosen_tile_fits(target, rows, columns):
    tile, vectors, cycles = choose((Axis("m", rows),), columns, (Axis("k", 100),), target.lanes(4), target, False)
    assert fits_registers(tile.max_rows, vectors, target) and cycles > 0


def test_short_rows_are_taken_together():
    """A 3x3 image has too few columns for a tile: its rows join."""
    m = (Axis("batch", BATCH), Axis("i", 3), Axis("j", 3))
    tile, _, _ = choose(m, 64, (Axis("k", 192),), 16, X86_64_V4, False)
    assert tile.max_rows == 9 and len(row_tiles(m)) == 3


def test_blocks_of_k():
    k = (Axis("b", BATCH), Axis("i", 11), Axis("j", 13))
    assert k_block(k, None) == (0, BATCH)
    assert k_block(k, 13 * 11 * 4) == (0, 4)
    assert k_block(k, 13 * 3) == (1, 3)
    assert k_block(k, 5) == (2, 5)
    assert k_block((Axis("k", 100),), 200) == (0, 100)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 96, 97, 784])
def test_unrolling_is_bounded(size):
    for rows, vectors in ((1, 1), (6, 2), (14, 2), (24, 1)):
        assert 1 <= unroll_steps(size, rows, vectors) <= 16
