"""Where each value lives, and the order of the steps.

In:  kernel calls (lower.py) of a fused graph. Out: steps (kernels, copies, fills) in order, and a
Place for every value: an argument of the program (an input, a parameter, an output), or a piece of
the arena.

What saves copies: a result is written straight into the caller's array; the new value of a
parameter or state is written over the old one when every reader of the old value can run before;
operands of a pack (the gradient arena) are written straight into their piece of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import replace

from kcompile.errors import CompilerBug
from kcompile.ir.dim import DimLike
from kcompile.ir.graph import CONSTANT, Graph, Node, Value
from kcompile.ir.op import Kind
from kcompile.passes.alias import storage
from kcompile.passes.kept import prepared_calls, with_steady
from kcompile.passes.leaving import with_leaving
from kcompile.passes.lower import KernelCall, LoopCall
from kcompile.passes.memory import Buffer
from kcompile.passes.overwrite import in_place, in_place_pairs, loop_writes_over, reordered
from kcompile.passes.shared import begun_later
from kcompile.passes.steps import ARENA, ARGUMENT, Place, Placed, Step, constant_name, kept_name, output_name


def place(
    graph: Graph,
    calls: list[KernelCall | LoopCall],
    keeps: bool = True,
    shares: bool = True,
    over: Mapping[str, str] | None = None,
) -> Placed:
    """Give every value a place and the calls an order.

    Args:
        keeps: False for the body of a loop.
        shares: operands may begin inside a value where that saves kernels, see shared.py.
        over: sources whose memory a result takes, see `loop_writes_over`.
    """
    kept = prepared_calls(graph, calls) if keeps else []
    placed = _Placer(graph, calls).run(kept, over or {})
    if shares:
        _share_kernels([s for s in placed.steps if isinstance(s.call, KernelCall)])
    if keeps:
        others = [s for s in placed.steps if isinstance(s.call, KernelCall) and not s.prepares]
        for step, call in zip(others, with_steady(graph, [s.call for s in others], kept)):
            step.call = call
        rest = [s.call for s in placed.steps if s.call and s not in others]
        for step, call in zip(others, with_leaving(graph, [s.call for s in others], rest)):
            step.call = call
    for step in placed.steps:
        if isinstance(step.call, LoopCall):
            placed.bodies[step.number] = place(step.call.body, step.call.calls, False, shares, step.over)
    return placed


def _share_kernels(steps: list[Step]) -> None:
    for step, (form, later) in zip(steps, begun_later([s.call.form for s in steps])):
        step.call = replace(step.call, form=form)
        types = {b.name: b.type for b in form.buffers}
        for name, elements in later.items():
            step.places[name] = step.places[name].at(elements * types[name].dtype.size_bytes)


class _Placer:
    def __init__(self, graph: Graph, calls: list[KernelCall]):
        self.graph = graph
        self.steps = [Step(n, c) for n, c in enumerate(calls)]
        self.step_of: dict[Node, Step] = {v.node: step for step in self.steps for v in step.call.writes.values()}
        self.packs = [n for n in graph.live_nodes() if not n.is_source and n.op.kind is Kind.PACK]
        self.places: dict[Value, Place] = {}
        self.readers: dict[Value, set[Step]] = {}  # by storage

    def run(self, kept: list[KernelCall], over: Mapping[str, str]) -> Placed:
        for value in self.graph.sources.values():
            self.places[value] = Place(ARGUMENT, value.node.name)
        for node in self.graph.live_nodes():
            if node.is_source and node.role == CONSTANT:
                self.places[node.output] = Place(ARGUMENT, constant_name(node))
        for node in self.packs:
            self.add_pack(node)
        self.connect()
        self.place_kept(kept)
        tail = Step(len(self.steps))
        self.place_assignments(tail)
        self.place_outputs(tail)
        self.place_over(over)
        self.place_packed()
        self.place_rest()
        self.fill_packs()
        self.finish_tail(tail)
        ordered = self.order()
        if tail.copies:
            ordered.append(tail)
        for number, step in enumerate(ordered):
            step.number = number
            self.resolve(step)
        return Placed(self.graph, ordered, self.live_buffers(ordered), kept=self.kept)

    # dependencies ---------------------------------------------------------------------------

    def written(self) -> dict[Value, Step]:
        found = {v: s for s in self.steps if s.call for v in s.call.writes.values()}
        found.update({n.output: self.step_of[n] for n in self.packs})
        return found

    def add_pack(self, node: Node) -> None:
        step = Step(len(self.steps))
        self.steps.append(step)
        self.step_of[node] = step

    def connect(self) -> None:
        for step in self.steps:
            values = step.call.reads.values() if step.call else self.pack_of(step).inputs
            for value in values:
                base = storage(value)[0]
                self.readers.setdefault(base, set()).add(step)
                if base.node in self.step_of:
                    step.after.add(self.step_of[base.node])

    def pack_of(self, step: Step) -> Node:
        return next(n for n in self.packs if self.step_of[n] is step)

    def comes_after(self, step: Step, earlier: Step) -> bool:
        stack, seen = [step], set()
        while stack:
            current = stack.pop()
            if current is earlier:
                return True
            if current not in seen:
                seen.add(current)
                stack += current.after
        return False

    # places ---------------------------------------------------------------------------------

    def place_kept(self, kept: list[KernelCall]) -> None:
        """Give what these kernels make, and others read, memory of its own."""
        for step in self.steps:
            step.prepares = step.call is not None and any(step.call is c for c in kept)
        self.kept: dict[str, Value] = {}
        for step in self.steps:
            for value in step.call.writes.values() if step.prepares else ():
                if any(not reader.prepares for reader in self.readers.get(value, ())):
                    name = kept_name(value)
                    self.kept[name] = value
                    self.places[value] = Place(ARGUMENT, name)

    def place_assignments(self, tail: Step) -> None:
        self.late: list[tuple[Value, Place, DimLike]] = []
        for assignment in self.graph.assignments.values():
            base, offset = storage(assignment.value)
            target = self.places[assignment.target]
            if offset == 0 and base not in self.places and self.may_overwrite(base, assignment.target):
                self.places[base] = target
            else:
                self.late.append((assignment.value, target, assignment.value.type.nbytes))

    def may_overwrite(self, base: Value, target: Value) -> bool:
        """True if the kernel that makes `base` may write over `target`; orders its readers before it."""
        if base.type.size != target.type.size or base.node.op.kind is Kind.PACK:
            return False
        writer = self.step_of[base.node]
        others = [r for r in self.readers.get(target, ()) if r is not writer]
        if any(self.comes_after(r, writer) for r in others):
            return False
        if writer in self.readers.get(target, ()):
            pairs = in_place_pairs(writer, base, target)
            if pairs is None or reordered(writer.facts, {**writer.merged, **pairs}) is None:
                return False
            writer.merged.update(pairs)
        writer.after.update(others)
        return True

    def place_outputs(self, tail: Step) -> None:
        for name, value in self.graph.outputs.items():
            base, offset = storage(value)
            out = Place(ARGUMENT, output_name(name))
            if offset == 0 and base not in self.places and base.type.size == value.type.size:
                self.places[base] = out
            else:
                self.late.append((value, out, value.type.nbytes))

    def place_over(self, over: Mapping[str, str]) -> None:
        """Have results written over the sources that lie in the same memory."""
        for source, name in over.items():
            base, target = storage(self.graph.outputs[name])[0], self.graph.sources[source]
            writer = self.step_of[base.node]
            writer.merged.update(in_place_pairs(writer, base, target))

    def place_packed(self) -> None:
        self.copied: dict[Node, list[tuple[Value, DimLike]]] = {}
        for node in self.packs:
            if node.output not in self.places:
                self.places[node.output] = Place(ARENA, node.label)
            for operand, at in zip(node.inputs, node.attrs["offsets"]):
                base, offset = storage(operand)
                piece = self.places[node.output].at(at * operand.dtype.size_bytes)
                owned = base.node in self.step_of and base.node.op.kind is not Kind.PACK
                if owned and offset == 0 and base not in self.places and base.type.size == operand.type.size:
                    self.places[base] = piece
                else:
                    self.copied.setdefault(node, []).append((operand, at))

    def place_rest(self) -> None:
        """Arena places: over an operand that nobody reads any more, else a buffer of its own."""
        taken = {storage(v)[0] for v, _, _ in self.late}  # operands that must last, or are already written over
        for value, writer in self.written().items():
            if value in self.places:
                continue
            operand = self.dying_operand(value, writer, taken)
            if operand is None:
                self.places[value] = Place(ARENA, _arena_name(value))
            else:
                taken.add(operand)
                self.places[value] = self.places[operand]

    def dying_operand(self, value: Value, writer: Step, taken: set[Value]) -> Value | None:
        """A temporary of the same size and dtype that `writer` reads last, element by element."""
        if writer.call is None:
            return None
        packed = {n.label for n in self.packs}
        for operand in dict.fromkeys(storage(v)[0] for v in writer.call.reads.values()):
            where = self.places.get(operand)
            if where is None or where.space != ARENA or operand in taken or where.name in packed:
                continue
            if operand.dtype is not value.dtype or operand.type.size != value.type.size:
                continue
            others = self.readers[operand] - {writer}
            if any(not self.comes_after(writer, r) for r in others):
                continue
            if isinstance(writer.call, LoopCall):
                names = loop_writes_over(writer, value, operand)
                if names is None:
                    continue
                writer.over.update([names])
                return operand
            pairs = in_place_pairs(writer, value, operand)
            if pairs is not None and reordered(writer.facts, {**writer.merged, **pairs}) is not None:
                writer.merged.update(pairs)
                return operand
        return None

    def fill_packs(self) -> None:
        for node in self.packs:
            step, whole = self.step_of[node], self.places[node.output]
            size = node.output.dtype.size_bytes
            for operand, at in self.copied.get(node, ()):
                step.copies.append((self.place_of(operand), whole.at(at * size), operand.type.nbytes))
            end: DimLike = 0
            for operand, at in sorted(zip(node.inputs, node.attrs["offsets"]), key=lambda pair: pair[1]):
                if at != end:
                    step.fills.append((whole.at(end * size), (at - end) * size))
                end = at + operand.type.size
            if end != node.attrs["size"]:
                step.fills.append((whole.at(end * size), (node.attrs["size"] - end) * size))

    def finish_tail(self, tail: Step) -> None:
        for value, target, nbytes in self.late:
            tail.copies.append((self.place_of(value), target, nbytes))

    def place_of(self, value: Value) -> Place:
        base, offset = storage(value)
        if base not in self.places:
            raise CompilerBug(f"{base!r} has no place")
        return self.places[base].at(offset * value.dtype.size_bytes)

    # order ----------------------------------------------------------------------------------

    def order(self) -> list[Step]:
        """Kahn's algorithm, the earliest traced step first: close to the order the user wrote."""
        waiting = {s: len(s.after) for s in self.steps}
        dependents: dict[Step, list[Step]] = {}
        for step in self.steps:
            for earlier in step.after:
                dependents.setdefault(earlier, []).append(step)
        priority = {s: (not s.prepares, self.traced_position(s)) for s in self.steps}
        ready = [(priority[s], s.number, s) for s in self.steps if not waiting[s]]
        heapq.heapify(ready)
        ordered: list[Step] = []
        while ready:
            step = heapq.heappop(ready)[2]
            ordered.append(step)
            for dependent in dependents.get(step, ()):
                waiting[dependent] -= 1
                if not waiting[dependent]:
                    heapq.heappush(ready, (priority[dependent], dependent.number, dependent))
        if len(ordered) != len(self.steps):
            raise CompilerBug("the steps of a program wait for each other")
        return ordered

    def traced_position(self, step: Step) -> int:
        nodes = step.call.cluster.units if step.call else [self.pack_of(step)]
        return max(int(n.label[1:]) for n in nodes)

    # results --------------------------------------------------------------------------------

    def resolve(self, step: Step) -> None:
        if step.call is None:
            return
        named = {**step.call.reads, **step.call.writes}
        if isinstance(step.call, LoopCall):
            step.places = {name: self.place_of(value) for name, value in named.items()}
            return
        step.places = {b.name: self.place_of(named[b.name]) for b in step.call.form.buffers if b.name in named}
        step.call = in_place(step)
        step.places = {b.name: step.places[b.name] for b in step.call.form.buffers if b.name in step.places}

    def live_buffers(self, ordered: list[Step]) -> list[Buffer]:
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        sizes: dict[str, DimLike] = {}
        for value, place_ in self.places.items():
            if place_.space == ARENA and place_.name == _arena_name(value):
                sizes[place_.name] = value.type.nbytes
        for step in ordered:
            touched = list(step.places.values())
            touched += [p for s, t, _ in step.copies for p in (s, t)] + [t for t, _ in step.fills]
            for place_ in touched:
                if place_.space == ARENA:
                    first.setdefault(place_.name, step.number)
                    last[place_.name] = step.number
        for node in self.packs:  # a pack is alive from its first piece
            step = self.step_of[node]
            place_ = self.places[node.output]
            if place_.space == ARENA:
                first[place_.name] = min(first.get(place_.name, step.number), step.number)
                last[place_.name] = max(last.get(place_.name, step.number), step.number)
        return [Buffer(name, sizes[name], first[name], last[name]) for name in first]


def _arena_name(value: Value) -> str:
    """The name of a value's own arena buffer."""
    return value.node.label if len(value.node.outputs) == 1 else f"{value.node.label}.{value.index}"
