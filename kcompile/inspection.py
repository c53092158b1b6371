"""What a person can look at: texts made from a `pipeline.Build`; nothing here changes anything.

stages_text    one line per stage
times_text     where the time of a compilation went: the stages, the slowest kernels
plan_text      every step: its kernel, nodes, layers, places; then the refused fusions
memory_text    the arena over time, one row per buffer
kernel_text    one kernel: nodes, form, and how it is called
why_text       why two layers' nodes are, or are not, one kernel
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from kcompile.codegen.program import Run, runs
from kcompile.errors import UnknownNameError, suggestion
from kcompile.forms.text import form_text
from kcompile.ir import dim
from kcompile.passes.fuse import Cluster
from kcompile.passes.lower import KernelCall, LoopCall
from kcompile.passes.steps import ARENA, Place, Placed, Step

if TYPE_CHECKING:  # pipeline.py prints through this module
    from kcompile.pipeline import Build

PICTURE_COLUMNS = 72
SLOWEST = 15  # kernels named in `times_text`


def stages_text(built: Build) -> str:
    """What each stage left, one line each, with its time."""
    runs = _runs(built)
    facts = {
        "trace": f"{len(built.traced.live_nodes())} nodes",
        "legalise": f"{len(built.graph.live_nodes())} nodes after all passes",
        "fuse": f"{len(built.fusion.clusters)} clusters, {len(built.fusion.refusals)} joins refused",
        "look up": f"{len(runs)} kernel calls of {len(built.kernels)} kernels, "
        f"{len(built.kernels) - built.new} of them in the disk cache",
        "emit": f"{built.new} kernels",
        "LLVM": f"{built.new} kernels",
        "plan": f"{len(built.plan.buffers)} buffers in {built.program.arena_text()}",
        "entry LLVM": f"{sum(map(len, built.objects)):,} bytes of object code for {built.target.cpu}",
    }
    names = list(dict.fromkeys(["trace", *built.times]))
    return "\n".join(f"{n:12s} {1e3 * built.times.get(n, 0):8.1f} ms  {facts.get(n, '')}" for n in names)


def times_text(built: Build, most: int = SLOWEST) -> str:
    """Where the time of a compilation went: stages by time, then the new kernels that took longest.

    LLVM's seconds of a kernel were spent in whichever process compiled it. Helper processes work while this one
    emits and compiles, so the kernels' seconds may add up to more than the stages "emit" and "LLVM" waited.
    """
    total = sum(built.times.values())
    lines = [f"{total:8.3f} s in all"]
    for name, seconds in sorted(built.times.items(), key=lambda item: -item[1]):
        if seconds >= 0.005 * total:
            lines.append(f"{seconds:8.3f} s {seconds / total:5.0%}  {name}")
    kernels = sorted(built.kernel_times.items(), key=lambda item: -(item[1].emit_s + item[1].llvm_s))
    known = len(built.kernels) - len(kernels)
    emitted, compiled = (sum(getattr(t, part) for _, t in kernels) for part in ("emit_s", "llvm_s"))
    lines.append(
        f"{len(kernels)} kernels new, {known} from the disk cache; emitting {emitted:.3f} s, LLVM {compiled:.3f} s"
    )
    if kernels:
        lines.append("  emit ms  LLVM ms  code bytes  kernel")
    for name, t in kernels[:most]:
        lines.append(f"{1e3 * t.emit_s:9.1f}{1e3 * t.llvm_s:9.1f}{t.code_bytes:12,}  {name}")
    if len(kernels) > most:
        rest = kernels[most:]
        emitted, compiled = (1e3 * sum(getattr(t, part) for _, t in rest) for part in ("emit_s", "llvm_s"))
        lines.append(f"{emitted:9.1f}{compiled:9.1f}{sum(t.code_bytes for _, t in rest):12,}  {len(rest)} more")
    return "\n".join(lines)


def plan_text(built: Build) -> str:
    """Every step in order, the arena, and each refused fusion with its reason."""
    lines = [f"program {built.program.name}: {len(built.placed.steps)} steps, arena of {built.program.arena_text()}"]
    kernel_of = {form: name for name, form in built.forms.items()}
    lines += _step_lines(built.placed, kernel_of)
    if built.fusion.refusals:
        lines.append("refused fusions:")
        lines += [f"  {node.label} {node.op.name} into {c}: {why}" for node, c, why in built.fusion.refusals]
    return "\n".join(lines)


def _step_lines(placed: Placed, kernel_of: Mapping, indent: str = "") -> list[str]:
    """A line per step; below a loop those of its body."""
    lines = []
    for step in placed.steps:
        if isinstance(step.call, LoopCall):
            scan, rows = step.call.scan, step.call.rows
            places = ", ".join(f"{name}={_place_text(p)}" for name, p in step.places.items())
            apart = f", {rows.total} rows apart" if rows else ""
            lines.append(f"{indent}  {step.number:3d}  loop of {scan.length} steps{apart} ({places})")
            lines += _step_lines(placed.bodies[step.number], kernel_of, indent + "     ")
        else:
            lines.append(indent + _step_line(step, kernel_of))
    return lines


def _step_line(step: Step, kernel_of: Mapping) -> str:
    if step.call is None:
        copies = [f"{_place_text(t)} = {_place_text(s)} ({n} bytes)" for s, t, n in step.copies]
        fills = [f"{_place_text(t)} = 0 ({n} bytes)" for t, n in step.fills]
        return f"  {step.number:3d}  " + "; ".join(copies + fills or ["nothing left to copy"])
    layers = sorted({u.origin.layer for u in step.call.cluster.units if u.origin.layer})
    buffers = ", ".join(f"{name}={_place_text(p)}" for name, p in step.places.items())
    where = f"  # {', '.join(layers)}" if layers else ""
    return f"  {step.number:3d}  {kernel_of[step.call.form]}({buffers}){where}"


def _place_text(place: Place) -> str:
    offset = "" if place.offset_bytes == 0 else f"+{place.offset_bytes}"
    return f"{'arena:' if place.space == ARENA else ''}{place.name}{offset}"


def memory_text(built: Build, sizes: Mapping[str, int]) -> str:
    """The arena over the steps of a program, for given sizes: one row per buffer, by offset."""
    plan = built.plan
    last = max((b.last for b in plan.buffers), default=0) + 1
    scale = max(1, -(-last // PICTURE_COLUMNS))
    named = plan.named(sizes)
    total = dim.evaluate(plan.arena_bytes, named)
    lines = [f"arena of {total:,} bytes for {dict(sizes)}; one column is {scale} step{'s' * (scale > 1)}"]
    by_offset = sorted(plan.buffers, key=lambda b: (dim.evaluate(plan.offsets[b.name], named), b.first))
    for buffer in by_offset:
        first, end = buffer.first // scale, buffer.last // scale + 1
        bar = "." * first + "#" * (end - first) + "." * (-(-last // scale) - end)
        offset, nbytes = (dim.evaluate(v, named) for v in (plan.offsets[buffer.name], buffer.nbytes))
        lines.append(f"{offset:>12,} {nbytes:>12,}  {bar}  {buffer.name}")
    return "\n".join(lines)


def kernel_text(built: Build, name: str) -> str:
    """One kernel by its name or a part of it: the nodes, the form, the tasks."""
    full = find_kernel(built, name)
    kernel, form = built.kernels[full], built.forms[full]
    lines = [f"kernel {full}"]
    for step in _all_steps(built.placed):
        if isinstance(step.call, KernelCall) and step.call.form is form:
            lines += [f"  step {step.number}:"]
            lines += [f"    {u.label} {u.op.name}: {u.output.type}  # {u.origin}" for u in step.call.cluster.units]
    lines += [f"  {p.function}: {p.tasks} tasks, {p.cost_per_task} operations each" for p in kernel.phases]
    return "\n".join([*lines, form_text(form)])


def find_kernel(built: Build, name: str) -> str:
    """The full name of the one kernel whose name contains `name`; k3 means the kernel of step 3."""
    if name.startswith("k") and name[1:].isdigit():
        kernel_of = {form: kernel for kernel, form in built.forms.items()}
        for step in built.placed.steps:
            if isinstance(step.call, KernelCall) and step.number == int(name[1:]):
                return kernel_of[step.call.form]
    found = [n for n in built.kernels if name in n]
    if not found:
        raise UnknownNameError(f"no kernel is called {name!r}.{suggestion(name, built.kernels)}")
    return found[0]


def _runs(built: Build) -> list[Run]:
    return list(runs(built.program.steps))


def _all_steps(placed: Placed) -> Iterator[Step]:
    for step in placed.steps:
        yield step
        if isinstance(step.call, LoopCall):
            yield from _all_steps(placed.bodies[step.number])


def _layers_in(built: Build, cluster: Cluster) -> set[str]:
    """Names of the layers whose nodes a cluster computes, those inside its units included."""
    found: set[str] = set()
    stack = list(cluster.units)
    seen = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        found |= set(node.origin.layer.split("/"))
        written = built.fusion.cluster_of
        stack += [v.node for v in node.inputs if not v.node.is_source and v.node not in written]
    return found


def why_text(built: Build, first: str, second: str) -> str:
    """Why the nodes of two layers are, or are not, in one kernel."""
    holds = {c: _layers_in(built, c) for c in built.fusion.clusters}

    def clusters(layer: str):
        return {c for c, layers in holds.items() if layer in layers}

    a, b = clusters(first), clusters(second)
    for layer, found in ((first, a), (second, b)):
        if not found:
            raise UnknownNameError(f"no kernel holds a node of layer {layer!r}")
    shared = a & b
    if shared:
        return "\n".join(f"{first} and {second} share {c}" for c in shared)
    reasons = [
        f"{node.label} {node.op.name} ({node.origin.layer}) did not join {c}: {why}"
        for node, c, why in built.fusion.refusals
        if (c in a and built.fusion.cluster_of[node] in b) or (c in b and built.fusion.cluster_of[node] in a)
    ]
    return "\n".join(reasons or [f"{first} and {second} do not read each other's results"])
