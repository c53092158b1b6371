"""Steps of a program -> lines of LLVM IR; the functions that loops become.

A loop is two functions. `NAME_step` runs the steps of the body once; its pointers are into a table. `NAME`
is a task of the thread pool: for each block of rows (or once, if rows depend on each other) it fills a table
and calls `NAME_step` count times, moving the table's pointers on in between. Carries take turns between two
buffers; the last step writes to where the result belongs. In a loop over strips each step has its own number of
rows, among the sizes that `NAME_step` reads.

Where there are fewer blocks of rows than threads, and a step has work for several, `NAME_together` runs the blocks
one after the other and all threads share each kernel: the same kernels, so the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kcompile.codegen.kernel import Phase
from kcompile.codegen.program import (
    STEP,
    WORKERS,
    Carried,
    Chosen,
    Copy,
    Counter,
    Fill,
    Loop,
    LoopArgument,
    Pointer,
    Run,
    Stacked,
)
from kcompile.ir import dim
from kcompile.ir.dim import DimLike, FloorDiv, Symbol

GRAIN = 40_000  # scalar operations per worker that pay for a fork-join of a few microseconds
TILE_ROWS = 8  # fewer rows of a product take as long
PARALLEL_FOR = "kc_parallel_for"


class Lines:
    """The body of one function; numbers its values; computes sizes once."""

    def __init__(self, symbols: dict[str, str]):
        self.lines: list[str] = []
        self.count = 0
        self.known: dict[DimLike, str] = {}
        self.symbols = symbols  # size name -> the value that holds it

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def value(self, text: str) -> str:
        self.count += 1
        self.line(f"%v{self.count} = {text}")
        return f"%v{self.count}"

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def size(self, value: DimLike) -> str:
        """The number a size stands for."""
        if dim.is_static(value):
            return str(value)
        if value not in self.known:
            self.known[value] = self._sum(value)
        return self.known[value]

    def _sum(self, value) -> str:
        total = "0"
        for monomial, coefficient in value.terms.items():
            product = str(coefficient)
            for atom in monomial:
                factor = self._atom(atom)
                product = factor if product == "1" else self.value(f"mul nsw i64 {product}, {factor}")
            total = product if total == "0" else self.value(f"add nsw i64 {total}, {product}")
        return total

    def _atom(self, atom) -> str:
        if isinstance(atom, Symbol):
            return self.symbols[atom.name]
        assert isinstance(atom, FloorDiv)
        key = dim.Dim({(atom,): 1})
        if key not in self.known:  # sizes are not negative, so sdiv is floor division
            top, bottom = self.size(atom.numerator), self.size(atom.denominator)
            self.known[key] = self.value(f"sdiv i64 {top}, {bottom}")
        return self.known[key]

    def address(self, base: str, offset: str) -> str:
        return base if offset == "0" else self.value(f"getelementptr i8, ptr {base}, i64 {offset}")

    def load_sizes(self, symbols: tuple[str, ...]) -> None:
        for n, name in enumerate(symbols):
            self.symbols[name] = self.element("i64", "%sizes", n)

    def element(self, type_: str, base: str, n: int | str) -> str:
        place = self.value(f"getelementptr {type_}, ptr {base}, i64 {n}")
        return self.value(f"load {type_}, ptr {place}")

    def store(self, type_: str, value: str, base: str, n: int | str) -> None:
        place = self.value(f"getelementptr {type_}, ptr {base}, i64 {n}")
        self.line(f"store {type_} {value}, ptr {place}")

    def text(self, header: str) -> str:
        # nounwind: without it the object carries unwind tables, which a JIT has to register and which
        # libgcc's registry aborts on when other libraries have replaced it
        return header + " nounwind {\nentry:\n" + "\n".join(self.lines) + "\n}\n"


# steps -----------------------------------------------------------------------------------------


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
            _copy(body, target, source, body.size(step.nbytes))
        else:
            assert isinstance(step, Fill)
            target = _pointer(body, step.target, bases)
            nbytes = body.size(step.nbytes)
            body.line(f"call void @llvm.memset.p0.i64(ptr {target}, i8 {step.byte}, i64 {nbytes}, i1 false)")
    return functions


def _copy(body: Lines, target: str, source: str, nbytes: str) -> None:
    body.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {nbytes}, i1 false)")


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
    pointers = [_pointer(body, p, bases) for a in loop.arguments for p in _pointers_of(a)]
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
    texts = [*functions, step, _loop_function(loop, symbols, inner, name)]
    if loop.rows is not None and not alone and _can_share_steps(loop):
        shared = f"{name}_together"
        step, _ = _step_function(loop, inner, shared, False)
        texts += [step, _loop_function(loop, symbols, inner, shared, together=True)]
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


def _pointers_of(argument: LoopArgument) -> tuple[Pointer, ...]:
    if isinstance(argument, Carried):
        return argument.first, argument.last
    return () if isinstance(argument, Counter) else (argument.pointer,)


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


def _loop_function(
    loop: Loop, symbols: tuple[str, ...], inner: tuple[str, ...], name: str, *, together: bool = False
) -> str:
    body = Lines({})
    body.line(f"%table = alloca [{loop.places} x ptr], align 64")
    body.line(f"%own.sizes = alloca [{len(inner)} x i64], align 64")
    count = sum(len(_pointers_of(a)) for a in loop.arguments)
    pointers = iter([body.element("ptr", "%ctx", n) for n in range(count)])
    given = [tuple(next(pointers) for _ in _pointers_of(a)) for a in loop.arguments]
    arena = body.element("ptr", "%ctx", count)
    place = body.value(f"getelementptr ptr, ptr %ctx, i64 {count + 1}")
    body.line(f"%sizes = load ptr, ptr {place}")
    body.load_sizes(symbols)
    for n, symbol in enumerate(symbols):
        one = loop.rows is not None and symbol == WORKERS and not together
        body.store("i64", "1" if one else body.symbols[symbol], "%own.sizes", n)
    if loop.rows is not None:
        arena = body.address(arena, body.value(f"mul i64 %worker, {body.size(loop.arena_bytes)}"))
        total = body.size(loop.rows.total)
    size_of_strips = "" if loop.strips is None else body.size(loop.strips.size)
    steps = body.size(loop.count)
    strides = {a: body.size(a.stride_bytes) for a in loop.arguments if isinstance(a, Stacked)}
    body.line(f"%none = icmp sle i64 {steps}, 0")
    body.line(f"%last = sub i64 {steps}, 1")
    body.line("br label %block")

    body.label("block")
    body.line("%b = phi i64 [ %begin, %entry ], [ %b.next, %block.end ]")
    body.line("%b.more = icmp slt i64 %b, %end")
    body.line("br i1 %b.more, label %block.begin, label %done")
    body.label("block.begin")
    first = "0"
    if loop.rows is not None:
        first = body.value(f"mul i64 %b, {loop.rows.per_task}")
        left = body.value(f"sub i64 {total}, {first}")
        rows = body.value(f"call i64 @llvm.umin.i64(i64 {left}, i64 {loop.rows.per_task})")
        body.symbols[loop.rows.symbol] = rows
        body.store("i64", rows, "%own.sizes", len(symbols))

    def at_row(base: str, row_bytes: DimLike) -> str:
        return base if row_bytes == 0 else body.address(base, body.value(f"mul i64 {first}, {body.size(row_bytes)}"))

    moving: list[tuple[int, LoopArgument, tuple[str, ...]]] = []
    at = 0
    for argument, own in zip(loop.arguments, given):
        if isinstance(argument, Counter):
            counter = body.address(arena, body.size(argument.own_offset_bytes))
            body.store("ptr", counter, "%table", at)
        elif isinstance(argument, Carried):
            ends = tuple(at_row(p, argument.row_bytes) for p in own)
            turns = tuple(body.address(arena, body.size(offset)) for offset in argument.own_offsets_bytes)
            moving.append((at, argument, (*ends, *turns, body.size(argument.nbytes))))
        elif isinstance(argument, Stacked):
            moving.append((at, argument, (at_row(own[0], argument.row_bytes),)))
        elif isinstance(argument, Chosen):
            moving.append((at, argument, own))
        else:
            body.store("ptr", at_row(own[0], argument.row_bytes), "%table", at)
        at += 2 if isinstance(argument, Carried) else 1
    body.line("br i1 %none, label %empty, label %step")

    body.label("empty")  # no step: what was given is the result
    for _, argument, values in moving:
        if isinstance(argument, Carried):
            _copy(body, values[1], values[0], values[4])
    body.line("br label %block.end")

    body.label("step")
    again = "go" if loop.guarded else "step"
    body.line(f"%n = phi i64 [ 0, %block.begin ], [ %n.next, %{again} ]")
    body.line("%is.first = icmp eq i64 %n, 0")
    body.line("%is.last = icmp eq i64 %n, %last")
    body.line("%odd = trunc i64 %n to i1")
    numbered = loop.rows is not None and loop.rows.numbered
    place_of = "add i64 %b, 0" if numbered else "sub i64 %last, %n" if loop.reverse else "add i64 %n, 0"
    body.line(f"%t = {place_of}")
    body.symbols[STEP] = "%t"
    body.line("%t.small = trunc i64 %t to i32")
    body.line(f"store i32 %t.small, ptr {counter}")
    if loop.strips is not None:
        left = body.value(f"sub i64 {size_of_strips}, {body.value(f'mul i64 %t, {loop.strips.length}')}")
        rows = body.value(f"call i64 @llvm.umin.i64(i64 {left}, i64 {loop.strips.length})")
        body.store("i64", rows, "%own.sizes", len(inner) - 1)
    now: list[tuple[str, str, str]] = []  # of each carry: where it is, where the result belongs, bytes
    for place, argument, values in moving:
        if isinstance(argument, Chosen):
            body.store("ptr", body.address(values[0], body.size(argument.offset_bytes)), "%table", place)
            continue
        if isinstance(argument, Stacked):
            moved = body.value(f"mul i64 %t, {strides[argument]}")
            body.store("ptr", body.address(values[0], moved), "%table", place)
            continue
        start, end, even, odd, nbytes = values
        read = body.value(f"select i1 %odd, ptr {even}, ptr {odd}")
        read = body.value(f"select i1 %is.first, ptr {start}, ptr {read}")
        written = body.value(f"select i1 %odd, ptr {odd}, ptr {even}")
        written = body.value(f"select i1 %is.last, ptr {end}, ptr {written}")
        body.store("ptr", read, "%table", place)
        body.store("ptr", written, "%table", place + 1)
        now.append((read, end, nbytes))
    if loop.guarded:
        body.line(f"%guard = load i8, ptr {now[0][0]}")
        body.line("%holds = icmp ne i8 %guard, 0")
        body.line("br i1 %holds, label %go, label %stop")
        body.label("stop")
        for read, end, nbytes in now:
            _copy(body, end, read, nbytes)
        body.line("br label %block.end")
        body.label("go")
    body.line(f"call void @{name}_step(ptr %table, ptr %own.sizes, ptr {arena})")
    body.line("%n.next = add i64 %n, 1")
    body.line("br i1 %is.last, label %block.end, label %step")

    body.label("block.end")
    body.line("%b.next = add i64 %b, 1")
    body.line("br label %block")
    body.label("done")
    body.line("ret void")
    return body.text(f"define internal void @{name}(ptr %ctx, i64 %begin, i64 %end, i64 %worker)")
