"""Where the time of a program goes: every step timed natively, beside what the machine could do.

A program of one step is made of each step, so each is entered exactly as in the whole program: same kernels, same
places, same number of threads. `kc_timeline` runs them in order with a clock reading between, several times over; a
step's time is the median. Variables are copied first: profiling a training step trains nothing.

The limit of a step is the larger of two times: its arithmetic at the machine's peak, counted in the instructions that
are emitted for each operation, and its buffers, each read or written once, at the speed measured for as many bytes
(`machine.py`). A step can beat it where an earlier step left its inputs in a nearer cache: then the table says so.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kcompile.codegen.entry import emit_entry
from kcompile.codegen.program import WORKERS, Loop, Run, loops, runs
from kcompile.forms.work import Work
from kcompile.ir import dim
from kcompile.passes.lower import LoopCall
from kcompile.runtime import cache, threads
from kcompile.runtime.arena import address, aligned_copy
from kcompile.runtime.executable import Bound, Executable
from kcompile.runtime.link import Library, link
from kcompile.runtime.machine import COMPUTE, Machine, machine
from kcompile.runtime.profile_facts import Fact, facts, leaves
from kcompile.runtime.profile_page import page
from kcompile.runtime.profile_text import table

if TYPE_CHECKING:  # pipeline.py stands above
    from kcompile.pipeline import Build

BUDGET_S = 1.0  # of all repetitions together
MIN_REPETITIONS, MAX_REPETITIONS = 5, 200
WARM_UP = 2
EMPTY_STEPS = 64  # to measure what a clock reading and a call cost, which is then taken off each step

_TIMELINE = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)


@dataclass(frozen=True)
class Record:
    """One step of a program.

    kernel: "copy" and "fill" for steps that only move bytes.     what: the nodes it computes.
    path:   the way a contraction is computed, "loops" otherwise.  start_s: since the program began, median.
    limit_s, bound: the time the machine needs at least, and what sets it: COMPUTE or a level of memory.
    inner:  of a loop, its kernels, each timed as the same loop with that kernel alone.
    """

    number: int
    kernel: str
    layers: tuple[str, ...]
    what: tuple[str, ...]
    path: str
    start_s: float
    seconds: float
    work: Work
    limit_s: float
    bound: str
    inner: tuple[Record, ...] = ()

    @property
    def flops_per_s(self) -> float:
        return self.work.flops / max(self.seconds, 1e-9)

    @property
    def bytes_per_s(self) -> float:
        return self.work.nbytes / max(self.seconds, 1e-9)

    @property
    def share(self) -> float:
        """Share of the machine's limit: 1 is as fast as can be."""
        return self.limit_s / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Piece:
    """A buffer of the arena: where it lies, and the first and last record that touches it."""

    name: str
    offset: int
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Profile:
    """What `profile` found. `str(profile)` is a table, `profile.html()` a page of its own.

    total_s: the whole program in one native call, median: what the steps' times should add up to. Where other
    programs take the cores it is more, since a long run is interrupted more often than a short step.
    """

    name: str
    sizes: Mapping[str, int]
    machine: Machine
    repetitions: int
    total_s: float
    records: tuple[Record, ...]
    arena_bytes: int
    pieces: tuple[Piece, ...]

    @property
    def limit_s(self) -> float:
        """The limits of all steps together."""
        return sum(r.limit_s for r in self.records)

    def __str__(self) -> str:
        return table(self)

    def html(self) -> str:
        """A self-contained page: table, timeline and memory plan."""
        return page(self)


def profile(
    built: Build,
    inputs: Mapping[str, np.ndarray],
    variables: Mapping[str, np.ndarray],
    *,
    num_threads: int | None = None,
    budget_s: float = BUDGET_S,
) -> Profile:
    """Run a built program and time its steps.

    Args:
        built: from `pipeline.build`.
        inputs, variables: arrays by name, as for `Executable.run`; none of them is changed.
        budget_s: about how long to repeat; at least MIN_REPETITIONS times.
    Raises: ArgumentError, ShapeError for arrays the program does not take.
    """
    workers = num_threads or threads.num_threads()
    library = link(built.objects, threads.symbols())
    bound = _Timed(Executable(built.program, library, built.constants, workers), _copies(variables), budget_s)
    bound.steps = _Steps(built, library)
    bound.run({n: aligned_copy(a) for n, a in inputs.items()})
    limits = machine(workers)
    # of each repetition the durations, then the median per step
    durations = np.maximum(np.median(np.diff(bound.times, axis=1), axis=0) - bound.clock_ns, 0.0) * 1e-9
    starts = np.concatenate([[0.0], np.cumsum(durations)])
    records = []
    alone = iter((np.median(bound.inner, axis=0) * 1e-9).tolist() if len(bound.inner) else ())
    for number, (fact, start, seconds) in enumerate(
        zip(facts(built, bound.named), starts.tolist(), durations.tolist())
    ):
        within, begun = [], start
        for part, taken in zip(fact.inner, alone if fact.inner and not _is_guarded(built, number) else ()):
            within.append(_record(number, part, begun, max(taken - bound.clock_ns * 1e-9, 0.0), limits))
            begun += taken
        records.append(replace(_record(number, fact, start, seconds, limits), inner=tuple(within)))
    return Profile(
        built.traced.name,
        {n: v for n, v in bound.named.items() if n != WORKERS},
        limits,
        len(bound.times),
        max(float(np.median(bound.whole)) - bound.clock_ns, 0.0) * 1e-9,
        tuple(records),
        built.program.arena_bytes_for(bound.named),
        tuple(_pieces(built, bound.named)),
    )


def _record(number: int, fact: Fact, start: float, seconds: float, limits: Machine) -> Record:
    limit_s, bound = _limit(fact, limits)
    shown = (fact.kernel, fact.layers, fact.what, fact.path)
    return Record(number, *shown, start, seconds, fact.work, limit_s, bound)


def _is_guarded(built: Build, number: int) -> bool:
    step = built.program.steps[built.program.prepare + number]
    return isinstance(step, Loop) and any(inner.guarded for inner in loops(step))


# running ----------------------------------------------------------------------------------------


class _Steps:
    """A native function per step of a program, and the timeline that calls them."""

    def __init__(self, built: Build, library: Library):
        program = built.program
        steps = program.steps[program.prepare :]
        singles = [replace(program, name=f"{program.name}_step{n}", steps=(s,), prepare=0) for n, s in enumerate(steps)]
        # a loop that asks each time whether to go on cannot run without the kernel that answers
        alone = [
            leaf for s in steps if isinstance(s, Loop) and not any(i.guarded for i in loops(s)) for leaf in leaves(s)
        ]
        inner = [replace(program, name=f"{program.name}_inner{n}", steps=(s,), prepare=0) for n, s in enumerate(alone)]
        empty = replace(program, name=f"{program.name}_nothing", steps=(), prepare=0)
        called = {p.function for s in runs(steps) for p in s.kernel.phases}
        symbols = {name: library.address(name) for name in called}
        text = _merged([emit_entry(s, weighs=False) for s in (*singles, *inner, empty)])
        target = built.target
        objects = [_object(text, target), _timeline_object(target)]
        self.library = link(objects, {**symbols, **threads.symbols()})
        self.functions = np.array([self.library.address(f"{s.name}_run") for s in singles], np.int64)
        self.inner = np.array([self.library.address(f"{s.name}_run") for s in inner], np.int64)
        self.nothing = np.full(EMPTY_STEPS, self.library.address(f"{empty.name}_run"), np.int64)
        self.run = _TIMELINE(self.library.address("kc_timeline"))


class _Timed(Bound):
    """A bound program whose call is repeated, step by step and as a whole in turns."""

    def __init__(self, executable: Executable, variables: Mapping[str, np.ndarray], budget_s: float):
        super().__init__(executable, variables)
        self.budget_s = budget_s
        self.steps: _Steps | None = None
        self.named: dict[str, int] = {}
        self.times = np.zeros((0, 0))
        self.inner = np.zeros((0, 0))  # the kernels of loops, each alone
        self.whole: list[int] = []
        self.clock_ns = 0.0  # of the time of each step, what measuring it takes

    def _call(self, table: np.ndarray, sizes: np.ndarray, function) -> None:
        executable, steps = self._executable, self.steps
        self.named = dict(zip(executable.program.symbols, sizes.tolist()))
        block = executable.workspaces.take(executable.arena_bytes(tuple(sizes.tolist())))

        def once(functions: np.ndarray) -> np.ndarray:
            count = len(functions)
            times = np.zeros(count + 1, np.int64)
            steps.run(address(functions), count, address(table), address(sizes), address(block), address(times))
            return times

        program = np.array([ctypes.cast(function, ctypes.c_void_p).value], np.int64)

        try:
            self._refresh(table, sizes, block)
            for _ in range(WARM_UP):
                once(program)
                times = once(steps.functions)
            taken = max(float(times[-1] - times[0]) * 1e-9, 1e-6)
            repetitions = max(MIN_REPETITIONS, min(MAX_REPETITIONS, int(self.budget_s / taken / 2)))
            # in turns: what else runs on the machine then slows both alike
            pairs = [(once(steps.functions), once(program)) for _ in range(repetitions)]
            self.times = np.stack([times for times, _ in pairs])
            self.whole = [int(times[1] - times[0]) for _, times in pairs]
            if len(steps.inner):
                again = max(MIN_REPETITIONS, repetitions // 2)
                self.inner = np.stack([np.diff(once(steps.inner)) for _ in range(again + 1)][1:])
            empty = [once(steps.nothing) for _ in range(MIN_REPETITIONS)]
            self.clock_ns = min(float(t[-1] - t[0]) for t in empty) / EMPTY_STEPS
        finally:
            executable.workspaces.give_back(block)


def _merged(texts: list[str]) -> str:
    """Several modules of entry functions as one: each declaration once."""
    declared: dict[str, None] = {}
    rest = []
    for text in texts:
        lines = text.splitlines()
        declared.update(dict.fromkeys(line for line in lines if line.startswith("declare ")))
        rest += [line for line in lines if not line.startswith("declare ")]
    return "\n".join([*declared, *rest, ""])


def _object(text: str, target) -> bytes:
    from kcompile.codegen.llvm import compile_module  # LLVM takes 50 ms to load

    # -O1: calls of kernels have nothing to vectorise
    return cache.get_or_compile(cache.key(text, target, opt=1), lambda: compile_module(text, target, opt=1))


def _timeline_object(target) -> bytes:
    from kcompile.codegen.probe import timeline_ir  # as above

    return _object(timeline_ir(target), target)


def _copies(variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: aligned_copy(a) for name, a in variables.items()}


# what the machine needs --------------------------------------------------------------------------


def _limit(fact: Fact, limits: Machine) -> tuple[float, str]:
    """Time needed at least, and why. Products in pairs run at a rate of their own."""
    w = fact.work
    # what one round of a loop leaves in a near cache is there for the next
    parts = fact.parts or ((1, w),)
    moving = sum(times * limits.moving_s(part.read, part.written) for times, part in parts)
    in_pairs = w.bf16_products if limits.pair_flops_per_s else 0
    others = w.multiply_adds - in_pairs
    computing = limits.computing_s(others + w.multiplies, others + w.operations) * fact.flop_scale
    if in_pairs:
        computing += 2 * in_pairs / limits.pair_flops_per_s
    touched = max(part.nbytes for _, part in parts)
    return (computing, COMPUTE) if computing > moving else (moving, limits.level_for(touched).name)


def _preparations(built: Build) -> list[int]:
    """How many records come right before each loop, for it."""
    found, count = [], 0
    for step in built.program.steps:
        if isinstance(step, Loop):
            found.append(count)
            count = 0
        else:
            count += isinstance(step, Run) and step.phases is not None
    return found


def _pieces(built: Build, named: Mapping[str, int]) -> list[Piece]:
    """The arena's buffers; live ranges in numbers of records instead of steps of the plan."""
    first_record: dict[int, int] = {}
    record = 0
    ahead = iter(_preparations(built))
    for step in built.placed.steps:
        first_record[step.number] = record
        if step.prepares:
            continue
        record += len(step.fills) + len(step.copies) + (step.call is not None)
        record += next(ahead) if isinstance(step.call, LoopCall) else 0
    last = max(record - 1, 0)

    def at(number: int) -> int:
        return min(first_record.get(number, last), last)

    pieces = []
    named = built.plan.named(named)
    for b in built.plan.buffers:
        offset, nbytes = (dim.evaluate(v, named) for v in (built.plan.offsets[b.name], b.nbytes))
        end = first_record.get(b.last + 1, record) - 1
        pieces.append(Piece(b.name, offset, nbytes, at(b.first), max(at(b.first), min(end, last))))
    return sorted(pieces, key=lambda p: (p.offset, p.first))
