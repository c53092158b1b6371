"""Copy rhs into panels: [outer][column block][k][columns of a block], in the dtype of the sum.

A phase packs one column block per task, or late.py each when it is first needed. Three ways, by what is contiguous:
rows of vectors along the vector axis; squares transposed in registers where k is contiguous; else one element at a
time, which also serves operands that are expressions. Columns beyond the last repeat it: nobody reads their sums.

Panels of an operand that is the same from call to call lie in the kept workspace and are packed once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from kcompile.codegen.contract.affine import Affine, Memory, extent
from kcompile.codegen.contract.classify import Operand
from kcompile.codegen.contract.folded import fold_panel
from kcompile.codegen.contract.frame import KEPT_SPACE, ROLLED, SHARED_SPACE, Frame, Signature, scalar_value
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.contract.transpose import copy_square, line_table, set_lines
from kcompile.codegen.contract.unflatten import unflatten
from kcompile.codegen.contract.widen import widened
from kcompile.codegen.kernel import Phase
from kcompile.codegen.llvm_types import Index
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.types import DType

ROWS_AHEAD = 32  # rows of rhs asked for early: each may lie in a page of its own


def panel_memory(
    operand: Operand, outer: Sequence[Axis], k: Sequence[Axis], vector: Axis, block_lanes: int, blocks, dtype: DType
) -> tuple[Memory, DimLike]:
    """Where the packed rhs lies: its memory, and the elements from one column block to the next."""
    strides: dict[Axis, DimLike] = {vector: 1}
    step: DimLike = block_lanes
    for axis in reversed(k):
        strides[axis] = step
        step = step * axis.extent
    block_stride = step
    step = step * blocks
    for axis in reversed([a for a in outer if operand.uses(a)]):
        strides[axis] = step
        step = step * axis.extent
    return Memory(KEPT_SPACE if operand.is_steady else SHARED_SPACE, dtype, Affine(0, strides)), block_stride


def fill(frame: Frame, plan: Plan, panel) -> None:
    """Write the loops that fill one panel."""
    _Packer(frame, plan, panel).emit()
    if plan.columns.fold > 1:
        fold_panel(frame, plan, panel)


def emit_phase(module, target, sig: Signature, plan: Plan, name: str, fill=fill) -> Phase:
    """Write the packing phase; `fill(frame, plan, panel)` writes the loops over one panel."""
    frame = Frame.exported(module, target, f"{name}_pack", sig)
    b = frame.b
    with b.loop("task", b["begin"], b["end"], **ROLLED) as number:
        one_panel(frame, plan, number, fill)
    b.ret()
    return Phase(f"{name}_pack", plan.panels, extent(plan.k) * plan.block_lanes)


def one_panel(frame: Frame, plan: Plan, number: Index, fill) -> None:
    """Fill panel `number`, counted over `panel_axes` and column blocks."""
    b = frame.b
    blocks = frame.index(plan.blocks)
    places = unflatten(frame, plan.panel_axes, b.div_nonneg(number, blocks))
    block = b.mod_nonneg(number, blocks)
    places[plan.vector] = b.mul(block, plan.block_lanes)
    start = b.mul(block, frame.index(plan.block_stride))
    for axis in plan.panel_axes:
        start = b.add(start, b.mul(places[axis], frame.index(plan.b.stride(axis))))
    fill(frame.with_places(places), plan, b.at(frame.pointers[plan.b.buffer], plan.problem.dtype, start))


class _Packer:
    """Writes the loops that fill one panel."""

    def __init__(self, frame: Frame, plan: Plan, panel):
        self.frame, self.plan, self.panel, self.b = frame, plan, panel, frame.b
        self.source = plan.problem.rhs.memory
        self.valid = self.b.sub(frame.index(plan.vector.extent), frame.places[plan.vector])

    def emit(self) -> None:
        plan, source = self.plan, self.source
        if source is not None and source.stride(plan.vector) == 1:
            self.rows_of_vectors()
        elif source is not None and plan.panel_k and source.stride(plan.panel_k[-1]) == 1:
            self.squares()
        else:
            with self.k_loops(plan.panel_k) as (places, row):
                self.elements(self.frame.with_places(places), row)

    @contextlib.contextmanager
    def k_loops(self, axes):
        """Loops over k axes; yields their places and the row of the panel."""
        b = self.b
        with contextlib.ExitStack() as stack:
            places, row = {}, 0
            for axis in axes:
                size = self.frame.index(axis.extent)
                places[axis] = stack.enter_context(b.loop(axis.name, 0, size, **ROLLED))
                row = b.add(b.mul(row, size), places[axis])
            yield places, row

    def address(self, places: dict[Axis, Index]) -> Index:
        b = self.b
        total = self.frame.index(self.source.at.offset)
        for axis, place in {**self.frame.places, **places}.items():
            total = b.add(total, b.mul(place, self.frame.index(self.source.stride(axis))))
        return total

    def rows_of_vectors(self) -> None:
        b, plan, lanes, dtype = self.b, self.plan, self.plan.lanes, self.plan.problem.dtype
        base = self.frame.pointers[self.source.buffer]
        with self.k_loops(plan.panel_k) as (places, row):
            start, to = self.address(places), b.mul(row, plan.block_lanes)
            if plan.panel_k:
                ahead = b.add(start, b.mul(self.frame.index(self.source.stride(plan.panel_k[-1])), ROWS_AHEAD))
                for j in range(0, plan.block_lanes * self.source.dtype.size_bytes, b.target.cache_line_bytes):
                    b.prefetch(base, self.source.dtype, b.add(ahead, j // self.source.dtype.size_bytes))
            with b.if_else(b.compare(">=", self.valid, plan.block_lanes)) as (then, otherwise):
                for branch, whole in ((then, True), (otherwise, False)):
                    with branch:
                        for j in range(0, plan.block_lanes, lanes):
                            if whole:
                                value = b.load_vector(base, self.source.dtype, b.add(start, j), lanes)
                            else:
                                mask = b.tail_mask(lanes, b.sub(self.valid, j))
                                value = b.load_masked(base, self.source.dtype, b.add(start, j), mask)
                            value = widened(b, value, self.source.dtype, dtype)
                            b.store_vector(value, self.panel, dtype, b.add(to, j), align_bytes=lanes * dtype.size_bytes)

    def squares(self) -> None:
        """k is contiguous: read vectors along k, write them along the columns; the last square may overlap another."""
        b, plan, lanes = self.b, self.plan, self.plan.lanes
        size = self.frame.index(plan.panel_k[-1].extent)
        with self.k_loops(plan.panel_k[:-1]) as (places, row):
            row = b.mul(row, size)
            if not isinstance(size, int):
                with b.if_else(b.compare(">=", size, lanes)) as (then, otherwise):
                    with then:
                        self.squares_of_row(places, row, size)
                    with otherwise:
                        self.elements_of_row(places, row, size)
            elif size >= lanes:
                self.squares_of_row(places, row, size)
            else:
                self.elements_of_row(places, row, size)

    def squares_of_row(self, places: dict[Axis, Index], row: Index, size: Index) -> None:
        b, plan, lanes, dtype = self.b, self.plan, self.plan.lanes, self.plan.problem.dtype
        base = self.frame.pointers[self.source.buffer]
        table = line_table(b, lanes)
        first = self.frame.places[plan.vector]
        last = b.sub(self.frame.index(plan.vector.extent), 1)
        with b.loop("column", 0, plan.block_lanes, lanes, **ROLLED) as column:
            columns = [b.min(b.add(first, b.add(column, i)), last) for i in range(lanes)]
            starts = [self.address({**places, plan.vector: place}) for place in columns]
            starts = [b.at(base, self.source.dtype, start) for start in starts]
            set_lines(b, table, starts)
            with b.loop("p", 0, size, lanes, **ROLLED) as p:
                p = b.min(p, b.sub(size, lanes))
                to = b.at(self.panel, dtype, b.add(b.mul(b.add(row, p), plan.block_lanes), column))
                copy_square(b, table, p, self.source.dtype, to, plan.block_lanes, dtype, lanes)

    def elements_of_row(self, places: dict[Axis, Index], row: Index, size: Index) -> None:
        inner = self.plan.panel_k[-1]
        with self.b.loop("p", 0, size, **ROLLED) as p:
            self.elements(self.frame.with_places({**places, inner: p}), self.b.add(row, p))

    def elements(self, frame: Frame, row: Index) -> None:
        """One row of a panel, element by element."""
        b, plan, dtype = self.b, self.plan, self.plan.problem.dtype
        first = frame.places[plan.vector]
        last = b.sub(frame.index(plan.vector.extent), 1)
        with b.loop("column", 0, plan.block_lanes) as column:
            here = frame.with_places({plan.vector: b.min(b.add(first, column), last)})
            value = scalar_value(here, plan.problem.rhs.expr)
            value = widened(b, value, plan.problem.rhs.expr.dtype, dtype)
            b.store(value, self.panel, dtype, b.add(b.mul(row, plan.block_lanes), column))
