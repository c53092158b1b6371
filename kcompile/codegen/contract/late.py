"""Panels of rhs and copied rows of lhs, made by the task that first needs them: no phase before, no waiting for it.

What is used at once is still in the cache of the core that made it, and each thread makes the panels of its own
columns. Where rows of rhs lie along the panel's, the first tile that needs it reads rhs in place and leaves the panel
behind, beside its multiplications; before a smaller tile, or one of the last columns, the panel is made by itself.
Rows are copied, or fetched, while the tile before them runs (lines.py, ask.py). One mark per panel or row tile says
whether it is there. Nobody waits for another: two threads that find something missing at the same time both write it,
with the same bytes. The phase that remains clears the marks.

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
from kcompile.codegen.contract import dense, lines, pack
from kcompile.codegen.contract.affine import extent
from kcompile.codegen.contract.frame import ROLLED, SHARED_SPACE, Frame, Signature
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.kernel import Phase
from kcompile.codegen.llvm_types import I8, I64, Index
from kcompile.codegen.module import Param
from kcompile.ir.dim import Axis, DimLike


def elements(plan: Plan) -> DimLike:
    """Elements of the shared workspace that hold marks, one each: of panels, then of row tiles in each block of k."""
    panels = plan.panel_marks if plan.packs_late else 0
    return panels + plan.k_blocks * extent(plan.tile_axes) * plan.units if plan.copies_late else panels


def order(b: KernelBuilder, number: Index, chunks: Index) -> Index:
    """Which chunk of row tiles a worker runs as number `number`: workers begin with chunks far apart."""
    far = b.add(b.div_nonneg(chunks, 2), 1)
    return b.mod_nonneg(b.add(number, b.mul(b["worker"], far)), chunks)


def panel_mark(frame: Frame, plan: Plan, marks: DimLike, block: Index, k_block: Index) -> ir.Value:
    """The mark of a column block's panel at the frame's point, in a block of k."""
    number = _position(frame, plan.panel_axes, plan.blocks, block)
    return _panel_mark(frame, plan, marks, number, k_block)


def _panel_mark(frame: Frame, plan: Plan, marks: DimLike, number: Index, k_block: Index) -> ir.Value:
    b = frame.b
    return _mark(frame, plan, b.add(frame.index(marks), b.add(b.mul(k_block, frame.index(plan.panels)), number)))


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

    def copy_rows(self, frame: Frame, unit: Index, block: Index, begin: Index, steps: Index) -> Following | None:
        """Copy the rows of a tile in a block of k, unless that has been done; None if no rows are copied.

        Returns: the rows of the next tile.
        """
        b, plan = frame.b, self.plan
        if self.rows is None:
            return None
        end = b.add(begin, steps if plan.blocked else frame.index(plan.k[-1].extent))
        tile, following = (
            _position(frame, plan.tile_axes, plan.units, u)
            for u in (unit, b.min(b.add(unit, 1), b.sub(frame.index(plan.units), 1)))
        )
        b.call(self.rows, [*frame.leading(), *(b.index(n) for n in (tile, block, begin, end))])
        return _following(frame, plan, self.marks, following, block, begin)


@dataclass(frozen=True)
class Following:
    """The rows of the next tile: whether they are missing in the copy, what says that they are there, how many.

    asked: what ask.py needs: where they are now, elements from one to the next, and from step to step of those a line
    apart; copy: where their copy is.
    """

    missing: ir.Value
    mark: ir.Value
    asked: list[ir.Value]
    copy: ir.Value
    count: ir.Value


def functions(module, target, sig: Signature, plan: Plan, name: str, marks: DimLike, fill) -> Late:
    """Write the functions that make a panel and copy rows; `fill` writes the loops over one panel."""
    panel = _panel_maker(module, target, sig, plan, name, marks, fill)
    return Late(plan, marks, panel, _rows_copier(module, target, sig, plan, name, marks) if plan.copies_late else None)


def _panel_maker(module, target, sig: Signature, plan: Plan, name: str, marks: DimLike, fill) -> ir.Function:
    """Write the function that makes panel `number` if it is missing.

    Blocks of k are made in order: where the last one is, all are.
    """
    frame = Frame.internal(module, target, f"{name}.panel", sig, [Param("number", I64)])
    b = frame.b
    blocks = frame.index(plan.k_blocks) if plan.makes_panels else 1
    last = _panel_mark(frame, plan, marks, b["number"], b.sub(blocks, 1))
    with b.if_(is_missing(b, last)):
        pack.one_panel(frame, plan, b["number"], fill)
        with b.loop("block", 0, blocks, **ROLLED) as block:
            b.store_mark(_panel_mark(frame, plan, marks, b["number"], block))
    b.ret()
    return b.fn


def _rows_copier(module, target, sig: Signature, plan: Plan, name: str, marks: DimLike) -> ir.Function:
    """Write the function that copies the rows of a tile in a block of k if they are missing.

    Parameters: leading ones, the row tile's number, the block's, its first step and the one behind its last.
    """
    numbers = [Param(n, I64) for n in ("tile", "block", "begin", "end")]
    frame = Frame.internal(module, target, f"{name}.rows", sig, numbers)
    b = frame.b
    with _unless_marked(frame, _rows_mark(frame, plan, marks, b["tile"], b["block"])):
        copy = lines.copy_tile if plan.lined else _copy_rows
        copy(frame, plan, lines.unit_places(frame, plan, b["tile"]), b["begin"], b["end"])
    b.ret()
    return b.fn


def _copy_rows(frame: Frame, plan: Plan, places: dict[Axis, Index], begin: Index, end: Index) -> None:
    """Copy steps [begin, end) of the rows of the tile at `places`, which stay side by side."""
    b, rows = frame.b, plan.rows
    first = places[rows.along]
    last = b.min(b.add(first, rows.sizes[0]), frame.index(rows.along.extent))
    with contextlib.ExitStack() as loops:
        places[rows.along] = loops.enter_context(b.loop("row", first, last, **ROLLED))
        for axis in rows.inside:
            places[axis] = loops.enter_context(b.loop(axis.name, 0, axis.extent, **ROLLED))
        dense.copy_row(frame, plan, places, begin, end)


def _following(frame: Frame, plan: Plan, marks: DimLike, tile: Index, block: Index, begin: Index) -> Following:
    """The rows of a tile from step `begin` of k on."""
    b, along, rows = frame.b, plan.rows.along, plan.problem.lhs.rows
    places = {**frame.places, **lines.unit_places(frame, plan, tile)}
    starts = [frame.with_places({**places, along: b.add(places[along], i)}).index(rows.address) for i in range(2)]
    source = b.at(frame.pointers[rows.buffer], rows.dtype, b.add(starts[0], begin))
    if plan.lined:
        copy, row, group = lines.tile_place(frame, plan, places, begin), plan.lanes, plan.rows.max_rows
    else:
        place = b.add(frame.index(plan.a.at.offset), begin)
        for axis in dense.row_axes(plan):
            place = b.add(place, b.mul(places[axis], frame.index(plan.a.stride(axis))))
        copy, row, group = b.at(frame.pointers[SHARED_SPACE], plan.a.dtype, place), frame.index(plan.a.stride(along)), 1
    mark = _rows_mark(frame, plan, marks, tile, block)
    missing = is_missing(b, mark)
    now = (source, b.index(b.sub(starts[1], starts[0])), b.index(1)), (copy, b.index(row), b.index(group))
    asked = [b.ll.select(missing, *pair) for pair in zip(*now)]
    return Following(missing, mark, asked, copy, b.index(lines.row_count(frame, plan, places)))


def _rows_mark(frame: Frame, plan: Plan, marks: DimLike, tile: Index, block: Index) -> ir.Value:
    """The mark of a row tile in a block of k."""
    b = frame.b
    tiles = frame.index(extent(plan.tile_axes) * plan.units)
    return _mark(frame, plan, b.add(frame.index(marks + plan.panel_marks), b.add(b.mul(block, tiles), tile)))


def _mark(frame: Frame, plan: Plan, place: Index) -> ir.Value:
    return frame.b.at(frame.pointers[SHARED_SPACE], plan.problem.dtype, place)


@contextlib.contextmanager
def _unless_marked(frame: Frame, mark: ir.Value):
    """The body runs if a mark is not set; then it is."""
    b = frame.b
    with b.if_(is_missing(b, mark)):
        yield
        b.store_mark(mark)


def is_missing(b: KernelBuilder, mark: ir.Value) -> ir.Value:
    """True if what the mark stands for has not been made, as far as this thread can see."""
    return b.ll.icmp_unsigned("==", b.load_mark(mark), I8(0))
