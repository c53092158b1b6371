"""A program as plain data: what entry.py turns into native code.

A program takes pointers to its arguments, the values of its named sizes and one arena, and runs its
steps in order. It knows nothing of graphs; the pipeline translates.
"""

from __future__ import annotations

from dataclasses import dataclass

from kcompile.codegen.kernel import Kernel
from kcompile.ir.dim import DimLike
from kcompile.ir.types import Type

INPUT, VARIABLE, CONSTANT, OUTPUT = "input", "variable", "constant", "output"
BATCH = "batch"  # the size that counts rows of a batch
WORKERS = "workers"  # the last named size of every program: how many threads it may use


@dataclass(frozen=True)
class Argument:
    """One array the caller passes by pointer."""

    name: str
    type: Type
    role: str  # INPUT | VARIABLE | CONSTANT | OUTPUT

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
class Program:
    """Arguments, sizes, steps, and how much arena it needs."""

    name: str
    arguments: tuple[Argument, ...]
    symbols: tuple[str, ...]  # named sizes in the order the caller passes them, WORKERS last
    steps: tuple[Run | Copy | Fill, ...]
    arena_bytes: DimLike

    def numbers(self, role: str) -> list[int]:
        """Positions of the arguments of one role."""
        return [n for n, a in enumerate(self.arguments) if a.role == role]
