"""The function that a loop becomes: a task of the thread pool.

For each block of rows (or once, if rows depend on each other) it fills a table of pointers and calls `NAME_step`
count times, moving the pointers on in between. Carries take turns between two buffers; the last step writes to where
the result belongs. In a loop over strips each step has its own number of rows, among the sizes that `NAME_step` reads.

    entry         what is known for all blocks
    block.begin   the table for the rows of a block
    empty         no step: what was given is the result
    step          what moves on; if the loop has a guard, `stop` where it does not hold
"""

from __future__ import annotations

from dataclasses import dataclass

from kcompile.codegen.lines import Lines
from kcompile.codegen.program import (
    STEP,
    WORKERS,
    Carried,
    Chosen,
    Counter,
    Loop,
    LoopArgument,
    Pointer,
    Stacked,
)
from kcompile.ir.dim import DimLike


def pointers_of(argument: LoopArgument) -> tuple[Pointer, ...]:
    """The places a loop is given for an argument."""
    if isinstance(argument, Carried):
        return argument.first, argument.last
    return () if isinstance(argument, Counter) else (argument.pointer,)


@dataclass(frozen=True)
class _Moving:
    """An argument whose pointers differ from step to step: its place in the table, what the pointers are made of."""

    place: int
    argument: LoopArgument
    values: tuple[str, ...]


def loop_function(
    loop: Loop, symbols: tuple[str, ...], inner: tuple[str, ...], name: str, *, together: bool = False
) -> str:
    """The text of the function.

    Args:
        symbols, inner: names of the sizes that this function, and those that `NAME_step`, is given.
        together: all threads share each kernel of a step; else this thread runs all of it.
    """
    body = Lines({})
    given, arena = _enter(body, loop, symbols, inner, together)
    total = "" if loop.rows is None else body.size(loop.rows.total)
    size_of_strips = "" if loop.strips is None else body.size(loop.strips.size)
    steps = body.size(loop.count)
    strides = {a: body.size(a.stride_bytes) for a in loop.arguments if isinstance(a, Stacked)}
    body.line(f"%none = icmp sle i64 {steps}, 0")
    body.line(f"%last = sub i64 {steps}, 1")
    body.line("br label %block")

    first = _begin_block(body, loop, symbols, total)
    counter, moving = _fill_table(body, loop, given, arena, first)
    body.line("br i1 %none, label %empty, label %step")

    body.label("empty")
    for moved in moving:
        if isinstance(moved.argument, Carried):
            body.copy(moved.values[1], moved.values[0], moved.values[4])
    body.line("br label %block.end")

    _begin_step(body, loop, counter)
    if loop.strips is not None:
        left = body.value(f"sub i64 {size_of_strips}, {body.value(f'mul i64 %t, {loop.strips.length}')}")
        rows = body.value(f"call i64 @llvm.umin.i64(i64 {left}, i64 {loop.strips.length})")
        body.store("i64", rows, "%own.sizes", len(inner) - 1)
    carries = _move(body, moving, strides)
    if loop.guarded:
        _stop_without_guard(body, carries)
    body.line(f"call void @{name}_step(ptr %table, ptr %own.sizes, ptr {arena})")
    body.line("%n.next = add i64 %n, 1")
    body.line("br i1 %is.last, label %block.end, label %step")

    body.label("block.end")
    body.line("%b.next = add i64 %b, 1")
    body.line("br label %block")
    body.label("done")
    body.line("ret void")
    return body.text(f"define internal void @{name}(ptr %ctx, i64 %begin, i64 %end, i64 %worker)")


def _enter(
    body: Lines, loop: Loop, symbols: tuple[str, ...], inner: tuple[str, ...], together: bool
) -> tuple[list[tuple[str, ...]], str]:
    """Read what the loop is given: the pointers of each argument, the arena of this thread, sizes."""
    body.line(f"%table = alloca [{loop.places} x ptr], align 64")
    body.line(f"%own.sizes = alloca [{len(inner)} x i64], align 64")
    count = sum(len(pointers_of(a)) for a in loop.arguments)
    pointers = iter([body.element("ptr", "%ctx", n) for n in range(count)])
    given = [tuple(next(pointers) for _ in pointers_of(a)) for a in loop.arguments]
    arena = body.element("ptr", "%ctx", count)
    place = body.value(f"getelementptr ptr, ptr %ctx, i64 {count + 1}")
    body.line(f"%sizes = load ptr, ptr {place}")
    body.load_sizes(symbols)
    if loop.rows is not None and not together:
        body.symbols[WORKERS] = "1"  # here as in the steps: both find the same places in the arena of a task
    for n, symbol in enumerate(symbols):
        body.store("i64", body.symbols[symbol], "%own.sizes", n)
    if loop.rows is not None:
        arena = body.address(arena, body.value(f"mul i64 %worker, {body.size(loop.arena_bytes)}"))
    return given, arena


def _begin_block(body: Lines, loop: Loop, symbols: tuple[str, ...], total: str) -> str:
    """The next block, if there is one; returns its first row."""
    body.label("block")
    body.line("%b = phi i64 [ %begin, %entry ], [ %b.next, %block.end ]")
    body.line("%b.more = icmp slt i64 %b, %end")
    body.line("br i1 %b.more, label %block.begin, label %done")
    body.label("block.begin")
    if loop.rows is None:
        return "0"
    first = body.value(f"mul i64 %b, {loop.rows.per_task}")
    left = body.value(f"sub i64 {total}, {first}")
    rows = body.value(f"call i64 @llvm.umin.i64(i64 {left}, i64 {loop.rows.per_task})")
    body.symbols[loop.rows.symbol] = rows
    body.store("i64", rows, "%own.sizes", len(symbols))
    return first


def _fill_table(
    body: Lines, loop: Loop, given: list[tuple[str, ...]], arena: str, first: str
) -> tuple[str, list[_Moving]]:
    """Enter the pointers that stay, for the rows from `first` on; returns where the step is counted, and the others."""

    def at_row(base: str, row_bytes: DimLike) -> str:
        return base if row_bytes == 0 else body.address(base, body.value(f"mul i64 {first}, {body.size(row_bytes)}"))

    moving: list[_Moving] = []
    counter, place = "", 0
    for argument, own in zip(loop.arguments, given):
        if isinstance(argument, Counter):
            counter = body.address(arena, body.size(argument.own_offset_bytes))
            body.store("ptr", counter, "%table", place)
        elif isinstance(argument, Carried):
            ends = tuple(at_row(p, argument.row_bytes) for p in own)
            turns = tuple(body.address(arena, body.size(offset)) for offset in argument.own_offsets_bytes)
            moving.append(_Moving(place, argument, (*ends, *turns, body.size(argument.nbytes))))
        elif isinstance(argument, Stacked):
            moving.append(_Moving(place, argument, (at_row(own[0], argument.row_bytes),)))
        elif isinstance(argument, Chosen):
            moving.append(_Moving(place, argument, own))
        else:
            body.store("ptr", at_row(own[0], argument.row_bytes), "%table", place)
        place += 2 if isinstance(argument, Carried) else 1
    return counter, moving


def _begin_step(body: Lines, loop: Loop, counter: str) -> None:
    """Count: %n from 0 on, %t the number of the step as the body sees it."""
    body.label("step")
    body.line(f"%n = phi i64 [ 0, %block.begin ], [ %n.next, %{'go' if loop.guarded else 'step'} ]")
    body.line("%is.first = icmp eq i64 %n, 0")
    body.line("%is.last = icmp eq i64 %n, %last")
    body.line("%odd = trunc i64 %n to i1")
    numbered = loop.rows is not None and loop.rows.numbered
    place_of = "add i64 %b, 0" if numbered else "sub i64 %last, %n" if loop.reverse else "add i64 %n, 0"
    body.line(f"%t = {place_of}")
    body.symbols[STEP] = "%t"
    body.line("%t.small = trunc i64 %t to i32")
    body.line(f"store i32 %t.small, ptr {counter}")


def _move(body: Lines, moving: list[_Moving], strides: dict[Stacked, str]) -> list[tuple[str, str, str]]:
    """Enter the pointers of this step; returns of each carry where it is, where the result belongs, its bytes."""
    carries = []
    for one in moving:
        place, argument, values = one.place, one.argument, one.values
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
        carries.append((read, end, nbytes))
    return carries


def _stop_without_guard(body: Lines, carries: list[tuple[str, str, str]]) -> None:
    """Where the guard, the first carry, is false the carries are the results."""
    body.line(f"%guard = load i8, ptr {carries[0][0]}")
    body.line("%holds = icmp ne i8 %guard, 0")
    body.line("br i1 %holds, label %go, label %stop")
    body.label("stop")
    for read, end, nbytes in carries:
        body.copy(end, read, nbytes)
    body.line("br label %block.end")
    body.label("go")
