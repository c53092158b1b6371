"""KCOMPILE_COMPARE=1: run each kernel beside the form interpreter and stop at the first that differs.

The same steps on the same memory as `Executable`, but called one by one from Python; each kernel's
inputs are copied before, its form is interpreted on the copies, and the two results are compared.
Slow; for finding the kernel that is wrong.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kcompile.codegen.program import STEP, WORKERS, Carried, Chosen, Copy, Counter, Fill, Loop, Pointer, Run, Stacked
from kcompile.errors import CompilerBug
from kcompile.forms import interpret
from kcompile.forms.records import IN, INOUT, LOCAL, Form
from kcompile.forms.text import form_text
from kcompile.ir import dim
from kcompile.ir.rules import with_rules
from kcompile.runtime.executable import Bound, Executable, address

_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)

# of the largest magnitude in the buffer: sums in another order, and functions within a few ulp
TOLERANCE = {"f64": 1e-9, "f32": 2e-4, "f16": 2e-2, "bf16": 5e-2}


class ComparedExecutable(Executable):
    """An executable that checks every kernel against its form. `forms`: by kernel name."""

    def __init__(self, program, library, constants, workers, forms: Mapping[str, Form]):
        super().__init__(program, library, constants, workers)
        self.library, self.forms = library, forms

    def bind(self, variables: Mapping[str, np.ndarray]) -> ComparedBound:
        return ComparedBound(self, variables)


class ComparedBound(Bound):
    """A bound program whose steps run one by one, each kernel checked."""

    def run_batches(self, data, *, order, batch_size, first, count, outputs=None) -> None:
        """As `Bound.run_batches`, batch by batch."""
        with_rows = {i.argument.name for i in self._inputs if i.argument.has_rows}
        rows = max((len(data[name]) for name in with_rows), default=0)
        for step in range(first, first + count):
            start, stop = step * batch_size, min((step + 1) * batch_size, rows)
            chosen = slice(start, stop) if order is None else order[start:stop]
            batch = {n: np.ascontiguousarray(a[chosen]) if n in with_rows else a for n, a in data.items()}
            for name, array in self.run(batch).items():
                if outputs is not None and name in outputs:
                    outputs[name][start:stop] = array

    def _call(self, table: np.ndarray, sizes: np.ndarray, function) -> None:
        executable = self._executable
        named = with_rules(executable.program.rules, dict(zip(executable.program.symbols, sizes.tolist())))
        block = executable.workspaces.take(executable.arena_bytes(tuple(sizes.tolist())))

        place = _places([int(a) for a in table], address(block), named)
        try:
            _run_steps(executable, executable.program.steps, place, named)
        finally:
            executable.workspaces.give_back(block)
            self._runs.cell[0] += 1  # as the native code does


def _places(table: Sequence[int], arena: int, named: Mapping[str, int]) -> Callable[[Pointer], int]:
    """What turns pointers into addresses."""

    def place(pointer: Pointer) -> int:
        base = arena if pointer.argument is None else table[pointer.argument]
        return base + dim.evaluate(pointer.offset_bytes, named)

    return place


def _run_steps(executable: ComparedExecutable, steps, place: Callable[[Pointer], int], named: Mapping) -> None:
    for step in steps:
        if isinstance(step, Run):
            # what runs ahead of a loop for one of its kernels is checked with that kernel
            check = _run_phases if step.phases is not None and step.phases[0] == 0 else _check
            check(executable, step, [place(p) for p in step.pointers], named)
        elif isinstance(step, Loop):
            _run_loop(executable, step, place, named)
        elif isinstance(step, Copy):
            ctypes.memmove(place(step.target), place(step.source), dim.evaluate(step.nbytes, named))
        else:
            assert isinstance(step, Fill)
            ctypes.memset(place(step.target), step.byte, dim.evaluate(step.nbytes, named))


def _run_loop(executable: ComparedExecutable, loop: Loop, place: Callable[[Pointer], int], named: Mapping) -> None:
    """Every step of a loop, its blocks of rows one after the other; see codegen/steps.py."""
    total = dim.evaluate(loop.rows.total, named) if loop.rows else 1
    for first in range(0, total, loop.rows.per_task if loop.rows else 1):
        sizes = dict(named)
        if loop.rows:
            sizes.update({loop.rows.symbol: min(loop.rows.per_task, total - first), WORKERS: 1})
        arena, count = place(loop.arena), dim.evaluate(loop.count, named)

        def at_row(pointer: Pointer, row_bytes, first=first, sizes=sizes) -> int:
            return place(pointer) + first * dim.evaluate(row_bytes, sizes)

        carries = {a: at_row(a.first, a.row_bytes) for a in loop.arguments if isinstance(a, Carried)}
        for n in range(count):
            t = count - 1 - n if loop.reverse else n
            t = first if loop.rows and loop.rows.numbered else t
            guard = next(iter(carries.values()), 0)
            if loop.guarded and not ctypes.c_uint8.from_address(guard).value:
                break
            table: list[int] = []
            for argument in loop.arguments:
                if isinstance(argument, Counter):
                    table.append(arena + dim.evaluate(argument.own_offset_bytes, sizes))
                    ctypes.c_int32.from_address(table[-1]).value = t
                elif isinstance(argument, Carried):
                    own = arena + dim.evaluate(argument.own_offsets_bytes[n % 2], sizes)
                    table += [carries[argument], own]
                    carries[argument] = own
                elif isinstance(argument, Chosen):
                    table.append(place(argument.pointer) + dim.evaluate(argument.offset_bytes, {**sizes, STEP: t}))
                elif isinstance(argument, Stacked):
                    stride = dim.evaluate(argument.stride_bytes, named)
                    table.append(at_row(argument.pointer, argument.row_bytes) + t * stride)
                else:
                    table.append(at_row(argument.pointer, argument.row_bytes))
            if loop.strips:
                left = dim.evaluate(loop.strips.size, named) - t * loop.strips.length
                sizes[loop.strips.symbol] = min(loop.strips.length, left)
            _run_steps(executable, loop.steps, _places(table, arena, sizes), sizes)
        for argument, now in carries.items():
            ctypes.memmove(at_row(argument.last, argument.row_bytes), now, dim.evaluate(argument.nbytes, sizes))


def _run_phases(executable: ComparedExecutable, step: Run, places: list[int], named: Mapping[str, int]) -> None:
    kernel = step.kernel
    slots = np.array([*places, *(named.get(s, 0) for s in kernel.symbols)], np.int64)
    for phase in step.chosen:
        run = _KERNEL(executable.library.address(phase.function))
        run(address(slots), 0, dim.evaluate(phase.tasks, named), 0)


def _check(executable: ComparedExecutable, step: Run, places: list[int], named: Mapping[str, int]) -> None:
    kernel, form = step.kernel, executable.forms[step.kernel.name]
    buffers = [b for b in form.buffers if b.role != LOCAL]
    views = {b.name: _view(at, b.type, named) for b, at in zip(buffers, places)}
    given = {b.name: views[b.name].copy() for b in buffers if b.role in (IN, INOUT)}
    _run_phases(executable, step, places, named)
    with np.errstate(all="ignore"):
        expected = interpret.run(form, given, named)
    for name, wanted in expected.items():
        dtype = next(b.type.dtype for b in buffers if b.name == name)
        if not _agree(views[name], wanted, TOLERANCE.get(dtype.name, 0.0)):
            worst = np.unravel_index(np.argmax(_difference(views[name], wanted)), wanted.shape)
            raise CompilerBug(
                f"kernel {kernel.name} differs from its form in {name} at {tuple(map(int, worst))}: "
                f"expected {wanted[worst]}, received {views[name][worst]}\n{form_text(form)}"
            )


def _difference(got: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        gap = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
    same = (got == wanted) | (np.isnan(got.astype(np.float64)) & np.isnan(wanted.astype(np.float64)))
    return np.where(same, 0.0, np.where(np.isnan(gap), np.inf, gap))


def _agree(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    finite = np.abs(wanted[np.isfinite(wanted)].astype(np.float64)) if wanted.size else wanted
    scale = finite.max() if finite.size else 0.0
    return bool((_difference(got, wanted) <= tolerance * scale).all())


def _view(at: int, type_, named: Mapping[str, int]) -> np.ndarray:
    shape = tuple(dim.evaluate(s, named) for s in type_.shape)
    count = int(np.prod(shape, dtype=np.int64))
    nbytes = count * type_.dtype.size_bytes
    raw = (ctypes.c_uint8 * nbytes).from_address(at) if nbytes else b""
    return np.frombuffer(raw, type_.dtype.storage, count).reshape(shape)
