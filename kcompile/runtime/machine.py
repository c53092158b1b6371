"""What this machine can do: multiply-adds per second, and bytes read per second from each level of memory.

Measured once per process and number of threads, in about 0.3 s, by code of our own (`codegen/probe.py`) on the
same threads that programs run on. Each number is the best of many short runs: a limit, not a mean. On a machine
that others use too, all threads rarely run at once; then the runs are repeated for a while (PATIENCE_S), and if that
does not help, the numbers are limits of what the others leave.
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kcompile.runtime import cache, threads
from kcompile.runtime.arena import address, aligned_empty
from kcompile.runtime.link import Library, link
from kcompile.target import Target

RUN_S = 0.0002  # each timed run lasts about this long: short enough to fit between the turns of other programs
REPEATS, FEW = 100, 3  # FEW where a run takes long of itself
GAIN = 1.5  # of a thread's speed: what several threads should reach together if they run at once
PATIENCE_S, PAUSE_S, BURST = 0.2, 0.002, 10
MEMORY_BYTES = 256 << 20  # at most: four times the last cache is enough to miss it

_PARALLEL_FOR = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


@dataclass(frozen=True)
class Level:
    """One level of memory: L1, L2, L3 or memory.

    capacity_bytes: what all threads together can hold there; None for memory.
    """

    name: str
    capacity_bytes: int | None
    bytes_per_s: float


@dataclass(frozen=True)
class Machine:
    """Limits of the machine for a number of threads.

    flops_per_s: of float32, a multiply-add counted as two.
    pair_flops_per_s: of products of bfloat16 added to float32, where instructions do that in pairs; else 0.
    """

    threads: int
    flops_per_s: float
    levels: tuple[Level, ...]
    pair_flops_per_s: float = 0.0

    def level_for(self, nbytes: int) -> Level:
        """The smallest level that holds this many bytes."""
        return next(v for v in self.levels if v.capacity_bytes is None or nbytes <= v.capacity_bytes)


@functools.lru_cache(maxsize=8)
def machine(num_threads: int | None = None) -> Machine:
    """Measure this machine; the same answer for the rest of the process.

    Args: num_threads: at most as many as the pool has; default what programs use.
    """
    from kcompile.codegen.host import host_target  # loads LLVM, as the next one

    target = host_target()
    workers = num_threads or threads.num_threads()
    library = _library(target)
    alone = machine(1) if workers > 1 else None
    hoped = {v.name: GAIN * v.bytes_per_s for v in alone.levels if v.capacity_bytes is not None} if alone else {}
    flops = _flops_per_s(library, target, workers, GAIN * alone.flops_per_s if alone else 0.0)
    pairs = 0.0
    if target.bf16_pairs:
        pairs = _flops_per_s(library, target, workers, GAIN * alone.pair_flops_per_s if alone else 0.0, in_pairs=True)
    return Machine(workers, flops, _levels(library, target, workers, hoped), pairs)


def table(found: Machine) -> str:
    """The limits as lines of text."""
    lines = [f"{found.threads} thread{'s' * (found.threads > 1)}"]
    lines.append(f"  multiply-add  {found.flops_per_s / 1e9:9.1f} GFLOP/s float32")
    if found.pair_flops_per_s:
        lines.append(f"  in pairs      {found.pair_flops_per_s / 1e9:9.1f} GFLOP/s bfloat16")
    for level in found.levels:
        held = "" if level.capacity_bytes is None else f"  up to {level.capacity_bytes >> 10:,} KiB"
        lines.append(f"  read {level.name:8s} {level.bytes_per_s / 1e9:9.1f} GB/s{held}")
    return "\n".join(lines)


def _library(target: Target) -> Library:
    from kcompile.codegen import llvm, probe  # lazily, see `machine`

    text = probe.probe_ir(target)
    return link([cache.get_or_compile(cache.key(text, target), lambda: llvm.compile_module(text, target))])


def _flops_per_s(library: Library, target: Target, workers: int, hoped: float, in_pairs: bool = False) -> float:
    from kcompile.codegen import probe

    space = _space(workers * probe.SPACE_BYTES)
    space.view(np.float32)[:] = 0.5  # sums grow slowly: no infinities, no denormals
    slots = np.array([address(space), 0], np.int64)
    function, per_round = probe.FMA, probe.flops_per_round(target)
    if in_pairs:
        function, per_round = probe.PAIRS, 2 * per_round
    return _best(library.address(function), slots, 1, per_round, workers, hoped)


def _levels(library: Library, target: Target, workers: int, hoped: Mapping[str, float]) -> tuple[Level, ...]:
    """Read a block per worker, over and over: half of its own caches, its share of half of what is shared."""
    from kcompile.codegen import probe

    last = max(target.l3_bytes, target.l2_bytes * workers)
    known = [("L1", target.l1d_bytes * workers), ("L2", target.l2_bytes * workers)]
    known += [("L3", target.l3_bytes)] if target.l3_bytes > target.l2_bytes * workers else []
    total = min(MEMORY_BYTES, 4 * last)
    block = _space(total)
    results = _space(workers * probe.SPACE_BYTES)
    step = probe.READ_STREAMS * target.vector_bytes
    found = []
    for name, capacity in [*known, ("memory", None)]:
        per_worker = (total if capacity is None else min(total, capacity // 2)) // workers // step * step
        slots = np.array([address(block), per_worker, 0, address(results)], np.int64)
        repeats = FEW if capacity is None else REPEATS
        speed = _best(library.address(probe.READ), slots, 2, per_worker, workers, hoped.get(name, 0.0), repeats)
        found.append(Level(name, capacity, speed))
    return tuple(found)


def _space(nbytes: int) -> np.ndarray:
    space = aligned_empty(nbytes)
    space[:] = 0  # the system gives pages on first touch
    return space


def _best(
    function: int,
    slots: np.ndarray,
    rounds_slot: int,
    per_round: int,
    workers: int,
    hoped: float,
    repeats: int = REPEATS,
) -> float:
    """Work per second over the workers, in the best of several runs; more runs as long as it is below `hoped`."""
    run = _PARALLEL_FOR(threads.parallel_for_address())

    def seconds(rounds: int) -> float:
        slots[rounds_slot] = 0
        run(function, address(slots), workers, workers)  # wakes the threads; they stay awake for a while
        slots[rounds_slot] = rounds
        started = time.perf_counter()
        run(function, address(slots), workers, workers)
        return time.perf_counter() - started

    rounds = 1
    # the better of two: a run that was interrupted must not pass for a long one
    while (taken := min(seconds(rounds), seconds(rounds))) < RUN_S / 2:
        rounds = max(2 * rounds, int(rounds * RUN_S / max(taken, 1e-7) / 2))
    total = workers * rounds * per_round
    fastest = min(taken, *(seconds(rounds) for _ in range(repeats)))
    give_up_at = time.perf_counter() + PATIENCE_S
    while total / fastest < hoped and time.perf_counter() < give_up_at:
        time.sleep(PAUSE_S)  # lets the system find a free core for a thread that waits for one
        fastest = min(fastest, *(seconds(rounds) for _ in range(min(repeats, BURST))))
    return total / fastest
