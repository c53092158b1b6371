"""compile(graph) -> Executable, by the disk cache where the program is there: the door to the pipeline.

Passes and emitters take as long to load as a small model's step takes to be found and linked: they are loaded when
a program has to be built, which most processes never do.
"""

from __future__ import annotations

from dataclasses import dataclass

from kcompile import flags
from kcompile.codegen.host import host_target
from kcompile.codegen.program import runs
from kcompile.ir.graph import Graph
from kcompile.observe import Observer
from kcompile.runtime import programs, threads
from kcompile.runtime.executable import Executable
from kcompile.runtime.garbage import uncollected
from kcompile.runtime.link import link
from kcompile.target import Target, named


@dataclass
class Counters:
    """What was compiled in this process; tests and `inspect` read it."""

    programs: int = 0
    emitted: int = 0  # kernels whose IR was written; what the disk cache had does not count
    kernels: int = 0  # modules that LLVM compiled; what the disk cache had does not count


counters = Counters()


def default_target() -> Target:
    """This machine, or what KCOMPILE_TARGET names."""
    name = flags.get("target")
    return named(name) if name else host_target()


@uncollected
def compile(
    graph: Graph,
    *,
    target: Target | None = None,
    num_threads: int | None = None,
    name: str | None = None,
    precision: str = "default",
) -> Executable:
    """Return native code for a graph.

    Args:    precision: "default", "high" or "highest": which algorithms inference may use, see passes/winograd.py.
    Raises:  LoweringError listing every node that has no native form; ArgumentError for another precision.
    """
    target = target or default_target()
    name = name or graph.name
    observer = Observer(name)
    observer.traced(graph)
    key = observer.stage("key", programs.key, graph, target, precision) if _is_plain(observer) else None
    found = observer.stage("find", programs.find, key, graph) if key else None
    if found is None:
        from kcompile import pipeline  # loads every pass and emitter

        found = built = pipeline.build(graph, target=target, name=name, observer=observer, precision=precision)
        if key:
            programs.keep(key, graph, built.program, built.objects[-1], pipeline.keys_of(built), built.constants)
    library = observer.stage("link", link, found.objects, observer.stage("threads", threads.symbols))
    counters.programs += 1
    workers = min(num_threads or threads.num_threads(), threads.MAX_THREADS)
    observer.summary(
        f"{len(graph.live_nodes())} nodes, {sum(1 for _ in runs(found.program.steps))} kernel calls of "
        f"{len(found.objects) - 1} kernels, arena of {found.program.arena_text()}"
        + (", whole from the disk cache" if isinstance(found, programs.Stored) else f", {found.new} of them new")
    )
    if flags.get("compare"):
        return pipeline.compared(built, library, workers)
    return Executable(found.program, library, found.constants, workers)


def _is_plain(observer: Observer) -> bool:
    """True if nobody wants to see or change what happens between the stages, so that they may be skipped."""
    asked = any(flags.get(f) for f in ("verify", "poison", "compare", "skip"))
    return bool(flags.get("cache")) and not asked and observer.level <= 1 and observer.dump is None
