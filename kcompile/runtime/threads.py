"""The process-wide thread pool: how many threads, when it starts, what happens at `fork` and at exit.

The pool is code of `codegen/pool`, linked once and never unloaded. It is linked when the first
program asks for the address of `kc_parallel_for`; its threads are created by the first call that can use
them.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import time
from pathlib import Path

from kcompile import flags, forks
from kcompile.codegen.pool import pool_ir
from kcompile.codegen.pool.layout import MAX_THREADS
from kcompile.errors import ArgumentError
from kcompile.runtime import cache
from kcompile.runtime.link import Library, link

_USED = ("kc_parallel_for", "kc_workers", "kc_worked")  # by programs
_FUNCTIONS = (*_USED, "kc_pool_start", "kc_pool_stop", "kc_pool_forget", "kc_pool_handover")
_STOP_PATIENCE_S = 10.0  # how long a new size waits for a call in flight

_lock = forks.lock()
_library: Library | None = None
_chosen: int | None = None  # by set_num_threads


def num_threads() -> int:
    """How many threads programs use, the caller included.

    `set_num_threads` if called, else KCOMPILE_NUM_THREADS, else the CPUs this process may use; at most as many as a
    pool can have.
    """
    return min(_chosen or flags.get("num_threads") or available_cpus(), MAX_THREADS)


def set_num_threads(n: int) -> None:
    """Use `n` threads from now on, the caller included.

    Raises: ArgumentError for n < 1; TimeoutError if a program was running all the time.
    """
    global _chosen
    if n < 1:
        raise ArgumentError(f"set_num_threads expects at least 1, received {n}.")
    if _library is not None:
        stop = _function("kc_pool_stop", ctypes.c_int32)
        give_up_at = time.monotonic() + _STOP_PATIENCE_S
        while stop():
            if time.monotonic() > give_up_at:
                raise TimeoutError("set_num_threads: programs were running all the time; the pool keeps its size.")
            time.sleep(0.0005)
    _chosen = int(n)
    if _library is not None:
        _start(_library)


def parallel_for_address() -> int:
    """The address of `kc_parallel_for`, for `link`; the pool is made ready on first use."""
    return _pool().address("kc_parallel_for")


def symbols() -> dict[str, int]:
    """Addresses of what programs call, for `link`; the pool is made ready on first use."""
    pool = _pool()
    return {name: pool.address(name) for name in _USED}


def handover_ns() -> int:
    """What it took to hand a thread a task and see it done, when that was last measured; 0 before the first time."""
    return 0 if _library is None else _function("kc_pool_handover", ctypes.c_int64)()


def available_cpus() -> int:
    """CPUs this process may use: its affinity mask, or less where a control group grants less time.

    Part of a CPU does not count: a pool larger than its quota is stopped for the rest of each period,
    and a static partition waits for the thread that was stopped.
    """
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = cgroup_cpus()
    return cpus if quota is None else max(1, min(cpus, int(quota)))


def cgroup_cpus(root: Path = Path("/")) -> float | None:
    """CPUs granted by Linux control groups (version 1 or 2), None for no limit.

    Args:   root: where `proc` and `sys` are found; tests give a folder of their own.
    Source: Linux admin guide, cgroup-v2 ("cpu.max") and the scheduler's bandwidth control (cfs_quota_us).
    """
    limits = []
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            limits += _limits_upward(root / "sys/fs/cgroup", path, _read_v2)
        elif "cpu" in controllers.split(","):
            limits += _limits_upward(root / "sys/fs/cgroup" / controllers, path, _read_v1)
            limits += _limits_upward(root / "sys/fs/cgroup/cpu", path, _read_v1)
    return min(limits, default=None)


def _limits_upward(mount: Path, path: str, read) -> list[float]:
    """The limits of a group and all groups above it; the strictest counts."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    found = []
    for depth in range(len(parts) + 1):
        try:
            limit = read(mount.joinpath(*parts[:depth]))
        except (OSError, ValueError, ArithmeticError):
            continue  # no such file, or a strange one: this level sets no limit we can know
        if limit is not None:
            found.append(limit)
    return found


def _read_v2(group: Path) -> float | None:
    quota, period = (group / "cpu.max").read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _read_v1(group: Path) -> float | None:
    quota = int((group / "cpu.cfs_quota_us").read_text())
    return None if quota < 0 else quota / int((group / "cpu.cfs_period_us").read_text())


def _pool() -> Library:
    global _library
    with _lock:
        if _library is None:
            # LLVM takes 50 ms to load; asking only for the number of threads must not cost that.
            from kcompile.codegen import llvm
            from kcompile.codegen.host import host_target

            target = host_target()
            text = pool_ir(target)
            # -O1: the pool has nothing to vectorise, and this is in the way of the first compile.
            key = cache.key(text, target, opt=1)
            code = cache.get_or_compile(key, lambda: llvm.compile_module(text, target, opt=1))
            library = link([code], {}, _FUNCTIONS)
            _start(library)
            _library = library
            # One reference that is never given back: if a daemon thread is still in a call when Python
            # ends, the threads cannot be ended, and their code must stay.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))
            atexit.register(_function("kc_pool_stop", ctypes.c_int32))  # before LLVM unloads the threads' code
        return _library


def _start(library: Library) -> None:
    ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64)(library.address("kc_pool_start"))(num_threads())


def _function(name: str, result):
    return ctypes.CFUNCTYPE(result)(_library.address(name))


def _after_fork() -> None:
    """In the child: the threads are gone."""
    if _library is not None:
        _function("kc_pool_forget", None)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
