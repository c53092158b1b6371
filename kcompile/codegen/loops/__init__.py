"""Loops -> LLVM IR.

    flat.py      one address per access; groups fused, axes merged
    plan.py      which axis is vectorised, what a task is
    written_out.py, phases.py    small nests as plain stores; large sums in two phases
    walks.py     how statements walk memory, and their cost
    address.py   index arithmetic, at the outermost loop where its axes are known
    expr.py      scalar expressions, loads, lazy conditions
    conditions.py, segments.py   comparisons of indices; loops cut where they change
    versions.py  a loop over lanes for each answer that rows give
    reduce.py    accumulation
    nest.py      maps, rows, columns: the loops
    vectors.py, reductions.py, columns.py    the nests of rows and columns written as vectors
    skewed.py    the order of vectors that go side by side
    overlaps.py, overlaps_code.py   what windows that overlap share, handed on along a row of them
    tiled.py     maps that read across memory
    staggered.py, staggered_code.py   neighbouring rows one nest apart, in one loop
    folds.py, jammed.py      sums of several short rows folded in common; short rows that take turns
    staggered_blocks.py      blocks of short rows one nest apart
    shifts.py, bounded.py    maxima that need not tell of NaN; sums whose reciprocal is in range
    streaming.py results too large for any cache, written past it
    ahead.py, in_order.py    later rows asked for while these are computed with; windows that ask as memory lies
    scatter.py   sums into elements chosen at run time

The bodies of maps are scalar and LLVM's vectoriser chooses the width; nests that reduce are written as
vectors, because a reduction wants a say in its accumulators. Results do not depend on how tasks are
split: a task computes its elements in the same way whoever runs it.
"""

from __future__ import annotations

from kcompile.codegen.build import KernelBuilder
from kcompile.codegen.kernel import Kernel, Phase
from kcompile.codegen.llvm_types import I64, POINTER
from kcompile.codegen.loops import nest, plan, scatter, streaming, tiled
from kcompile.codegen.loops.expr import Scope, plain
from kcompile.codegen.loops.flat import dims_of, statements_of
from kcompile.codegen.module import Param, finished_text, new_module, pointer
from kcompile.forms.compose import buffer_types, statements
from kcompile.forms.records import IN, LOCAL, OUT, Buffer, Loops
from kcompile.ir import dim
from kcompile.ir.dim import DimLike
from kcompile.target import Target

_ARGS = (
    pointer("args", "readonly", align_bytes=8),
    Param("begin", "i64"),
    Param("end", "i64"),
    Param("worker", "i64"),
)


def emit(form: Loops, target: Target, name: str) -> Kernel:
    """Return the LLVM IR of a loops kernel and what its caller must provide (see codegen/kernel.py).

    Raises: CompilerBug for a form that names unknown buffers or accumulates in unknown ways.
    """
    made = plan.make_plan(form, target)
    symbols = _symbols(form, made)
    per_worker: DimLike = 0
    for phase in made.phases:  # parts share the workspace, one after another
        for schedule in phase:
            per_worker = _larger(per_worker, nest.workspace_bytes(schedule))
    shared = sum((_shared_bytes(b) for b in made.shared), start=0)
    module = new_module(name, target)
    slots = _Slots(form, made.shared, symbols, per_worker, shared)
    phases = []
    for n, phase in enumerate(made.phases):
        function = name if n == 0 else f"{name}_phase{n}"
        _exported(module, target, function, slots, phase, form)
        tasks = sum((s.tasks for s in phase), start=0)
        phases.append(Phase(function, tasks, _mean_cost(phase)))
    return Kernel(name, finished_text(module), symbols, tuple(phases), per_worker, shared)


def _symbols(form: Loops, made: plan.Plan) -> tuple[str, ...]:
    """Every size the form or its loops mention, sorted."""
    names: set[str] = set()
    for buffer in form.buffers:
        for size in buffer.type.shape:
            names |= dim.symbols(size)
    for phase in made.phases:
        for schedule in phase:
            part = schedule.part
            for axis in (*part.outer, *(s.axis for g in part.groups for s in g.spans)):
                names |= dim.symbols(axis.extent)
            for value in dims_of(statements_of(part)):
                names |= dim.symbols(value)
    return tuple(sorted(names))


def _larger(a: DimLike, b: DimLike) -> DimLike:
    """A bound of both: sizes known only at run time are added up."""
    if dim.is_static(a) and dim.is_static(b):
        return max(a, b)
    if a == 0 or a == b:
        return b
    return a if b == 0 else a + b


def _shared_bytes(buffer: Buffer) -> DimLike:
    return dim.floordiv(buffer.type.nbytes + 63, 64) * 64


def _mean_cost(phase: tuple[plan.Schedule, ...]) -> DimLike:
    if len(phase) == 1:
        return phase[0].cost_per_task
    total = sum((s.tasks * s.cost_per_task for s in phase), start=0)
    tasks = sum((s.tasks for s in phase), start=0)
    if not dim.is_static(total) or not dim.is_static(tasks):
        known = [s.cost_per_task for s in phase if dim.is_static(s.cost_per_task)]
        return max(known, default=plan.MAP_BLOCK)
    return max(1, total // max(1, tasks))


class _Slots:
    """What the caller's argument slots hold, in order."""

    def __init__(self, form: Loops, shared, symbols, per_worker: DimLike, shared_bytes: DimLike):
        self.buffers = [b for b in form.buffers if b.role != LOCAL]
        self.shared, self.symbols = shared, symbols
        self.per_worker, self.has_shared = per_worker, shared_bytes != 0

    def load(self, b: KernelBuilder) -> tuple[dict, dict]:
        """Return (pointer by buffer name, size by symbol); the worker's workspace is under None."""
        position = 0

        def slot(kind):
            nonlocal position
            value = b.ll.load(b.at(b["args"], "i64", position), typ=kind, align=8)
            position += 1
            return value

        pointers = {buffer.name: slot(POINTER) for buffer in self.buffers}
        workspace = slot(POINTER) if self.per_worker != 0 else None
        shared = slot(POINTER) if self.has_shared else None
        sizes = {symbol: slot(I64) for symbol in self.symbols}
        scope = Scope(b, sizes)
        if workspace is not None:
            pointers[None] = b.at_byte(workspace, b.mul(b["worker"], scope.value(self.per_worker)))
        offset = 0
        for buffer in self.shared:
            pointers[buffer.name] = b.at_byte(shared, offset)
            offset = b.add(offset, scope.value(_shared_bytes(buffer)))
        return pointers, sizes


def _exported(module, target: Target, function: str, slots: _Slots, phase, form: Loops) -> None:
    """The function of one phase: reads the slots, hands each part the tasks that are its own."""
    b = KernelBuilder(module, target, function, _ARGS)
    pointers, sizes = slots.load(b)
    scope = Scope(b, sizes)
    first = 0
    for n, schedule in enumerate(phase):
        behind = b.add(first, scope.value(schedule.tasks))
        begin, end = b["begin"], b["end"]
        if len(phase) > 1:
            begin = b.sub(b.max(begin, first), first)
            end = b.sub(b.max(b.min(end, behind), first), first)  # never negative: points() divides it
        part = _part_function(module, target, f"{function}_part{n}", slots, schedule, form)
        arguments = [pointers[k] for k in part.keys] + [sizes[s] for s in slots.symbols]
        b.call(part.fn, [*arguments, b.index(begin), b.index(end)])
        first = behind
    b.ret()


class _Part:
    """An internal function and the names of the pointers it takes."""

    def __init__(self, fn, keys):
        self.fn, self.keys = fn, keys


def _part_function(module, target: Target, name: str, slots: _Slots, schedule, form: Loops) -> _Part:
    part = schedule.part
    touched = {s.buffer for s in statements_of(part)} | {n.buffer for n in plan.loads_of(statements_of(part))}
    written = {s.buffer for s in statements_of(part)}
    params, keys = [], []
    for buffer in (*slots.buffers, *slots.shared):
        if buffer.name in touched:
            access = "readwrite" if buffer.name in written or buffer.role not in (IN, OUT) else "readonly"
            params.append(pointer(f"p{len(keys)}", access, align_bytes=buffer.type.dtype.size_bytes))
            keys.append(buffer.name)
    needs_workspace = bool(nest.workspace_locals(schedule))
    if needs_workspace:
        params.append(pointer("workspace"))
        keys.append(None)
    params += [Param(f"size.{s}", "i64") for s in slots.symbols]
    b = KernelBuilder(
        module,
        target,
        name,
        [*params, Param("begin", "i64"), Param("end", "i64")],
        linkage="internal",
        attributes=("noinline",),
    )
    scope = Scope(b, {s: b[f"size.{s}"] for s in slots.symbols})
    scope.share = b.sub(b["end"], b["begin"]), scope.value(schedule.tasks)
    for n, key in enumerate(keys):
        if key is not None:
            scope.memory[key] = plain(b[f"p{n}"], part.buffers[key].type.dtype)
    workspace = b["workspace"] if needs_workspace else None
    if schedule.kind == plan.SCATTER:
        scatter.emit_scatter(schedule, scope, b["begin"], b["end"], _row_size(form))
    elif schedule.kind == plan.TILED:
        tiled.emit_tiled(schedule, scope, b["begin"], b["end"])
    elif schedule.kind == plan.SERIAL:
        _serial(schedule, scope, b, workspace)
    else:
        nest.emit_schedule(schedule, scope, b["begin"], b["end"], workspace)
    if streaming.may_stream(part, target) and target.arch == "x86_64":
        streaming.finish(b)
    b.ret()
    return _Part(b.fn, keys)


def _serial(schedule, scope: Scope, b: KernelBuilder, workspace) -> None:
    """One task: every point of `outer`, one after the other."""
    with b.if_(b.compare("<", b["begin"], b["end"])):
        nest.fill_outputs(schedule, scope)
        points = dim.product(a.extent for a in schedule.part.outer)
        nest.emit_schedule(schedule, scope, 0, scope.value(points), workspace)


def _row_size(form: Loops) -> DimLike:
    """Elements per row of the one array a scatter writes."""
    (name,) = {s.buffer for s in statements(form)}
    return dim.product(buffer_types(form)[name].type.shape[1:])
