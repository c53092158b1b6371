"""Transpose a square of vectors in registers: log2(lanes) rounds of two-input shuffles."""

from __future__ import annotations

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder


def transposed(b: KernelBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Return the columns of a square given by its rows; their number is a power of two.

    Round by round, the off-diagonal quarters of every square of side 2h change places.
    """
    lanes = len(rows)
    rows = list(rows)
    half = lanes // 2
    while half:
        low = [i if not i & half else lanes + i - half for i in range(lanes)]
        high = [i + half if not i & half else lanes + i for i in range(lanes)]
        for i in range(lanes):
            if not i & half:
                upper, lower = rows[i], rows[i + half]
                rows[i] = b.shuffle(upper, lower, low)
                rows[i + half] = b.shuffle(upper, lower, high)
        half //= 2
    return rows
