"""Random permutations for the order of an epoch's rows: `codegen/permute.py`, linked on first use."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import numpy as np

from kcompile.codegen.permute import permute_ir
from kcompile.runtime import cache
from kcompile.runtime.arena import address
from kcompile.runtime.link import link

FEW_ROWS = 2048  # NumPy is as fast for so many, and needs nothing linked


def fill_permutation(order: np.ndarray, rng: np.random.Generator) -> None:
    """Fill i64[n] with a random permutation of 0 .. n-1; what it is depends on n and the generator's state alone."""
    if order.size <= FEW_ROWS:
        order[:] = rng.permutation(order.size)
        return
    seed = int(rng.integers(-(2**63), 2**63, dtype=np.int64))
    _permute()(address(order), order.size, seed)


@functools.cache
def _permute() -> Callable[[int, int, int], None]:
    # LLVM takes 50 ms to load: not before it is needed
    from kcompile.codegen import llvm
    from kcompile.codegen.host import host_target

    target, text = host_target(), permute_ir()
    code = cache.get_or_compile(cache.key(text, target, opt=2), lambda: llvm.compile_module(text, target, opt=2))
    library = link([code], {}, ("kc_permute",))
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(library.address("kc_permute"))
    run.library = library  # its code must stay as long as it may be called
    return run
