"""Aligned memory: arenas of weights, and scratch blocks of running programs.

Blocks from `HUGE_BYTES` upwards are mappings of their own: they start on a huge-page boundary, ask the
system for huge pages, and go back to the system as soon as the last view of them is dropped. Smaller
ones come from NumPy's allocator.
"""

from __future__ import annotations

import mmap
from collections import deque

import numpy as np

from kcompile.errors import ArgumentError

ALIGN_BYTES = 64  # a cache line, and the widest vector register in use
HUGE_BYTES = 2 << 20  # the huge page of x86-64, and of aarch64 with 4 KiB pages


def aligned_empty(nbytes: int, align: int = ALIGN_BYTES) -> np.ndarray:
    """Uninitialised bytes whose address is a multiple of `align`.

    Args:    nbytes: size, 0 allowed; align: a power of two.
    Returns: u8[nbytes], writable, C-contiguous; the memory is freed with its last view.
    Raises:  ArgumentError for a negative size or an alignment that is no power of two.
    """
    if nbytes < 0:
        raise ArgumentError(f"aligned_empty expects nbytes >= 0, received {nbytes}.")
    if align < 1 or align & (align - 1):
        raise ArgumentError(f"aligned_empty expects align to be a power of two, received {align}.")
    if nbytes >= HUGE_BYTES and hasattr(mmap, "MAP_ANONYMOUS"):
        return _aligned(_mapping(nbytes + max(align, HUGE_BYTES)), nbytes, max(align, HUGE_BYTES))
    return _aligned(np.empty(nbytes + align, np.uint8), nbytes, align)


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """A C-contiguous copy that begins on a cache line: a vector that spans two of them costs two loads."""
    copy = aligned_empty(array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def address(array: np.ndarray) -> int:
    """The address of an array's first element; `array.ctypes.data` is another one where there is none."""
    return array.__array_interface__["data"][0]


def _aligned(raw: np.ndarray, nbytes: int, align: int) -> np.ndarray:
    start = -address(raw) % align
    return raw[start:][:nbytes]  # in two steps: NumPy leaves the pointer of an empty slice where it was


def _mapping(nbytes: int) -> np.ndarray:
    """A private anonymous mapping; pages never touched cost nothing."""
    # Private, because Python's default is shared: a forked child would write into its parent's weights.
    block = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            block.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            pass  # a kernel without huge pages: the block works all the same
    return np.frombuffer(block, np.uint8)


class Workspaces:
    """Scratch blocks of one executable; each call in flight holds one, so threads never share.

    A block is a u8 array. Blocks grow to the largest size asked for and stay until the executable is dropped.
    There is no lock: the deque's own pop and append are atomic, which also makes it safe across `fork`.
    `pop` and `give_back` are the deque's own methods; native code calls them (`runtime/prepared.py`).
    """

    __slots__ = ("_free", "give_back", "pop")

    def __init__(self) -> None:
        self._free: deque[np.ndarray] = deque()
        self.pop = self._free.pop
        self.give_back = self._free.append

    def take(self, nbytes: int) -> np.ndarray:
        """A block of at least `nbytes` bytes that nobody else holds; hand it to `give_back` after use."""
        try:
            block = self.pop()
        except IndexError:
            return aligned_empty(nbytes)
        if block.nbytes >= nbytes:
            return block
        del block  # before allocating: the small block and the large one need not live together
        return aligned_empty(nbytes)

    @property
    def idle_bytes(self) -> int:
        """Bytes held by blocks that no call is using."""
        return sum(block.nbytes for block in tuple(self._free))
