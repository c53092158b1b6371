"""A loop whose rows do not depend on each other: every thread runs all steps for some of them.

Rows are dimension 0 of the carries. If no node of the body mixes rows, the body is rebuilt for a number of
rows of its own (a named size), and a task is a loop over `ROWS_PER_TASK` of them: no thread waits for
another within a step, and a task's carries and temporaries stay in its core's cache.

That number depends on nothing, so results do not depend on the number of threads.

A loop that carries nothing is simpler still: its steps are the rows, and a task is one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kcompile.ir import dim
from kcompile.ir.dim import DimLike
from kcompile.ir.graph import CONSTANT, Graph, Node, Value, copy_node
from kcompile.ir.op import Kind
from kcompile.ir.types import Type
from kcompile.ops.control import Scan
from kcompile.ops.spec import letters_of, parse_spec, plain_letter

STEPS_APART = 4  # fewer steps leave threads without work: then all of them share each step's kernels
ROWS_PER_TASK = 16  # two register tiles: weights are read from the second-level cache once for all of them


@dataclass(frozen=True, eq=False)
class SplitRows:
    """The body for `symbol` rows, of which there are `total`; which operands and results have them.

    numbered: the rows are the steps, and the body is that of one.
    """

    body: Graph
    symbol: str
    total: DimLike
    sources: frozenset[str]  # names of sources with rows
    outputs: frozenset[str]  # labels of outputs with rows
    numbered: bool = False

    @property
    def per_task(self) -> int:
        """How many rows a task has."""
        return 1 if self.numbered else ROWS_PER_TASK


class _Mixed(Exception):
    """Rows depend on each other, or this module cannot tell."""


def split_rows(scan: Scan) -> SplitRows | None:
    """Return the body for independent rows, or None if they are not."""
    inside = scan.inside
    if not inside.carries:
        few = dim.is_static(scan.length) and scan.length < STEPS_APART
        return None if few else SplitRows(scan.body.graph, "rows_of_1", scan.length, frozenset(), frozenset(), True)
    if scan.strips or scan.nest:  # they are rows already
        return None
    first = next((v.shape[0] for v in inside.carries if v.rank), None)
    if first is None or any(not v.rank or v.shape[0] != first for v in inside.carries) or first == 1:
        return None
    symbol = _fresh_name(scan.body.graph)
    chosen = set(inside.carries) | {v for v in inside.rows if v.rank and v.shape[0] == first}
    optional = {v for v in inside.whole if v.rank and v.shape[0] == first}
    while True:  # a whole value has rows only if something reads it along them
        try:
            return _Split(scan, first, symbol, chosen).run()
        except _NeedsRows as found:
            if found.value not in optional or found.value in chosen:
                return None
            chosen.add(found.value)
        except _Mixed:
            return None


def _fresh_name(graph: Graph) -> str:
    used = {s for n in graph.nodes for v in n.outputs for d in v.shape for s in dim.symbols(d)}
    names = (f"rows{n or ''}_of_{ROWS_PER_TASK}" for n in range(len(used) + 1))  # the planner of tiles reads it
    return next(name for name in names if name not in used)


class _NeedsRows(Exception):
    """A source without rows that is read along them."""

    def __init__(self, value: Value):
        super().__init__(str(value))
        self.value = value


class _Split:
    def __init__(self, scan: Scan, size: DimLike, symbol: str, chosen: set[Value]):
        self.scan, self.size, self.symbol = scan, size, dim.symbol(symbol)
        self.name = symbol
        self.has_rows: set[Value] = set(chosen)
        self.new = Graph("body")
        self.mapped: dict[Value, Value] = {}

    def run(self) -> SplitRows:
        old = self.scan.body.graph
        for node in old.live_nodes():
            if node.is_source and node.role != CONSTANT:
                type_ = node.output.type
                if node.output in self.has_rows:
                    type_ = Type(type_.dtype, (self.symbol, *type_.shape[1:]))
                self.mapped[node.output] = self.new.source(node.role, node.name, type_)
            else:
                self.visit(node)
        for label, value in old.outputs.items():
            if value not in self.has_rows:
                self.require(value)  # every task would write it
            self.new.output(label, self.mapped[value])
        named = frozenset(v.node.name for v in self.has_rows if v.node.is_source)
        return SplitRows(self.new, self.name, self.size, named, frozenset(old.outputs))

    def visit(self, node: Node) -> None:
        inputs = tuple(self.mapped[v] for v in node.inputs)
        attrs = None
        if any(v in self.has_rows for v in node.inputs):
            attrs = self.row_attrs(node)
            self.has_rows.update(node.outputs)
        elif self.repeats_to_rows(node):
            attrs = {**node.attrs, "shape": (self.symbol, *node.attrs["shape"][1:])}
            self.has_rows.update(node.outputs)
        with self.new.origin(node.origin.layer, node.origin.line):
            made = copy_node(self.new, node, inputs) if attrs is None else self.new.emit(node.op, inputs, attrs)
        for value, fresh in zip(node.outputs, made if isinstance(made, tuple) else (made,)):
            expected = (self.symbol, *value.shape[1:]) if value in self.has_rows else value.shape
            if fresh.shape != tuple(expected):
                raise _Mixed
            self.mapped[value] = fresh

    def repeats_to_rows(self, node: Node) -> bool:
        """True for a broadcast that makes rows of one."""
        if node.is_source or node.op.name != "broadcast_to" or node.output.shape[:1] != (self.size,):
            return False
        operand = node.inputs[0]
        return operand.rank < node.output.rank or operand.shape[0] == 1

    def require(self, value: Value) -> None:
        """Have a value without rows get them, from the source it is: raises."""
        if value.node.is_source and value.node.role != CONSTANT:
            raise _NeedsRows(value)
        if not value.node.is_source:
            for operand in value.node.inputs:
                if operand.rank and operand.shape[0] == self.size:
                    self.require(operand)
        raise _Mixed

    def row_attrs(self, node: Node) -> dict:
        """The attributes for another number of rows. Raises: _Mixed if rows do not stay rows."""
        if node.op.kind is Kind.ELEMENTWISE:
            for value in node.inputs:
                if value.rank == node.output.rank and value.shape[0] != 1 and value not in self.has_rows:
                    self.require(value)
                if value in self.has_rows and value.rank != node.output.rank:
                    raise _Mixed
            return dict(node.attrs)
        if node.op.kind is Kind.CONTRACT:
            return self.contract_attrs(node)
        rule = _RULES.get(node.op.name)
        if rule is None:
            raise _Mixed
        for value in node.inputs:
            if value not in self.has_rows and node.op.name == "concat":
                self.require(value)
        return rule(node, self)

    def contract_attrs(self, node: Node) -> dict:
        spec = parse_spec(node.attrs["spec"])
        if not spec.out:
            raise _Mixed
        letter = spec.out[0]
        for value, side in zip(node.inputs, spec.sides):
            elsewhere = side[1:] if value in self.has_rows else side
            if value in self.has_rows and plain_letter(side[0]) != letter:
                raise _Mixed
            if letter in letters_of(elsewhere):
                if value not in self.has_rows and side and plain_letter(side[0]) == letter:
                    self.require(value)
                raise _Mixed
        return {**node.attrs, "sizes": tuple((k, self.symbol if k == letter else v) for k, v in node.attrs["sizes"])}


Rule = Callable[[Node, _Split], dict]


def _reshape(node: Node, split: _Split) -> dict:
    shape = tuple(node.attrs["shape"])
    if shape[:1] != (split.size,) or node.inputs[0].type.size != node.output.type.size:
        raise _Mixed
    return {**node.attrs, "shape": (split.symbol, *shape[1:])}


def _transpose(node: Node, split: _Split) -> dict:
    if node.attrs["perm"][0] != 0:
        raise _Mixed
    return dict(node.attrs)


def _slice(node: Node, split: _Split) -> dict:
    if node.attrs["starts"][0] != 0 or node.attrs["sizes"][0] != split.size or (node.attrs["strides"] or (1,))[0] != 1:
        raise _Mixed
    return {**node.attrs, "sizes": (split.symbol, *node.attrs["sizes"][1:])}


def _pad(node: Node, split: _Split) -> dict:
    if any(node.attrs[k][0] != 0 for k in ("low", "high", "interior")):
        raise _Mixed
    return dict(node.attrs)


def _broadcast(node: Node, split: _Split) -> dict:
    operand = node.inputs[0]
    if operand.rank != node.output.rank or node.attrs["shape"][0] != split.size:
        raise _Mixed
    return {**node.attrs, "shape": (split.symbol, *node.attrs["shape"][1:])}


def _axes(node: Node, split: _Split) -> dict:
    axes = node.attrs.get("axes", node.attrs.get("axis"))
    if 0 in (axes if isinstance(axes, tuple) else (axes,)):
        raise _Mixed
    return dict(node.attrs)


def _window(node: Node, split: _Split) -> dict:
    if node.attrs["window"][0] != 1 or node.attrs["strides"][0] != 1:
        raise _Mixed
    return dict(node.attrs)


def _gather(node: Node, split: _Split) -> dict:
    if node.inputs[0] in split.has_rows or node.attrs.get("axis", 0) != 0:
        raise _Mixed
    return dict(node.attrs)


def _same(node: Node, split: _Split) -> dict:
    return dict(node.attrs)


_RULES: dict[str, Rule] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    "broadcast_to": _broadcast,
    "reverse": _axes,
    "concat": _axes,
    "stop_gradient": _same,
    **{f"reduce_{how}": _axes for how in ("sum", "max", "min", "prod", "any", "all")},
    "argmax": _axes,
    "argmin": _axes,
    "cumsum": _axes,
    **{f"window_{how}": _window for how in ("max", "min", "sum", "argmax")},
    "gather": _gather,
}


def in_rows(value: DimLike, symbol: str, count: DimLike) -> DimLike:
    """A size with the number of rows of a task filled in."""
    return dim.substitute(value, lambda atom: count if dim.of(atom) == dim.symbol(symbol) else None)


def row_bytes(shape: tuple[DimLike, ...], size_bytes: int) -> DimLike:
    """Bytes of one row of a value with rows."""
    return dim.product(shape[1:]) * size_bytes
