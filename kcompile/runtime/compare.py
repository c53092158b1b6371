"""KCOMPILE_COMPARE=1: run each kernel beside the form interpreter and stop at the first that differs.

The same steps on the same memory as `Executable`, but called one by one from Python; each kernel's
inputs are copied before, its form is interpreted on the copies, and the two results are compared.
Slow; for finding the kernel that is wrong.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import numpy as np

from kcompile.codegen.program import Copy, Fill, Pointer, Run
from kcompile.errors import CompilerBug
from kcompile.forms import interpret
from kcompile.forms.records import IN, INOUT, LOCAL, Form
from kcompile.forms.text import form_text
from kcompile.ir import dim
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
        named = dict(zip(executable.program.symbols, sizes.tolist()))
        block = executable.workspaces.take(executable.arena_bytes(tuple(sizes.tolist())))

        def place(pointer: Pointer) -> int:
            base = address(block) if pointer.argument is None else int(table[pointer.argument])
            return base + dim.evaluate(pointer.offset_bytes, named)

        try:
            for step in executable.program.steps:
                if isinstance(step, Run):
                    _check(executable, step, [place(p) for p in step.pointers], named)
                elif isinstance(step, Copy):
                    ctypes.memmove(place(step.target), place(step.source), dim.evaluate(step.nbytes, named))
                else:
                    assert isinstance(step, Fill)
                    ctypes.memset(place(step.target), step.byte, dim.evaluate(step.nbytes, named))
        finally:
            executable.workspaces.give_back(block)


def _check(executable: ComparedExecutable, step: Run, places: list[int], named: Mapping[str, int]) -> None:
    kernel, form = step.kernel, executable.forms[step.kernel.name]
    buffers = [b for b in form.buffers if b.role != LOCAL]
    views = {b.name: _view(at, b.type, named) for b, at in zip(buffers, places)}
    given = {b.name: views[b.name].copy() for b in buffers if b.role in (IN, INOUT)}
    slots = np.array([*places, *(named[s] for s in kernel.symbols)], np.int64)
    for phase in kernel.phases:
        run = _KERNEL(executable.library.address(phase.function))
        run(address(slots), 0, dim.evaluate(phase.tasks, named), 0)
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
    return np.frombuffer(raw, type_.dtype.numpy, count).reshape(shape)
