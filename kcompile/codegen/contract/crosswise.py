"""Tiles that read lhs in vectors along k and turn them in registers: thin results of a tall lhs.

Few columns leave most lanes of a row of the result empty, and many rows of lhs, contiguous along k, would have to be
copied to be read the other way. Here a tile takes as many rows as a vector has lanes; squares of lhs are transposed
in registers, and each column has its own sums, one row in each lane:

    square = transpose(lhs[rows, p : p + lanes])        one vector per step of k, one row in each lane
    acc[j] += square[i] * rhs[p + i, j]                 for every column j, broadcast

At the end the sums are turned back, so that rows leave the tile as in any other.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from kcompile.codegen.contract.affine import Memory, extent
from kcompile.codegen.contract.classify import Problem
from kcompile.codegen.contract.frame import Frame
from kcompile.codegen.contract.tiles import FMA_LATENCY, FMA_PER_CYCLE, TILE_OVERHEAD, RowTile, row_sizes
from kcompile.codegen.contract.transpose import transposed
from kcompile.codegen.contract.widen import widened
from kcompile.codegen.llvm_types import I1, Index, memory_type, undefined, vector
from kcompile.ir import dim
from kcompile.ir.dim import Axis, nominal
from kcompile.target import Target

SHUFFLES_PER_CYCLE = 2
FINISH_CYCLES = 4  # per row: turned back and stored, most of its lanes masked
OTHER_REGISTERS = 4  # beside a square and the sums
# Cycles to fetch a line of a square, all lines of which are needed before anything is multiplied. Measured.
LINE_NEAR, LINE_FAR = 0.3, 1.0
FEWEST_LANES, FEWEST_TILES = 4, 4


def serves(problem: Problem, vector: Axis, target: Target) -> bool:
    """True if lhs lies as needed, and the sums fit into registers beside a square."""
    a, b, k = problem.lhs.memory, problem.rhs.memory, problem.k
    if a is None or b is None or not k or not problem.m or problem.n != (vector,) or problem.dtype.category == "bool":
        return False
    lanes = target.lanes(problem.dtype.size_bytes)
    if not dim.is_static(vector.extent) or not dim.is_static(k[-1].extent):
        return False
    if lanes < FEWEST_LANES or vector.extent > lanes:
        return False
    if lanes + vector.extent + OTHER_REGISTERS > target.vector_registers:
        return False
    return a.stride(k[-1]) == 1 and nominal(extent(problem.m)) >= FEWEST_TILES * lanes and k[-1].extent >= lanes


def tile(problem: Problem, vector: Axis, lanes: int, target: Target) -> tuple[RowTile, int, float]:
    """The row tile, its vectors (one), and the estimated cycles."""
    along = problem.m[-1]
    sizes = row_sizes(along.extent, lanes)
    shuffles = lanes * (lanes.bit_length() - 1) / SHUFFLES_PER_CYCLE
    nbytes = nominal(dim.product(problem.shapes[problem.lhs.memory.buffer])) * problem.dtype.size_bytes
    fetch = LINE_FAR if nbytes > target.l2_bytes else LINE_NEAR if nbytes > target.l1d_bytes else 0.0
    square = shuffles + lanes * (vector.extent / FMA_PER_CYCLE + fetch)  # measured: they hardly overlap
    squares = nominal(extent(problem.k[:-1])) * -(-problem.k[-1].extent // lanes)
    cycles = squares * square + lanes * FINISH_CYCLES + TILE_OVERHEAD
    tiles = nominal(extent(problem.m[:-1])) * -(-nominal(along.extent) // lanes)
    return RowTile(along, (), problem.m[:-1], sizes), 1, max(1, tiles) * cycles


def chains(columns: int, lanes: int, target: Target) -> int:
    """Sums kept for each column, added at the end."""
    free = target.vector_registers - lanes - OTHER_REGISTERS
    return max(1, min(-(-FMA_LATENCY * FMA_PER_CYCLE // columns), free // columns))


class Crosswise:
    """Writes the sums of one tile; `rows` are its rows' offsets in lhs."""

    def __init__(self, frame: Frame, a: Memory, b: Memory, k: Sequence[Axis], vector: Axis, lanes: int, dtype):
        self.frame, self.b = frame, frame.b
        self.lhs, self.rhs, self.k, self.vector, self.lanes, self.dtype = a, b, k, vector, lanes, dtype
        self.columns = vector.extent
        self.chains = chains(self.columns, lanes, frame.b.target)

    def rows(self, corner: ir.Value, rhs: ir.Value, offsets: Sequence[Index]) -> list[ir.Value]:
        """The sums of a tile, a vector per row."""
        b = self.b
        zero = b.zero(self.dtype, self.lanes)
        acc = self._nest(self.k, [zero] * (self.columns * self.chains), corner, rhs, offsets)
        add = b.fadd if self.dtype.is_float else b.ll.add
        sums = acc[: self.columns]
        for chain in range(1, self.chains):
            part = acc[chain * self.columns : (chain + 1) * self.columns]
            sums = [add(x, y) for x, y in zip(sums, part)]
        nothing = undefined(zero.type)
        return transposed(b, [*sums, *[nothing] * (self.lanes - self.columns)])[: len(offsets)]

    def _nest(self, axes: Sequence[Axis], acc, lhs, rhs, offsets):
        axis, inner = axes[0], axes[1:]
        size = self.frame.index(axis.extent)
        if not inner:
            return self._along(size, acc, lhs, rhs, offsets)
        b = self.b
        strides = [self.frame.index(memory.stride(axis)) for memory in (self.lhs, self.rhs)]
        with b.carried_loop(axis.name, 0, size, acc, unroll=False) as loop:
            left = self._moved(lhs, self.lhs, b.mul(loop.index, strides[0]))
            right = self._moved(rhs, self.rhs, b.mul(loop.index, strides[1]))
            loop.next(*self._nest(inner, list(loop.carried), left, right, offsets))
        return list(loop.results)

    def _along(self, size: int, acc, lhs, rhs, offsets):
        b, lanes = self.b, self.lanes
        whole = size // lanes * lanes
        if whole:
            with b.carried_loop("p", 0, whole, acc, lanes, unroll=False) as loop:
                loop.next(*self._square(list(loop.carried), lhs, rhs, offsets, loop.index, lanes))
            acc = list(loop.results)
        return self._square(list(acc), lhs, rhs, offsets, whole, size - whole) if whole < size else acc

    def _square(self, acc, lhs, rhs, offsets, place: Index, steps: int):
        """Add `steps` products of each row and column."""
        b, lanes = self.b, self.lanes
        mask = None
        if steps < lanes:
            mask = ir.Constant(vector(I1, lanes), [I1(int(i < steps)) for i in range(lanes)])
        nothing = undefined(b.zero(self.dtype, lanes).type)
        rows = [self._vector(lhs, b.add(place, offset), mask) for offset in offsets]
        square = transposed(b, [*rows, *[nothing] * (lanes - len(rows))])
        step, across = (self.frame.index(self.rhs.stride(axis)) for axis in (self.k[-1], self.vector))
        for i in range(steps):
            for j in range(self.columns):
                at = b.add(b.mul(b.add(place, i), step), b.mul(across, j))
                factor = widened(b, b.load(rhs, self.rhs.dtype, at), self.rhs.dtype, self.dtype)
                slot = i % self.chains * self.columns + j
                acc[slot] = self._multiply_add(square[i], b.splat(factor, lanes), acc[slot])
        return acc

    def _vector(self, base, place: Index, mask):
        b, memory = self.b, self.lhs
        if mask is None:
            value = b.load_vector(base, memory.dtype, place, self.lanes)
        else:
            value = b.load_masked(base, memory.dtype, place, mask)
        return widened(b, value, memory.dtype, self.dtype)

    def _multiply_add(self, x, y, acc):
        b = self.b
        return b.fma(x, y, acc) if self.dtype.is_float else b.ll.add(b.ll.mul(x, y), acc)

    def _moved(self, place: ir.Value, memory: Memory, elements: Index) -> ir.Value:
        return self.b.ll.gep(place, [self.b.index(elements)], source_etype=memory_type(memory.dtype))
