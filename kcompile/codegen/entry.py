"""Program -> LLVM IR: the code that calls the kernels.

Four functions, all prefixed with the program's name:

    i64  NAME_arena_bytes(sizes)                              bytes of arena a run needs
    i32  NAME_run(args, sizes, arena)                         the steps, in order
    i32  NAME_run_batches(args, sizes, arena, order, rows, batch, first, count, staging)
    i64  NAME_staging_bytes(sizes, batch)                     bytes run_batches needs to gather rows into

`args` holds one pointer per argument, `sizes` one i64 per named size, the number of workers last.
`run_batches` runs steps first .. first+count-1 of a pass over whole arrays: inputs and outputs with a
batch dimension are pointers to all rows; with `order` (i64 row numbers) the rows of a batch are gathered
first, without it they are used where they lie. So an epoch needs no Python.

A kernel gets as many workers as its work pays for, at least GRAIN each. Its results do not depend
on that number.
"""

from __future__ import annotations

from kcompile.codegen.program import BATCH, INPUT, OUTPUT, WORKERS, Copy, Fill, Pointer, Program, Run
from kcompile.ir import dim
from kcompile.ir.dim import DimLike, FloorDiv, Symbol

GRAIN = 40_000  # scalar operations per worker that pay for a fork-join of a few microseconds
PARALLEL_FOR = "kc_parallel_for"

_DECLARATIONS = f"""\
declare void @{PARALLEL_FOR}(ptr, ptr, i64, i64) nounwind
declare void @llvm.memcpy.p0.p0.i64(ptr noalias, ptr noalias, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
"""


def emit_entry(program: Program) -> str:
    """Return the LLVM IR text of a program's entry functions."""
    kernels = {step.kernel.name: step.kernel for step in program.steps if isinstance(step, Run)}
    functions = {phase.function for k in kernels.values() for phase in k.phases}
    declared = "".join(f"declare void @{f}(ptr, i64, i64, i64) nounwind\n" for f in sorted(functions))
    parts = (_arena_bytes(program), _run(program), _staging_bytes(program), _run_batches(program))
    return _DECLARATIONS + declared + "\n" + "\n".join(parts)


class _Body:
    """Lines of one function; numbers its values; computes sizes once."""

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


def _arena_bytes(program: Program) -> str:
    body = _Body({})
    body.load_sizes(program.symbols)
    body.line(f"ret i64 {body.size(program.arena_bytes)}")
    return body.text(f"define i64 @{program.name}_arena_bytes(ptr %sizes)")


# one step --------------------------------------------------------------------------------------


def _run(program: Program) -> str:
    body = _Body({})
    slots = max((_slot_count(s) for s in program.steps if isinstance(s, Run)), default=1)
    body.line(f"%slots = alloca [{slots} x i64], align 64")
    body.load_sizes(program.symbols)
    bases = {n: body.element("ptr", "%args", n) for n in range(len(program.arguments))}
    for number, step in enumerate(program.steps):
        if isinstance(step, Run):
            _run_kernel(body, step, bases, number)
        elif isinstance(step, Copy):
            source, target = _pointer(body, step.source, bases), _pointer(body, step.target, bases)
            nbytes = body.size(step.nbytes)
            body.line(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {nbytes}, i1 false)")
        else:
            assert isinstance(step, Fill)
            target = _pointer(body, step.target, bases)
            nbytes = body.size(step.nbytes)
            body.line(f"call void @llvm.memset.p0.i64(ptr {target}, i8 {step.byte}, i64 {nbytes}, i1 false)")
    body.line("ret i32 0")
    return body.text(f"define i32 @{program.name}_run(ptr noalias %args, ptr noalias %sizes, ptr %arena)")


def _slot_count(step: Run) -> int:
    return len(step.pointers) + len(step.kernel.symbols)


def _pointer(body: _Body, pointer: Pointer, bases: dict[int, str]) -> str:
    base = "%arena" if pointer.argument is None else bases[pointer.argument]
    return body.address(base, body.size(pointer.offset_bytes))


def _run_kernel(body: _Body, step: Run, bases: dict[int, str], number: int) -> None:
    for n, pointer in enumerate(step.pointers):
        body.store("ptr", _pointer(body, pointer, bases), "%slots", n)
    for n, name in enumerate(step.kernel.symbols):
        body.store("i64", body.symbols[name], "%slots", len(step.pointers) + n)
    for place, phase in enumerate(step.kernel.phases):
        tasks = body.size(phase.tasks)
        cost = phase.tasks * phase.cost_per_task
        serial = f"call void @{phase.function}(ptr %slots, i64 0, i64 {tasks}, i64 0)"
        if phase.tasks == 1 or (dim.is_static(cost) and cost < GRAIN):
            body.line(serial)
            continue
        shares = body.value(f"sdiv i64 {body.size(cost)}, {GRAIN}")
        shares = body.value(f"add i64 {shares}, 1")
        wanted = body.value(f"call i64 @llvm.umin.i64(i64 {shares}, i64 {body.symbols[WORKERS]})")
        alone = body.value(f"icmp sle i64 {wanted}, 1")
        tag = f"s{number}p{place}"
        body.line(f"br i1 {alone}, label %{tag}.serial, label %{tag}.parallel")
        body.label(f"{tag}.serial")
        body.line(serial)
        body.line(f"br label %{tag}.done")
        body.label(f"{tag}.parallel")
        body.line(f"call void @{PARALLEL_FOR}(ptr @{phase.function}, ptr %slots, i64 {tasks}, i64 {wanted})")
        body.line(f"br label %{tag}.done")
        body.label(f"{tag}.done")


# many batches ----------------------------------------------------------------------------------


def _row_bytes(type_) -> DimLike:
    return dim.product(type_.shape[1:]) * type_.dtype.size_bytes


def _gathered(program: Program) -> list[int]:
    return [n for n in program.numbers(INPUT) if program.arguments[n].has_rows]


def _staging_bytes(program: Program) -> str:
    body = _Body({})
    body.load_sizes(program.symbols)
    total = "0"
    for n in _gathered(program):
        total = body.value(f"add i64 {total}, {_staging_piece(body, program, n)}")
    body.line(f"ret i64 {total}")
    return body.text(f"define i64 @{program.name}_staging_bytes(ptr %sizes, i64 %batch)")


def _staging_piece(body: _Body, program: Program, number: int) -> str:
    """Bytes one batch of an input takes, rounded up to a cache line."""
    nbytes = body.value(f"mul i64 %batch, {body.size(_row_bytes(program.arguments[number].type))}")
    padded = body.value(f"add i64 {nbytes}, 63")
    return body.value(f"and i64 {padded}, -64")


def _run_batches(program: Program) -> str:
    body = _Body({})
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
