"""Placed steps and their kernels -> a Program: arena offsets for everything, pointers for every step.

A loop is a program within the program: its body has a table of arguments and an arena of its own, planned
first, because the arena around it must hold it. What a loop's kernels make of operands that do not change
from step to step - panels of packed weights - lies outside and is made once, before the loop. What they keep
from call to call are arguments of the program, filled by steps that run when a variable has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kcompile import flags
from kcompile.codegen.kernel import Kernel
from kcompile.codegen.program import (
    STEP,
    WORKERS,
    Argument,
    Carried,
    Chosen,
    Copy,
    Counter,
    Fill,
    Loop,
    LoopArgument,
    Pointer,
    Program,
    Rows,
    Run,
    Stacked,
    Strips,
    Whole,
)
from kcompile.forms.records import Form
from kcompile.ir import dim
from kcompile.ir.dim import DimLike
from kcompile.ir.types import Type
from kcompile.passes.lower import LoopCall
from kcompile.passes.memory import Buffer, Plan, check_plan, plan_memory
from kcompile.passes.rows import in_rows, row_bytes
from kcompile.passes.steps import ARENA, Place, Placed, Step, output_name

LIKELY = {WORKERS: 2}
POISON = 0xFF  # repeated, a NaN in every float dtype
PREPARED = "prepared:"  # + a step's number: what its kernel makes of operands that do not change
PANELS = "panels:"  # + a step's number: the same, kept from call to call


@dataclass
class Level:
    """The steps of a program or of a loop's body, planned."""

    placed: Placed
    kernels: Mapping[Form, Kernel]
    plan: Plan
    workspaces: dict[int, list[str]]  # step -> labels of its kernel's workspaces, in the order of its pointers
    bodies: dict[int, Level] = field(default_factory=dict)  # of loops, by step
    prepared: dict[int, Kernel] = field(default_factory=dict)  # steps whose first phase runs before the loop
    panels: dict[str, int] = field(default_factory=dict)  # bytes of what is kept from call to call, by label
    packing: list[Step] = field(default_factory=list)  # whose first phase fills them

    def kernel(self, step: Step) -> Kernel:
        return self.kernels[step.call.form]


def plan_level(placed: Placed, kernels: Mapping[Form, Kernel], loop: LoopCall | None = None) -> Level:
    """Plan the arena of a program, or of the body of `loop`; scratch memory of kernels and loops included."""
    workers = dim.symbol(WORKERS) if loop is None or loop.rows is None else 1
    last = max(len(placed.steps) - 1, 0)
    buffers = list(placed.buffers)
    level = Level(placed, kernels, None, {})
    if loop is not None:
        buffers.append(Buffer("step", 4, 0, last))
        for name, value in _carries(loop, placed):
            buffers += [Buffer(f"{name}:{n}", value.type.nbytes, 0, last) for n in range(2)]
    for step in placed.steps:
        if isinstance(step.call, LoopCall):
            body = level.bodies[step.number] = plan_level(placed.bodies[step.number], kernels, step.call)
            copies = workers if step.call.rows else 1
            buffers.append(
                Buffer(f"loop:{step.number}", body_bytes(body, step.call) * copies, step.number, step.number)
            )
            for number, kernel in body.prepared.items():
                label = f"{PREPARED}{step.number}.{number}"
                nbytes = kernel.kept_workspace_bytes or kernel.shared_workspace_bytes
                if step.call.scan.strips:
                    nbytes = step.call.scan.strips.full(nbytes)
                buffers.append(Buffer(label, nbytes, step.number, step.number))
        elif step.call is not None:
            buffers += _workspaces(level, step, workers, loop)
    if loop is not None and loop.scan.strips:  # where things lie is the same in the last strip
        buffers = [replace(b, nbytes=loop.scan.strips.full(b.nbytes)) for b in buffers]
    level.plan = plan_memory(buffers, LIKELY, closed=loop is not None)  # the arena around a loop has to hold it
    if flags.get("verify"):
        check_plan(level.plan)
    return level


def _workspaces(level: Level, step: Step, workers: DimLike, loop: LoopCall | None) -> list[Buffer]:
    kernel = level.kernel(step)
    per_worker = kernel.workspace_bytes_per_worker * workers if kernel.has_workspace else 0
    found = []
    for what, nbytes in (("own", per_worker), ("shared", kernel.shared_workspace_bytes)):
        if nbytes == 0:
            continue
        if (
            what == "shared"
            and not kernel.kept_workspace_bytes
            and loop is not None
            and _is_prepared(kernel, step, loop)
        ):
            level.prepared[step.number] = kernel
            level.workspaces.setdefault(step.number, []).append(f"{PREPARED}{step.number}")
            continue
        label = f"{what}:{step.number}"
        level.workspaces.setdefault(step.number, []).append(label)
        found.append(Buffer(label, nbytes, step.number, step.number))
    if kernel.kept_workspace_bytes and loop is not None:  # kept from step to step
        level.prepared[step.number] = kernel
        level.workspaces.setdefault(step.number, []).append(f"{PREPARED}{step.number}")
    elif kernel.kept_workspace_bytes:
        level.workspaces.setdefault(step.number, []).append(_panels(level, kernel, step))
    return found


def _panels(level: Level, kernel: Kernel, step: Step) -> str:
    """The label of the kernel's kept workspace; steps that make the same of the same share it."""
    for other in level.packing:
        if level.kernel(other) is kernel and _packed_places(kernel, other) == _packed_places(kernel, step):
            return f"{PANELS}{other.number}"
    label = f"{PANELS}{step.number}"
    level.panels[label] = kernel.kept_workspace_bytes
    level.packing.append(step)
    return label


def _packed_places(kernel: Kernel, step: Step) -> list[Place]:
    places = list(step.places.values())
    return [places[n] for n in kernel.phases[0].prepares]


def _is_prepared(kernel: Kernel, step: Step, loop: LoopCall) -> bool:
    """True if the kernel's first phase reads only what is the same in every step and every task."""
    prepares = kernel.phases[0].prepares
    if prepares is None:
        return False
    whole = {v.node.name for v in loop.scan.inside.whole} - (loop.rows.sources if loop.rows else frozenset())
    places = list(step.places.values())
    return all(places[n].space != ARENA and places[n].name in whole for n in prepares)


def _carries(loop: LoopCall, placed: Placed):
    """(name, the body's source) of each carry."""
    names = [v.node.name for v in loop.scan.inside.carries]
    return [(name, placed.graph.sources[name]) for name in names]


def body_bytes(body: Level, loop: LoopCall) -> DimLike:
    """Bytes of arena one task of a loop takes."""
    return _of_task(body.plan.arena_bytes, loop)


def _of_task(size: DimLike, loop: LoopCall) -> DimLike:
    if not loop.rows:
        return size
    worker = dim.symbol(WORKERS)
    alone = dim.substitute(size, lambda atom: 1 if dim.of(atom) == worker else None)  # one thread runs all of a task
    return in_rows(alone, loop.rows.symbol, loop.rows.per_task)


# the program -----------------------------------------------------------------------------------


def assemble(
    name: str, arguments: list[Argument], number: Mapping[str, int], level: Level, changed: tuple[int, ...]
) -> Program:
    """Return the program.

    Args: number: the position in `arguments` of each place that is one; changed: those a run changes.
    """
    symbols = set().union(*(dim.symbols(s) for a in arguments for s in a.type.shape)) if arguments else set()
    first = [s for s in level.placed.steps if s.prepares]
    prepare = [*_steps(level, number, first), *(_packs(level, step, number) for step in level.packing)]
    steps = _steps(level, number, level.placed.steps[len(first) :])
    return Program(
        *(name, tuple(arguments), (*sorted(symbols), WORKERS), (*prepare, *steps), level.plan.arena_bytes),
        *(len(prepare), changed, level.plan.rules),
    )


def _pointer(where: Place, level: Level, number: Mapping[str, int]) -> Pointer:
    if where.space == ARENA:
        return Pointer(None, level.plan.offsets[where.name] + where.offset_bytes)
    return Pointer(number[where.name], where.offset_bytes)


def _packs(level: Level, step: Step, number: Mapping[str, int]) -> Run:
    """The first phase of a step's kernel, which fills what the kernel keeps."""
    kernel, unread = level.kernel(step), Pointer(None)
    places = enumerate(step.places.values())
    pointers = [_pointer(p, level, number) if n in kernel.phases[0].prepares else unread for n, p in places]
    pointers += [Pointer(number[w]) if w.startswith(PANELS) else unread for w in level.workspaces[step.number]]
    return Run(kernel, tuple(pointers), (0,))


def _steps(level: Level, number: Mapping[str, int], placed: list[Step]) -> list[Run | Copy | Fill | Loop]:
    offsets = level.plan.offsets
    steps: list[Run | Copy | Fill | Loop] = []
    for step in placed:
        steps += [Fill(_pointer(target, level, number), nbytes) for target, nbytes in step.fills]
        steps += [Copy(_pointer(s, level, number), _pointer(t, level, number), nbytes) for s, t, nbytes in step.copies]
        if isinstance(step.call, LoopCall):
            steps += _loop(level, step, number)
        elif step.call is not None:
            pointers = [_pointer(p, level, number) for p in step.places.values()]
            for label in level.workspaces.get(step.number, ()):
                outside = label.startswith((PREPARED, PANELS))
                pointers.append(Pointer(number[label]) if outside else Pointer(None, offsets[label]))
            kernel = level.kernel(step)
            is_prepared = step.number in level.prepared or kernel.kept_workspace_bytes
            phases = tuple(range(1, len(kernel.phases))) if is_prepared else None
            steps.append(Run(kernel, tuple(pointers), phases))
        if flags.get("poison"):
            dead = [b for b in level.plan.buffers if b.last == step.number]
            steps += [Fill(Pointer(None, offsets[b.name]), b.nbytes, POISON) for b in dead if _is_temporary(b.name)]
    return steps


def _is_temporary(name: str) -> bool:
    """False for what a loop keeps from step to step."""
    return name != "step" and name[:1] != "c"


class _Arguments:
    """What a loop is given, and where each name stands in its table."""

    def __init__(self) -> None:
        self.list: list[LoopArgument] = []
        self.table: dict[str, int] = {}

    def enter(self, argument: LoopArgument, *names: str) -> None:
        for name in names:
            self.table[name] = len(self.table)
        self.list.append(argument)


def _loop(level: Level, step: Step, number: Mapping[str, int]) -> list[Run | Loop]:
    """The loop of a step, after the kernels' phases that need to run only once."""
    call, body = step.call, level.bodies[step.number]
    places = {name: _pointer(p, level, number) for name, p in step.places.items()}
    apart = call.rows is not None and call.rows.numbered  # a task is a step: its rows of operands are its own
    arguments = _Arguments()
    _enter_carries(arguments, call, body, places)
    _enter_rows(arguments, call, places, apart)
    before = _enter_panels(arguments, level, step, places)
    nested = Loop(
        1 if apart else call.scan.length,
        call.scan.reverse,
        tuple(arguments.list),
        tuple(_steps(body, arguments.table, body.placed.steps)),
        Pointer(None, level.plan.offsets[f"loop:{step.number}"]),
        body_bytes(body, call),
        Rows(call.rows.symbol, call.rows.total, call.rows.per_task, apart) if call.rows else None,
        call.scan.guarded,
        strips=Strips(*call.scan.strips) if call.scan.strips else None,
    )
    return [*before, nested]


def _bytes_of_row(call: LoopCall, name: str, type_: Type) -> DimLike:
    """How far apart rows are that tasks share, 0 for what all tasks read whole."""
    with_rows = call.rows.sources if call.rows else frozenset()
    return row_bytes(type_.shape, type_.dtype.size_bytes) if name in with_rows else 0


def _enter_carries(arguments: _Arguments, call: LoopCall, body: Level, places: Mapping[str, Pointer]) -> None:
    arguments.enter(Counter(body.plan.offsets["step"]), "step")
    for name, source in _carries(call, body.placed):
        own = tuple(body.plan.offsets[f"{name}:{n}"] for n in range(2))
        last = output_name(f"c{len(arguments.list) - 1}")
        row = _bytes_of_row(call, name, source.type)
        # the table holds both places side by side
        arguments.enter(Carried(places[name], places[last], own, source.type.nbytes, row), name, last)


def _enter_rows(arguments: _Arguments, call: LoopCall, places: Mapping[str, Pointer], apart: bool) -> None:
    """Operands with a row for each step, those without, and what the steps yield."""
    inside, strips, nest = call.scan.inside, call.scan.strips, call.scan.nest

    def bytes_of_step(type_: Type) -> DimLike:
        return strips.full(type_.nbytes) if strips else type_.nbytes

    for n, value in enumerate(inside.rows):
        name, row = value.node.name, bytes_of_step(value.type)
        if nest is not None and not nest.is_whole(n):
            arguments.enter(Chosen(places[name], nest.row(n, dim.symbol(STEP)) * row), name)
        elif apart:
            arguments.enter(Whole(places[name], row), name)
        else:
            arguments.enter(Stacked(places[name], row, _bytes_of_row(call, name, value.type)), name)
    for value in inside.whole:
        name = value.node.name
        arguments.enter(Whole(places[name], _bytes_of_row(call, name, value.type)), name)
    for n, value in enumerate(inside.yields):
        name, row = output_name(f"y{n}"), bytes_of_step(value.type)
        if apart:
            arguments.enter(Whole(places[name], row), name)
        else:
            shared = row_bytes(value.shape, value.dtype.size_bytes) if call.rows else 0
            arguments.enter(Stacked(places[name], row, shared), name)


def _enter_panels(arguments: _Arguments, level: Level, step: Step, places: Mapping[str, Pointer]) -> list[Run | Loop]:
    """Workspaces that kernels of the body find ready; returns the phases that make them so."""
    body = level.bodies[step.number]
    before: list[Run | Loop] = []
    for inner, kernel in body.prepared.items():
        panels = Pointer(None, level.plan.offsets[f"{PREPARED}{step.number}.{inner}"])
        arguments.enter(Whole(panels), f"{PREPARED}{inner}")
        inner_step = next(s for s in body.placed.steps if s.number == inner)
        labels = [label.startswith(PREPARED) for label in body.workspaces[inner]]
        unread = Pointer(None)
        pointers = [
            _moved(places[p.name], p.offset_bytes) if n in kernel.phases[0].prepares else unread
            for n, p in enumerate(inner_step.places.values())
        ]
        before.append(Run(kernel, (*pointers, *(panels if made else unread for made in labels)), (0,)))
    return before


def _moved(pointer: Pointer, offset_bytes: DimLike) -> Pointer:
    return replace(pointer, offset_bytes=pointer.offset_bytes + offset_bytes)
