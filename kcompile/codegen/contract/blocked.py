"""The tiled path: loops of tasks, blocks of k and row tiles around the register tile.

    for task in [begin, end):            group of column blocks, chunk of row tiles; neighbours share rhs
        for block of k:                  from here on task.py; so that the group's part of rhs stays in cache
            for row tile in chunk:
                for column block in group:     the other way round if panels are kept
                    tile(...)            micro.py
        finish(...)                      epilogue.py, unless the tile did it in registers

Where nothing is kept per chunk (`Plan.is_divisible`), the pool divides tiles, and each thread's row tiles are cut into
chunks of about equal size. A tile's numbers do not depend on the chunk it is in.

Phases: `pack` (if rhs is not read in place; next to nothing if panels are made late), `main`, and `sum` if k is shared
among tasks: then the tasks of `main` leave partial tiles in the shared workspace, and `sum` adds them in order and
finishes.
"""

from __future__ import annotations

from dataclasses import replace

from llvmlite import ir

from kcompile.codegen.contract import beside, columns, late, lines, pack, packpairs, turn
from kcompile.codegen.contract.finish import finish_function, transposed_finish_function
from kcompile.codegen.contract.frame import ROLLED, SHARED_SPACE, WORKER_SPACE, Frame, Signature
from kcompile.codegen.contract.micro import tile_function
from kcompile.codegen.contract.plan import SCRATCH, TRANSPOSED, Plan
from kcompile.codegen.contract.task import Variants, finish_task_function, only_tail, task_function
from kcompile.codegen.kernel import Phase
from kcompile.codegen.llvm_types import Index
from kcompile.ir.dim import DimLike


def scratch_bytes(plan: Plan) -> int:
    """Bytes of scratch per worker: the tiles of one task."""
    if not plan.is_parked:
        return 0
    return -(-plan.task_elements * plan.problem.dtype.size_bytes // 64) * 64


def emit_phases(
    module, target, sig: Signature, plan: Plan, name: str, partials: DimLike, sums: DimLike, marks: DimLike
) -> tuple[Phase, ...]:
    """Write all functions of the kernel; return its phases.

    partials, sums, marks: where partial tiles, the partial sums of columns and the marks of panels start in the shared
    workspace, in elements.
    """
    phases = [*turn.emit_phases(module, target, sig, plan, name), *beside.emit_phases(module, target, sig, plan, name)]
    variants = _variants(module, target, sig, plan, name)
    fill = packpairs.fill if plan.problem.pair else pack.fill
    if plan.packs_late:
        phases.append(late.emit_phase(module, target, sig, plan, name, marks))
        variants = replace(variants, late=late.functions(module, target, sig, plan, name, marks, fill))
    elif plan.packed:
        phases.append(pack.emit_phase(module, target, sig, plan, name, fill))
    task = task_function(module, target, sig, plan, f"{name}.task", variants, sums)
    _emit_main(module, target, sig, plan, name, task, partials)
    phases.append(Phase(name, plan.tasks, plan.cost_per_task))
    if plan.blocks_per_share:
        finish = finish_task_function(module, target, sig, plan, f"{name}.finish.task", variants, sums)
        _emit_sum(module, target, sig, plan, f"{name}_sum", finish, partials)
        phases.append(Phase(f"{name}_sum", plan.tiles_tasks, plan.shares * plan.task_elements))
    return (*phases, *columns.emit_phase(module, target, sig, plan, name, sums))


def _variants(module, target, sig: Signature, plan: Plan, name: str) -> Variants:
    wide = plan.columns
    tiles, finish = {}, {}
    for is_tail, vectors in ((False, wide.vectors), (True, wide.tail_vectors)):
        if not vectors or (not is_tail and only_tail(plan)):
            continue
        masked = is_tail and wide.tail_lanes != 0
        tag = f"{vectors}v" + ("m" if masked else "")
        for steps in plan.rows.sizes:
            label = f"{name}.tile{steps * plan.rows.inner_rows}x{tag}"
            tiles[steps, is_tail] = tile_function(module, target, sig, plan, label, steps, vectors, masked)
        if plan.finish == SCRATCH:
            finish[is_tail] = finish_function(module, target, sig, plan, f"{name}.finish{tag}", vectors, masked)
    if plan.finish == TRANSPOSED:
        finish[False] = transposed_finish_function(module, target, sig, plan, f"{name}.finish")
    maker = copier = None
    if not only_tail(plan):
        whole = plan.rows.sizes[0], wide.vectors, False
        if plan.makes_panels:
            maker = tile_function(module, target, sig, plan, f"{name}.maker", *whole, makes=True)
        if lines.copied_beside(plan):
            copier = tile_function(module, target, sig, plan, f"{name}.copier", *whole, copies=True)
    return Variants(tiles, finish, maker=maker, copier=copier)


def _emit_main(module, target, sig: Signature, plan: Plan, name: str, task_fn, partials: DimLike) -> None:
    frame = Frame.exported(module, target, name, sig)
    b, dtype = frame.b, plan.problem.dtype
    if plan.is_divisible:
        _grouped_units(frame, plan, task_fn)
        b.ret()
        return
    with b.loop("task", b["begin"], b["end"], **ROLLED) as task:
        if plan.blocks_per_share:
            tiles = frame.index(plan.tiles_tasks)
            share, place = b.div_nonneg(task, tiles), b.mod_nonneg(task, tiles)
            start = b.add(frame.index(partials), b.mul(task, plan.task_elements))
            scratch = b.at(frame.pointers[SHARED_SPACE], dtype, start)
        else:
            share, place = 0, task
            scratch = _worker_scratch(frame, plan)
        chunks = frame.index(plan.chunks)
        first = b.mul(b.mod_nonneg(place, chunks), plan.units_per_task)
        end = b.min(b.add(first, plan.units_per_task), frame.index(plan.units))
        _call_task(frame, task_fn, scratch, share, place, b.div_nonneg(place, chunks), first, end)
    b.ret()


def _grouped_units(frame: Frame, plan: Plan, task_fn) -> None:
    """Run tiles [begin, end) in the order of groups of column blocks, at most `units_per_task` row tiles at a time."""
    b = frame.b
    units = b.max(frame.index(plan.units), 1)  # a named size may be 0
    begin, end = (_row_tile(frame, plan, units, b[name]) for name in ("begin", "end"))
    scratch = _worker_scratch(frame, plan)
    with b.loop("group", b.div_nonneg(begin, units), b.ceildiv(end, units), **ROLLED) as group:
        start = b.mul(group, units)
        low, high = b.max(b.sub(begin, start), 0), b.min(b.sub(end, start), units)
        count = b.sub(high, low)
        chunks = b.ceildiv(count, plan.units_per_task)
        with b.loop("chunk", 0, chunks, **ROLLED) as number:
            chunk = late.order(b, number, chunks) if plan.copies_late else number
            first = b.add(low, b.div_nonneg(b.mul(count, chunk), chunks))
            after = b.add(low, b.div_nonneg(b.mul(count, b.add(chunk, 1)), chunks))
            _call_task(frame, task_fn, scratch, 0, 0, group, first, after)


def _row_tile(frame: Frame, plan: Plan, units: Index, tile: Index) -> Index:
    """Which row tile of all groups tile number `tile` is in: the last group has fewer column blocks, so less work.

    A row tile of a group is never divided; it belongs to whoever has its last tile.
    """
    b, wide = frame.b, plan.blocks_per_task
    if wide == 1:
        return tile
    blocks = frame.index(plan.blocks)
    place, rest = _divided(b, tile, b.max(b.mul(units, blocks), 1))
    group, rest = _divided(b, rest, b.mul(units, wide))
    unit = b.div_nonneg(rest, b.max(b.min(wide, b.sub(blocks, b.mul(group, wide))), 1))
    return b.add(b.mul(b.add(b.mul(place, frame.index(plan.groups)), group), units), unit)


def _divided(b, number: Index, by: Index) -> tuple[Index, Index]:
    return b.div_nonneg(number, by), b.mod_nonneg(number, by)


def _call_task(frame: Frame, task_fn, scratch, *numbers: Index) -> None:
    b = frame.b
    b.call(task_fn, [*frame.leading(), scratch, *(b.index(n) for n in numbers)])


def _worker_scratch(frame: Frame, plan: Plan) -> ir.Value:
    b = frame.b
    if not plan.is_parked:
        return ir.Constant(ir.PointerType(), None)
    return b.at_byte(frame.pointers[WORKER_SPACE], b.mul(b["worker"], scratch_bytes(plan)))


def _emit_sum(module, target, sig: Signature, plan: Plan, name: str, finish_fn, partials: DimLike) -> None:
    """Add the partial tiles of each task in the order of k, then evaluate the stores."""
    frame = Frame.exported(module, target, name, sig)
    b, dtype, lanes = frame.b, plan.problem.dtype, plan.lanes
    shares, tiles = frame.index(plan.shares), frame.index(plan.tiles_tasks)
    scratch = _worker_scratch(frame, plan)
    base = b.at(frame.pointers[SHARED_SPACE], dtype, frame.index(partials))
    add = b.fadd if dtype.is_float else b.ll.or_ if dtype.category == "bool" else b.ll.add
    chunks = frame.index(plan.chunks)
    with b.loop("task", b["begin"], b["end"], **ROLLED) as task:
        with b.loop("element", 0, plan.task_elements, lanes, **ROLLED) as element:
            with b.carried_loop("share", 0, shares, [b.zero(dtype, lanes)]) as loop:
                start = b.mul(b.add(b.mul(loop.index, tiles), task), plan.task_elements)
                loop.next(add(loop.carried[0], b.load_vector(base, dtype, b.add(start, element), lanes)))
            b.store_vector(loop.results[0], scratch, dtype, element)
        first = b.mul(b.mod_nonneg(task, chunks), plan.units_per_task)
        end = b.min(b.add(first, plan.units_per_task), frame.index(plan.units))
        _call_task(frame, finish_fn, scratch, 0, task, b.div_nonneg(task, chunks), first, end)
    b.ret()
