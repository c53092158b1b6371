"""Run one emitted kernel on NumPy arrays, phase by phase, split among pretended workers."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from kcompile.codegen.host import host_target
from kcompile.codegen.kernel import Kernel
from kcompile.codegen.llvm import compile_module
from kcompile.forms.records import OUT, Contract
from kcompile.ir import dim
from kcompile.runtime.arena import aligned_empty
from kcompile.runtime.link import link

PHASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


@functools.lru_cache(maxsize=64)
def _linked(ir_text: str, target):
    """Compile and link; the same kernel runs at many sizes."""
    return link([compile_module(ir_text, target)])


class Native:
    """A compiled and linked kernel."""

    def __init__(self, kernel: Kernel, target=None):
        self.kernel = kernel
        self.library = _linked(kernel.ir_text, target or host_target())

    def run(self, arrays: Sequence[np.ndarray], sizes: Mapping[str, int] | None = None, workers: int = 1) -> None:
        """Run on buffers in the form's order; tasks are dealt out to `workers` in contiguous ranges."""
        for call in self.calls(arrays, sizes or {}, workers):
            call()

    def calls(self, arrays, sizes, workers: int = 1):
        """The calls of one run, ready to be repeated."""
        kernel = self.kernel
        slots = [a.ctypes.data for a in arrays]
        self.spaces = []
        for nbytes in (
            dim.evaluate(kernel.workspace_bytes_per_worker, sizes) * workers,
            dim.evaluate(kernel.shared_workspace_bytes, sizes),
            kernel.kept_workspace_bytes,
        ):
            self.spaces.append(aligned_empty(nbytes))
            self.spaces[-1][:] = 0xFF  # NaN: what a workspace holds before does not matter
        if kernel.has_workspace:
            slots.append(self.spaces[0].ctypes.data)
        if kernel.shared_workspace_bytes != 0:
            slots.append(self.spaces[1].ctypes.data)
        if kernel.kept_workspace_bytes:
            slots.append(self.spaces[2].ctypes.data)
        slots += [sizes[name] for name in kernel.symbols]
        self.args = (ctypes.c_int64 * max(1, len(slots)))(*slots)
        made = []
        for phase in kernel.phases:
            tasks = dim.evaluate(phase.tasks, sizes)
            fn = PHASE(self.library.address(phase.function))
            share = -(-tasks // workers)
            for w in range(workers):
                begin, end = min(tasks, w * share), min(tasks, (w + 1) * share)
                if begin < end:
                    made.append(lambda fn=fn, begin=begin, end=end, w=w: fn(self.args, begin, end, w))
        return made


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy on a 64-byte boundary."""
    block = aligned_empty(array.nbytes).view(array.dtype).reshape(array.shape)
    block[...] = array
    return block


def run_form(form: Contract, inputs: Mapping[str, np.ndarray], sizes=None, workers=1, target=None, emit=None):
    """Emit, compile and run a form; return its output arrays by buffer name (filled with NaN before)."""
    from kcompile.codegen.contract import emit as emit_contract

    target = target or host_target()
    native = Native((emit or emit_contract)(form, target, "kernel_under_test"), target)
    arrays = []
    for buffer in form.buffers:
        if buffer.name in inputs:
            arrays.append(aligned(inputs[buffer.name]))
        else:
            shape = tuple(dim.evaluate(s, sizes or {}) for s in buffer.type.shape)
            arrays.append(aligned(np.full(shape, 77, buffer.type.dtype.numpy)))  # must be overwritten
    native.run(arrays, sizes, workers)
    return {b.name: a for b, a in zip(form.buffers, arrays) if b.role == OUT}
