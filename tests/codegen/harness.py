"""Compile one loops form and run it, for several splits of its tasks among workers.

Every split must give the same bits. Buffers may be placed so that they end right before an unreadable
page: a load or store beyond the end then crashes the test instead of passing unseen.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping

import numpy as np

from kcompile.codegen import llvm, loops
from kcompile.codegen.host import host_target
from kcompile.codegen.kernel import Kernel
from kcompile.forms.records import IN, INOUT, LOCAL, Loops
from kcompile.ir import dim
from kcompile.runtime.link import Library, link

_signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
_libc = ctypes.CDLL(None, use_errno=True)
POISON = 0xA5


class Compiled:
    """A kernel linked into this process."""

    def __init__(self, form: Loops, name: str = "kernel_under_test"):
        target = host_target()
        self.form = form
        self.kernel: Kernel = loops.emit(form, target, name)
        self.library: Library = link([llvm.compile_module(self.kernel.ir_text, target)])
        self.functions = [_signature(self.library.address(p.function)) for p in self.kernel.phases]

    def run(self, arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int], workers: int = 1) -> None:
        """Run on one array per buffer, in place, with tasks split evenly among workers."""
        kernel = self.kernel
        slots = [arrays[b.name].ctypes.data for b in self.form.buffers if b.role != LOCAL]
        keep = []
        for nbytes, times in ((kernel.workspace_bytes_per_worker, workers), (kernel.shared_workspace_bytes, 1)):
            if nbytes != 0:
                space = aligned(dim.evaluate(nbytes, sizes) * times)
                keep.append(space)
                slots.append(space.ctypes.data)
        slots += [sizes[s] for s in kernel.symbols]
        table = (ctypes.c_int64 * max(1, len(slots)))(*slots)
        for function, phase in zip(self.functions, kernel.phases):
            tasks = dim.evaluate(phase.tasks, sizes)
            bounds = [tasks * n // workers for n in range(workers + 1)]
            for worker in reversed(range(workers)):  # any order must do
                function(ctypes.addressof(table), bounds[worker], bounds[worker + 1], worker)


def aligned(nbytes: int) -> np.ndarray:
    """Bytes on a cache line, filled with poison."""
    space = np.full(nbytes + 64, POISON, np.uint8)
    start = -space.ctypes.data % 64
    return space[start : start + nbytes]


def run_form(
    form: Loops,
    arrays: Mapping[str, np.ndarray],
    sizes: Mapping[str, int] | None = None,
    *,
    workers=(1, 2, 3, 4),
    guarded: bool = False,
) -> dict[str, np.ndarray]:
    """Run a form natively; returns its out and inout arrays, the same bits for every number of workers."""
    sizes = dict(sizes or {})
    compiled = Compiled(form)
    results: dict[str, np.ndarray] | None = None
    for count in workers:
        given, keep = {}, []
        for b in form.buffers:
            if b.role == LOCAL:
                continue
            shape = tuple(dim.evaluate(n, sizes) for n in b.type.shape)
            given[b.name] = place(shape, b.type.dtype.numpy, guarded, keep)
            if b.role in (IN, INOUT):
                given[b.name][...] = arrays[b.name]
        compiled.run(given, sizes, count)
        found = {b.name: np.array(given[b.name]) for b in form.buffers if b.role not in (IN, LOCAL)}
        for b in form.buffers:
            if b.role == IN:
                assert np.array_equal(as_bits(given[b.name]), as_bits(np.asarray(arrays[b.name]))), b.name
        if results is None:
            results = found
        for name, array in found.items():
            same = np.array_equal(as_bits(array), as_bits(results[name]))
            assert same, f"{name} differs between {workers[0]} and {count} workers"
    assert results is not None
    return results


def as_bits(array: np.ndarray) -> np.ndarray:
    """An array's bytes, so that NaN equals itself and -0.0 is not 0.0."""
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)


def place(shape: tuple[int, ...], dtype: np.dtype, guarded: bool, keep: list) -> np.ndarray:
    """An array full of poison; if guarded, its last byte is the last one before an unreadable page."""
    nbytes = int(np.prod(shape)) * dtype.itemsize
    if not guarded:
        # an odd number of elements behind a line's start: no access may count on alignment
        space = aligned(nbytes + 3 * dtype.itemsize)
        return space[3 * dtype.itemsize :].view(dtype).reshape(shape)
    page = mmap.PAGESIZE
    pages = -(-nbytes // page) + 1
    memory = mmap.mmap(-1, (pages + 1) * page)
    keep.append(memory)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert _libc.mprotect(ctypes.c_void_p(base + pages * page), ctypes.c_size_t(page), 0) == 0
    whole = np.frombuffer(memory, np.uint8)
    array = whole[pages * page - nbytes : pages * page]
    array[...] = POISON
    return array.view(dtype).reshape(shape)
