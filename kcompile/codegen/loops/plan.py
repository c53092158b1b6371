"""How a Part is looped: which axis is vectorised, what one task is, which sums take two phases.

    MAP      stores only: one loop nest, the lane axis innermost
    ROW      nests whose fastest axis is contiguous: each nest vectorised by itself, point by point
             (short rows take turns in each nest, see `_jam`)
    COLUMN   nests that walk across memory: a block of lanes of an outer axis goes through together,
             every local number is a block of them
    TILED    a MAP that reads across memory: square tiles are transposed in registers
    SCATTER  sums into elements chosen at run time: each task owns a range of the result's rows and
             passes over the updates that fall elsewhere
    SERIAL   anything else, one task

Tasks and blocks follow from the form and its sizes, never from the number of workers, so results do
not depend on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from kcompile.codegen.loops import overlaps, streaming
from kcompile.codegen.loops.flat import (
    Group,
    Part,
    check,
    flatten,
    loads_of,
    mentions,
    simplified,
    statements_of,
    stride,
)
from kcompile.codegen.loops.folds import folds
from kcompile.codegen.loops.in_results import InResult, rows_in_results
from kcompile.codegen.loops.overlaps import Columns, Overlap
from kcompile.codegen.loops.phases import two_phases
from kcompile.codegen.loops.reduce import is_scan, stores_only
from kcompile.codegen.loops.staggered import Stages, apart, block_stages, gap, slots, stages
from kcompile.codegen.loops.vectors import has_masks
from kcompile.codegen.loops.walks import (
    UNKNOWN_SIZE,
    ceildiv,
    cost_of,
    is_near_along,
    length,
    ordered,
    unit_loads,
    unit_strides,
)
from kcompile.codegen.loops.written_out import tree, written_out
from kcompile.forms.records import INOUT, LOCAL, Accumulate, Buffer, Loops, Store
from kcompile.forms.scalar import Expr, Load, Where
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.target import Target

MAP, TILED, ROW, COLUMN, SCATTER, SERIAL = "map", "tiled", "row", "column", "scatter", "serial"

MAP_BLOCK = 4096  # elements of one task of a flat map: a few microseconds at most
COLUMN_LANES = 256  # lanes that go through together: accumulators stay in L1, rows are read in whole lines
COLUMN_WHOLE = 512  # up to this many lanes are not split
ROW_BLOCK = 4096  # elements of a row summed before the block's sum is added to the row's
COLUMN_BLOCK = 256  # rows summed into a block of accumulators
OUTER_BLOCK = 64  # the same for loops further out
SCATTER_TASKS = 64
SHORTEST_LANES, SHORTEST_MASKED = 8, 5  # of a map: shorter axes are gathered across, or read whole and taken apart
ROW_JAM, LEAST_JAM, LEAST_FAR_JAM = 16, 2, 3  # short rows that take turns
SHORT_JAM, JAMMED_VECTORS = 64, 64  # of rows of few vectors, so many together
SHORT_VECTORS = 4  # a sum over so many is folded with those of other rows
SHARING_PAYS = 0.9  # of the time without it, or its code is not worth being made


@dataclass(frozen=True)
class Schedule:
    """A Part and how to loop it. Tasks are points of `rows`, or blocks of `block` along `lane` of them."""

    part: Part
    kind: str
    rows: tuple[Axis, ...]
    lane: Axis | None = None
    block: int | None = None  # lanes per block; None: the whole axis
    across: Axis | None = None  # TILED: the axis that the loads `crossing` the lanes walk along
    crossing: tuple[Load, ...] = ()
    tasks: DimLike = 1
    cost_per_task: DimLike = 1
    jam: int = 1  # ROW: neighbouring rows that go through each nest together
    in_results: tuple[InResult, ...] = ()  # ROW: local rows that lie in results
    stages: Stages = ()  # ROW: what is done at once for neighbouring rows, see staggered.py
    gap: int = 1  # rows from each of these to the next
    overlap: Overlap | None = None  # MAP: what windows hand on along the last of `rows`, see overlaps.py

    def slots(self, buffer: Buffer) -> int:
        """Rows that have a local buffer at the same time."""
        if self.stages and self.jam > 1:
            return self.jam << (len(self.stages) - 1).bit_length()
        if self.stages:
            return slots(self.stages, buffer.type.size, self.gap)
        if self.jam > 1 and buffer.type.size == 1:  # folded as whole vectors
            return -(-self.jam // ROW_JAM) * ROW_JAM
        return self.jam

    def stride(self, buffer: Buffer) -> int:
        """Elements from one row's local buffer to the next row's."""
        size, each = buffer.type.size, buffer.type.dtype.size_bytes
        return apart(size * each) // each if self.stages and size != 1 else size


@dataclass(frozen=True)
class Plan:
    """Phases of schedules; those of one phase are independent. `shared` buffers live between phases."""

    phases: tuple[tuple[Schedule, ...], ...]
    shared: tuple[Buffer, ...] = ()


def make_plan(form: Loops, target: Target) -> Plan:
    """Decide how a form is run."""
    part = flatten(form)
    check(part)
    if _has_global_sums(part):
        return Plan(((_scatter(part),),))
    unrolled = written_out(part, target)
    plain = None if unrolled is None else _map(unrolled, target)
    windows = _overlapping(form, part, plain, target) if overlaps.may_overlap(part) else plain
    if windows is not None:
        return Plan(((windows,),))
    if not part.outer:
        apart = _distributed(part)
        if apart is not None:
            return Plan((tuple(_map(p, target) for p in apart),))
    split = two_phases(part, target)
    if split is not None:
        first, second, shared = split
        return Plan(((_nested(first, target),), (_nested(second, target),)), shared)
    return Plan(((_nested(part, target),),))


# maps ------------------------------------------------------------------------------------------


def _overlapping(form: Loops, part: Part, plain: Schedule | None, target: Target) -> Schedule | None:
    """The schedule of windows that hand on what they share, if that is less work than `plain`; else this."""
    if plain is not None and plain.kind != MAP:
        return plain
    best, least = plain, math.inf if plain is None else SHARING_PAYS * _work(plain, target)
    parts = [part]
    apart = flatten(form, last_apart=True)
    if apart.outer != part.outer:
        parts.append(apart)
    for p in parts:
        for axis in reversed(p.outer):  # of equals the one that lies next in memory
            columns = Columns(axis, tree)
            written = written_out(p, target, columns)
            if written is None or not columns.pairs:
                continue
            overlap = Overlap(axis, tuple(dict.fromkeys(columns.pairs)))
            for lane in p.outer:
                if lane is axis or not overlaps.fits(written, lane, overlap, target):
                    continue
                rows = (*(a for a in p.outer if a not in (axis, lane)), axis)
                tasks = dim.product(a.extent for a in rows)
                cost = cost_of(statements_of(written)) * lane.extent
                found = Schedule(written, MAP, rows, lane, tasks=tasks, cost_per_task=cost, overlap=overlap)
                work = _work(found, target) * overlaps.out_of_order(p.outer, lane, overlap)
                if work < least:
                    best, least = found, work
    return best


def _work(schedule: Schedule, target: Target) -> float:
    """Cycles that a map takes in all, where its time is that of its vectors."""
    if schedule.lane is None:
        return 0
    points = dim.product(a.extent for a in schedule.rows)
    total = points * overlaps.vectors_of(schedule.part, schedule.lane, schedule.overlap, target)
    count = total if dim.is_static(total) else dim.evaluate(total, dict.fromkeys(dim.symbols(total), UNKNOWN_SIZE))
    return count * overlaps.cost(schedule.part, schedule.lane, schedule.overlap, target)


def _map(part: Part, target: Target) -> Schedule:
    """Vectorise the axis most accesses walk in steps of one element; the others are rows."""
    statements = statements_of(part)
    work = cost_of(statements)
    if not part.outer:
        return Schedule(part, MAP, (), tasks=1, cost_per_task=work)
    lane = _lane_axis(part.outer, statements, target)
    rows = tuple(a for a in part.outer if a is not lane)
    extent = lane.extent
    across, crossing, side = _crossing(part, lane, statements, target)
    if across is not None:
        rows = tuple(a for a in rows if a is not across)
        tasks = dim.product(a.extent for a in rows) * ceildiv(across.extent, side)
        return Schedule(
            part, TILED, rows, lane, side, across, crossing, tasks=tasks, cost_per_task=work * side * extent
        )
    count = dim.product(a.extent for a in rows)
    few_rows = dim.is_static(count) and count < 64
    if few_rows and not (dim.is_static(extent) and extent <= MAP_BLOCK):
        return Schedule(
            part,
            MAP,
            rows,
            lane,
            MAP_BLOCK,
            tasks=count * ceildiv(extent, MAP_BLOCK),
            cost_per_task=work * MAP_BLOCK,
        )
    return Schedule(part, MAP, rows, lane, tasks=count, cost_per_task=work * extent)


def _lane_axis(outer: tuple[Axis, ...], statements, target: Target) -> Axis:
    """The outer axis with the most unit-stride accesses, long enough to fill vectors if one is.

    A large body reads too much for lanes that have to be gathered: there a short vector is better. So it is where
    masks are free, unless what is read across it lies so near that it can be read whole and taken apart.
    """
    large = fills_registers(statements, target)
    masked = has_masks(target)

    def is_short(axis: Axis) -> bool:
        if large or not dim.is_static(axis.extent):
            return False
        if not masked or axis.extent == 1:
            return axis.extent < SHORTEST_LANES
        others = (a for a in outer if a is not axis)
        return axis.extent < SHORTEST_MASKED and any(is_near_along(statements, a) for a in others)

    def score(axis: Axis) -> tuple:
        return (not is_short(axis), unit_strides(statements, axis), outer.index(axis))

    return max(outer, key=score)


def _crossing(part: Part, lane: Axis, statements, target: Target):
    """(axis, loads, side of a tile): loads that walk along another axis than the lanes; or nothing."""
    none = None, (), 0
    certain = _unconditional(statements)
    written = {s.buffer for s in statements}
    for across in part.outer:
        if across is lane:
            continue
        loads = [
            n
            for n in loads_of(statements)
            if n in certain
            and n.buffer not in written
            and n.dtype.size_bytes in (4, 8)
            and stride(n.index[0], across) == 1
            and stride(n.index[0], lane) not in (None, 0, 1)
        ]
        side = min((target.lanes(n.dtype.size_bytes) for n in loads), default=0)
        short = any(dim.is_static(a.extent) and a.extent < side for a in (across, lane))
        if loads and side >= 4 and not short and len(loads) <= 4:
            return across, tuple(loads), side
    return none


def _unconditional(statements) -> set[Expr]:
    """The expressions that every point computes: those outside of a Where's branches and loaded indices."""
    found: set[Expr] = set()
    stack = [s.value for s in statements]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack += [node.condition] if isinstance(node, Where) else node.args
    return found


def _distributed(part: Part) -> tuple[Part, ...] | None:
    """Each group as a part of its own, if none needs what another makes."""
    if any(b.role == LOCAL for b in part.buffers.values()):
        return None
    writes: set[str] = set()
    for group in part.groups:
        if not stores_only(group.body) or not all(s.is_whole for s in group.spans):
            return None
        writes |= {s.buffer for s in group.body}
    if any(n.buffer in writes for n in loads_of(statements_of(part))):
        return None
    return tuple(
        simplified(Part(part.buffers, tuple(s.axis for s in g.spans), (Group((), g.body),))) for g in part.groups
    )


# nests -----------------------------------------------------------------------------------------


def _nested(part: Part, target: Target) -> Schedule:
    """ROW or COLUMN, by where most accesses are contiguous."""
    groups = tuple(ordered(g) for g in part.groups)
    part = replace(part, groups=groups)
    inside = [g for g in groups if g.spans]
    row_score = sum(max(unit_loads(g.body, s.axis) for s in g.spans) for g in inside)
    work: DimLike = sum((cost_of(g.body) * dim.product(length(s) for s in g.spans) for g in groups), start=0)
    best, column_score = None, row_score
    for axis in part.outer:
        score = sum(unit_loads(g.body, axis) for g in inside)
        if score > column_score and not (dim.is_static(axis.extent) and axis.extent < 2):
            best, column_score = axis, score
    if best is None or any(is_scan(g.body) for g in inside) or _reads_old_values(part):
        tasks = dim.product(a.extent for a in part.outer)
        at_once = () if _reads_old_values(part) else stages(part, target)
        jam, rows = 1 if at_once else _jam(part, target), rows_in_results(part, target)
        distance = gap(part, at_once, target)
        if jam >= ROW_JAM:
            at_once = block_stages(part, ROW_JAM, target)
            jam, distance = (ROW_JAM, ROW_JAM) if at_once else (jam, distance)
        return Schedule(
            part,
            ROW,
            part.outer,
            jam=jam,
            tasks=tasks,
            cost_per_task=work,
            in_results=rows,
            stages=at_once,
            gap=distance,
        )
    rows = tuple(a for a in part.outer if a is not best)
    extent = best.extent
    count = dim.product(a.extent for a in rows)
    block = _lane_block(extent, target)
    if block is None:
        return Schedule(part, COLUMN, rows, best, tasks=count, cost_per_task=work * extent)
    return Schedule(
        part,
        COLUMN,
        rows,
        best,
        block,
        tasks=count * ceildiv(extent, block),
        cost_per_task=work * block,
    )


def _jam(part: Part, target: Target) -> int:
    """Rows that go through each nest one after the other before the next nest begins; 1 for row by row.

    A sum over a short row ends in a chain of dependent operations that takes as long as the row itself. The
    chains of several rows overlap; those of rows of a few vectors are folded together, and then many rows hide how
    long that takes. What the nests keep between them must stay in the nearest cache.
    """
    if not part.outer or any(is_scan(g.body) for g in part.groups) or _reads_old_values(part):
        return 1
    if len(part.groups) < 3 and not any(_is_short_sum(part, g, target) for g in part.groups):
        return 1
    lengths = [dim.product(s.axis.extent for s in g.spans) for g in part.groups if g.spans]
    kept = sum((b.type.nbytes for b in part.buffers.values() if b.role == LOCAL), start=0)
    if not all(dim.is_static(n) for n in (*lengths, kept)) or not all(s.is_whole for g in part.groups for s in g.spans):
        return 1
    own = {
        n.buffer
        for g in part.groups
        for n in loads_of(g.body)
        if mentions(n.index[0], part.outer[-1]) and any(mentions(n.index[0], s.axis) for s in g.spans)
    }
    row = kept + sum(4 * max(lengths) for n in own if part.buffers[n].role != LOCAL)
    far = streaming.may_exceed(part, max(target.l2_bytes, target.l3_bytes))
    most = (4 if far else 5) * target.l1d_bytes // 8 // max(1, row)
    jam = min(ROW_JAM, most)
    if jam == ROW_JAM and any(folds(part, g, target) for g in part.groups):
        vectors = ceildiv(max(lengths), target.lanes(4))
        jam = max(ROW_JAM, min(SHORT_JAM, JAMMED_VECTORS // vectors, most) // ROW_JAM * ROW_JAM)
    return jam if jam >= (LEAST_FAR_JAM if far else LEAST_JAM) else 1


def _is_short_sum(part: Part, group: Group, target: Target) -> bool:
    """True for a sum over few vectors, which takes less time than folding it does."""
    return bool(folds(part, group, target)) and group.spans[0].axis.extent <= SHORT_VECTORS * target.lanes(4)


def _reads_old_values(part: Part) -> bool:
    """True if a group loads an array that an earlier one wrote over: the load stands for the old value.

    Point by point it is made once and kept; lanes that go through group after group could not keep it.
    """
    replaced: set[str] = set()
    for group in part.groups:
        if any(n.buffer in replaced for n in loads_of(group.body)):
            return True
        replaced |= {s.buffer for s in group.body if part.buffers[s.buffer].role == INOUT}
    return False


def _lane_block(extent: DimLike, target: Target) -> int | None:
    """Lanes that go through together: all (None) if few, else a divisor in whole vectors if there is one."""
    if not dim.is_static(extent):
        return COLUMN_LANES
    if extent <= COLUMN_WHOLE:
        return None
    whole = [n for n in range(COLUMN_LANES // 2, COLUMN_WHOLE + 1, target.lanes(4)) if extent % n == 0]
    return min(whole, key=lambda n: abs(n - COLUMN_LANES), default=COLUMN_LANES)


# sums into shared elements ---------------------------------------------------------------------


def _has_global_sums(part: Part) -> bool:
    return any(isinstance(s, Accumulate) and part.buffers[s.buffer].role != LOCAL for s in statements_of(part))


def _scatter(part: Part) -> Schedule:
    """Tasks own rows of the result if every statement is about the same one array; else one task."""
    statements = statements_of(part)
    written = {s.buffer for s in statements}
    work: DimLike = sum(
        (cost_of(g.body) * dim.product(length(s) for s in g.spans) for g in part.groups), start=0
    ) * dim.product(a.extent for a in part.outer)
    local = any(b.role == LOCAL for b in part.buffers.values())
    reads_back = any(n.buffer in written for n in loads_of(statements) if not _is_own_load(n, statements))
    single = all(len(g.body) == 1 for g in part.groups)
    if len(written) == 1 and single and not local and not reads_back and not part.outer:
        return Schedule(part, SCATTER, (), tasks=SCATTER_TASKS, cost_per_task=ceildiv(work, SCATTER_TASKS))
    return Schedule(part, SERIAL, part.outer, tasks=1, cost_per_task=work)


def _is_own_load(node: Load, statements) -> bool:
    return all(s.index == node.index for s in statements if s.buffer == node.buffer and isinstance(s, Store))


def fills_registers(statements, target: Target) -> bool:
    """True if one point loads so much that several at once would only spill."""
    return len(loads_of(statements)) >= target.vector_registers // 2


__all__ = ["COLUMN", "MAP", "ROW", "SCATTER", "SERIAL", "TILED", "Plan", "Schedule", "make_plan"]
