"""Program -> LLVM IR: the code that calls the kernels.

Functions, all prefixed with the program's name:

    i64  NAME_arena_bytes(sizes)                              bytes of arena a run needs
    i32  NAME_run(args, sizes, arena)                         the steps, in order, those that prepare left out
    i32  NAME_prepare(args, sizes, arena)                     those steps, if there are any
    i32  NAME_run_batches(args, sizes, arena, order, rows, batch, first, count, staging)
    i64  NAME_staging_bytes(sizes, batch)                     bytes run_batches needs to gather rows into

`args` holds one pointer per argument, `sizes` one i64 per named size, the number of workers last.
`run_batches` runs steps first .. first+count-1 of a pass over whole arrays: inputs and outputs with a
batch dimension are pointers to all rows; with `order` (i64 row numbers) the rows of a batch are gathered
first, without it they are used where they lie. So an epoch needs no Python.

A kernel gets as many workers as its work pays for, at least GRAIN each, and all of them run on one if the whole
program is quicker so (workers.py). Results do not depend on these numbers.
"""

from __future__ import annotations

from kcompile.codegen.lines import Lines
from kcompile.codegen.pool.workers import STATE_WORDS
from kcompile.codegen.program import BATCH, INPUT, OUTPUT, RUNS, WORKERS, Program, runs
from kcompile.codegen.steps import PARALLEL_FOR, emit_steps, may_share
from kcompile.ir import dim
from kcompile.ir.dim import DimLike

KEY_FACTOR = 1_000_003  # makes one number of all sizes

_DECLARATIONS = f"""\
declare void @{PARALLEL_FOR}(ptr, ptr, i64, i64, i64) nounwind
declare i64 @kc_workers(ptr, i64, i64) nounwind
declare void @kc_worked(ptr, i64) nounwind
declare void @llvm.memcpy.p0.p0.i64(ptr noalias, ptr noalias, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
"""


def emit_entry(program: Program, *, weighs: bool = True) -> str:
    """Return the LLVM IR text of a program's entry functions.

    Args: weighs: a run finds out whether it is quicker with one thread; otherwise it uses all it is given.
    """
    kernels = {run.kernel.name: run.kernel for run in runs(program.steps)}
    functions = {phase.function for k in kernels.values() for phase in k.phases}
    declared = "".join(f"declare void @{f}(ptr, i64, i64, i64) nounwind\n" for f in sorted(functions))
    weighs = weighs and may_share(program.steps[program.prepare :])
    parts = [_arena_bytes(program), _steps(program, "run", program.prepare, len(program.steps), weighs)]
    if program.prepare:
        parts.append(_steps(program, "prepare", 0, program.prepare))
    parts += [_staging_bytes(program), _run_batches(program)]
    return _DECLARATIONS + declared + "\n" + "\n".join(parts)


def _arena_bytes(program: Program) -> str:
    body = Lines({})
    body.load_sizes(program.symbols)
    body.define(program.rules)
    body.line(f"ret i64 {body.size(program.arena_bytes)}")
    return body.text(f"define i64 @{program.name}_arena_bytes(ptr %sizes)")


# one run ---------------------------------------------------------------------------------------


def _steps(program: Program, function: str, begin: int, end: int, weighs: bool = False) -> str:
    body = Lines({})
    if weighs:
        text, given = _weighed_sizes(body, program)
    body.load_sizes(program.symbols)
    body.define(program.rules)
    bases = {n: body.element("ptr", "%args", n) for n in range(len(program.arguments))}
    functions = emit_steps(body, program.steps[begin:end], bases, program.symbols, program.name)
    for n in program.numbers(RUNS) if function == "run" else ():
        body.value(f"atomicrmw add ptr {bases[n]}, i64 1 monotonic")
    if weighs:
        body.line(f"call void @kc_worked(ptr @{_state(program)}, i64 {given})")
        functions.append(text)
    body.line("ret i32 0")
    sizes = "%given.sizes" if weighs else "%sizes"
    text = body.text(f"define i32 @{program.name}_{function}(ptr noalias %args, ptr noalias {sizes}, ptr %arena)")
    return "\n".join([*functions, text])


def _weighed_sizes(body: Lines, program: Program) -> tuple[str, str]:
    """Copy the sizes, with the number of workers that is best for them.

    Returns: the text of the program's state, the number of workers given.
    """
    names, state = program.symbols, _state(program)
    body.line(f"%sizes = alloca [{len(names)} x i64], align 64")
    values = {name: body.element("i64", "%given.sizes", n) for n, name in enumerate(names)}
    key = "1"
    for name in names:
        if name != WORKERS:
            key = body.value(f"mul i64 {key}, {KEY_FACTOR}")
            key = body.value(f"add i64 {key}, {values[name]}")
    chosen = body.value(f"call i64 @kc_workers(ptr @{state}, i64 {values[WORKERS]}, i64 {key})")
    for n, name in enumerate(names):
        body.store("i64", chosen if name == WORKERS else values[name], "%sizes", n)
    return f"@{state} = internal global [{STATE_WORDS} x i64] zeroinitializer, align 64\n", values[WORKERS]


def _state(program: Program) -> str:
    return f"{program.name}_workers"


# many batches ----------------------------------------------------------------------------------


def _row_bytes(type_) -> DimLike:
    return dim.product(type_.shape[1:]) * type_.dtype.size_bytes


def _gathered(program: Program) -> list[int]:
    return [n for n in program.numbers(INPUT) if program.arguments[n].has_rows]


def _staging_bytes(program: Program) -> str:
    body = Lines({})
    body.load_sizes(program.symbols)
    total = "0"
    for n in _gathered(program):
        total = body.value(f"add i64 {total}, {_staging_piece(body, program, n)}")
    body.line(f"ret i64 {total}")
    return body.text(f"define i64 @{program.name}_staging_bytes(ptr %sizes, i64 %batch)")


def _staging_piece(body: Lines, program: Program, number: int) -> str:
    """Bytes one batch of an input takes, rounded up to a cache line."""
    nbytes = body.value(f"mul i64 %batch, {body.size(_row_bytes(program.arguments[number].type))}")
    padded = body.value(f"add i64 {nbytes}, 63")
    return body.value(f"and i64 {padded}, -64")


def _run_batches(program: Program) -> str:
    body = Lines({})
    name, count = program.name, len(program.arguments)
    body.line(f"%local.args = alloca [{max(count, 1)} x ptr], align 64")
    body.line(f"%local.sizes = alloca [{max(len(program.symbols), 1)} x i64], align 64")
    body.load_sizes(program.symbols)
    bases = [body.element("ptr", "%args", n) for n in range(count)]
    for n, base in enumerate(bases):
        body.store("ptr", base, "%local.args", n)
    for n, symbol in enumerate(program.symbols):
        body.store("i64", body.symbols[symbol], "%local.sizes", n)
    gathered = _gathered(program)
    outputs = [n for n in program.numbers(OUTPUT) if program.arguments[n].has_rows]
    row_bytes = {n: body.size(_row_bytes(program.arguments[n].type)) for n in (*gathered, *outputs)}
    staging, place = {}, "0"
    for n in gathered:
        staging[n] = body.address("%staging", place)
        place = body.value(f"add i64 {place}, {_staging_piece(body, program, n)}")
    body.line("%end = add i64 %first, %count")
    body.line("%gathers = icmp ne ptr %order, null")
    body.line("br label %step")

    body.label("step")
    body.line("%number = phi i64 [ %first, %entry ], [ %next, %ran ]")
    body.line("%more = icmp slt i64 %number, %end")
    body.line("br i1 %more, label %batch.begin, label %finished")
    body.label("batch.begin")
    body.line("%start = mul i64 %number, %batch")
    body.line("%left = sub i64 %rows, %start")
    body.line("%size = call i64 @llvm.umin.i64(i64 %left, i64 %batch)")
    if BATCH in program.symbols:
        body.store("i64", "%size", "%local.sizes", program.symbols.index(BATCH))
    for n in outputs:
        offset = body.value(f"mul i64 %start, {row_bytes[n]}")
        body.store("ptr", body.address(bases[n], offset), "%local.args", n)
    body.line("br i1 %gathers, label %gather, label %in.place")

    body.label("in.place")
    for n in gathered:
        offset = body.value(f"mul i64 %start, {row_bytes[n]}")
        body.store("ptr", body.address(bases[n], offset), "%local.args", n)
    body.line("br label %run")

    body.label("gather")
    for n in gathered:
        body.store("ptr", staging[n], "%local.args", n)
    body.line("br label %row")
    body.label("row")
    body.line("%r = phi i64 [ 0, %gather ], [ %r.next, %row.copy ]")
    body.line("%row.more = icmp slt i64 %r, %size")
    body.line("br i1 %row.more, label %row.copy, label %run")
    body.label("row.copy")
    body.line("%at = add i64 %start, %r")
    chosen = body.element("i64", "%order", "%at")
    for n in gathered:
        source = body.address(bases[n], body.value(f"mul i64 {chosen}, {row_bytes[n]}"))
        target = body.address(staging[n], body.value(f"mul i64 %r, {row_bytes[n]}"))
        body.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {row_bytes[n]}, i1 false)")
    body.line("%r.next = add i64 %r, 1")
    body.line("br label %row")

    body.label("run")
    body.line(f"%code = call i32 @{name}_run(ptr %local.args, ptr %local.sizes, ptr %arena)")
    body.line("%next = add i64 %number, 1")
    body.line("%failed = icmp ne i32 %code, 0")
    body.line("br i1 %failed, label %stopped, label %ran")
    body.label("ran")
    body.line("br label %step")
    body.label("stopped")
    body.line("ret i32 %code")
    body.label("finished")
    body.line("ret i32 0")
    return body.text(
        f"define i32 @{name}_run_batches(ptr %args, ptr %sizes, ptr %arena, ptr %order, i64 %rows, "
        "i64 %batch, i64 %first, i64 %count, ptr %staging)"
    )
