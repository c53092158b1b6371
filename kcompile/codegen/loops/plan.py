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
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kcompile.codegen.loops import overlaps, streaming
from kcompile.codegen.loops.flat import (
    Group,
    Part,
    Span,
    address,
    check,
    flatten,
    loads_of,
    mentions,
    moved_statements,
    simplified,
    statements_of,
    stride,
    whole,
)
from kcompile.codegen.loops.folds import folds
from kcompile.codegen.loops.in_results import InResult, rows_in_results
from kcompile.codegen.loops.overlaps import Columns, Overlap
from kcompile.codegen.loops.reduce import accumulations, is_scan, stores_only
from kcompile.codegen.loops.staggered import Stages, apart, block_stages, gap, slots, stages
from kcompile.codegen.loops.vectors import has_masks
from kcompile.forms import scalar
from kcompile.forms.records import IN, INOUT, LOCAL, OUT, Accumulate, Buffer, Loops, Store, identity
from kcompile.forms.scalar import MANY, Expr, Load, Where, const, load
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.types import Type, boolean
from kcompile.target import Target

MAP, TILED, ROW, COLUMN, SCATTER, SERIAL = "map", "tiled", "row", "column", "scatter", "serial"

MAP_BLOCK = 4096  # elements of one task of a flat map: a few microseconds at most
NEAR = 4  # elements of a step that mostly stays within a line
COLUMN_LANES = 256  # lanes that go through together: accumulators stay in L1, rows are read in whole lines
COLUMN_WHOLE = 512  # up to this many lanes are not split
ROW_BLOCK = 4096  # elements of a row summed before the block's sum is added to the row's
COLUMN_BLOCK = 256  # rows summed into a block of accumulators
OUTER_BLOCK = 64  # the same for loops further out
UNROLLED_POINTS = 48  # a nest of up to so many points is written out
UNROLLED_WINDOW = 96  # ... of a window that shares most of them with the next
UNROLLED_COST = 1000  # ... if that stays a loop body LLVM handles well
CHUNK_ELEMENTS = 32768  # of a large reduction, per task of its first phase
CHUNK_ROWS, MANY_CHUNKS = 256, 32  # at least so many rows, if that leaves so many chunks: partial results are few then
SPLIT_RESULTS = 4096  # reductions to at most so many results are split along what is reduced
SHORTEST_CHUNK = 256  # elements of a row: more tasks than rows of so many have are not worth adding up again
SCATTER_TASKS = 64
SMOOTH_LANES = 8  # an axis this long is worth vectorising
SHORTEST_LANES, SHORTEST_MASKED = 8, 5  # of a map: shorter axes are gathered across, or read whole and taken apart
ROW_JAM, LEAST_JAM, LEAST_FAR_JAM = 16, 2, 3  # short rows that take turns
SHORT_JAM, JAMMED_VECTORS = 64, 64  # of rows of few vectors, so many together
SHORT_VECTORS = 4  # a sum over so many is folded with those of other rows
MOST_ACROSS = 8  # neighbours that LLVM reads whole and takes apart
SHARING_PAYS = 0.9  # of the time without it, or its code is not worth being made
UNKNOWN_SIZE = 64  # what an unknown size is taken for when costs are weighed


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
    unrolled = _written_out(part, target)
    plain = None if unrolled is None else _map(unrolled, target)
    windows = _overlapping(form, part, plain, target) if overlaps.may_overlap(part) else plain
    if windows is not None:
        return Plan(((windows,),))
    if not part.outer:
        apart = _distributed(part)
        if apart is not None:
            return Plan((tuple(_map(p, target) for p in apart),))
    split = _split(part, target)
    if split is not None:
        first, second, shared = split
        return Plan(((_nested(first, target),), (_nested(second, target),)), shared)
    return Plan(((_nested(part, target),),))


# maps ------------------------------------------------------------------------------------------


def _written_out(part: Part, target: Target, columns: Columns | None = None) -> Part | None:
    """The part as stores without loops of their own: small nests unrolled, locals replaced by values.

    With `columns`, terms are combined column by column, and the axes stay as they are.
    """
    points = 0
    for group in part.groups:
        count = dim.product(s.axis.extent for s in group.spans)
        if not dim.is_static(count) or not all(s.is_whole for s in group.spans) or is_scan(group.body):
            return None
        if group.spans:
            points += count
            wide = columns is None and _prefers_rows(group) and part.outer
            if wide and count > _most_written_out(part, group, target):
                return None
    if not part.outer and points > 1:
        return None  # nothing to vectorise across
    cost = sum(_cost(g.body) * dim.product(s.axis.extent for s in g.spans) for g in part.groups)
    if points > (UNROLLED_POINTS if columns is None else UNROLLED_WINDOW) or (points > 1 and cost > UNROLLED_COST):
        return None
    local = {n for n, b in part.buffers.items() if b.role == LOCAL}
    values: dict[tuple[str, DimLike], Expr] = {}
    hows = accumulations(statements_of(part))
    stores: list[Store] = []
    writers: dict[str, int] = {}

    def on_load(node: Load) -> Expr | None:
        if node.buffer not in local:
            return None
        key = (node.buffer, node.index[0])
        if key not in values and node.buffer in hows:
            values[key] = const(identity(hows[node.buffer], node.dtype), node.dtype)
        return values.get(key)

    for group in part.groups:
        terms: dict[tuple[str, DimLike], list[Expr]] = {}
        places: dict[tuple[str, DimLike], list[dict[Axis, int]]] = {}
        for place in _points(group.spans):
            for statement in group.body:  # one by one: it may read what the one before it stored
                (s,) = moved_statements((statement,), place.get, on_load)
                key = (s.buffer, s.index[0])
                if s.buffer not in local:
                    stores.append(s)
                    writers[s.buffer] = writers.get(s.buffer, 0) + 1
                elif isinstance(s, Store):
                    values[key] = s.value
                else:
                    terms.setdefault(key, []).append(s.value)
                    places.setdefault(key, []).append(place)
        for key, new in terms.items():
            how = hows[key[0]]
            total = _tree(how, new) if columns is None else columns(how, new, places[key])
            values[key] = _combined(hows[key[0]], values[key], total) if key in values else total
    if any(n.buffer in local for n in loads_of(stores)):
        return None  # a local element that is read at a place only known at run time
    buffers = {n: b for n, b in part.buffers.items() if b.role != LOCAL}
    written = Part(buffers, part.outer, (Group((), tuple(stores)),))
    return simplified(written) if columns is None else written


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
            columns = Columns(axis, _tree)
            written = _written_out(p, target, columns)
            if written is None or not columns.pairs:
                continue
            overlap = Overlap(axis, tuple(dict.fromkeys(columns.pairs)))
            for lane in p.outer:
                if lane is axis or not overlaps.fits(written, lane, overlap, target):
                    continue
                rows = (*(a for a in p.outer if a not in (axis, lane)), axis)
                tasks = dim.product(a.extent for a in rows)
                cost = _cost(statements_of(written)) * lane.extent
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


def _most_written_out(part: Part, group: Group, target: Target) -> int:
    """Points of a row that are read across rows; more would be gathered, where rows that are summed need not be."""
    return MOST_ACROSS if folds(part, group, target) else target.lanes(4)


def _points(spans: tuple[Span, ...]):
    """Every point of static spans, the last fastest."""
    if not spans:
        yield {}
        return
    for n in range(spans[0].axis.extent):
        for rest in _points(spans[1:]):
            yield {spans[0].axis: n, **rest}


def _tree(how: str, terms: Sequence[Expr]) -> Expr:
    """Combine pairwise: short chains, small rounding error."""
    if how in MANY and terms[0].dtype is not boolean and len(terms) > 2:
        return scalar.call(how, *terms)
    while len(terms) > 1:
        pairs = [_combined(how, a, b) for a, b in zip(terms[::2], terms[1::2])]
        terms = pairs + ([terms[-1]] if len(terms) % 2 else [])
    return terms[0]


def _combined(how: str, a: Expr, b: Expr) -> Expr:
    names = {"sum": "add", "prod": "mul"}
    if a.dtype is boolean:
        names = {"max": "or", "min": "and", "sum": "or", "prod": "and"}
    return scalar.call(names.get(how, how), a, b)


def _map(part: Part, target: Target) -> Schedule:
    """Vectorise the axis most accesses walk in steps of one element; the others are rows."""
    statements = statements_of(part)
    work = _cost(statements)
    if not part.outer:
        return Schedule(part, MAP, (), tasks=1, cost_per_task=work)
    lane = _lane_axis(part.outer, statements, target)
    rows = tuple(a for a in part.outer if a is not lane)
    extent = lane.extent
    across, crossing, side = _crossing(part, lane, statements, target)
    if across is not None:
        rows = tuple(a for a in rows if a is not across)
        tasks = dim.product(a.extent for a in rows) * _ceildiv(across.extent, side)
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
            tasks=count * _ceildiv(extent, MAP_BLOCK),
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
        return axis.extent < SHORTEST_MASKED and any(_is_near_along(statements, a) for a in others)

    def score(axis: Axis) -> tuple:
        return (not is_short(axis), _unit_strides(statements, axis), outer.index(axis))

    return max(outer, key=score)


def _is_near_along(statements, axis: Axis) -> bool:
    """True if no access moves further than NEAR elements from point to point."""
    places = [s.index[0] for s in statements] + [n.index[0] for n in loads_of(statements)]
    return all(isinstance(step := stride(p, axis), int) and -NEAR <= step <= NEAR for p in places)


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


def _unit_strides(statements, axis: Axis) -> float:
    """How well accesses walk along an axis: stores count twice, those that stay put or near a little."""
    total = 0.0
    accesses = [(s.index[0], 2.0) for s in statements] + [(n.index[0], 1.0) for n in loads_of(statements)]
    for place, weight in accesses:
        step = stride(place, axis)
        if step == 1:
            total += weight
        elif isinstance(step, int) and -NEAR <= step <= NEAR:
            total += 0.5 * weight
    return total


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


def _prefers_rows(group: Group) -> bool:
    """True if some axis of the group's own walks memory in steps of one."""
    return any(_unit_loads(group.body, s.axis) for s in group.spans)


def _unit_loads(statements, axis: Axis) -> int:
    places = [n.index[0] for n in loads_of(statements)] + [s.index[0] for s in statements]
    return sum(stride(p, axis) == 1 for p in places)


def _nested(part: Part, target: Target) -> Schedule:
    """ROW or COLUMN, by where most accesses are contiguous."""
    groups = tuple(_ordered(g) for g in part.groups)
    part = replace(part, groups=groups)
    inside = [g for g in groups if g.spans]
    row_score = sum(max(_unit_loads(g.body, s.axis) for s in g.spans) for g in inside)
    work: DimLike = sum((_cost(g.body) * dim.product(_length(s) for s in g.spans) for g in groups), start=0)
    best, column_score = None, row_score
    for axis in part.outer:
        score = sum(_unit_loads(g.body, axis) for g in inside)
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
        tasks=count * _ceildiv(extent, block),
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
        vectors = _ceildiv(max(lengths), target.lanes(4))
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


def _length(span: Span) -> DimLike:
    return span.axis.extent if span.is_whole or span.most is None else span.most


def _ordered(group: Group) -> Group:
    """The axis with the most unit strides last: it is the one to vectorise.

    Several numbers of a row in unit steps do not outweigh one matrix that would be gathered for it.
    """
    if len(group.spans) < 2 or is_scan(group.body):
        return group
    scores = [_unit_loads(group.body, s.axis) for s in group.spans]
    smooth = [n for n, s in enumerate(group.spans) if scores[n] and _is_smooth(group.body, s.axis)]
    best = max(smooth or range(len(scores)), key=lambda n: (scores[n], n))
    spans = list(group.spans)
    spans.append(spans.pop(best))
    return replace(group, spans=tuple(spans))


def _is_smooth(statements, axis: Axis) -> bool:
    """True if an axis fills a vector and every access stays put or takes unit steps along it."""
    places = [n.index[0] for n in loads_of(statements)] + [s.index[0] for s in statements]
    long = not dim.is_static(axis.extent) or axis.extent >= SMOOTH_LANES
    return long and all(stride(p, axis) in (0, 1) for p in places)


# reductions in two phases ----------------------------------------------------------------------


def _split(part: Part, target: Target) -> tuple[Part, Part, tuple[Buffer, ...]] | None:
    """Cut a large reduction to few results into chunks: one part fills partial results, one adds them up."""
    results = dim.product(a.extent for a in part.outer)
    nests = [g for g in part.groups if g.spans]
    if not dim.is_static(results) or results > SPLIT_RESULTS or results == 0 or len(nests) != 1:
        return None
    nest = _ordered(nests[0])
    before = part.groups[: part.groups.index(nests[0])]
    after = part.groups[len(before) + 1 :]
    hows = accumulations(nest.body)
    simple = all(
        isinstance(s, Accumulate) and part.buffers[s.buffer].role == LOCAL and s.index[0] == 0 for s in nest.body
    )
    if before or not simple or is_scan(nest.body) or len(nest.body) != len(hows):
        return None
    first = nest.spans[0]
    if not first.is_whole:
        return None
    rest = 1
    for span in nest.spans[1:]:
        rest *= span.axis.extent if dim.is_static(span.axis.extent) else UNKNOWN_SIZE
    length = max(1, CHUNK_ELEMENTS // max(1, rest * results))
    if dim.is_static(first.axis.extent):
        length = max(length, min(CHUNK_ROWS, first.axis.extent // MANY_CHUNKS))
    if dim.is_static(first.axis.extent) and first.axis.extent <= 2 * length:
        return None
    across = any(stride(x.index[0], axis) == 1 for x in loads_of(nest.body) for axis in part.outer)
    if length * rest < SHORTEST_CHUNK and not across:
        return None
    chunks = _ceildiv(first.axis.extent, length)
    chunk = Axis("chunk", chunks)
    start = dim.of(chunk) * length
    cut = Span(first.axis, start, (first.axis.extent, start + length), length)
    flat = address([dim.of(a) for a in part.outer], [a.extent for a in part.outer])
    shared, stores, adds = [], [], []
    each = Axis("each", chunks)
    for name, how in hows.items():
        dtype = part.buffers[name].type.dtype
        partial = Buffer(f"{name}.partial", Type(dtype, (chunks * results,)), OUT)
        shared.append(partial)
        value = load(name, (0,), dtype)
        stores.append(Store(partial.name, (dim.of(chunk) * results + flat,), value))
        total = load(partial.name, (dim.of(each) * results + flat,), dtype)
        adds.append(Accumulate(name, (0,), how, total))
    local = {n: b for n, b in part.buffers.items() if n in hows}
    one = Part(
        {**part.buffers, **{b.name: b for b in shared}},
        (*((chunk,) if chunks != 1 else ()), *part.outer),
        (Group((cut, *nest.spans[1:]), nest.body), Group((), tuple(stores))),
    )
    reading = {b.name: replace(b, role=IN) for b in shared}
    two = Part({**part.buffers, **local, **reading}, part.outer, (Group((whole(each),), tuple(adds)), *after))
    return one, two, tuple(shared)


# sums into shared elements ---------------------------------------------------------------------


def _has_global_sums(part: Part) -> bool:
    return any(isinstance(s, Accumulate) and part.buffers[s.buffer].role != LOCAL for s in statements_of(part))


def _scatter(part: Part) -> Schedule:
    """Tasks own rows of the result if every statement is about the same one array; else one task."""
    statements = statements_of(part)
    written = {s.buffer for s in statements}
    work: DimLike = sum(
        (_cost(g.body) * dim.product(_length(s) for s in g.spans) for g in part.groups), start=0
    ) * dim.product(a.extent for a in part.outer)
    local = any(b.role == LOCAL for b in part.buffers.values())
    reads_back = any(n.buffer in written for n in loads_of(statements) if not _is_own_load(n, statements))
    single = all(len(g.body) == 1 for g in part.groups)
    if len(written) == 1 and single and not local and not reads_back and not part.outer:
        return Schedule(part, SCATTER, (), tasks=SCATTER_TASKS, cost_per_task=_ceildiv(work, SCATTER_TASKS))
    return Schedule(part, SERIAL, part.outer, tasks=1, cost_per_task=work)


def _is_own_load(node: Load, statements) -> bool:
    return all(s.index == node.index for s in statements if s.buffer == node.buffer and isinstance(s, Store))


def fills_registers(statements, target: Target) -> bool:
    """True if one point loads so much that several at once would only spill."""
    return len(loads_of(statements)) >= target.vector_registers // 2


# costs -----------------------------------------------------------------------------------------


def _cost(statements) -> int:
    return scalar.cost(*(s.value for s in statements)) + len(statements)


def _ceildiv(size: DimLike, by: int) -> DimLike:
    return dim.floordiv(size + (by - 1), by)


__all__ = ["COLUMN", "MAP", "ROW", "SCATTER", "SERIAL", "TILED", "Plan", "Schedule", "make_plan"]
