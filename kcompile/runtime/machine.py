"""What this machine can do: operations per second, and bytes moved per second by how many bytes are touched.

A kernel's least time is the larger of two (`Machine.computing_s`, `Machine.moving_s`). Moving: what it reads and
writes at the speed measured for as many bytes; as much as it both reads and writes is counted as copied, which is
slower than reading in every cache, the rest as read or as written. Speeds between measured footprints are
interpolated: a shared cache holds less than its size, so there is no step at it. Computing: some machines add beside
their multiply-adds, so there are two rates.

Measured once per process and number of threads, in about 0.5 s, by code of our own (`codegen/probe.py`) on the
same threads that programs run on. Each number is the best of many short runs: a limit, not a mean. On a machine
that others use too, all threads rarely run at once; then the runs are repeated for a while (PATIENCE_S), and if that
does not help, the numbers are limits of what the others leave.
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from kcompile.runtime import cache, threads
from kcompile.runtime.arena import address, aligned_empty
from kcompile.runtime.link import Library, link
from kcompile.target import Target

RUN_S = 0.0001  # each timed run lasts about this long: short enough to fit between the turns of other programs
REPEATS, SOME, FEW = 100, 40, 3  # SOME per footprint, FEW where a run takes long of itself
GAIN = 1.5  # of a thread's speed: what several threads should reach together if they run at once
PATIENCE_S, PAUSE_S, BURST = 0.2, 0.002, 10
COMPUTE = "compute"  # what sets a limit that no level of memory sets
MEMORY_BYTES = 256 << 20  # at most: four times the last cache is enough to miss it

_PARALLEL_FOR = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3)


@dataclass(frozen=True)
class Level:
    """One level of memory: L1, L2, L3 or memory.

    capacity_bytes: what all threads together can hold there; None for memory.
    """

    name: str
    capacity_bytes: int | None
    bytes_per_s: float


@dataclass(frozen=True)
class Point:
    """Speeds while so many bytes are touched, by all threads together; a copy counts what it reads and writes."""

    nbytes: int
    read_bytes_per_s: float
    copy_bytes_per_s: float
    write_bytes_per_s: float


@dataclass(frozen=True)
class Machine:
    """Limits of the machine for a number of threads.

    flops_per_s: of float32, a multiply-add counted as two.      levels: for reading.
    pair_flops_per_s: of products of bfloat16 added to float32, where instructions do that in pairs; else 0.
    operations_per_s: multiply-adds and additions, float32, in a mix of both.
    points: by footprint, ascending; without them the speeds of the levels count for everything.
    handover_ns: to give another thread a task and see it done.
    """

    threads: int
    flops_per_s: float
    levels: tuple[Level, ...]
    pair_flops_per_s: float = 0.0
    operations_per_s: float = 0.0
    points: tuple[Point, ...] = ()
    handover_ns: int = 0

    @staticmethod
    def from_plain(data: Mapping) -> Machine:
        """What `dataclasses.asdict` made, perhaps through JSON."""
        levels, points = (tuple(kind(**v) for v in data[n]) for n, kind in (("levels", Level), ("points", Point)))
        return Machine(**{**data, "levels": levels, "points": points})

    def level_for(self, nbytes: int) -> Level:
        """The smallest level that holds this many bytes."""
        return next(v for v in self.levels if v.capacity_bytes is None or nbytes <= v.capacity_bytes)

    def moving_s(self, read: int, written: int, touched: int | None = None) -> float:
        """The least time to read and write so many bytes; of `touched` ones, if some are moved more than once."""
        moved = read + written
        touched = moved if touched is None else touched
        if not self.points:
            return moved / self.level_for(touched).bytes_per_s
        copied = 2 * min(read, written)
        reading, copying, writing = self._speeds(touched)
        return copied / copying + (moved - copied) / (reading if read > written else writing)

    def computing_s(self, multiplies: int, operations: int) -> float:
        """The least time for float32 operations, of which so many occupy the multipliers (multiply-adds too)."""
        return max(2 * multiplies / self.flops_per_s, operations / (self.operations_per_s or self.flops_per_s / 2))

    def _speeds(self, nbytes: int) -> tuple[float, float, float]:
        """Of reading, copying and writing, linear in the logarithm of the footprint."""
        at = np.log2(max(1, nbytes))
        sizes = np.log2([p.nbytes for p in self.points])
        speeds = zip(*((p.read_bytes_per_s, p.copy_bytes_per_s, p.write_bytes_per_s) for p in self.points))
        reading, copying, writing = (float(np.interp(at, sizes, s)) for s in speeds)
        return reading, copying, writing


@functools.lru_cache(maxsize=8)
def machine(num_threads: int | None = None) -> Machine:
    """Measure this machine; the same answer for the rest of the process.

    Args: num_threads: at most as many as the pool has; default what programs use.
    """
    from kcompile.codegen import probe
    from kcompile.codegen.host import host_target  # loads LLVM, as the one before

    target = host_target()
    workers = num_threads or threads.num_threads()
    library = _library(target)
    alone = machine(1) if workers > 1 else None
    hoped = {v.name: GAIN * v.bytes_per_s for v in alone.levels if v.capacity_bytes is not None} if alone else {}
    flops = 2 * _rate(library, target, workers, probe.FMA, GAIN * alone.flops_per_s / 2 if alone else 0.0)
    mixed = _rate(library, target, workers, probe.MIXED, 0.0)
    pairs = 0.0
    if target.bf16_pairs:  # two multiply-adds each
        pairs = 4 * _rate(library, target, workers, probe.PAIRS, GAIN * alone.pair_flops_per_s / 4 if alone else 0.0)
    levels, points = _speeds(library, target, workers, hoped)
    handover = threads.handover_ns() if workers > 1 else 0
    return Machine(workers, flops, levels, pairs, max(mixed, flops / 2), points, handover)


def sustained(num_threads: int) -> Callable[[float], float]:
    """What multiplies and adds for about so many seconds and returns its operations per second.

    `Machine.flops_per_s` is the best of short runs; this is what clock and neighbours leave in a run as long as others.
    """
    from kcompile.codegen import probe  # lazily, see `machine`
    from kcompile.codegen.host import host_target

    target, hoped = host_target(), machine(num_threads).flops_per_s
    library, run = _library(target), _PARALLEL_FOR(threads.parallel_for_address())
    function, per_round = library.address(probe.FMA), probe.flops_per_round(target)
    space = _space(num_threads * probe.SPACE_BYTES)
    space.view(np.float32)[:] = 0.5

    def rate(seconds: float) -> float:
        rounds = max(1, int(seconds * hoped / num_threads / per_round))
        slots = np.array([address(space), rounds], np.int64)
        started = time.perf_counter()
        run(function, address(slots), num_threads, num_threads, 0)
        return rounds * per_round * num_threads / (time.perf_counter() - started)

    rate.library = library  # the code stays loaded as long as what calls it
    return rate


def table(found: Machine) -> str:
    """The limits as lines of text."""
    lines = [f"{found.threads} thread{'s' * (found.threads > 1)}"]
    lines.append(f"  multiply-add  {found.flops_per_s / 1e9:9.1f} GFLOP/s float32")
    if found.pair_flops_per_s:
        lines.append(f"  in pairs      {found.pair_flops_per_s / 1e9:9.1f} GFLOP/s bfloat16")
    lines.append(f"  with adds     {found.operations_per_s / 1e9:9.1f} Gop/s")
    if found.handover_ns:
        lines.append(f"  hand-over     {found.handover_ns:9.0f} ns to another thread and back")
    for level in found.levels:
        held = "" if level.capacity_bytes is None else f"  up to {level.capacity_bytes >> 10:,} KiB"
        lines.append(f"  read {level.name:8s} {level.bytes_per_s / 1e9:9.1f} GB/s{held}")
    lines += [
        f"  {p.nbytes >> 10:9,} KiB: read {p.read_bytes_per_s / 1e9:7.1f}, copy {p.copy_bytes_per_s / 1e9:7.1f}, "
        f"write {p.write_bytes_per_s / 1e9:7.1f} GB/s"
        for p in found.points
    ]
    return "\n".join(lines)


def _library(target: Target) -> Library:
    from kcompile.codegen import llvm, probe  # lazily, see `machine`

    text = probe.probe_ir(target)
    return link([cache.get_or_compile(cache.key(text, target), lambda: llvm.compile_module(text, target))])


def _rate(library: Library, target: Target, workers: int, function: str, hoped: float) -> float:
    """Operations per second of one of the chains."""
    from kcompile.codegen import probe

    space = _space(workers * probe.SPACE_BYTES)
    space.view(np.float32)[:] = 0.5  # sums grow slowly: no infinities, no denormals
    slots = np.array([address(space), 0], np.int64)
    return _best(library.address(function), slots, 1, probe.flops_per_round(target) // 2, workers, hoped)


def _speeds(
    library: Library, target: Target, workers: int, hoped: Mapping[str, float]
) -> tuple[tuple[Level, ...], tuple[Point, ...]]:
    """Read, copy and write blocks, one per worker, over and over.

    A level's own speed is that of half of it: workers have half of their own caches, and their share of half of what
    is shared.
    """
    from kcompile.codegen import probe

    last = max(target.l3_bytes, target.l2_bytes * workers)
    known = [("L1", target.l1d_bytes * workers), ("L2", target.l2_bytes * workers)]
    known += [("L3", target.l3_bytes)] if target.l3_bytes > target.l2_bytes * workers else []
    total = min(MEMORY_BYTES, 4 * last)
    block = _space(total)
    results = _space(workers * probe.SPACE_BYTES)
    step = 2 * probe.READ_STREAMS * target.vector_bytes  # a copy moves whole steps from half to half

    def speed(function: str, nbytes: int, repeats: int, wanted: float = 0.0) -> float:
        per_worker = max(step, nbytes // workers // step * step)
        slots = np.array([address(block), per_worker, 0, address(results)], np.int64)
        return _best(library.address(function), slots, 2, per_worker, workers, wanted, repeats)

    halves = {min(total, c // 2): name for name, c in known}
    sizes = {min(total, c * part // 8) for _, c in known for part in (4, 8)} | {total}
    sizes |= {min(total, known[-1][1] * part // 8) for part in (1, 2, 6, 12)} | {known[1][1] // 4}
    levels, points = {}, []
    for nbytes in sorted(sizes):
        name = halves.get(nbytes, "memory" if nbytes == total else None)
        far = nbytes >= last // 4
        repeats = FEW if nbytes > last else SOME // 4 if far else REPEATS if name else SOME
        reading = speed(probe.READ, nbytes, repeats, hoped.get(name, 0.0))
        copying, writing = (speed(f, nbytes, min(repeats, SOME)) for f in (probe.COPY, probe.FILL))
        if far:
            copying = max(copying, speed(probe.STREAM, nbytes, repeats))
            writing = max(writing, speed(probe.FLOOD, nbytes, repeats))
        points.append(Point(nbytes, reading, copying, writing))
        if name:
            levels[name] = reading
    found = [Level(name, capacity, levels[name]) for name, capacity in [*known, ("memory", None)]]
    return tuple(found), tuple(points)


def _space(nbytes: int) -> np.ndarray:
    """Bytes that are no zeros, which some machines copy faster than others."""
    space = aligned_empty(nbytes)
    space.fill(0x3B)  # the system gives pages on first touch
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
        run(function, address(slots), workers, workers, 0)  # wakes the threads; they stay awake for a while
        slots[rounds_slot] = rounds
        started = time.perf_counter()
        run(function, address(slots), workers, workers, 0)
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
