"""What the steps of a program are, for its profile: layers, nodes, path and work of each, kernels of loops too."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from kcompile.codegen.program import Copy, Loop, Run, loops, runs
from kcompile.forms.records import Contract, Form
from kcompile.forms.work import Weigh, Work, work
from kcompile.ir import dim
from kcompile.ir.graph import Node
from kcompile.ir.op import Kind
from kcompile.passes.fuse import Cluster
from kcompile.passes.lower import LoopCall
from kcompile.passes.place import Placed
from kcompile.target import Target

if TYPE_CHECKING:  # pipeline.py stands above
    from kcompile.pipeline import Build


@dataclass(frozen=True)
class Fact:
    kernel: str
    layers: tuple[str, ...]
    what: tuple[str, ...]
    path: str
    work: Work
    flop_scale: float = 1.0  # float32 operations that take as long as one of this step's
    parts: tuple[tuple[int, Work], ...] = ()  # of a loop: how often each kernel runs, its work
    inner: tuple[Fact, ...] = ()  # of a loop: its kernels


def facts(built: Build, named: Mapping[str, int]) -> list[Fact]:
    calls = iter([s for s in built.placed.steps if s.call is not None and not s.prepares])
    found: list[Fact] = []
    for step in built.program.steps[built.program.prepare :]:
        if isinstance(step, Run) and step.phases == (0,):  # what a loop needs ready
            found.append(Fact(step.kernel.name, (), ("pack",), "", Work(0, 0, 0)))
        elif isinstance(step, Loop):
            found.append(_loop_fact(built, step, next(calls), named))
        else:
            found.append(_fact(built, step, calls, named))
    return found


def _loop_fact(built: Build, loop: Loop, step, named: Mapping[str, int]) -> Fact:
    """One line for all steps of a loop together; what rows each task has does not change the sum."""
    sizes = dict(named)
    for inner in loops(loop):  # the work of all strips is that of one that holds them all
        if inner.rows is not None:
            sizes[inner.rows.symbol] = dim.evaluate(inner.rows.total, sizes)
        if inner.strips is not None:
            sizes[inner.strips.symbol] = dim.evaluate(inner.strips.size, named)
    node = step.call.scan.node
    path = f"loop, {len(list(runs(loop.steps)))} kernels" + (f", rows of {loop.rows.per_task}" if loop.rows else "")
    path += " steps apart" if loop.rows and loop.rows.numbered else ""
    layers = (_layer(node.origin.layer),) if node.origin.layer else ()
    clusters = dict(_clusters_within(built, built.placed.bodies[step.number]))
    inner = tuple(_inner_fact(built, run, times, clusters, sizes) for times, run in _rounds(loop, sizes))
    parts = tuple(part for fact in inner for part in fact.parts)
    total = Work(*(sum(getattr(fact.work, f.name) for fact in inner) for f in fields(Work)))
    return Fact("loop", layers, ("scan",), path, total, parts=parts, inner=inner)


def _inner_fact(built: Build, run: Run, times: int, clusters: Mapping[str, Cluster], sizes: Mapping[str, int]) -> Fact:
    """One line for all runs of a kernel in a loop."""
    if run.phases == (0,):
        return Fact(run.kernel.name, (), ("pack",), "", Work(0, 0, 0), parts=((times, Work(0, 0, 0)),))
    form, units = built.forms[run.kernel.name], clusters[run.kernel.name].units
    layers = dict.fromkeys(_layer(u.origin.layer) for u in units if u.origin.layer)
    what = tuple(dict.fromkeys(u.op.name for u in units))
    once = work(form, sizes, _weigh(built.target))
    total = Work(*(times * getattr(once, f.name) for f in fields(Work)))
    path, scale = _path_and_scale(built, form)
    return Fact(run.kernel.name, tuple(layers), what, path, total, scale, ((times, once),))


def _clusters_within(built: Build, placed: Placed) -> Iterator[tuple[str, Cluster]]:
    """The kernels of a loop's body by name, with what they compute; those of loops within too."""
    names = {form: name for name, form in built.forms.items()}
    for step in placed.steps:
        if isinstance(step.call, LoopCall):
            yield from _clusters_within(built, placed.bodies[step.number])
        elif step.call is not None:
            yield names[step.call.form], step.call.cluster


def _rounds(loop: Loop, sizes: Mapping[str, int]) -> Iterator[tuple[int, Run]]:
    """How often each kernel of a loop runs; what is in a loop within runs as often as that says."""
    count = dim.evaluate(loop.rows.total if loop.rows and loop.rows.numbered else loop.count, sizes)
    count = 1 if loop.strips else count
    for step in loop.steps:
        if isinstance(step, Loop):
            yield from ((count * times, run) for times, run in _rounds(step, sizes))
        elif isinstance(step, Run):
            yield count, step


def leaves(loop: Loop) -> Iterator[Loop]:
    """The loop with one of its kernels alone, for each of them, in the order of a fact's `inner`."""
    for step in loop.steps:
        if isinstance(step, Loop):
            yield from (replace(loop, steps=(inner,)) for inner in leaves(step))
        elif isinstance(step, Run):
            yield replace(loop, steps=(step,))


def _fact(built: Build, step, calls, named: Mapping[str, int]) -> Fact:
    if not isinstance(step, Run):
        kind, times = ("copy", 2) if isinstance(step, Copy) else ("fill", 1)
        written = dim.evaluate(step.nbytes, named)
        return Fact(kind, (), (kind,), "", Work(0, 0, times * written, written))
    nodes = _computed(built, next(calls).call.cluster)
    form = built.forms[step.kernel.name]
    layers = dict.fromkeys(_layer(n.origin.layer) for n in nodes if n.origin.layer)
    what = tuple(dict.fromkeys(n.op.name for n in nodes if n.op.kind is not Kind.SHAPE))
    path, scale = _path_and_scale(built, form)
    return Fact(step.kernel.name, tuple(layers), what, path, work(form, named, _weigh(built.target)), scale)


def _path_and_scale(built: Build, form: Form) -> tuple[str, float]:
    if not isinstance(form, Contract):
        return "loops", 1.0
    return _path(form, built.target), max(form.dtype.size_bytes / 4, 1.0)


def _weigh(target: Target) -> Weigh:
    """The weight of an operation in the target's code."""
    from kcompile.codegen.operations import weight  # LLVM, see _object

    return functools.partial(weight, target=target)


@functools.lru_cache(maxsize=4096)
def _path(form: Contract, target) -> str:
    from kcompile.codegen.contract import describe  # LLVM, see _object

    return describe(form, target)


def _computed(built: Build, cluster: Cluster) -> list[Node]:
    """The nodes a kernel computes: its units, and what is computed inside them; producers first."""
    found: dict[Node, None] = {}
    stack = [(unit, False) for unit in reversed(cluster.units)]
    while stack:
        node, inputs_done = stack.pop()
        if inputs_done:
            found.setdefault(node)
            continue
        stack.append((node, True))
        inner = [v.node for v in node.inputs if not v.node.is_source and v.node not in built.fusion.cluster_of]
        stack += [(n, False) for n in inner if n not in found]
    return list(found)


def _layer(origin: str) -> str:
    """`model/dense/grad` -> `dense/grad`: the model's own name tells no two layers apart."""
    _, _, rest = origin.partition("/")
    return origin if rest in ("", "grad") else rest
