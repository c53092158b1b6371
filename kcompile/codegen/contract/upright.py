"""Columns that leave most lanes of their last vector empty: their sums stand upright, one row of the tile in each lane.

17 columns are a vector and a column more. Where neighbouring rows of lhs lie side by side, as channels do in a filter
gradient, the columns left take lhs in vectors, and rhs in scalars:

    acc[j][lane] += lhs[row + lane, p] * rhs[p, column + j]      for each column j left

beside the others' products, so that 16 rows of 17 columns take 17 a step instead of 32. Nothing is copied. At the
end of a block of k the sums are turned, and leave the tile as the last vector of each row.

Where lhs is contiguous along k instead, see folded.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.contract import turn
from kcompile.codegen.contract.classify import Problem
from kcompile.codegen.llvm_types import I1
from kcompile.ir import dim
from kcompile.ir.dim import Axis
from kcompile.target import Target

FEWEST_LANES = 4
LEAST_GAIN = 1.01  # of two equal plans, the plainer one


def serves(problem: Problem, vector: Axis, target: Target) -> bool:
    """True if the last vector is at most half full, and neighbouring rows lie side by side in lhs."""
    a, dtype = problem.lhs.memory, problem.dtype
    if a is None or not problem.k or not problem.m or problem.pair or a.dtype is not dtype or dtype.category == "bool":
        return False
    lanes = target.lanes(dtype.size_bytes)
    if lanes < FEWEST_LANES or not dim.is_static(vector.extent) or not dim.is_static(problem.m[-1].extent):
        return False
    if turn.pays(problem, problem.m[-1], -(-vector.extent // (2 * lanes)), target):
        return False  # it is better read along k, from a copy
    left = vector.extent % lanes
    return vector.extent > lanes and 0 < 2 * left <= lanes and a.stride(problem.m[-1]) == 1


def masks(rows: int, lanes: int) -> list[ir.Value | None]:
    """Which lanes of each vector along the rows exist; None for all."""
    found: list[ir.Value | None] = [None] * (rows // lanes)
    if rows % lanes:
        found.append(ir.Constant(ir.VectorType(I1, lanes), [I1(int(i < rows % lanes)) for i in range(lanes)]))
    return found


def turned(b: KernelBuilder, sums: Sequence[ir.Value], lanes: int, rows: int) -> list[ir.Value]:
    """Of vectors along rows, for each column as many as rows need: a vector per row, the columns in its first lanes."""
    strips = -(-rows // lanes)
    return [
        row
        for strip in range(strips)
        for row in _turned(b, sums[strip::strips], lanes, min(lanes, rows - strip * lanes))
    ]


def _turned(b: KernelBuilder, columns: Sequence[ir.Value], lanes: int, rows: int) -> list[ir.Value]:
    """The same of no more rows than lanes: one vector per column."""
    parts, width = [[c] for c in columns], 1  # each part: `width` columns of a row side by side, in so many vectors
    while len(parts) > 2:
        pairs = [(parts[i], parts[i + 1] if i + 1 < len(parts) else parts[i]) for i in range(0, len(parts), 2)]
        parts = [
            [
                b.shuffle(
                    x, y, [half + i // (2 * width) * width + i % width + (i // width % 2) * lanes for i in range(lanes)]
                )
                for x, y in zip(*pair)
                for half in (0, lanes // 2)
            ]
            for pair in pairs
        ]
        width *= 2
    found = []
    for row in range(rows):
        number, place = divmod(row * width, lanes)
        first, *more = [part[number] for part in parts]
        chosen = [place + i % width + (lanes if more and i // width % 2 else 0) for i in range(lanes)]
        found.append(b.shuffle(first, more[0] if more else None, chosen))
    return found
