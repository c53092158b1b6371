"""Arrays for results: fresh ones, and large ones whose memory is used again.

A fresh large array costs more than most kernels that fill it: the system hands out its pages one by one,
zeroed. (Below `POOLED_BYTES` the C library's allocator finds pages it has used before.) So larger results live
in blocks that are kept, on huge pages and on whole lines: what goes past the caches has to begin on one. A
result is an array over a block and holds a reference to it, as does every view, buffer or tensor made from the
result; the block is used again only when nobody but this module refers to it. What the user holds never
changes.

Kept are at most `MOST_KEPT_BYTES` in `MOST_BLOCKS` blocks, in use or not; what is beyond that goes back to the
system with its last view. There is no lock: whoever looks at a block has taken it out of the deque.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from kcompile.runtime.arena import HUGE_BYTES, address, aligned_empty

POOLED_BYTES = 4 << 20
MOST_KEPT_BYTES = 256 << 20
MOST_BLOCKS = 8


def _references() -> int:
    """References to an array that only the function looking at it has."""
    block = np.empty(0)
    return sys.getrefcount(block)


_UNUSED = _references()
_blocks: deque[np.ndarray] = deque()


def maker(shape: tuple[int, ...], dtype: Any) -> tuple[Callable[..., np.ndarray], tuple[Any, ...]]:
    """Return (function, arguments): each call makes an array of this shape for one result."""
    wanted = np.dtype(dtype)
    nbytes = math.prod(shape) * wanted.itemsize
    return (pooled if nbytes >= POOLED_BYTES and _counts_references() else np.empty), (shape, wanted)


def new(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an uninitialised array for a result."""
    make, arguments = maker(shape, dtype)
    return make(*arguments)


def pooled(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an uninitialised array over a block that nobody uses, a new one if need be."""
    nbytes = _rounded(math.prod(shape) * dtype.itemsize)
    block = _unused(nbytes)
    if block is None:
        block = _new(nbytes)
    array = np.ndarray(shape, dtype, block, -address(block) % HUGE_BYTES)
    _keep(block)
    return array


def kept_bytes() -> int:
    """Bytes of all blocks that may be used again."""
    return sum(b.nbytes for b in tuple(_blocks))


def _rounded(nbytes: int) -> int:
    """Sizes in steps of an eighth, so that batches of slightly different size share a block."""
    step = max(HUGE_BYTES, 1 << max(nbytes.bit_length() - 4, 0))
    return -(-nbytes // step) * step


def _new(nbytes: int) -> np.ndarray:
    # the array that owns the mapping: NumPy makes it the `base` of all that is made from it
    return aligned_empty(nbytes + HUGE_BYTES).base


def _unused(nbytes: int) -> np.ndarray | None:
    for _ in range(len(_blocks)):
        try:
            block = _blocks.popleft()
        except IndexError:
            return None  # other threads are looking at the rest
        if sys.getrefcount(block) == _UNUSED and 0 <= block.nbytes - nbytes <= 4 * HUGE_BYTES:
            return block
        _blocks.append(block)
    return None


def _keep(block: np.ndarray) -> None:
    _blocks.append(block)
    while len(_blocks) > MOST_BLOCKS or kept_bytes() > MOST_KEPT_BYTES:
        try:
            _blocks.popleft()  # the one used longest ago
        except IndexError:
            return


def _counts_references() -> bool:
    return sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
