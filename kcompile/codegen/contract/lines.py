"""Copied rows of lhs in lines: what a tile reads of all its rows in the same steps of k lies together.

    copy[row tile][step // lanes][row of the tile][step % lanes]

A tile walks through such a copy as one stream, which the hardware fetches ahead. Rows side by side are as many streams
as a tile has rows, more than it follows, and what it does not foresee a tile waits for; how long depends on which
pages the process got and on what else uses the caches. The copy needs no squares: whole vectors move.

Most rows are copied by the tile that runs before the one that needs them, a vector in each step of k, beside its
multiplications (`copy_step`); the first ones of a task by themselves (`copy_tile`).
"""

from __future__ import annotations

from dataclasses import replace

from llvmlite import ir

from kcompile.codegen.contract.affine import Affine, Memory, affine, ceildiv, extent
from kcompile.codegen.contract.frame import ROLLED, SHARED_SPACE, Frame
from kcompile.codegen.contract.plan import Plan
from kcompile.codegen.contract.unflatten import unflatten
from kcompile.codegen.contract.widen import widened
from kcompile.codegen.llvm_types import I64, Index
from kcompile.codegen.module import Param, pointer
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike

SOURCE_LINES, COPY_GROUPS = 4, 4  # asked for ahead: vectors of each row of the source, groups of the copy


def may_line(plan: Plan) -> bool:
    """True if the copied rows of a plan can lie in lines: blocks of k then begin with a group, tiles with its step."""
    if not plan.copies_late or plan.rows.inside or plan.windows or not dim.is_static(plan.k[0].extent):
        return False
    return not plan.blocked or (dim.is_static(plan.k_steps) and plan.k_steps % plan.lanes == 0)


def lined(plan: Plan) -> Plan:
    """The same plan with its copied rows in lines."""
    row = ceildiv(plan.k[0].extent, plan.lanes) * plan.lanes
    along = plan.rows.along
    strides: dict[Axis, DimLike] = {plan.k[0]: plan.rows.max_rows, along: row}  # of whole groups, of whole tiles
    step = plan.units_along * plan.rows.max_rows * row
    for axis in reversed(_outside(plan)):
        strides[axis] = step
        step = step * axis.extent
    return replace(plan, lined=True, a=Memory(SHARED_SPACE, plan.a.dtype, Affine(plan.a.at.offset, strides)))


def elements(plan: Plan) -> DimLike:
    """Elements of the copy."""
    return extent(_outside(plan)) * plan.units_along * plan.rows.max_rows * plan.a.stride(plan.rows.along)


def _outside(plan: Plan) -> list[Axis]:
    """Axes that count row tiles, but for the one that tiles run along."""
    return [*plan.tile_axes, *plan.rows.outside]


def copied_beside(plan: Plan) -> bool:
    """True if a tile can copy the next one's rows: it has a step for each vector of them, and no vector is cut."""
    if not plan.lined or plan.k[0].extent % plan.lanes != 0 or plan.rows.max_rows > plan.lanes:
        return False
    return affine(plan.problem.lhs.rows.address) is not None  # else rows lie at distances of their own


def step_offset(frame: Frame, plan: Plan, step: Index) -> Index:
    """Elements from a tile's first row at a block's first step to the same row at another step."""
    b = frame.b
    return b.add(step, b.mul(b.div_nonneg(step, plan.lanes), plan.lanes * (plan.rows.max_rows - 1)))


def copy_tile(frame: Frame, plan: Plan, places: dict[Axis, Index], begin: Index, end: Index) -> None:
    """Copy steps [begin, end) of the rows of the tile that begins at `places`."""
    b, lanes, rows = frame.b, plan.lanes, plan.problem.lhs.rows
    count = row_count(frame, plan, places)
    start = tile_place(frame, plan, places, 0)
    is_cut = plan.k[0].extent % lanes != 0
    with b.loop("p", begin, end, lanes, **ROLLED) as p, b.loop("row", 0, count, **ROLLED) as row:
        source = _source(frame, plan, places, row)
        if is_cut:
            value = b.load_masked(source, rows.dtype, p, b.tail_mask(lanes, b.sub(end, p)))
        else:
            value = b.load_vector(source, rows.dtype, p, lanes)
        to = b.add(b.mul(p, plan.rows.max_rows), b.mul(row, lanes))
        b.store_vector(widened(b, value, rows.dtype, plan.a.dtype), start, plan.a.dtype, to)


def _source(frame: Frame, plan: Plan, places: dict[Axis, Index], row: Index) -> ir.Value:
    rows, along = plan.problem.lhs.rows, plan.rows.along
    here = frame.with_places({**places, along: frame.b.add(places[along], row)})
    return frame.b.at(frame.pointers[rows.buffer], rows.dtype, here.index(rows.address))


def row_count(frame: Frame, plan: Plan, places: dict[Axis, Index]) -> Index:
    """Rows of the tile that begins at `places`."""
    b, along = frame.b, plan.rows.along
    return b.min(plan.rows.max_rows, b.sub(frame.index(along.extent), places[along]))


def tile_place(frame: Frame, plan: Plan, places: dict[Axis, Index], begin: Index) -> ir.Value:
    """Where the copy of a tile's rows is, from step `begin` on."""
    b = frame.b
    place = b.add(frame.index(plan.a.at.offset), b.mul(begin, plan.rows.max_rows))
    for axis in (*_outside(plan), plan.rows.along):
        place = b.add(place, b.mul(places[axis], frame.index(plan.a.stride(axis))))
    return b.at(frame.pointers[SHARED_SPACE], plan.a.dtype, place)


def params() -> list[Param]:
    """Parameters of a tile that copies: where the rows of the next one go, and how many there are."""
    return [pointer("copy", align_bytes=1), Param("copy_rows", I64)]


def copy_step(frame: Frame, plan: Plan, step: Index) -> None:
    """Copy one vector of one row of the next tile; rows beyond its last repeat that."""
    b, lanes, rows = frame.b, plan.lanes, plan.problem.lhs.rows
    number = b.mod_nonneg(step, lanes)
    first = b.sub(step, number)
    row = b.min(number, b.sub(b["copy_rows"], 1))
    source = b.add(first, b.mul(row, b["asked_row"]))
    to = b.add(b.mul(first, plan.rows.max_rows), b.mul(row, lanes))
    line = b.target.cache_line_bytes // rows.dtype.size_bytes
    b.prefetch(b["asked"], rows.dtype, b.add(source, SOURCE_LINES * line), locality=2)
    b.prefetch(b["copy"], plan.a.dtype, b.add(to, COPY_GROUPS * lanes * plan.rows.max_rows), write=True)
    value = b.load_vector(b["asked"], rows.dtype, source, lanes)
    b.store_vector(widened(b, value, rows.dtype, plan.a.dtype), b["copy"], plan.a.dtype, to)


def unit_places(frame: Frame, plan: Plan, number: Index) -> dict[Axis, Index]:
    """Where row tile `number` begins, counted over `tile_axes` and the tiles of a column block."""
    b, rows = frame.b, plan.rows
    units, along = frame.index(plan.units), frame.index(plan.units_along)
    unit = b.mod_nonneg(number, units)
    places = unflatten(frame, plan.tile_axes, b.div_nonneg(number, units))
    places |= unflatten(frame, rows.outside, b.div_nonneg(unit, along))
    places[rows.along] = b.mul(b.mod_nonneg(unit, along), rows.sizes[0])
    return places
