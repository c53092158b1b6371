"""Steps of a program -> lines of LLVM IR; how loops among them are called.

A loop is two functions. `NAME_step` runs the steps of the body once; its pointers are into a table. `NAME`
is a task of the thread pool that fills the table and calls it (loop_function.py).

Where there are fewer blocks of rows than threads, and a step has work for several, `NAME_together` runs the blocks
one after the other and all threads share each kernel: the same kernels, so the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kcompile.codegen.kernel import Phase
from kcompile.codegen.lines import Lines
from kcompile.codegen.loop_function import loop_function, pointers_of
from kcompile.codegen.program import WORKERS, Copy, Fill, Loop, Pointer, Run
from kcompile.ir import dim
from kcompile.ir.dim import DimLike, Symbol

GRAIN = 40_000  # scalar operations per worker that pay for a fork-join of a few microseconds
TILE_ROWS = 8  # fewer rows of a product take as long
PARALLEL_FOR = "kc_parallel_for"


def emit_steps(
    body: Lines,
    steps: Sequence[Run | Copy | Fill | Loop],
    bases: Mapping[int, str],
    symbols: tuple[str, ...],
    name: str,
    *,
    alone: bool = False,
) -> list[str]:
    """Write the calls of some steps; returns the texts of the functions that loops among them need.

    Args:
        bases: the value that holds each argument's pointer. The arena is `%arena`, the sizes are `%sizes`.
        symbols: names of the numbers in `%sizes`.
        name: what functions made here are called after.
        alone: this thread runs everything.
    """
    functions: list[str] = []
    slots = max(map(_slot_count, steps), default=1)
    body.line(f"%slots = alloca [{slots} x i64], align 64")
    for number, step in enumerate(steps):
        if isinstance(step, Run):
            _run_kernel(body, step, bases, number, alone)
        elif isinstance(step, Loop):
            functions += _run_loop(body, step, bases, symbols, f"{name}_{step.name}{number}", alone)
        elif isinstance(step, Copy):
            source, target = _pointer(body, step.source, bases), _pointer(body, step.target, bases)
            body.copy(target, source, body.size(step.nbytes))
        else:
            assert isinstance(step, Fill)
            target = _pointer(body, step.target, bases)
            nbytes = body.size(step.nbytes)
            body.line(f"call void @llvm.memset.p0.i64(ptr {target}, i8 {step.byte}, i64 {nbytes}, i1 false)")
    return functions


def _slot_count(step: Run | Copy | Fill | Loop) -> int:
    if isinstance(step, Loop):
        return step.places + 2
    return len(step.pointers) + len(step.kernel.symbols) if isinstance(step, Run) else 1


def _pointer(body: Lines, pointer: Pointer, bases: Mapping[int, str]) -> str:
    base = "%arena" if pointer.argument is None else bases[pointer.argument]
    return body.address(base, body.size(pointer.offset_bytes))


def _run_kernel(body: Lines, step: Run, bases: Mapping[int, str], number: int, alone: bool) -> None:
    for n, pointer in enumerate(step.pointers):
        body.store("ptr", _pointer(body, pointer, bases), "%slots", n)
    for n, name in enumerate(step.kernel.symbols):
        # a phase that runs before a loop does not depend on what only the loop knows
        body.store("i64", body.symbols.get(name, "0"), "%slots", len(step.pointers) + n)
    for place, phase in enumerate(step.chosen):
        tasks = body.size(phase.tasks)
        cost = phase.tasks * phase.cost_per_task
        serial = f"call void @{phase.function}(ptr %slots, i64 0, i64 {tasks}, i64 0)"
        if alone or _runs_alone(phase):
            body.line(serial)
            continue
        wanted = _workers_for(body, cost)
        single = body.value(f"icmp sle i64 {wanted}, 1")
        tag = f"s{number}p{place}"
        body.line(f"br i1 {single}, label %{tag}.serial, label %{tag}.parallel")
        body.label(f"{tag}.serial")
        body.line(serial)
        body.line(f"br label %{tag}.done")
        body.label(f"{tag}.parallel")
        _fork(body, phase.function, tasks, wanted, cost)
        body.line(f"br label %{tag}.done")
        body.label(f"{tag}.done")


def _fork(body: Lines, function: str, tasks: str, workers: str, cost: DimLike) -> None:
    work = body.size(cost)
    body.line(f"call void @{PARALLEL_FOR}(ptr @{function}, ptr %slots, i64 {tasks}, i64 {workers}, i64 {work})")


def may_share(steps: Sequence[Run | Copy | Fill | Loop]) -> bool:
    """True if several threads may ever run one of the steps."""
    for step in steps:
        if isinstance(step, Loop):
            if step.rows is not None or may_share(step.steps):
                return True
        elif isinstance(step, Run) and not all(_runs_alone(phase) for phase in step.chosen):
            return True
    return False


def _runs_alone(phase: Phase) -> bool:
    cost = phase.tasks * phase.cost_per_task
    return phase.tasks == 1 or (dim.is_static(cost) and cost < GRAIN)


def _workers_for(body: Lines, cost: DimLike) -> str:
    """How many workers so many operations pay for, of those there are."""
    shares = body.value(f"sdiv i64 {body.size(cost)}, {GRAIN}")
    shares = body.value(f"add i64 {shares}, 1")
    return body.value(f"call i64 @llvm.umin.i64(i64 {shares}, i64 {body.symbols[WORKERS]})")


# loops -----------------------------------------------------------------------------------------


def _run_loop(
    body: Lines, loop: Loop, bases: Mapping[int, str], symbols: tuple[str, ...], name: str, alone: bool
) -> list[str]:
    """Call a loop's function; returns the texts of its two functions and of those in it."""
    pointers = [_pointer(body, p, bases) for a in loop.arguments for p in pointers_of(a)]
    for n, pointer in enumerate([*pointers, _pointer(body, loop.arena, bases), "%sizes"]):
        body.store("ptr", pointer, "%slots", n)
    if loop.rows is None:
        body.line(f"call void @{name}(ptr %slots, i64 0, i64 1, i64 0)")
    else:
        blocks = _blocks(loop)
        tasks = body.size(blocks)
        if alone:
            body.line(f"call void @{name}(ptr %slots, i64 0, i64 {tasks}, i64 0)")
        else:
            _run_rows(body, loop, tasks, name)
    inner = symbols if loop.rows is None else (*symbols, loop.rows.symbol)
    if loop.strips is not None:
        inner = (*inner, loop.strips.symbol)
    step, functions = _step_function(loop, inner, name, alone or loop.rows is not None)
    texts = [*functions, step, loop_function(loop, symbols, inner, name)]
    if loop.rows is not None and not alone and _can_share_steps(loop):
        shared = f"{name}_together"
        step, _ = _step_function(loop, inner, shared, False)
        texts += [step, loop_function(loop, symbols, inner, shared, together=True)]
    return texts


def _run_rows(body: Lines, loop: Loop, tasks: str, name: str) -> None:
    """Divide blocks of rows among threads, or, where they are too few, each kernel of a step."""
    cost = loop.count * _blocks(loop) * _cost_of_task(loop)
    workers = _workers_for(body, cost)
    if _can_share_steps(loop):
        few = body.value(f"icmp slt i64 {tasks}, {body.symbols[WORKERS]}")
        rows = body.value(f"call i64 @llvm.umin.i64(i64 {body.size(loop.rows.total)}, i64 {loop.rows.per_task})")
        rows = body.value(f"call i64 @llvm.smax.i64(i64 {rows}, i64 {TILE_ROWS})")
        work = body.value(f"mul i64 {body.size(_cost_of_task(loop))}, {rows}")
        enough = body.value(f"icmp sge i64 {work}, {2 * GRAIN * loop.rows.per_task}")
        chosen = body.value(f"and i1 {few}, {enough}")
        body.line(f"br i1 {chosen}, label %{name}.together, label %{name}.apart")
        body.label(f"{name}.together")
        body.line(f"call void @{name}_together(ptr %slots, i64 0, i64 {tasks}, i64 0)")
        body.line(f"br label %{name}.done")
        body.label(f"{name}.apart")
    _fork(body, name, tasks, workers, cost)
    if _can_share_steps(loop):
        body.line(f"br label %{name}.done")
        body.label(f"{name}.done")


def _can_share_steps(loop: Loop) -> bool:
    """True if threads may share the kernels of a task: one has work for two, none keeps anything per thread.

    A task's arena has room for one thread.
    """
    if loop.rows.numbered or not all(isinstance(s, Run) and not s.kernel.has_workspace for s in loop.steps):
        return False
    full = dim.nominal(_cost_of_task(loop))
    return full >= 2 * GRAIN


def _blocks(loop: Loop) -> DimLike:
    return dim.floordiv(loop.rows.total + (loop.rows.per_task - 1), loop.rows.per_task)


def _cost_of_task(loop: Loop) -> DimLike:
    """Rough operations of one step over a full task's rows."""
    cost: DimLike = 0
    for step in loop.steps:
        if isinstance(step, Loop):
            tasks = _blocks(step) if step.rows else 1
            cost = cost + step.count * tasks * _cost_of_task(step)
        elif isinstance(step, Run):
            cost = cost + sum(p.tasks * p.cost_per_task for p in step.chosen)
    full = {} if loop.rows is None else {loop.rows.symbol: loop.rows.per_task}
    if loop.strips is not None:
        full[loop.strips.symbol] = loop.strips.length
    return dim.substitute(cost, lambda atom: full.get(atom.name) if isinstance(atom, Symbol) else None)


def _step_function(loop: Loop, symbols: tuple[str, ...], name: str, alone: bool) -> tuple[str, list[str]]:
    body = Lines({})
    body.load_sizes(symbols)
    bases = {n: body.element("ptr", "%table", n) for n in range(loop.places)}
    functions = emit_steps(body, loop.steps, bases, symbols, name, alone=alone)
    body.line("ret void")
    header = f"define internal void @{name}_step(ptr noalias %table, ptr noalias %sizes, ptr %arena)"
    return body.text(header), functions
