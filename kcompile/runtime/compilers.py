"""Modules -> object files, by this process and a few helpers.

    with Compilers(target, helpers(len(forms))) as compilers:
        for form in forms:
            compilers.submit(emit(...))      # helpers begin while the next kernel is emitted
        objects = compilers.results()        # this process takes its share of what is left

A helper is a process (`codegen/compiler_process.py`) that lives as long as the `with` block. It is started by
command line, never by `fork`, and does not import the user's script: threads, notebooks and scripts without a
main guard do not matter. Helpers only save time: what one did not finish, because it could not start, died or
was stopped, is compiled here. Object files are the same bytes whoever makes them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass

from kcompile import flags
from kcompile.codegen.compiler_process import BOOT, read_answer, write_frame
from kcompile.codegen.llvm import compile_module
from kcompile.runtime import threads
from kcompile.target import Target

KERNELS_PER_HELPER = 12  # half a second of LLVM: a helper costs a tenth of a second before it is of use
PATIENCE_S = 60.0  # no kernel takes so long: the helper was stopped, or its machine is full


@dataclass(frozen=True)
class Compiled:
    """An object file and the seconds LLVM took for it, in whichever process."""

    object_code: bytes
    seconds: float


def helpers(kernels: int) -> int:
    """How many helpers pay off for so many new kernels; this process is one more."""
    if not _can_start_python():
        return 0
    asked = flags.get("compile_workers")
    if asked is not None:
        return min(asked, kernels)
    return min(threads.num_threads() - 1, kernels // KERNELS_PER_HELPER)


def _can_start_python() -> bool:
    """False in a frozen application and where Python is embedded: there the executable is another program."""
    name = os.path.basename(sys.executable or "").lower()
    return not getattr(sys, "frozen", False) and name.startswith(("python", "pypy"))


class Compilers:
    """Compiles the modules submitted to it; used as a context manager, by one thread."""

    def __init__(self, target: Target, helpers: int):
        self.target = target
        self._texts: list[str] = []
        self._waiting: list[int] = []
        self._done: dict[int, Compiled] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._helpers = [_Helper(self) for _ in range(helpers)]

    def __enter__(self) -> Compilers:
        for helper in self._helpers:
            helper.start()
        return self

    def __exit__(self, *error) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for helper in self._helpers:
            helper.stop()

    def submit(self, ir_text: str) -> None:
        """Have one more module compiled."""
        with self._changed:
            self._waiting.append(len(self._texts))
            self._texts.append(ir_text)
            self._changed.notify()

    def results(self) -> list[Compiled]:
        """What became of the modules, in order. Raises: CompilerBug if LLVM refuses one."""
        while (number := self._next()) is not None:
            start = time.perf_counter()
            object_code = compile_module(self._texts[number], self.target)
            self.finished(number, Compiled(object_code, time.perf_counter() - start))
        return [self._done[n] for n in range(len(self._texts))]

    def _next(self) -> int | None:
        """A module for this process; waits for those that helpers have. None: all are done."""
        with self._changed:
            while len(self._done) < len(self._texts):
                if self._waiting:
                    return self._longest()
                if not self._changed.wait(PATIENCE_S):
                    return min(n for n in range(len(self._texts)) if n not in self._done)
            return None

    def _longest(self) -> int:
        """Long ones first, so that nobody is left with one at the end."""
        number = max(self._waiting, key=lambda n: len(self._texts[n]))
        self._waiting.remove(number)
        return number

    # for helpers .................................................................................

    def take(self) -> tuple[int, str] | None:
        """A module for a helper; waits until there is one. None: nothing more will come."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            number = self._longest()
            return number, self._texts[number]

    def finished(self, number: int, compiled: Compiled) -> None:
        """Note a result."""
        with self._changed:
            self._done[number] = compiled
            self._changed.notify_all()

    def give_back(self, number: int) -> None:
        """Leave a module to others."""
        with self._changed:
            self._waiting.append(number)
            self._changed.notify_all()


class _Helper:
    """One process and the thread that talks to it."""

    def __init__(self, work: Compilers):
        self._work = work
        self._process: subprocess.Popen | None = None
        self._thread = threading.Thread(target=self._run, name="kcompile helper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the process, whatever it does: nobody waits for it any more."""
        if self._process is not None:
            self._process.kill()
        self._thread.join()

    def _run(self) -> None:
        number = None
        try:
            with _started() as process:
                self._process = process
                try:
                    write_frame(process.stdin, json.dumps(asdict(self._work.target)).encode())
                    while (job := self._work.take()) is not None:
                        number, text = job
                        write_frame(process.stdin, text.encode())
                        object_code, seconds = read_answer(process.stdout)
                        if object_code is None:
                            break  # this process repeats the error in full
                        self._work.finished(number, Compiled(object_code, seconds))
                        number = None
                finally:
                    process.kill()  # it holds nothing that a proper end would save
        except (OSError, EOFError):
            pass  # it did not start, or died
        if number is not None:
            self._work.give_back(number)


def _started() -> subprocess.Popen:
    """A new helper: the same Python, the same places to import from, nothing of the terminal."""
    flags_of_this = [f for f, on in (("-I", sys.flags.isolated), ("-E", sys.flags.ignore_environment)) if on]
    apart = {"creationflags": subprocess.CREATE_NO_WINDOW} if sys.platform == "win32" else {"start_new_session": True}
    return subprocess.Popen(
        [sys.executable, *flags_of_this, "-c", BOOT, *map(str, sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        **apart,
    )
