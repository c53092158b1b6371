"""Object files -> addresses in this process, through LLVM's ORC JIT.

One LLJIT serves the process; every `link` makes a library of its own in it. Objects may call each other,
what `symbols` names, and the C library. No other file outside codegen imports llvmlite.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from kcompile import forks
from kcompile.errors import CompilerBug

_lock = forks.lock()
_numbers = itertools.count()
_jit: Any = None


def _lljit() -> Any:
    global _jit
    with _lock:
        if _jit is None:
            # llvmlite takes 50 ms to load; a session that runs eagerly never needs it.
            import llvmlite.binding as llvm

            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
            machine = llvm.Target.from_default_triple().create_target_machine(reloc="pic", codemodel="default")
            # Errors are not suppressed: the exception says "failed", LLVM's line on stderr names the symbol.
            # JITLink maps code and constants of an object side by side. The older linker maps them one by one,
            # and in a process with a crowded address space they end up too far apart for 32-bit offsets.
            _jit = llvm.create_lljit_compiler(machine, use_jit_link=True, suppress_errors=False)
        return _jit


class Library:
    """Linked code. Addresses are valid while the library is referenced; dropping it unloads the code."""

    __slots__ = ("__weakref__", "_addresses", "_jit", "_name", "_trackers")

    def __init__(self, jit: Any, name: str, tracker: Any, exports: Sequence[str]):
        self._jit = jit
        self._name = name
        self._trackers = [tracker]
        self._addresses = {export: tracker[export] for export in exports}

    def address(self, name: str) -> int:
        """The address of a symbol defined in the linked objects.

        Raises: CompilerBug if no object defines it.
        """
        if name not in self._addresses:
            try:
                tracker = self._jit.lookup(self._name, name)
            except RuntimeError as error:
                raise CompilerBug(f"link: no linked object defines {name!r}: {error}") from None
            self._trackers.append(tracker)
            self._addresses[name] = tracker[name]
        return self._addresses[name]


def link(objects: Sequence[bytes], symbols: Mapping[str, int] | None = None, exports: Sequence[str] = ()) -> Library:
    """Load object files into the process.

    Args:    objects: contents of relocatable object files for this machine;
             symbols: addresses of what they call outside themselves, beyond the C library;
             exports: names to resolve at once; `Library.address` finds the others when asked.
    Returns: a Library; keep it as long as an address from it is in use.
    Raises:  CompilerBug if an object is unusable or a symbol is missing; the message names it.
    Cost:    about 0.6 ms for a program of a few kernels.
    """
    import llvmlite.binding as llvm  # lazily, see _lljit

    jit = _lljit()
    builder = llvm.JITLibraryBuilder().add_current_process()
    for data in objects:
        builder.add_object_img(data)
    for name, address in (symbols or {}).items():
        builder.import_symbol(name, address)
    for name in exports:
        builder.export_symbol(name)
    library = f"kcompile.{next(_numbers)}"  # LLJIT never lets a name be used twice
    try:
        tracker = builder.link(jit, library)
    except RuntimeError as error:
        raise CompilerBug(f"link: the JIT refused the object code: {error}") from None
    return Library(jit, library, tracker, exports)
