"""Every worker of a loop over rows has a slice of the arena, and everything it writes lies in it."""

import ctypes

import pytest

from kcompile.codegen.host import host_target
from kcompile.codegen.llvm import compile_module
from kcompile.codegen.loop_function import loop_function
from kcompile.codegen.program import WORKERS, Counter, Loop, Pointer, Rows
from kcompile.ir import dim
from kcompile.runtime.link import link

SLICE_BYTES = 128  # of a task, which one thread runs: workers = 1
AT = 64  # where the counter is in it
CALLER = """
declare i64 @llvm.umin.i64(i64, i64)

define internal void @loop_step(ptr %table, ptr %sizes, ptr %arena) {
  ret void
}

define void @run(ptr %ctx, i64 %begin, i64 %end, i64 %worker) {
  call void @loop(ptr %ctx, i64 %begin, i64 %end, i64 %worker)
  ret void
}

"""


@pytest.fixture(scope="module")
def run():
    """The function of a loop whose body has something for each worker below the counter."""
    counter = Counter(AT * dim.symbol(WORKERS))
    rows = Rows("rows", dim.symbol("batch"), 1, numbered=True)
    loop = Loop(1, False, (counter,), (), Pointer(None), SLICE_BYTES, rows)
    names = ("batch", WORKERS)
    text = CALLER + loop_function(loop, names, (*names, "rows"), "loop")
    library = link([compile_module(text, host_target(), opt=0)])
    yield ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[ctypes.c_int64] * 3)(library.address("run"))


@pytest.mark.parametrize("workers", [1, 2, 4, 7])
def test_a_worker_writes_only_to_its_slice(run, workers):
    arena = (ctypes.c_int32 * (2 * workers * SLICE_BYTES // 4))(*[-1] * (2 * workers * SLICE_BYTES // 4))
    sizes = (ctypes.c_int64 * 2)(workers, workers)
    given = (ctypes.c_void_p * 2)(ctypes.addressof(arena), ctypes.addressof(sizes))
    for worker in range(workers):
        run(ctypes.addressof(given), worker, worker + 1, worker)
    expected = {(worker * SLICE_BYTES + AT) // 4: worker for worker in range(workers)}
    assert {n: value for n, value in enumerate(arena) if value != -1} == expected
