"""Timing, printing, dumping and verifying between stages; passes and emitters never do.

`Observer` wraps every stage of one compilation. What it prints follows KCOMPILE_DEBUG, one ladder:

    1  one line per compilation      4  the form of every kernel
    2  steps, places, refusals;      5  LLVM IR after optimisation
       where the time went
    3  the graph after each pass     6  assembly

KCOMPILE_DUMP=dir writes every stage as a numbered file, KCOMPILE_VERIFY=1 verifies between stages.
"""

from __future__ import annotations

import difflib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kcompile import flags
from kcompile.ir.graph import Graph
from kcompile.ir.verify import verify


@dataclass
class KernelTimes:
    """What one new kernel cost: seconds to write its IR, seconds of LLVM (in whichever process), bytes of code."""

    emit_s: float = 0.0
    llvm_s: float = 0.0
    code_bytes: int = 0


class Observer:
    """Watches one compilation; `times` holds seconds per stage, `kernels` what each new kernel cost."""

    def __init__(self, name: str):
        self.name = name
        self.level: int = flags.get("debug")
        self.dump: str | None = flags.get("dump")
        self.verifies: bool = flags.get("verify")
        self.times: dict[str, float] = {}
        self.kernels: dict[str, KernelTimes] = {}
        self._files = 0
        self._last_text = ""

    def stage(self, name: str, run: Callable[..., Any], *args: Any) -> Any:
        """Run one stage, timed."""
        start = time.perf_counter()
        result = run(*args)
        self.times[name] = self.times.get(name, 0.0) + time.perf_counter() - start
        return result

    def emitted(self, name: str, run: Callable[..., Any], *args: Any) -> Any:
        """Write one kernel's IR, timed: a part of the stage "emit"."""
        before = self.times.get("emit", 0.0)
        result = self.stage("emit", run, *args)
        self.kernels[name] = KernelTimes(emit_s=self.times["emit"] - before)
        return result

    def compiled(self, name: str, seconds: float, code_bytes: int) -> None:
        """Note what LLVM took for a kernel: with helpers, these add up to more than the stage."""
        times = self.kernels.setdefault(name, KernelTimes())
        times.llvm_s, times.code_bytes = seconds, code_bytes

    def traced(self, graph: Graph) -> None:
        """Count the recording of the graph, which came before."""
        self.times["trace"] = graph.trace_s

    def graph(self, name: str, graph: Graph) -> None:
        """Look at the graph a pass left."""
        if self.verifies:
            verify(graph)
        if self.level < 3 and self.dump is None:
            return
        text = str(graph)
        if self.level >= 3 and text != self._last_text:
            difference = difflib.unified_diff(
                self._last_text.splitlines(), text.splitlines(), f"before {name}", name, lineterm="", n=2
            )
            self.say(text if not self._last_text else "\n".join(difference))
        self._last_text = text
        self.write(f"{name}.graph", text)

    def text(self, level: int, file: str, make: Callable[[], str]) -> None:
        """Show a text from `level` on, and write it when dumping; made only if somebody looks."""
        if self.level < level and self.dump is None:
            return
        text = make()
        if self.level >= level:
            self.say(text)
        self.write(file, text)

    def say(self, text: str) -> None:
        """Print to standard error, so that a script's output stays its own."""
        print(text, file=sys.stderr)

    def write(self, file: str, text: str) -> None:
        """Write a numbered file when dumping."""
        if self.dump is None:
            return
        folder = os.path.join(self.dump, self.name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"{self._files:02d}-{file}"), "w", encoding="utf-8") as out:
            out.write(text + "\n")
        self._files += 1

    def summary(self, line: str) -> None:
        """The one line of KCOMPILE_DEBUG=1."""
        if self.level >= 1:
            spent = " ".join(f"{k} {1e3 * v:.0f}" for k, v in self.times.items() if v >= 5e-4)
            self.say(f"kcompile: {self.name}: {line}; ms: {spent}")
