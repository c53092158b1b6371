"""Transpose a square of vectors in registers: log2(lanes) rounds of two-input shuffles."""

from __future__ import annotations

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.contract.pairs import joined
from kcompile.codegen.contract.widen import widened
from kcompile.codegen.llvm_types import I64, POINTER, VOID, Index
from kcompile.ir.types import DType


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


def copy_square(
    b: KernelBuilder,
    lines: ir.Value,
    at: Index,
    source: DType,
    to: ir.Value,
    step: Index,
    target: DType,
    lanes: int,
    align_bytes: int | None = None,
    partners: ir.Value | None = None,
) -> None:
    """Copy a transposed square: element (i, j) of the result is element `at + i` of line j.

    Args:  lines: an array of `lanes` addresses; step: elements of `to` from one row to the next.
           align_bytes: of the lines; that of one element unless said otherwise.
           partners: as many addresses more; each element is then the pair of what lies in both lines.
    One function of the module does it: shuffles are slow to compile.
    """

    def emit(inner: KernelBuilder, lines, at, to, step, *more) -> None:
        rows = []
        for i in range(lanes):
            read = [
                inner.load_vector(line(inner, t, i), source, at, lanes, align_bytes=align_bytes) for t in (lines, *more)
            ]
            rows.append(joined(inner, *read) if more else widened(inner, read[0], source, target))
        for i, row in enumerate(transposed(inner, rows)):
            inner.store_vector(row, to, target, inner.mul(step, i))

    name = f"transpose{lanes}.{source}.{target}"
    more = [] if partners is None else [partners]
    b.helper(name, VOID, [lines, b.index(at), to, b.index(step), *more], emit, inline=False)


def line(b: KernelBuilder, table: ir.Value, i: int) -> ir.Value:
    """Address `i` of a table."""
    place = b.ll.gep(table, [I64(i)], inbounds=True, source_etype=POINTER)
    return b.ll.load(place, typ=POINTER, align=b.target.pointer_bytes)


def line_table(b: KernelBuilder, lanes: int) -> ir.Value:
    """Stack memory for the addresses `copy_square` reads."""
    return b.alloca("i64", lanes, align_bytes=64)


def set_lines(b: KernelBuilder, table: ir.Value, starts: list[ir.Value]) -> None:
    """Put addresses into a table."""
    for i, start in enumerate(starts):
        place = b.ll.gep(table, [I64(i)], inbounds=True, source_etype=POINTER)
        b.ll.store(start, place, align=b.target.pointer_bytes)
