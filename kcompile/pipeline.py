"""compile(graph) -> Executable: the ordered list of stages. Read this first.

    trace (keras)            a Graph
      PASSES                 Graph -> Graph, one after the other
      fuse                   clusters of nodes
      lower                  a form per cluster
      place                  an order of steps, a place per value
      kernels                look up, emit: a kernel per form; equal forms once; helpers begin to compile
      plan                   offsets in one arena
      entry                  the code that calls the kernels, emitted and compiled
      LLVM                   object code of the kernels that are left
      link                   Executable

Kernels come from the disk cache where it has their forms; then they are neither emitted nor compiled.

`compile` is in ready.py: it asks the disk cache for the whole program first. `build` stops before linking: export
needs the objects, `inspect` everything in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from kcompile import flags, plugins
from kcompile.assemble import assemble, plan_level
from kcompile.codegen.entry import emit_entry
from kcompile.codegen.kernel import Kernel
from kcompile.codegen.llvm import assembly, compile_module, optimised_ir
from kcompile.codegen.program import CONSTANT, INPUT, KEPT, OUTPUT, RUNS, VARIABLE, Argument, Program
from kcompile.errors import ArgumentError
from kcompile.forms.records import Form
from kcompile.forms.text import form_text
from kcompile.forms.verify import verify as verify_form
from kcompile.inspection import plan_text, times_text
from kcompile.ir.graph import CONSTANT as CONSTANT_ROLE
from kcompile.ir.graph import INPUT as INPUT_ROLE
from kcompile.ir.graph import Graph
from kcompile.ir.types import Type, i64, u8
from kcompile.observe import KernelTimes, Observer
from kcompile.ops.custom import drop_custom
from kcompile.passes.algebra import simplify
from kcompile.passes.aligned import align_sums
from kcompile.passes.blocks import block_rows
from kcompile.passes.bodies import everywhere, has_loops, merge_scans, own_operands
from kcompile.passes.fold import fold_constants
from kcompile.passes.fuse import Fusion, fuse
from kcompile.passes.hoist import hoist
from kcompile.passes.inference import fold_scales
from kcompile.passes.legalise import legalise
from kcompile.passes.loop_layout import lay_out_loops
from kcompile.passes.lower import KernelCall, LoopCall, lower
from kcompile.passes.memory import Plan
from kcompile.passes.padded import store_padded
from kcompile.passes.pieces import join_pads, pack_yields
from kcompile.passes.place import place
from kcompile.passes.prune import prune_scans
from kcompile.passes.results import own_results
from kcompile.passes.steps import Placed, constant_name, output_name
from kcompile.passes.sums import reuse_sums
from kcompile.passes.winograd import PRECISIONS, use_winograd
from kcompile.ready import compile as compile  # its door: looks whether all of this was done before
from kcompile.ready import counters, default_target
from kcompile.runtime import cache
from kcompile.runtime.compare import ComparedExecutable
from kcompile.runtime.garbage import uncollected
from kcompile.runtime.interpreted import InterpretedProgram
from kcompile.runtime.kernels import kernel_key, making
from kcompile.runtime.link import Library
from kcompile.target import Target

OPTIMISED_STEPS = 64  # of an entry: above, its own instructions are a small share of a run


@dataclass(frozen=True)
class Pass:
    """One row of the pipeline; third-party passes join after the row they name."""

    name: str
    run: Callable[..., Graph]
    takes: tuple[str, ...] = ()  # what it must know besides the graph: "target", "precision"


def _smaller_loops(graph: Graph) -> Graph:
    """Loops that hold only what has to run in order; what left them is simplified where it is now.

    A loop in a loop comes first, by `everywhere`: what leaves it may leave the outer one too.
    """
    if not has_loops(graph):
        return graph
    for run in (prune_scans, hoist, prune_scans, fold_constants, simplify, lay_out_loops):
        graph = everywhere(run)(graph)
    return graph


PASSES: tuple[Pass, ...] = (
    Pass("custom", drop_custom),
    Pass("loops", merge_scans),
    Pass("fold", fold_constants),
    Pass("simplify", simplify),
    Pass("hoist", _smaller_loops),
    Pass("pads", join_pads),
    Pass("yields", pack_yields),
    Pass("sums", reuse_sums),
    Pass("scales", fold_scales),
    Pass("winograd", use_winograd, takes=("target", "precision")),
    Pass("refold", fold_constants),
    Pass("blocks", block_rows, takes=("target",)),
    Pass("legalise", legalise),
    Pass("aligned", align_sums),
    Pass("padded", store_padded),
    Pass("own_results", own_results),
    Pass("own_operands", own_operands),
)


@dataclass
class Build:
    """Everything the stages left: from the traced graph to object code."""

    traced: Graph
    graph: Graph
    target: Target
    fusion: Fusion
    calls: list[KernelCall | LoopCall]
    kernels: dict[str, Kernel]  # by name
    forms: dict[str, Form]  # by kernel name
    placed: Placed
    plan: Plan
    program: Program
    entry_ir: str
    constants: dict[str, np.ndarray]
    objects: list[bytes]  # of the kernels, then of the entry
    new: int  # kernels that the disk cache did not have
    times: Mapping[str, float] = field(default_factory=dict)
    kernel_times: Mapping[str, KernelTimes] = field(default_factory=dict)  # of the new ones, by name


def compared(built: Build, library: Library, workers: int) -> ComparedExecutable:
    """Return a program that runs each kernel beside the meaning of its form."""
    return ComparedExecutable(built.program, library, built.constants, workers, built.forms)


def interpreted(graph: Graph) -> InterpretedProgram:
    """Return the same program run by the NumPy references: slow, and the meaning of the native one."""
    return InterpretedProgram(graph)


@uncollected
def build(
    graph: Graph,
    *,
    target: Target | None = None,
    name: str | None = None,
    observer: Observer | None = None,
    precision: str = "default",
) -> Build:
    """Run every stage but linking."""
    target = target or default_target()
    observer = observer or Observer(name or graph.name)
    observer.traced(graph)
    observer.graph("trace", graph)
    traced = graph
    for row in passes(target, precision):
        if row.name not in flags.get("skip"):
            graph = observer.stage(row.name, everywhere(row.run), graph)
            observer.graph(row.name, graph)
    fusion = observer.stage("fuse", fuse, graph)
    calls = observer.stage("lower", lower, fusion)
    shares = not flags.get("compare")  # it copies whole operands, also what lies behind one that begins later
    placed = observer.stage("place", partial(place, shares=shares), graph, calls)
    forms = list(dict.fromkeys(_forms(placed)))
    if observer.verifies:
        for form in forms:
            verify_form(form)
    with making(forms, target, observer) as work:
        level = observer.stage("plan", plan_level, placed, work.kernels)
        arguments = _arguments(graph, placed, level.panels)
        numbers = {_place_name(a): n for n, a in enumerate(arguments)}
        changed = tuple(numbers[a.target.node.name] for a in graph.assignments.values())
        program = assemble(_symbol_name(name or graph.name), arguments, numbers, level, changed)
        entry_ir = observer.stage("entry", emit_entry, program)
        entry = observer.stage("entry LLVM", _entry_object, entry_ir, len(program.steps), target)
        made = work.finish()
    new = sum(m.is_new for m in made.values())
    counters.emitted += new
    counters.kernels += new
    kernels = {m.kernel.name: m.kernel for m in made.values()}
    forms = {m.kernel.name: form for form, m in made.items()}
    objects = [*(m.object_code for m in made.values()), entry]
    built = Build(
        *(traced, graph, target, fusion, calls, kernels, forms, placed, level.plan),
        *(program, entry_ir, _constants(graph), objects, new),
        times=observer.times,
        kernel_times=observer.kernels,
    )
    _report(observer, built)
    return built


def passes(target: Target | None = None, precision: str = "default") -> list[Pass]:
    """The pipeline with third-party passes at their places; each row takes a graph and nothing else.

    A plugin registers, in group "passes", a function with an attribute `after` (a row's name).
    """
    if precision not in PRECISIONS:
        raise ArgumentError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}. Received: {precision!r}")
    options = {"target": target or default_target(), "precision": precision}
    rows: list[Pass] = []
    extra = [(n, plugins.get("passes", n)) for n in plugins.names("passes")]
    for row in PASSES:
        rows.append(replace(row, run=partial(row.run, **{n: options[n] for n in row.takes})) if row.takes else row)
        rows += [Pass(n, run) for n, run in extra if getattr(run, "after", "simplify") == row.name]
    return rows


# kernels ---------------------------------------------------------------------------------------


def _forms(placed: Placed) -> Iterator[Form]:
    """The forms of all steps, those of loops' bodies included."""
    for step in placed.steps:
        if isinstance(step.call, LoopCall):
            yield from _forms(placed.bodies[step.number])
        elif step.call is not None:
            yield step.call.form


def keys_of(built: Build) -> dict[str, str]:
    """The names under which a program's kernels are kept on disk, by the kernels' own."""
    return {name: kernel_key(form, built.target) for name, form in built.forms.items()}


# the program -----------------------------------------------------------------------------------


def _arguments(graph: Graph, placed: Placed, panels: Mapping[str, int]) -> list[Argument]:
    """Inputs, variables, constant arrays, outputs, what is kept: the order of a program's argument table."""
    sources = [v.node for v in graph.sources.values()]
    inputs = [Argument(n.name, n.output.type, INPUT) for n in sources if n.role == INPUT_ROLE]
    variables = [Argument(n.name, n.output.type, VARIABLE) for n in sources if n.role != INPUT_ROLE]
    constants = [Argument(name, node.output.type, CONSTANT) for name, node in _constant_nodes(graph)]
    outputs = [Argument(name, v.type, OUTPUT) for name, v in graph.outputs.items()]
    kept = [Argument(name, v.type, KEPT) for name, v in placed.kept.items()]
    kept += [Argument(label, Type(u8, (nbytes,)), KEPT) for label, nbytes in panels.items()]
    runs = [Argument("runs:", Type(i64, ()), RUNS)] if graph.assignments else []
    return [*inputs, *variables, *constants, *outputs, *kept, *runs]


def _place_name(argument: Argument) -> str:
    return output_name(argument.name) if argument.role == OUTPUT else argument.name


def _constant_nodes(graph: Graph):
    for node in graph.live_nodes():
        if node.role == CONSTANT_ROLE and node.output.type.size != 1:
            yield constant_name(node), node


def _constants(graph: Graph) -> dict[str, np.ndarray]:
    return {name: node.data for name, node in _constant_nodes(graph)}


def _symbol_name(name: str) -> str:
    return "kc_" + "".join(c if c.isalnum() else "_" for c in name)


# objects ---------------------------------------------------------------------------------------


def _entry_object(ir_text: str, steps: int, target: Target) -> bytes:
    """The entry only calls kernels: for a long program LLVM's optimiser costs far more than it saves."""
    opt = 2 if steps <= OPTIMISED_STEPS else 0

    def fresh() -> bytes:
        counters.kernels += 1
        return compile_module(ir_text, target, opt=opt)

    return cache.get_or_compile(cache.key(ir_text, target, opt=opt), fresh)


# looking ---------------------------------------------------------------------------------------


def _report(observer: Observer, built: Build) -> None:
    for kernel_name, form in built.forms.items():
        kernel = built.kernels[kernel_name]  # emits its IR again if it came from the disk cache
        observer.text(4, f"{kernel_name}.form", lambda form=form: form_text(form))
        observer.text(5, f"{kernel_name}.ll", lambda kernel=kernel: optimised_ir(kernel.ir_text, built.target))
        observer.text(6, f"{kernel_name}.s", lambda kernel=kernel: assembly(kernel.ir_text, built.target))
    observer.text(2, "plan.txt", lambda: plan_text(built))
    observer.text(2, "times.txt", lambda: times_text(built))
