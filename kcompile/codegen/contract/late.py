"""Panels of rhs and copied rows of lhs, made by the task that first needs them: no phase before, no waiting for it.

What is used at once is still in the cache of the core that made it, and each thread makes the panels of its own
columns. Rows are fetched while the tile before them runs (ask.py). One mark per panel or row tile says whether it is
there. Nobody waits for another: two threads that find something missing at the same time both write it, with the same
bytes. The phase that remains clears the marks.

All threads need the rows of lhs, so each begins with other ones. Where row tiles are few, packing is most of the work,
and where groups of column blocks are few, all threads need the same panels at once: there a phase that divides them
evenly is better.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.contract import dense, pack
from kcompile.codegen.contract.affine import extent
from kcompile.codegen.contract.frame import ROLLED, SHARED_SPACE, Frame, Signature
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.contract.unflatten import unflatten
from kcompile.codegen.kernel import Phase
from kcompile.codegen.llvm_types import I8, I64, Index
from kcompile.codegen.module import Param
from kcompile.ir.dim import Axis, DimLike


def elements(plan: Plan) -> DimLike:
    """Elements of the shared workspace that hold marks, one each: of panels, then of row tiles in each block of k."""
    panels = plan.panels if plan.packs_late else 0
    return panels + plan.k_blocks * extent(plan.tile_axes) * plan.units if plan.copies_late else panels


def order(b: KernelBuilder, number: Index, chunks: Index) -> Index:
    """Which chunk of row tiles a worker runs as number `number`: workers begin with chunks far apart."""
    far = b.add(b.div_nonneg(chunks, 2), 1)
    return b.mod_nonneg(b.add(number, b.mul(b["worker"], far)), chunks)


def _position(frame: Frame, axes: Sequence[Axis], size: DimLike, place: Index) -> Index:
    """Number of a panel or row tile: `place` of `size` at the frame's point."""
    b = frame.b
    point: Index = 0
    for axis in axes:
        point = b.add(b.mul(point, frame.index(axis.extent)), frame.places[axis])
    return b.add(b.mul(point, frame.index(size)), place)


def emit_phase(module, target, sig: Signature, plan: Plan, name: str, marks: DimLike) -> Phase:
    """Write the phase that says of everything that it is missing; `marks`: where marks start, in elements."""
    frame = Frame.exported(module, target, f"{name}_pack", sig)
    b, dtype = frame.b, plan.problem.dtype
    start = b.at(frame.pointers[SHARED_SPACE], dtype, frame.index(marks))
    b.fill_bytes(start, 0, b.mul(frame.index(elements(plan)), dtype.size_bytes))
    b.ret()
    return Phase(f"{name}_pack", 1, elements(plan))


@dataclass(frozen=True)
class Late:
    """What tasks call. panel, rows: functions that make what is missing; marks: where these start, in elements."""

    plan: Plan
    marks: DimLike
    panel: ir.Function
    rows: ir.Function | None

    def make_panel(self, frame: Frame, block: Index) -> None:
        """Make the panel of a column block at the frame's point, unless it is there."""
        number = _position(frame, self.plan.panel_axes, self.plan.blocks, block)
        frame.b.call(self.panel, [*frame.leading(), frame.b.index(number)])

    def copy_rows(self, frame: Frame, unit: Index, block: Index, begin: Index, steps: Index) -> list[ir.Value]:
        """Copy the rows of a tile in a block of k, unless that has been done.

        Returns: what ask.py needs: where rows of the next tile are now, and how far apart; empty if none are copied.
        """
        b, plan = frame.b, self.plan
        if self.rows is None:
            return []
        end = b.add(begin, steps if plan.blocked else frame.index(plan.k[-1].extent))
        tile, following = (
            _position(frame, plan.tile_axes, plan.units, u)
            for u in (unit, b.min(b.add(unit, 1), b.sub(frame.index(plan.units), 1)))
        )
        b.call(self.rows, [*frame.leading(), *(b.index(n) for n in (tile, block, begin, end))])
        return _rows_now(frame, plan, self.marks, following, block, begin)


def functions(module, target, sig: Signature, plan: Plan, name: str, marks: DimLike, fill) -> Late:
    """Write the functions that make a panel and copy rows; `fill` writes the loops over one panel."""
    panel = _panel_maker(module, target, sig, plan, name, marks, fill)
    return Late(plan, marks, panel, _rows_copier(module, target, sig, plan, name, marks) if plan.copies_late else None)


def _panel_maker(module, target, sig: Signature, plan: Plan, name: str, marks: DimLike, fill) -> ir.Function:
    """Write the function that makes panel `number` if it is missing."""
    frame = Frame.internal(module, target, f"{name}.panel", sig, [Param("number", I64)])
    b = frame.b
    with _unless_marked(frame, _mark(frame, plan, b.add(frame.index(marks), b["number"]))):
        pack.one_panel(frame, plan, b["number"], fill)
    b.ret()
    return b.fn


def _rows_copier(module, target, sig: Signature, plan: Plan, name: str, marks: DimLike) -> ir.Function:
    """Write the function that copies the rows of a tile in a block of k if they are missing.

    Parameters: leading ones, the row tile's number, the block's, its first step and the one behind its last.
    """
    numbers = [Param(n, I64) for n in ("tile", "block", "begin", "end")]
    frame = Frame.internal(module, target, f"{name}.rows", sig, numbers)
    b, rows = frame.b, plan.rows
    mark = _rows_mark(frame, plan, marks, b["tile"], b["block"])
    with _unless_marked(frame, mark), contextlib.ExitStack() as loops:
        places = _tile_places(frame, plan, b["tile"])
        begin = places[rows.along]
        end = b.min(b.add(begin, rows.sizes[0]), frame.index(rows.along.extent))
        places[rows.along] = loops.enter_context(b.loop("row", begin, end, **ROLLED))
        for axis in rows.inside:
            places[axis] = loops.enter_context(b.loop(axis.name, 0, axis.extent, **ROLLED))
        dense.copy_row(frame, plan, places, b["begin"], b["end"])
    b.ret()
    return b.fn


def _rows_now(frame: Frame, plan: Plan, marks: DimLike, tile: Index, block: Index, begin: Index) -> list[ir.Value]:
    """Where the rows of a tile are, from step `begin` of k on, and elements from one to the next: copied or not yet."""
    b, along, rows = frame.b, plan.rows.along, plan.problem.lhs.rows
    places = {**frame.places, **_tile_places(frame, plan, tile)}
    starts = [frame.with_places({**places, along: b.add(places[along], i)}).index(rows.address) for i in range(2)]
    source = b.at(frame.pointers[rows.buffer], rows.dtype, b.add(starts[0], begin))
    place = b.add(frame.index(plan.a.at.offset), begin)
    for axis in dense.row_axes(plan):
        place = b.add(place, b.mul(places[axis], frame.index(plan.a.stride(axis))))
    copy = b.at(frame.pointers[SHARED_SPACE], plan.a.dtype, place)
    missing = _is_missing(b, _rows_mark(frame, plan, marks, tile, block))
    distances = b.index(b.sub(starts[1], starts[0])), b.index(frame.index(plan.a.stride(along)))
    return [b.ll.select(missing, source, copy), b.ll.select(missing, *distances)]


def _rows_mark(frame: Frame, plan: Plan, marks: DimLike, tile: Index, block: Index) -> ir.Value:
    """The mark of a row tile in a block of k."""
    b = frame.b
    tiles = frame.index(extent(plan.tile_axes) * plan.units)
    return _mark(frame, plan, b.add(frame.index(marks + plan.panels), b.add(b.mul(block, tiles), tile)))


def _tile_places(frame: Frame, plan: Plan, number: Index) -> dict[Axis, Index]:
    """Where row tile `number` begins."""
    b, rows = frame.b, plan.rows
    units, along = frame.index(plan.units), frame.index(plan.units_along)
    unit = b.mod_nonneg(number, units)
    places = unflatten(frame, plan.tile_axes, b.div_nonneg(number, units))
    places |= unflatten(frame, rows.outside, b.div_nonneg(unit, along))
    places[rows.along] = b.mul(b.mod_nonneg(unit, along), rows.sizes[0])
    return places


def _mark(frame: Frame, plan: Plan, place: Index) -> ir.Value:
    return frame.b.at(frame.pointers[SHARED_SPACE], plan.problem.dtype, place)


@contextlib.contextmanager
def _unless_marked(frame: Frame, mark: ir.Value):
    """The body runs if a mark is not set; then it is."""
    b = frame.b
    with b.if_(_is_missing(b, mark)):
        yield
        b.store_mark(mark)


def _is_missing(b: KernelBuilder, mark: ir.Value) -> ir.Value:
    """True if what the mark stands for has not been made, as far as this thread can see."""
    return b.ll.icmp_unsigned("==", b.load_mark(mark), I8(0))
