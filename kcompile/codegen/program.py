"""A program as plain data: what entry.py turns into native code.

A program takes pointers to its arguments, the values of its named sizes and one arena, and runs its
steps in order. It knows nothing of graphs; the pipeline translates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kcompile.codegen.kernel import Kernel, Phase
from kcompile.ir import dim
from kcompile.ir.dim import DimLike
from kcompile.ir.rules import Rule, with_rules
from kcompile.ir.types import Type

INPUT, VARIABLE, CONSTANT, OUTPUT = "input", "variable", "constant", "output"
KEPT = "kept"  # memory of the program's own that lasts from run to run
RUNS = "runs"  # one i64 that counts the runs of a program which changes variables
BATCH = "batch"  # the size that counts rows of a batch
STEP = "step_number"  # of a loop, in offsets of its operands
WORKERS = "workers"  # the last named size of every program: how many threads it may use


@dataclass(frozen=True)
class Argument:
    """One array the caller passes by pointer."""

    name: str
    type: Type
    role: str  # INPUT | VARIABLE | CONSTANT | OUTPUT | KEPT | RUNS

    @property
    def has_rows(self) -> bool:
        """True if dimension 0 is the batch: its rows can be served one batch at a time."""
        shape = self.type.shape
        return bool(shape) and str(shape[0]) == BATCH


@dataclass(frozen=True)
class Pointer:
    """Bytes of argument number `argument`, or of the arena if that is None."""

    argument: int | None
    offset_bytes: DimLike = 0


@dataclass(frozen=True)
class Run:
    """Run a kernel on buffers (in the order of its form's buffers, workspaces last)."""

    kernel: Kernel
    pointers: tuple[Pointer, ...]
    phases: tuple[int, ...] | None = None  # which of the kernel's; None: all

    @property
    def chosen(self) -> tuple[Phase, ...]:
        """The phases to run."""
        return self.kernel.phases if self.phases is None else tuple(self.kernel.phases[n] for n in self.phases)


@dataclass(frozen=True)
class Copy:
    """Copy bytes; source and target do not overlap."""

    source: Pointer
    target: Pointer
    nbytes: DimLike


@dataclass(frozen=True)
class Fill:
    """Write one byte over and over, zero by default."""

    target: Pointer
    nbytes: DimLike
    byte: int = 0


@dataclass(frozen=True)
class Counter:
    """The step number (i32), kept in the loop's own arena."""

    own_offset_bytes: DimLike


@dataclass(frozen=True)
class Whole:
    """The same bytes in every step; `row_bytes` further for each row before the task's (0: for all tasks)."""

    pointer: Pointer
    row_bytes: DimLike = 0


@dataclass(frozen=True)
class Stacked:
    """Bytes that move on by `stride_bytes` from step to step: a row of an operand, or of what is yielded."""

    pointer: Pointer
    stride_bytes: DimLike
    row_bytes: DimLike = 0


@dataclass(frozen=True)
class Chosen:
    """Bytes that lie `offset_bytes` further: a polynomial in sizes and the step's number, which it calls STEP."""

    pointer: Pointer
    offset_bytes: DimLike


@dataclass(frozen=True)
class Carried:
    """Two places of a table: what the step before left, and where this one leaves it.

    It starts at `first` and ends at `last`; in between two buffers in the loop's own arena take turns.
    """

    first: Pointer
    last: Pointer
    own_offsets_bytes: tuple[DimLike, DimLike]
    nbytes: DimLike  # of one task
    row_bytes: DimLike = 0


LoopArgument = Counter | Whole | Stacked | Chosen | Carried


@dataclass(frozen=True)
class Rows:
    """A loop over independent rows: tasks of `per_task` of them run all steps, each on its own.

    In the loop's steps `symbol` is how many rows the task has. numbered: the rows are the steps of a loop that
    carries nothing, one a task, and the counter says which.
    """

    symbol: str
    total: DimLike
    per_task: int
    numbered: bool = False


@dataclass(frozen=True)
class Strips:
    """Steps that take several rows each: in a step `symbol` is `length`, in the last one what is left of `size`."""

    symbol: str
    size: DimLike
    length: int


@dataclass(frozen=True)
class Loop:
    """Run `steps` `count` times.

    Pointers of the steps are into the loop's own table of arguments (in order, a Carried takes two places) and
    its own arena: `arena_bytes` at `arena`, as many for each worker if there are rows.
    """

    count: DimLike
    reverse: bool
    arguments: tuple[LoopArgument, ...]
    steps: tuple[Run | Copy | Fill | Loop, ...]
    arena: Pointer
    arena_bytes: DimLike
    rows: Rows | None = None
    guarded: bool = False  # the first Carried is a byte: no step runs once it is 0
    name: str = "loop"
    strips: Strips | None = None

    @property
    def places(self) -> int:
        """Places in the table of arguments."""
        return sum(2 if isinstance(a, Carried) else 1 for a in self.arguments)


def runs(steps: Sequence[Run | Copy | Fill | Loop]) -> Iterator[Run]:
    """Every kernel call of steps, those inside loops included."""
    for step in steps:
        if isinstance(step, Run):
            yield step
        elif isinstance(step, Loop):
            yield from runs(step.steps)


def loops(loop: Loop) -> Iterator[Loop]:
    """A loop and all those inside it."""
    yield loop
    for step in loop.steps:
        if isinstance(step, Loop):
            yield from loops(step)


@dataclass(frozen=True)
class Program:
    """Arguments, sizes, steps, and how much arena it needs.

    prepare: so many steps, the first ones, depend on variables alone. They fill the KEPT arguments and need
             running only if a variable has changed since.
    changed: numbers of the variables a run changes.
    rules:   what the names in offsets and in `arena_bytes` stand for that are no sizes.
    """

    name: str
    arguments: tuple[Argument, ...]
    symbols: tuple[str, ...]  # named sizes in the order the caller passes them, WORKERS last
    steps: tuple[Run | Copy | Fill | Loop, ...]
    arena_bytes: DimLike
    prepare: int = 0
    changed: tuple[int, ...] = ()
    rules: tuple[Rule, ...] = ()

    def arena_bytes_for(self, sizes: Mapping[str, int]) -> int:
        """Bytes of arena a run needs."""
        return dim.evaluate(self.arena_bytes, with_rules(self.rules, sizes))

    def arena_text(self) -> str:
        """The size of the arena, for likely sizes if no polynomial says it."""
        if not self.rules:
            return f"{self.arena_bytes} bytes"
        likely = {name: 2 if name == WORKERS else dim.NOMINAL_SIZE for name in self.symbols}
        return f"{self.arena_bytes_for(likely):,} bytes where sizes are {dim.NOMINAL_SIZE}"

    def numbers(self, role: str) -> list[int]:
        """Positions of the arguments of one role."""
        return [n for n, a in enumerate(self.arguments) if a.role == role]
