"""Which way a contraction runs: candidates, what each would cost, and the Plan of the cheapest.

A candidate says which operand is read in vectors and along which axis. Costs are estimated cycles:
the tiles' own (tiles.choose), copying an operand into panels, and writing the result in another
direction than it lies. A named size counts as NOMINAL_SIZE, so plans do not depend on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kcompile.codegen.contract import ask, beside, crosswise, dot, folded, lines, pairs, planes, tiles, turn, upright
from kcompile.codegen.contract.affine import Affine, Memory, affine, extent, linear_address
from kcompile.codegen.contract.border import windows
from kcompile.codegen.contract.border_cost import apart_if_better, with_windows
from kcompile.codegen.contract.classify import Operand, Problem, classify
from kcompile.codegen.contract.epilogue import is_light
from kcompile.codegen.contract.frame import SHARED_SPACE
from kcompile.codegen.contract.longk import along_k, is_long
from kcompile.codegen.contract.pack import panel_memory
from kcompile.codegen.contract.plan import DIRECT, PAGE_BYTES, SCRATCH, TRANSPOSED, Plan
from kcompile.codegen.contract.tiles import column_blocks, k_block, split_columns
from kcompile.forms.records import Accumulate, Contract
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike, nominal
from kcompile.target import Target

# Cycles per element; measured on Zen 5, the order of magnitude is that of every current core.
PACK_ROWS, PACK_SQUARES, PACK_ELEMENTS = 0.15, 0.35, 2.0
PANELS_L3, PANELS_MEMORY = 1.0, 1.5  # writing and reading panels that live there
COPIED_BESIDE = 0.5  # rows copied by tiles, far away (lines.py)
# The same of pairs, which come from half as many bytes; BESIDE per element of lhs.
PAIR_ROWS, PAIRS_L3, PAIRS_MEMORY, BESIDE = 0.3, 0.1, 1.3, 0.2
STORE_TRANSPOSED, STORE_SCATTERED = 0.4, 3.0
STEADY_LHS = 0.02  # fetching what could lie in kept panels from rows instead
TASK_CYCLES = 20_000  # a task should last this long: some microseconds
TASKS_WANTED = 32  # enough for 16 workers to share evenly
FEW_TASKS = 8  # fewer than this, and k is shared among tasks
SHARE_CYCLES = 30_000  # a share of k should last this long: the partial tiles must be added again
MASKED_VECTOR_BYTES = 32  # targets with vectors of this size have masked loads
PAGED_ROWS = 512
FEW_PLACES = 4  # of a page where rows begin
FEW_ROWS = 16  # named sizes that are never more
FEWEST_UNITS, LHS_SHARE = 4, 4  # row tiles that meet a kept panel; what they may take of the second-level cache
UNITS_AGAIN = 16  # row tiles that use a block of rhs again before it is left
STREAMED_ROWS, STREAMED_FOR = 8, 2  # rows of rhs read along at a time, for this many rows of lhs at most
PANEL_SHARE = 8  # one column block of rhs may take this part of the second-level cache
RHS_SHARE = 2  # what a task reads of rhs may take this part of the second-level cache
KEPT_SHARE = 4  # an operand as large as this part of the second-level cache is kept in panels
KEPT_TWICE_SHARE = 4  # and no larger than this part of the last one, if few rows read it where it lies
SCRATCH_SHARE = 4  # a task's scratch may take this part of the second-level cache


@dataclass(frozen=True)
class Candidate:
    """An orientation: `problem.rhs` is read in vectors along `vector`."""

    problem: Problem
    vector: Axis
    lhs_is_vector: bool
    crosswise: bool = False
    folds: tuple[int, ...] = ()
    upright: bool = False


def candidates(problem: Problem, target: Target) -> Iterator[Candidate]:
    """Every orientation that can run."""
    for view in (problem, problem.swapped()):
        for axis in view.n:
            if all(_is_column(s, axis, problem) for s in problem.sums):
                yield from along(view, axis, target)
                if upright.serves(view, axis, target) and not may_be_few(problem):
                    yield Candidate(view, axis, False, upright=True)
                if not problem.pair and crosswise.serves(view, axis, target):
                    yield Candidate(view, axis, False, True)
        if problem.pair:
            continue
        if view.rhs.memory and view.lhs.memory:
            for axis in view.batch if not problem.sums else ():
                if view.lhs.stride(axis) == 1 and view.rhs.stride(axis) == 1:
                    yield Candidate(view, axis, True)
    if not problem.m and not problem.n:
        yield Candidate(problem, Axis("column", 1), False)


def along(problem: Problem, axis: Axis, target: Target) -> Iterator[Candidate]:
    """Tiles that broadcast elements of lhs, vectors along an axis of n."""
    yield Candidate(problem, axis, False)
    if folded.serves(problem, axis, target) and not may_be_few(problem) and not is_long(problem, target):
        folds = folded.folds_of(axis.extent, target.lanes(problem.dtype.size_bytes), problem.k[-1].extent)
        yield Candidate(problem, axis, False, folds=folds)


def _is_column(total: Accumulate, axis: Axis, problem: Problem) -> bool:
    """True if the sum has one element per step of `axis`, in order."""
    found = affine(linear_address(total.index, problem.shapes[total.buffer]))
    return found is not None and found.offset == 0 and dict(found.strides) == {axis: 1}


def make_plan(problem: Problem, target: Target) -> Plan | dot.DotPlan:
    """Return the cheapest plan of all paths; only tiles sum columns too."""
    if problem.sums:
        return tiled_plan(problem, target)
    plans = [plan(problem, target) for plan in PATHS]
    return min((p for p in plans if p is not None), key=lambda p: p.cycles)


def best_plan(form: Contract, target: Target, apart: Sequence[Axis] = ()) -> Plan | dot.DotPlan:
    """The cheapest plan for a form: its operands where they lie, or the rows of one of them copied first; or pairs.

    Args: apart: axes that are not merged with others.
    """
    problem = classify(form, apart=apart)
    plans = [make_plan(problem, target)]
    in_windows = classify(form, apart=(*apart, *(a for w in windows(form) for a in (w.out, w.tap))))
    if len(in_windows.windows) > len(problem.windows):
        plans = [apart_if_better(plans[0], make_plan(in_windows, target))]
    sides = ("lhs", "rhs")
    plans += [plan for side in sides if (plan := copied_plan(form, problem, side, target, apart)) is not None]
    plans += [plan for side in sides if (plan := packed_plan(form, problem, side, target, apart)) is not None]
    if planes.are_worth_a_try(problem, target):
        plans += [plan for side in ("lhs", "rhs") if (plan := planes_plan(form, side, target)) is not None]
    in_pairs = pairs.paired(problem, target)
    if in_pairs is not None and (problem.n or problem.m):
        plans.append(tiled_plan(in_pairs, target))
        plans += [p for side in sides if (p := copied_plan(form, in_pairs, side, target, apart)) is not None]
    return min(plans, key=lambda p: p.cycles)


def copied_plan(form: Contract, problem: Problem, side: str, target: Target, apart: Sequence[Axis] = ()) -> Plan | None:
    """The best plan that reads a copy of one operand in scalars; None if that has nothing to offer.

    Rows that crowd each other out of the cache are spread by a copy, and rows that lie apart come together, so that
    a tile may run over all of them.
    """
    view = problem if side == "lhs" else problem.swapped()
    if not rows_can_be_copied(view, target):
        return None
    copied = classify(form, side, apart)
    copied = pairs.paired(copied, target) if problem.pair else copied
    if copied is None:
        return None
    copied = copied if side == "lhs" else copied.swapped()
    lines = target.cache_line_bytes * 2
    strides = [abs(nominal(view.lhs.stride(a))) * view.lhs.memory.dtype.size_bytes for a in view.m]
    spread = any(s % (tiles.L1_WAY_BYTES // 2) < lines for s in strides)
    if len(copied.k) != len(view.k) or not (spread or len(copied.m) < len(view.m)):
        return None
    axes = [a for a in copied.n if all(_is_column(s, a, copied) for s in copied.sums)]
    return min((plan_for(Candidate(copied, a, False), target) for a in axes), key=lambda p: p.cycles, default=None)


def packed_plan(form: Contract, problem: Problem, side: str, target: Target, apart: Sequence[Axis] = ()) -> Plan | None:
    """The best plan that reads one operand in panels, where the other alone allows longer axes of the sum."""
    if problem.pair or may_be_few(problem):
        return None
    merged = classify(form, apart=apart, packed=side)
    if len(merged.k) == len(problem.k):
        return None
    view = merged if side == "rhs" else merged.swapped()
    if view.lhs.memory is None:
        return None
    axes = [a for a in view.n if all(_is_column(s, a, view) for s in view.sums)]
    plans = [plan_for(candidate, target) for a in axes for candidate in along(view, a, target)]
    return min(plans, key=lambda p: p.cycles, default=None)


def planes_plan(form: Contract, side: str, target: Target) -> Plan | None:
    """The best plan that reads an image in planes, along the pixels of a row; None if an operand is not an image."""
    found = planes.rewritten(form, side, target)
    if found is None:
        return None
    turned, copy = found
    problem = classify(turned)
    view = problem if side == "rhs" else problem.swapped()
    image = view.rhs.memory
    if image is None or view.lhs.memory is None:
        return None
    axes = [a for a in view.n if image.stride(a) == 1 and dim.is_static(a.extent)]
    plans = [plan_for(Candidate(view, a, False), target) for a in axes]
    best = min((p for p in plans if not (p.packed or p.turned)), key=lambda p: p.cycles, default=None)
    if best is None:
        return None
    count = nominal(copy.elements)
    cycles = (PACK_SQUARES + _far(count * copy.dtype.size_bytes, target)) * count
    return planes.in_workspace(best, copy, cycles)


def rows_can_be_copied(problem: Problem, target: Target) -> bool:
    """True if lhs lies in rows along k, of a vector at least, each element once."""
    a = problem.lhs.memory
    if a is None or not problem.k or not problem.m or problem.lhs.stride(problem.k[-1]) != a.unit:
        return False
    if problem.pair and (a.unit == 1 or not problem.pair.is_even):
        return False
    if not dim.is_static(problem.k[-1].extent) or problem.k[-1].extent < target.lanes(problem.dtype.size_bytes):
        return False
    elements = a.unit * nominal(extent((*problem.batch, *problem.m, *problem.k)))
    return elements <= nominal(dim.product(problem.shapes[a.buffer]))


def tiled_plan(problem: Problem, target: Target) -> Plan:
    """The best plan of the tiled path, which can do everything."""
    return min((plan_for(c, target) for c in candidates(problem, target)), key=lambda p: p.cycles)


PATHS = (dot.plan, tiled_plan)


def plan_for(candidate: Candidate, target: Target) -> Plan:
    """Decide everything for one orientation."""
    problem, vector = candidate.problem, candidate.vector
    size_bytes = problem.dtype.size_bytes
    lanes = target.lanes(size_bytes)
    k = problem.k
    outer = tuple(a for a in (*problem.batch, *problem.n) if a is not vector)
    k_size = max(1, nominal(extent(k)))
    lhs_is_vector = candidate.lhs_is_vector
    long = not lhs_is_vector and not candidate.crosswise and is_long(problem, target)
    rows, vectors, products = _tile(candidate, outer, lanes, target)
    cycles = products
    columns = split_columns(vector.extent, vectors, lanes, candidate.folds, candidate.upright)
    block_lanes = columns.vectors * lanes
    blocks = column_blocks(vector.extent, columns, lanes)
    packed = bool(problem.pair) or bool(candidate.folds) or must_pack(problem.rhs, vector, columns, target)
    packed = packed or pays_to_pack(problem, k_size, target)
    packed = not lhs_is_vector and not candidate.crosswise and (packed or pays_to_keep(problem, block_lanes, target))
    b, block_stride = problem.rhs.memory, block_lanes
    pack_cycles = 0.0 if problem.rhs.is_steady else pack_cost(problem, outer, k, vector, block_lanes, blocks, target)
    if packed:
        element = pairs.WHOLE if problem.pair else problem.dtype
        b, block_stride = panel_memory(problem.rhs, outer, k, vector, block_lanes, blocks, element)
        cycles += pack_cycles
        if candidate.folds:
            cycles += folded.FOLD_STEP * k_size * max(1, nominal(extent([a for a in outer if problem.rhs.uses(a)])))
    a = problem.lhs.memory
    behind = panel_elements(problem, outer, blocks, block_lanes) if packed and not problem.rhs.is_steady else 0
    turned = (
        not lhs_is_vector and not candidate.crosswise and not candidate.folds and not long and not candidate.upright
    )
    turned = turned and turn.pays(problem, rows.along, blocks, target)
    if turned:
        a = turn.turned_memory(problem, behind, lanes)
        cycles += _copied_lhs(problem, PACK_SQUARES, target)
    spread = not turned and beside.is_needed(problem)
    if spread:
        a = beside.memory(problem, behind)
        cycles += beside_cost(problem, target)
    if problem.lhs.is_steady and not problem.rhs.is_steady and not lhs_is_vector:
        cycles += STEADY_LHS * nominal(extent((*problem.batch, *problem.m, *problem.k)))
    if a is None:
        a = dense_memory(problem, behind, lanes)
        cycles += _copied_lhs(problem, PACK_ROWS if problem.lhs.rows else PACK_ELEMENTS, target)

    limit = k_rows_in_cache(b, k, rows, block_lanes * size_bytes, target)
    if not packed and is_streamed(b, k, rows):
        limit = STREAMED_ROWS
    if candidate.crosswise:
        limit = None
    cut, k_steps = k_block(k, limit, columns.fold)
    finish, finish_cycles = choose_finish(problem, vector, rows, columns)
    cycles += finish_cycles
    plan = Plan(
        problem=problem,
        lanes=lanes,
        vector=vector,
        lhs_is_vector=lhs_is_vector,
        a=a,
        b=b,
        packed=packed,
        turned=turned,
        block_stride=block_stride,
        outer=outer,
        rows=rows,
        columns=columns,
        k=k,
        cut=cut,
        k_steps=k_steps,
        blocked=is_blocked(k, cut, k_steps),
        finish=finish,
        units_per_task=1,
        cycles=cycles,
        crosswise=candidate.crosswise,
        beside=spread,
        chains=_chains(problem, rows, columns.vectors),
    )
    if candidate.crosswise:
        return with_chunks(plan, target)
    plan = with_windows(plan, products)
    if long:
        return along_k(plan, target)
    plan = replace(plan, asked=ask.asked(plan, target) if not candidate.folds else ())
    shared = with_shares(plan, target)
    return shared if shared.blocks_per_share else with_chunks(plan, target)


def _tile(candidate: Candidate, outer, lanes: int, target: Target) -> tuple[tiles.RowTile, int, float]:
    """The register tile, its vectors, and the cycles of all tiles."""
    problem, vector = candidate.problem, candidate.vector
    if candidate.crosswise:
        rows, vectors, cycles = crosswise.tile(problem, vector, lanes, target)
    else:
        given = problem.m, vector.extent, problem.k, lanes, target, candidate.lhs_is_vector
        lhs = None if candidate.lhs_is_vector else problem.lhs.memory
        left = vector.extent % lanes if candidate.upright else 0
        rows, vectors, cycles = tiles.choose(*given, lhs, _latency(problem), candidate.folds, left)
        cycles *= folded.LEAST_GAIN if candidate.folds else upright.LEAST_GAIN if left else 1
    return rows, vectors, cycles * max(1, nominal(extent(outer)))


def _chains(problem: Problem, rows: tiles.RowTile, vectors: int) -> int:
    """Partial sums per result; one where a size is open, for then other plans must give the same bits."""
    if not all(dim.is_static(a.extent) for a in (*problem.batch, *problem.m, *problem.n)):
        return 1
    return tiles.chains(rows.max_rows, vectors, _latency(problem))


def _latency(problem: Problem) -> int:
    return tiles.PAIR_LATENCY if problem.pair else tiles.FMA_LATENCY


def _copied_lhs(problem: Problem, cycles: float, target: Target) -> float:
    """Cycles to copy lhs, `cycles` per element near by."""
    count = nominal(extent((*problem.batch, *problem.m, *problem.k)))
    return (cycles + _far(count * problem.dtype.size_bytes, target, bool(problem.pair))) * count


def beside_cost(problem: Problem, target: Target) -> float:
    """Cycles to copy lhs with partners beside each other."""
    count = nominal(beside.source_elements(problem))
    return (BESIDE + _far(count * problem.dtype.size_bytes, target, True)) * count


def _far(nbytes: int, target: Target, in_pairs: bool = False) -> float:
    """Cycles per element to write a copy and read it, from where so many bytes lie."""
    l3, memory = (PAIRS_L3, PAIRS_MEMORY) if in_pairs else (PANELS_L3, PANELS_MEMORY)
    return 0.0 if nbytes <= target.l2_bytes else l3 if 2 * nbytes <= target.l3_bytes else memory


def k_rows_in_cache(b: Memory, k, rows, row_bytes: int, target: Target) -> int | None:
    """Steps of k in a block: so many that its part of rhs stays in cache for all row tiles."""
    if nominal(extent(rows.outside) * rows.along.extent) <= 2 * rows.sizes[0]:
        return None  # nobody uses it again
    steps = max(32, target.l2_bytes // PANEL_SHARE // row_bytes)
    stride_bytes = abs(nominal(b.stride(k[-1]))) * b.dtype.size_bytes if k else 0
    # every row in a page of its own: more of them than the first-level TLB and the associativity bear
    return min(steps, PAGED_ROWS) if stride_bytes >= PAGE_BYTES else steps


def is_streamed(b: Memory, k, rows) -> bool:
    """True if each row of rhs is read once, by next to no rows of lhs, and lies pages from the next.

    A few rows at a time are then read along, as streams that the hardware fetches ahead; the sums wait in the scratch.
    """
    if not k or nominal(extent(rows.outside) * rows.along.extent) * rows.inner_rows > STREAMED_FOR:
        return False
    return abs(nominal(b.stride(k[-1]))) * b.dtype.size_bytes >= PAGE_BYTES


def is_blocked(k, cut: int, k_steps: DimLike) -> bool:
    """True if k may have more than one block."""
    whole = bool(k) and (k_steps == k[0].extent or (dim.is_static(k[0].extent) and k_steps >= k[0].extent))
    return bool(k) and not (cut == 0 and whole)


def with_shares(plan: Plan, target: Target) -> Plan:
    """Share k among tasks where the result alone gives too few of them for the work there is."""
    tasks = max(1, nominal(plan.tiles_tasks))
    if tasks >= FEW_TASKS or plan.cycles < 2 * SHARE_CYCLES or not plan.k:
        return plan
    wanted = int(min(TASKS_WANTED // 2 // tasks, plan.cycles / tasks // SHARE_CYCLES))
    total = nominal(extent(plan.k))
    row_bytes = plan.block_lanes * plan.problem.dtype.size_bytes
    cached = k_rows_in_cache(plan.b, plan.k, plan.rows, row_bytes, target)
    limit = min(total // max(1, wanted), total if cached is None else cached)
    cut, k_steps = k_block(plan.k, limit, plan.columns.fold)
    shared = replace(plan, cut=cut, k_steps=k_steps, blocked=True)
    per_share = nominal(shared.k_blocks) // max(1, wanted)
    if wanted < 2 or per_share < 1:
        return plan
    finish = plan.finish if plan.finish == TRANSPOSED else SCRATCH
    return replace(shared, blocks_per_share=per_share, finish=finish)


def must_pack(operand: Operand, vector: Axis, columns, target: Target) -> bool:
    """True if rhs cannot be read in vectors where it lies."""
    if operand.memory is None or operand.k or operand.memory.stride(vector) != 1:
        return True
    # panels are padded, so only reads in place need masks; without AVX2 a masked load is a scalar loop
    return columns.tail_lanes != 0 and target.vector_bytes < MASKED_VECTOR_BYTES


def pays_to_pack(problem: Problem, k_size: int, target: Target) -> bool:
    """True if rows of rhs lie badly, and enough rows of lhs meet them to pay for a copy.

    Rows pages apart are many pages. Rows that begin at a few places of their pages crowd into a few sets of the
    second-level cache, which matters if they come from beyond it and are met again.
    """
    b = problem.rhs.memory
    if b is None or not problem.k or k_size < PAGED_ROWS // 2 or nominal(extent(problem.m)) < PAGED_ROWS:
        return False
    stride_bytes = abs(nominal(b.stride(problem.k[-1]))) * b.dtype.size_bytes
    if stride_bytes >= PAGE_BYTES or is_long(problem, target):
        return stride_bytes >= PAGE_BYTES
    nbytes = nominal(extent((*problem.n, *problem.k))) * b.dtype.size_bytes
    return nbytes > target.l2_bytes and math.gcd(stride_bytes, PAGE_BYTES) * FEW_PLACES >= PAGE_BYTES


def pays_to_keep(problem: Problem, block_lanes: int, target: Target) -> bool:
    """True if panels of rhs cost nothing, since they are kept, and do not lie in the near caches anyway."""
    b = problem.rhs.memory
    if not problem.rhs.is_steady or b is None or not problem.k:
        return False
    if abs(nominal(b.stride(problem.k[-1]))) <= block_lanes:
        return False  # it lies in panels already
    nbytes = nominal(dim.product(problem.shapes[b.buffer])) * b.dtype.size_bytes
    if may_be_few(problem) and nbytes * KEPT_TWICE_SHARE > target.l3_bytes:
        return False
    return nbytes * KEPT_SHARE >= target.l2_bytes


def may_be_few(problem: Problem) -> bool:
    """True if the rows are a named size that may be one: few rows read rhs where it lies (thin.py), beside its panels.

    Those of a loop's task are few in any case: panels that all steps read are made for them.
    """
    sizes = [e for e in (extent(problem.m), extent(problem.n)) if not dim.is_static(e) and nominal(e) > FEW_ROWS]
    with dim.assuming(1):
        return any(nominal(e) == 1 for e in sizes)


def pack_cost(problem: Problem, outer, k, vector: Axis, block_lanes: int, blocks: DimLike, target: Target) -> float:
    """Cycles to copy rhs into panels, and to fetch them from where they then lie."""
    operand, size_bytes, in_pairs = problem.rhs, problem.dtype.size_bytes, bool(problem.pair)
    count = nominal(extent([a for a in outer if operand.uses(a)]) * extent(k) * blocks * block_lanes)
    cycles = _copy_cycles(operand, operand.k or k, vector, target.lanes(size_bytes), in_pairs)
    return (cycles + _far(count * size_bytes, target, in_pairs)) * count


def _copy_cycles(operand: Operand, k, vector: Axis, lanes: int, in_pairs: bool) -> float:
    """Cycles per element of a panel."""
    if operand.memory is None:
        return PACK_ELEMENTS
    if operand.memory.stride(vector) == 1:
        return PAIR_ROWS if in_pairs else PACK_ROWS
    inner = nominal(k[-1].extent) if k else 0
    if inner >= lanes and operand.memory.stride(k[-1]) == operand.memory.unit:
        return PACK_SQUARES * -(-inner // lanes) * lanes / inner
    return PACK_ELEMENTS


def panel_elements(problem: Problem, outer, blocks: DimLike, block_lanes: int) -> DimLike:
    """Elements of the packed rhs."""
    return extent([a for a in outer if problem.rhs.uses(a)]) * blocks * extent(problem.k) * block_lanes


def dense_memory(problem: Problem, offset: DimLike, lanes: int) -> Memory:
    """Where lhs lies once it has been computed into the shared workspace, behind the panels of rhs."""
    strides: dict[Axis, DimLike] = {}
    step: DimLike = 1
    rows = [a for a in dense_axes(problem) if a not in problem.k]
    for axis in reversed([a for a in problem.k if problem.lhs.uses(a)]):
        strides[axis] = step
        step = step * axis.extent
    if problem.lhs.rows:
        step = turn.row_elements(problem, lanes)
    for axis in reversed(rows):
        strides[axis] = step
        step = step * axis.extent
    return Memory(SHARED_SPACE, pairs.WHOLE if problem.pair else problem.dtype, Affine(offset, strides))


def dense_elements(problem: Problem, lanes: int) -> DimLike:
    """Elements of that array."""
    axes = dense_axes(problem)
    if not problem.lhs.rows:
        return extent(axes)
    return extent([a for a in axes if a not in problem.k]) * turn.row_elements(problem, lanes)


def dense_axes(problem: Problem) -> list[Axis]:
    """Axes of the array that a computed lhs is kept in."""
    return [a for a in (*problem.batch, *problem.m, *problem.k) if problem.lhs.uses(a)]


def choose_finish(problem: Problem, vector: Axis, rows, columns) -> tuple[str, float]:
    """How the stores are evaluated, and what that costs beyond plain stores."""
    elements = nominal(extent((*problem.batch, *problem.m, *problem.n)))
    if vector.extent == 1 or problem.result_stride(vector) == 1:
        light = is_light(problem.stores, vector, problem.shapes)
        return (DIRECT, 0.0) if light else (SCRATCH, 0.1 * elements)
    if not rows.inside and not rows.outside and problem.result_stride(rows.along) == 1:
        return TRANSPOSED, STORE_TRANSPOSED * elements
    return SCRATCH, STORE_SCATTERED * elements


def with_chunks(plan: Plan, target: Target) -> Plan:
    """Say how many tiles make a task: enough work, enough tasks, scratch within the cache."""
    tiles_total = max(1, nominal(extent(plan.outer) * plan.blocks * plan.units))
    per_tile = max(1.0, plan.cycles / tiles_total)
    blocks = blocks_in_cache(plan, target)
    wanted = tiles_total // TASKS_WANTED
    if not plan.packed and is_streamed(plan.b, plan.k, plan.rows):
        wanted = max(wanted, min(PAGE_BYTES // plan.vector_bytes // plan.columns.vectors, nominal(plan.blocks) // 2))
    blocks = max(1, min(blocks, wanted))
    units = max(1, min(nominal(plan.units), round(TASK_CYCLES / per_tile / blocks)))
    fewest = max(1, tiles_total // TASKS_WANTED // blocks)
    if plan.keeps:
        units = units_of_panel(plan, target)
    elif plan.blocked or plan.packed:
        units = max(units, min(fewest, UNITS_AGAIN))
    tile_bytes = plan.unit_elements * plan.problem.dtype.size_bytes
    limit = max(1, target.l2_bytes // SCRATCH_SHARE // tile_bytes)
    blocks = min(blocks, limit)
    units = int(min(units, limit // blocks))
    plan = replace(plan, units_per_task=units, blocks_per_task=even_blocks(plan, units, blocks))
    late = plan.may_be_late
    plan = replace(plan, packs_late=late, copies_late=late and plan.may_copy_late)
    if not lines.may_line(plan):
        return plan
    gained = (PACK_ROWS + PANELS_L3 - COPIED_BESIDE) if lines.copied_beside(lines.lined(plan)) else 0.0
    return replace(lines.lined(plan), cycles=plan.cycles - gained * nominal(lines.elements(lines.lined(plan))))


def units_of_panel(plan: Plan, target: Target) -> int:
    """Row tiles that meet one kept panel after the other: their part of lhs stays in the second-level cache."""
    steps = nominal(plan.k_steps * extent(plan.k[plan.cut + 1 :])) if plan.blocked else nominal(extent(plan.k))
    row_bytes = plan.rows.max_rows * max(1, steps) * plan.problem.dtype.size_bytes
    limit = min(UNITS_AGAIN, max(FEWEST_UNITS, target.l2_bytes // LHS_SHARE // row_bytes))
    with dim.assuming(1):
        units = max(1, nominal(plan.units))
    return -(-units // -(-units // limit)) if units > 1 else limit


def even_blocks(plan: Plan, units: int, blocks: int) -> int:
    """At most `blocks` column blocks per task, as many in each.

    Where panels are kept, work is enough for some tasks even if a named size is 1.
    """
    total = max(1, nominal(plan.blocks))
    groups = -(-total // blocks)
    if not plan.keeps:
        return -(-total // groups)
    with dim.assuming(1):
        others = max(1, nominal(extent(plan.outer))) * -(-max(1, nominal(plan.units)) // units)
    groups = max(groups, min(total, -(-(TASKS_WANTED // 2) // others)))
    return -(-total // groups)


def blocks_in_cache(plan: Plan, target: Target) -> int:
    """Column blocks whose part of rhs stays in the second-level cache while row tiles pass over it."""
    if plan.lhs_is_vector:
        return 1
    steps = nominal(extent(plan.k))
    if plan.blocked:
        steps = min(steps, nominal(plan.k_steps * extent(plan.k[plan.cut + 1 :])))
    block_bytes = max(1, steps) * plan.block_lanes * plan.problem.dtype.size_bytes
    return max(1, min(nominal(plan.blocks), target.l2_bytes // RHS_SHARE // block_bytes))
