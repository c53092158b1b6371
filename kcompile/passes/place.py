"""Where each value lives, and the order of the steps.

In:  kernel calls (lower.py) of a fused graph. Out: steps (kernels, copies, fills) in order, and a
Place for every value: an argument of the program (an input, a parameter, an output), or a piece of
the arena.

What saves copies: a result is written straight into the caller's array; the new value of a
parameter or state is written over the old one when every reader of the old value can run before;
operands of a pack (the gradient arena) are written straight into their piece of it.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from kcompile.errors import CompilerBug
from kcompile.forms import compose
from kcompile.forms.records import INOUT, Contract, Form, Nest, Store, indices
from kcompile.forms.scalar import Expr, Load, loads, rewrite
from kcompile.forms.scalar import load as load_expr
from kcompile.ir import dim
from kcompile.ir.dim import DimLike
from kcompile.ir.graph import CONSTANT, Graph, Node, Value, copy_node
from kcompile.ir.op import OPS, Kind
from kcompile.passes.alias import storage
from kcompile.passes.kept import prepared_calls, with_steady
from kcompile.passes.lower import OUTPUT_PREFIX, KernelCall, LoopCall
from kcompile.passes.memory import Buffer
from kcompile.passes.shared import begun_later

ARGUMENT, ARENA = "argument", "arena"


@dataclass(frozen=True)
class Place:
    """Bytes of a program's argument (by name) or of an arena buffer (by name)."""

    space: str
    name: str
    offset_bytes: DimLike = 0

    def at(self, offset_bytes: DimLike) -> Place:
        return replace(self, offset_bytes=self.offset_bytes + offset_bytes)


@dataclass(eq=False)
class Step:
    """One thing a program does. `call` runs a kernel; else `copies` and `fills` run."""

    number: int
    call: KernelCall | LoopCall | None = None
    copies: list[tuple[Place, Place, DimLike]] = field(default_factory=list)  # source, target, bytes
    fills: list[tuple[Place, DimLike]] = field(default_factory=list)  # zeros: target, bytes
    places: dict[str, Place] = field(default_factory=dict)  # a kernel's buffer name -> where
    after: set[Step] = field(default_factory=set)
    merged: dict[str, str] = field(default_factory=dict)  # input buffer -> the output buffer that overwrites it
    over: dict[str, str] = field(default_factory=dict)  # of a loop: stacked operand -> the yield that overwrites it
    prepares: bool = False  # its results may be kept from run to run

    @property
    def name(self) -> str:
        return self.call.name if self.call else "copy"

    @functools.cached_property
    def facts(self) -> Facts:
        """What the kernel's form reads and stores, before anything is merged."""
        return Facts(self.call.form)


@dataclass
class Placed:
    """Ordered steps and the arena buffers they use (sizes and live ranges, ready to plan).

    bodies: the same for the body of each loop, by its step's number.
    kept: what is kept from run to run, by argument name; the steps that make it come first, see kept.py.
    """

    graph: Graph
    steps: list[Step]
    buffers: list[Buffer]
    bodies: dict[int, Placed] = field(default_factory=dict)
    kept: dict[str, Value] = field(default_factory=dict)


def own_results(graph: Graph) -> Graph:
    """Give every result storage of its own to be written to.

    Before: a result may be a source, a constant, a view of one, a piece of a larger value, or the same value as
            another result.
    After:  each is a value that some kernel computes, or all of one under another shape.
    """
    copied = OPS["cast"]

    def needs_copy(value: Value) -> bool:
        base = storage(value)[0]
        return base.node.is_source or base.type.size != value.type.size

    if not any(needs_copy(v) for v in graph.results):
        return graph
    fresh = Graph(graph.name)
    mapped: dict[Value, Value] = {}
    for node in graph.live_nodes():
        with fresh.origin(node.origin.layer, node.origin.line):
            made = copy_node(fresh, node, tuple(mapped[v] for v in node.inputs))
        mapped.update(zip(node.outputs, made if isinstance(made, tuple) else (made,)))

    def owned(value: Value) -> Value:
        moved = mapped[value]
        return copied(moved, dtype=moved.dtype.name) if needs_copy(value) else moved

    for name, value in graph.outputs.items():
        fresh.output(name, owned(value))
    for assignment in graph.assignments.values():
        fresh.assign(mapped[assignment.target], owned(assignment.value))
    return fresh


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
        over: sources whose memory a result takes, see `_loop_writes_over`.
    """
    kept = prepared_calls(graph, calls) if keeps else []
    placed = _Placer(graph, calls).run(kept, over or {})
    if shares:
        _share_kernels([s for s in placed.steps if isinstance(s.call, KernelCall)])
    if keeps:
        others = [s for s in placed.steps if isinstance(s.call, KernelCall) and not s.prepares]
        for step, call in zip(others, with_steady(graph, [s.call for s in others], kept)):
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
            pairs = _in_place_pairs(writer, base, target)
            if pairs is None or _reordered(writer.facts, {**writer.merged, **pairs}) is None:
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
            writer.merged.update(_in_place_pairs(writer, base, target))

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
                names = _loop_writes_over(writer, value, operand)
                if names is None:
                    continue
                writer.over.update([names])
                return operand
            pairs = _in_place_pairs(writer, value, operand)
            if pairs is not None and _reordered(writer.facts, {**writer.merged, **pairs}) is not None:
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
        step.call = _in_place(step)
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


def constant_name(node: Node) -> str:
    """The argument name of a constant array."""
    return f"constant:{node.label}"


def kept_name(value: Value) -> str:
    """The argument name of a value that is kept from run to run."""
    return f"kept:{value.node.label}.{value.index}"


def output_name(name: str) -> str:
    """The argument name of a graph output (outputs and sources may share names)."""
    return f"{OUTPUT_PREFIX}{name}"


# writing over an input -------------------------------------------------------------------------


class Facts:
    """What a form reads and stores, found once: a kernel of many results is asked for each of them."""

    def __init__(self, form: Form):
        self.tail = _tail(form)
        self.reads = {id(store): {node.buffer for node in loads(store.value)} for store in self.tail}
        self.loads: dict[str, dict[int, Load]] = {}  # by buffer, each once
        for node in loads(*compose.expressions(form)):
            self.loads.setdefault(node.buffer, {})[id(node)] = node
        self.stores: dict[str, int] = {}  # how many by buffer
        for statement in compose.statements(form):
            self.stores[statement.buffer] = self.stores.get(statement.buffer, 0) + 1
        axes = indices(form.out_axes if isinstance(form, Contract) else form.outer)
        self.axes = {a for i in axes for a in dim.atoms(i)}
        self.shapes = {b.name: b.type.shape for b in form.buffers}


def _in_place_pairs(step: Step, base: Value, target: Value) -> dict[str, str] | None:
    """Input buffers that hold `target`, each with the output buffer of its new value.

    None unless every point of the kernel loads the old value only at the very element it stores.
    """
    call = step.call
    if isinstance(call, LoopCall):
        return None
    facts = step.facts
    (out,) = [n for n, v in call.writes.items() if v is base]
    names = [n for n, v in call.reads.items() if storage(v)[0] is target]
    if any(call.reads[n].type.size != target.type.size for n in names):
        return None  # a view of a part
    stores = [s for s in facts.tail if s.buffer == out]
    if not stores or facts.stores[out] != len(stores):
        return None
    if len(stores) > 1 and (
        isinstance(call.form, Contract) or any(facts.shapes[n] != facts.shapes[out] for n in names)
    ):
        return None
    if any(facts.axes - {a for i in s.index for a in dim.atoms(i)} for s in stores):
        return None  # several points store one element
    own = {_address(s.index, facts.shapes[out]) for s in stores}  # of a point: no other stores there
    found = [node for name in names for node in facts.loads.get(name, {}).values()]
    if any(_address(node.index, facts.shapes[node.buffer]) not in own for node in found):
        return None
    return dict.fromkeys(names, out)


def _loop_writes_over(loop: Step, value: Value, target: Value) -> tuple[str, str] | None:
    """(stacked operand, yield) if each step may write its row of `value` over the row of `target` it has read.

    The kernel that makes the row must be the only one that reads the old one, and read it in place, whatever else
    it writes over rows.
    """
    call = loop.call
    scan = call.scan
    if scan.strips or scan.guarded:
        return None
    rows = {v.node.name for v in scan.inside.rows}
    names = [n for n, v in call.reads.items() if storage(v)[0] is target]
    if len(names) != 1 or names[0] not in rows or call.reads[names[0]].shape != value.shape:
        return None
    (result,) = [n.removeprefix(OUTPUT_PREFIX) for n, v in call.writes.items() if v is value]
    made, source = call.body.outputs[result], call.body.sources[names[0]]
    base, offset = storage(made)
    if not result.startswith("y") or offset != 0 or base.type.size != made.type.size or base.node.is_source:
        return None
    if [storage(v)[0] for v in call.body.outputs.values()].count(base) != 1:
        return None  # it is written elsewhere and copied
    readers = [c for c in call.calls if any(storage(v)[0] is source for v in c.reads.values())]
    if len(readers) != 1 or isinstance(readers[0], LoopCall) or base not in readers[0].writes.values():
        return None
    step = Step(0, readers[0])
    pairs = _in_place_pairs(step, base, source)
    if pairs is None:
        return None
    for other, name in loop.over.items():
        made = storage(call.body.outputs[name])[0]
        if made in step.call.writes.values():
            pairs |= _in_place_pairs(step, made, call.body.sources[other])
    return None if _reordered(step.facts, pairs) is None else (names[0], result)


def _address(index, shape) -> DimLike:
    address: DimLike = 0
    for i, size in zip(index, shape, strict=True):
        address = address * size + i
    return address


def _tail(form: Form) -> list[Store]:
    """The stores a form ends with: what is left to do once sums are known."""
    statements = list(form.stores if isinstance(form, Contract) else form.body)
    start = len(statements)
    while start and isinstance(statements[start - 1], Store):
        start -= 1
    return statements[start:]


def _reordered(facts: Facts, merged: dict[str, str]) -> list[Store] | None:
    """The form's last stores, each old value read by all before it is overwritten; None if that is a circle.

    Stores to one buffer stay together: their values are all known before the first is written.
    """
    waiting = list(facts.tail)
    ordered: list[Store] = []
    while waiting:
        for store in waiting:
            together = [s for s in waiting if s.buffer == store.buffer]
            others = [s for s in waiting if s.buffer != store.buffer]
            old = {n for n, out in merged.items() if out == store.buffer}
            read_later = any(not old.isdisjoint(facts.reads[id(s)]) for s in others)
            read = set().union(*(facts.reads[id(s)] for s in together))
            if not read_later and not any(s.buffer in read and s.buffer not in merged.values() for s in others):
                ordered += together
                waiting = others
                break
        else:
            return None
    return ordered


def _in_place(step: Step) -> KernelCall:
    """Merge each input buffer that is overwritten with its output buffer into one INOUT buffer."""
    call, form, merged = step.call, step.call.form, step.merged
    if not merged:
        return call
    types = {b.name: b.type for b in form.buffers}
    places = {s.buffer: s.index for s in _tail(form)}

    def on_load(node: Load) -> Expr | None:
        if node.buffer not in merged:
            return None
        out = merged[node.buffer]
        index = node.index if types[out].shape == types[node.buffer].shape else places[out]
        return load_expr(out, index, node.dtype)

    memo: dict = {}

    def moved(statement):
        if isinstance(statement, Nest):
            return Nest(statement.axes, tuple(moved(s) for s in statement.body))
        return replace(statement, value=rewrite(statement.value, on_load=on_load, memo=memo))

    tail = _reordered(step.facts, merged)
    buffers = tuple(
        replace(b, role=INOUT) if b.name in merged.values() else b for b in form.buffers if b.name not in merged
    )
    if isinstance(form, Contract):
        sides = [rewrite(e, on_load=on_load, memo=memo) for e in (form.lhs, form.rhs)]
        body = (*form.stores[: len(form.stores) - len(tail)], *tail)
        form = replace(form, buffers=buffers, lhs=sides[0], rhs=sides[1], stores=tuple(moved(s) for s in body))
    else:
        body = (*form.body[: len(form.body) - len(tail)], *tail)
        form = replace(form, buffers=buffers, body=tuple(moved(s) for s in body))
    return replace(call, form=form, reads={n: v for n, v in call.reads.items() if n not in merged})
