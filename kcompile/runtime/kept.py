"""What a bound program computes from its variables once and keeps, and how it notices that they have changed.

Numbers change in two ways. Python says so to `changed`, which stamps the block of memory the array lies in.
A program that assigns variables counts its runs in native code, in a cell of its own (`Runs`), entered
for the blocks it writes; so a call that goes past Python is noticed too. A program that keeps something compares
stamps and cells of the blocks it reads with those it saw last: what changes elsewhere costs it nothing. A call that
goes past Python compares cells alone: the last stamp of all, and the runs of the programs that write these blocks.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable

import numpy as np

from kcompile import forks
from kcompile.runtime.arena import address, aligned_empty

_clock = itertools.count(1)
_stamps: dict[int, int] = {}  # address of a block -> when Python changed something in it last
_writers: dict[int, weakref.WeakSet] = {}  # address of a block -> the runs of programs that write it
_writers_lock = forks.lock()
FEW_BLOCKS = 256
_many = FEW_BLOCKS  # entries of `_writers` at which it is looked through
_CELL_STEP = 1 << 40  # runs before a cell could look like a younger one's
_latest = np.zeros(1, np.int64)  # the last stamp of all


class Runs:
    """A cell that native code counts the runs of a program in."""

    __slots__ = ("__weakref__", "cell")

    def __init__(self, blocks: Iterable[int]):
        self.cell = np.full(1, next(_clock) * _CELL_STEP, np.int64)
        _enter(self, blocks)
        _stamp(())  # whoever reads these blocks looks for writers again


def _enter(runs: Runs, blocks: Iterable[int]) -> None:
    """Note who writes the blocks, and forget blocks that nobody writes any more, each time there are twice as many."""
    global _many
    with _writers_lock:
        for block in blocks:
            _writers.setdefault(block, weakref.WeakSet()).add(runs)
        if len(_writers) > _many:
            for block in [b for b, those in _writers.items() if not those]:
                del _writers[block]
            _many = max(FEW_BLOCKS, 2 * len(_writers))


def block_of(array: np.ndarray) -> int:
    """The address of the memory an array is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return address(array)


def changed(array: np.ndarray) -> None:
    """Say that numbers of an array have changed."""
    _stamp((block_of(array),))


def _stamp(blocks: Iterable[int]) -> int:
    now = next(_clock)
    for block in blocks:
        _stamps[block] = now
    _latest[0] = now
    return now


class Kept:
    """The kept arrays of one bound program, made from the arrays it `reads`."""

    def __init__(self, nbytes: Iterable[int], reads: Iterable[np.ndarray]):
        self.arrays = [aligned_empty(n) for n in nbytes]
        self._blocks = tuple(dict.fromkeys(block_of(a) for a in reads))
        self._looked = -1  # the last stamp when stamps and writers were looked up
        self._stamp = 0
        self._runs: list[Runs] = []
        self._holds: tuple | None = None  # the version the arrays were made from
        self._lock = forks.lock()

    def refresh(self, make: Callable[[], None]) -> None:
        """Call `make`, which fills the arrays, if a variable has changed since it was called last."""
        with self._lock:
            version = self._version()
            if version != self._holds:
                make()
                self._holds = version  # looked at before: a change meanwhile is found next time

    def watches(self) -> list[tuple[np.ndarray, int]]:
        """Cells and what they held when the arrays were looked at last: the arrays are good as long as they do."""
        with self._lock:
            runs = zip(self._runs, (self._holds or ())[1:])
            return [(_latest, self._looked), *((r.cell, seen) for r, seen in runs)]

    def _version(self) -> tuple:
        if self._looked != _latest[0]:
            self._looked = int(_latest[0])
            self._stamp = max((_stamps.get(b, 0) for b in self._blocks), default=0)
            found = {id(r): r for b in self._blocks for r in _writers.get(b, ())}
            self._runs = list(found.values())
        return (self._stamp, *(int(r.cell[0]) for r in self._runs))
