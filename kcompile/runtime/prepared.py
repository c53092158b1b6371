"""Calls prepared for arrays of known shapes: two built-in functions that Python calls directly.

`prepare` fills the record that `codegen/pycall.py` reads. A prepared call answers NotImplemented for anything but
the arrays it was made for; `Bound` then takes the way through Python, which says what is wrong.

The native code reads arrays where NumPy's ABI has their fields. It is used only in a CPython with a GIL, and only
after a look at a few arrays has shown the fields to lie there.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kcompile import forks
from kcompile.codegen import pycall
from kcompile.runtime import cache
from kcompile.runtime.arena import Workspaces, address
from kcompile.runtime.link import Library, link

_METH_O, _METH_FASTCALL = 0x0008, 0x0080
_lock = forks.lock()


@dataclass(frozen=True)
class Input:
    """Argument `number`: an array of exactly this dtype and shape, called `name`."""

    number: int
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Output:
    """Argument `number`: the array that `make(*arguments)` returns."""

    number: int
    make: Callable[..., np.ndarray]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Prepared:
    """`direct(x, y)` takes the inputs in order, `named({"x": x, "y": y})` by name.

    Both return the only result, a tuple of several, None if there are none, or NotImplemented.
    `record` is what they read, one number per field of `pycall.FIELDS`; `watching` is what it points to.
    """

    direct: Callable[..., Any]
    named: Callable[[dict[str, np.ndarray]], Any]
    record: np.ndarray
    watching: list[Any]

    def watch(self, cells: Sequence[tuple[np.ndarray, int]]) -> None:
        """Hold as long as each cell, an i64[1], is what it is said to be."""
        _watch(self.record, self.watching, cells)


def _watch(record: np.ndarray, watching: list[Any], cells: Sequence[tuple[np.ndarray, int]]) -> None:
    pairs = [number for cell, seen in cells for number in (address(cell), seen)]
    block = np.array([len(cells), *pairs], np.int64)
    record[pycall.FIELDS.index("watches")] = address(block)  # calls look at it while they hold the GIL
    watching[:] = block, *(cell for cell, _ in cells)


def prepare(
    *,
    run: int,
    arguments: np.ndarray,
    sizes: np.ndarray,
    arena_bytes: int,
    inputs: Sequence[Input],
    outputs: Sequence[Output],
    workspaces: Workspaces,
    watched: Sequence[tuple[np.ndarray, int]],
    fail: Callable[[int], None],
    keep: Sequence[Any],
) -> Prepared | None:
    """Return the calls for these inputs, or None where this Python cannot have them.

    Args:
        run: address of the program's `run`.
        arguments, sizes: i64, what `run` gets; inputs and outputs are filled in by each call.
        watched: cells, each an i64[1], and what they must hold: the calls answer NotImplemented as long as one
            differs. `Prepared.watch` changes that.
        fail: called with a code that is not 0; raises.
        keep: what must live as long as the calls.
    """
    if not usable():
        return None
    arguments, sizes = arguments.copy(), sizes.copy()
    watching: list[Any] = []
    kept: list[Any] = [arguments, sizes, watching, fail, *keep]

    def row(values: Sequence[int]) -> np.ndarray:
        kept.append(np.array([*values, 0], np.int64))
        return kept[-1]

    def handle(value: Any) -> int:
        kept.append(value)
        return id(value)

    input_rows = [
        (i.number, handle(sys.intern(i.name)), handle(np.dtype(i.dtype)), len(i.shape), address(row(i.shape)))
        for i in inputs
    ]
    output_rows = [
        (o.number, handle(o.make), address(row([handle(a) for a in o.arguments])), len(o.arguments)) for o in outputs
    ]
    fields = {
        "run": run,
        "inputs": address(row([v for r in input_rows for v in r])),
        "input_count": len(inputs),
        "outputs": address(row([v for r in output_rows for v in r])),
        "output_count": len(outputs),
        "arguments": address(arguments),
        "argument_count": len(arguments),
        "sizes": address(sizes),
        "arena_bytes": arena_bytes,
        "pop": handle(workspaces.pop),
        "append": handle(workspaces.give_back),
        "fail": id(fail),
        "ndarray": id(np.ndarray),
        "dict": id(dict),
        "none": id(None),
        "not_implemented": id(NotImplemented),
        "watches": 0,
    }
    record = np.array([fields[name] for name in pycall.FIELDS], np.int64)
    _watch(record, watching, watched)
    direct, named = _built_ins((record, *kept))
    return Prepared(direct, named, record, watching)


@functools.cache
def usable() -> bool:
    """Whether arrays of this Python are what the native code takes them for."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False  # results and scratch blocks are counted without locks
    return all(_reads(a) for a in (np.zeros((3, 5), np.float32), np.zeros((2, 3, 4), np.int8)[:, 1:], np.zeros(())))


def _reads(array: np.ndarray) -> bool:
    def word(place: int, kind: Any = ctypes.c_void_p) -> int | None:
        return kind.from_address(id(array) + object.__basicsize__ + place).value

    if np.ndarray.__basicsize__ < object.__basicsize__ + pycall.FLAGS + 4:
        return False
    rank = array.ndim
    if word(pycall.TYPE) != id(np.ndarray) or word(pycall.RANK, ctypes.c_int) != rank:
        return False
    shape = tuple((ctypes.c_int64 * rank).from_address(word(pycall.SHAPE))) if rank else ()
    usable_bits = word(pycall.FLAGS, ctypes.c_int) & pycall.USABLE == pycall.USABLE
    return (
        word(pycall.DATA) == address(array)
        and shape == array.shape
        and word(pycall.DTYPE) == id(array.dtype)
        and usable_bits == (array.flags.c_contiguous and array.flags.aligned)
    )


class _Method(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("text", ctypes.c_char_p),
    )


def _built_ins(kept: tuple[Any, ...]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    direct, named = _methods()
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    return make(ctypes.addressof(direct), kept, None), make(ctypes.addressof(named), kept, None)


def _methods() -> tuple[_Method, _Method]:
    with _lock:
        return _linked()[1:]


@functools.cache
def _linked() -> tuple[Library, _Method, _Method]:
    # LLVM takes 50 ms to load, as in threads.py
    from kcompile.codegen import llvm
    from kcompile.codegen.host import host_target

    target = host_target()
    text = pycall.pycall_ir(object.__basicsize__)
    key = cache.key(text, target, opt=1)
    code = cache.get_or_compile(key, lambda: llvm.compile_module(text, target, opt=1))
    symbols = {n: ctypes.cast(getattr(ctypes.pythonapi, n), ctypes.c_void_p).value for n in pycall.API}
    library = link([code], symbols, pycall.FUNCTIONS)
    # Never unloaded: a prepared call may outlive everything but the interpreter.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))
    flags = {"kc_call": _METH_FASTCALL, "kc_call_named": _METH_O}
    methods = [_Method(n.encode(), library.address(n), flags[n], None) for n in pycall.FUNCTIONS]
    for method in methods:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(method))
    return library, *methods
