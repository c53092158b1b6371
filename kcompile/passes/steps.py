"""What a program does, one step after the other, and where its values are: the records place.py fills in."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

from kcompile.forms import compose
from kcompile.forms.records import Contract, Form, Store, indices
from kcompile.forms.scalar import Load, loads
from kcompile.ir import dim
from kcompile.ir.dim import DimLike
from kcompile.ir.graph import Graph, Node, Value
from kcompile.passes.lower import OUTPUT_PREFIX, KernelCall, LoopCall
from kcompile.passes.memory import Buffer

ARGUMENT, ARENA = "argument", "arena"


@dataclass(frozen=True)
class Place:
    """Bytes of a program's argument (by name) or of an arena buffer (by name)."""

    space: str
    name: str
    offset_bytes: DimLike = 0

    def at(self, offset_bytes: DimLike) -> Place:
        return replace(self, offset_bytes=self.offset_bytes + offset_bytes)


class Facts:
    """What a form reads and stores, found once: a kernel of many results is asked for each of them."""

    def __init__(self, form: Form):
        self.tail = last_stores(form)
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


def last_stores(form: Form) -> list[Store]:
    """The stores a form ends with: what is left to do once sums are known."""
    statements = list(form.stores if isinstance(form, Contract) else form.body)
    start = len(statements)
    while start and isinstance(statements[start - 1], Store):
        start -= 1
    return statements[start:]


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


def constant_name(node: Node) -> str:
    """The argument name of a constant array."""
    return f"constant:{node.label}"


def kept_name(value: Value) -> str:
    """The argument name of a value that is kept from run to run."""
    return f"kept:{value.node.label}.{value.index}"


def output_name(name: str) -> str:
    """The argument name of a graph output (outputs and sources may share names)."""
    return f"{OUTPUT_PREFIX}{name}"
