"""Value, Node, Graph: what is computed.

A graph is append-only and pure. `Graph.emit` is the only door: it infers the type, merges a node
equal to an existing one and records the origin; so common-subexpression elimination is a property
of graphs. Dead nodes vanish whenever a pass rebuilds a graph, because nobody copies them.

`node.inputs` is the truth about edges, in order; the networkx graph is an index of it, for order,
reachability and dominance.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kcompile.errors import CompilerBug, KcompileError
from kcompile.ir import op as op_table
from kcompile.ir.op import Op
from kcompile.ir.roles import CONSTANT, INPUT, PARAMETER, STATE
from kcompile.ir.text import to_text
from kcompile.ir.types import DType, Type, bf16, boolean, dtype, f32

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Origin:
    """Where a node came from: layer path and script line."""

    layer: str = ""
    line: str = ""

    def __str__(self) -> str:
        return "  ".join(part for part in (self.layer, self.line) if part)


class Value:
    """A tensor in a graph: result `index` of `node`."""

    __slots__ = ("graph", "index", "node", "type")
    __array_priority__ = 1000  # NumPy leaves binary operators to us

    def __init__(self, graph: Graph, node: Node, index: int, type_: Type):
        self.graph, self.node, self.index, self.type = graph, node, index, type_

    @property
    def shape(self):
        return self.type.shape

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def rank(self) -> int:
        return self.type.rank

    @property
    def is_constant(self) -> bool:
        return self.node.role == CONSTANT

    def __op_call__(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Value:
        return self.graph.emit(op, operands, attrs)

    def __array__(self, *args, **kwargs):
        raise KcompileError(
            f"a symbolic value ({self.type}) has no numbers yet: use keras.ops instead of NumPy inside call()"
        )

    def __bool__(self):
        raise KcompileError(
            f"the truth of a symbolic value ({self.type}) is unknown while tracing: use keras.ops.where or cond"
        )

    def __float__(self):
        raise KcompileError(
            f"a symbolic value ({self.type}) is no number yet: float() and int() need one while tracing; use keras.ops"
        )

    __int__ = __float__

    def __repr__(self) -> str:
        return f"<{self.node.name or self.node.label} {self.type}>"

    # operators go through the table, so ir/ does not import ops/
    def __neg__(self):
        return op_table.get("neg")(self)

    def __abs__(self):
        return op_table.get("abs")(self)


def _binary(name: str, swapped: bool = False) -> Callable[[Value, Any], Value]:
    def operator(self: Value, other: Any) -> Value:
        operands = (other, self) if swapped else (self, other)
        return op_table.get(name)(*operands)

    return operator


for _symbol, _name in {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "truediv": "div",
    "pow": "pow",
    "floordiv": "floordiv",
    "mod": "mod",
}.items():
    setattr(Value, f"__{_symbol}__", _binary(_name))
    setattr(Value, f"__r{_symbol}__", _binary(_name, swapped=True))
for _symbol in ("lt", "le", "gt", "ge"):
    setattr(Value, f"__{_symbol}__", _binary(_symbol))


@dataclass(frozen=True, eq=False)
class Node:
    """One application of an op, or a source (then `op` is None and `role` says which kind)."""

    op: Op | None
    inputs: tuple[Value, ...]
    attrs: Mapping[str, Any]
    outputs: tuple[Value, ...]
    origin: Origin
    label: str  # %7
    role: str = ""  # a source's role
    name: str = ""  # a source's name
    data: np.ndarray | None = None  # a constant's numbers

    def __repr__(self) -> str:
        return f"<node {self.label} {self.op.name if self.op else self.role}>"

    @property
    def output(self) -> Value:
        return self.outputs[0]

    @property
    def is_source(self) -> bool:
        return self.op is None


@dataclass
class Assignment:
    """After the program ran, the source `target` holds `value`."""

    target: Value
    value: Value


class Graph:
    """An append-only pure graph: sources, nodes, named outputs, assignments."""

    trace_s = 0.0  # seconds of recording it, for reports of where compile time goes
    value_type = Value  # the front's tracing graph makes values with Keras's operators

    def __init__(self, name: str = "graph"):
        self.name = name
        self._index: nx.DiGraph | None = None
        self._indexed = 0  # nodes that are in it
        self.nodes: list[Node] = []  # in emission order, which is topological
        self.outputs: dict[str, Value] = {}
        self.assignments: dict[str, Assignment] = {}  # by the target's name
        self.sources: dict[str, Value] = {}  # inputs, parameters, states by name
        self._merged: dict[Any, Node] = {}
        self._origin = Origin()

    # building ---------------------------------------------------------------------------------

    def source(self, role: str, name: str, type_: Type) -> Value:
        """Add an input, parameter or state."""
        if role not in (INPUT, PARAMETER, STATE):
            raise CompilerBug(f"{role!r} is not a source role")
        if name in self.sources:
            raise CompilerBug(f"graph {self.name} has two sources called {name!r}")
        node = self._append(None, (), {}, (type_,), role=role, name=name)
        self.sources[name] = node.output
        return node.output

    def input(self, name: str, type_: Type) -> Value:
        return self.source(INPUT, name, type_)

    def constant(self, value: Any, as_dtype: DType | None = None) -> Value:
        """Return `value` (array, list or number) as a constant; equal small constants are one node."""
        if as_dtype is bf16:  # NumPy cannot hold it
            return op_table.get("cast")(self.constant(value, f32), dtype="bf16")
        array = np.asarray(value, dtype=as_dtype.numpy if as_dtype else None)
        if array.dtype == np.float64 and as_dtype is None and not isinstance(value, (np.ndarray, np.generic)):
            array = array.astype(np.float32)
        array = np.ascontiguousarray(array).reshape(array.shape)
        small = array.nbytes <= 4096
        key = ("constant", array.dtype.str, array.shape, array.tobytes() if small else id(value))
        found = self._merged.get(key)
        if found is not None and (small or found.data is array or np.array_equal(found.data, array)):
            return found.output
        type_ = Type(dtype(array.dtype), array.shape)
        node = self._append(None, (), {}, (type_,), role=CONSTANT, data=array)
        self._merged[key] = node
        return node.output

    def emit(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Value | tuple[Value, ...]:
        """Append `op(*operands, **attrs)` or return the equal node that is there already."""
        inputs = self._as_values(op, operands)
        key = (op.name, inputs, tuple(sorted(attrs.items())))
        try:
            found = self._merged.get(key)
        except TypeError:
            raise CompilerBug(f"attributes of {op.name} must be hashable, received {dict(attrs)}") from None
        if found is None:
            try:
                inferred = op.infer(*(v.type for v in inputs), **attrs)
            except KcompileError as error:
                raise self._located(error, op, inputs) from None
            types = inferred if isinstance(inferred, tuple) else (inferred,)
            found = self._append(op, inputs, dict(attrs), types)
            self._merged[key] = found
        return found.output if len(found.outputs) == 1 else found.outputs

    def begin_part(self) -> int:
        """Return the number of the next node; what is emitted from here on is not merged with what came before."""
        self._merged = {key: node for key, node in self._merged.items() if node.is_source}
        return len(self.nodes)

    def _as_values(self, op: Op, operands: Sequence[Any]) -> tuple[Value, ...]:
        dtypes = [o.dtype for o in operands if isinstance(o, Value)]
        # in select(condition, x, 0.0) the number is a sibling of x, not of the condition
        like = next((d for d in dtypes if d is not boolean), dtypes[0] if dtypes else None)
        values = []
        for operand in operands:
            if isinstance(operand, Value):
                if operand.graph is not self:
                    raise CompilerBug(f"{op.name} mixes values of graphs {operand.graph.name} and {self.name}")
                values.append(operand)
            else:
                # a bare Python number takes the dtype of the tensor beside it
                weak = isinstance(operand, (int, float)) and not isinstance(operand, bool) and like is not None
                fits = weak and (like.is_float or (isinstance(operand, int) and like.is_integer))
                values.append(self.constant(operand, like if fits else None))
        return tuple(values)

    def _append(self, op, inputs, attrs, types, role="", name="", data=None) -> Node:
        outputs: list[Value] = []
        node = Node(op, inputs, attrs, (), self._origin, f"%{len(self.nodes)}", role, name, data)
        outputs.extend([self.value_type(self, node, i, t) for i, t in enumerate(types)])
        object.__setattr__(node, "outputs", tuple(outputs))
        self.nodes.append(node)
        return node

    def _located(self, error: KcompileError, op: Op, inputs: Sequence[Value]) -> KcompileError:
        got = ", ".join(str(v.type) for v in inputs)
        where = f"\n  in  {self._origin}" if str(self._origin) else ""
        return type(error)(f"{error}{where}\n  got {op.name}({got})")

    @contextlib.contextmanager
    def origin(self, layer: str | None = None, line: str | None = None):
        """Record this layer path / script line on every node emitted inside."""
        before = self._origin
        self._origin = Origin(before.layer if layer is None else layer, before.line if line is None else line)
        try:
            yield
        finally:
            self._origin = before

    def output(self, name: str, value: Value) -> None:
        """Name a result."""
        if value.graph is not self:
            raise CompilerBug(f"output {name!r} belongs to another graph")
        self.outputs[name] = value

    def assign(self, target: Value, value: Value) -> None:
        """State that `target` (a parameter or state) takes `value` when the program ends."""
        if target.node.role not in (PARAMETER, STATE):
            raise CompilerBug(f"only parameters and state can be assigned, not {target!r}")
        if target.type != value.type:
            raise CompilerBug(f"assignment to {target.node.name}: expected {target.type}, received {value.type}")
        self.assignments[target.node.name] = Assignment(target, value)

    # looking ----------------------------------------------------------------------------------

    @property
    def index(self) -> nx.DiGraph:
        """Nodes and who reads whom, for graph algorithms; brought up to date when asked for."""
        if self._index is None:
            import networkx as nx  # takes as long to load as NumPy, and only algorithms on graphs need it

            self._index = nx.DiGraph()
        for node in self.nodes[self._indexed :]:
            self._index.add_node(node)
            self._index.add_edges_from((operand.node, node) for operand in node.inputs)
        self._indexed = len(self.nodes)
        return self._index

    @property
    def results(self) -> list[Value]:
        """All values the graph exists for: outputs, then assigned values."""
        return [*self.outputs.values(), *(a.value for a in self.assignments.values())]

    def live_nodes(self) -> list[Node]:
        """Nodes that a result depends on, and all inputs, in topological order."""
        needed: set[Node] = set()
        stack = [v.node for v in self.results] + [v.node for v in self.sources.values()]
        while stack:
            node = stack.pop()
            if node in needed:
                continue
            needed.add(node)
            stack.extend(v.node for v in node.inputs)
        return [n for n in self.nodes if n in needed]

    def consumers(self) -> dict[Value, list[Node]]:
        """Map each live value to the live nodes that read it (a node twice if it reads twice)."""
        users: dict[Value, list[Node]] = {}
        for node in self.live_nodes():
            for value in node.inputs:
                users.setdefault(value, []).append(node)
        return users

    def __str__(self) -> str:
        return to_text(self)


def rebuild(
    graph: Graph,
    visit: Callable[[Graph, Node, tuple[Value, ...]], Value | tuple[Value, ...] | None],
    name: str | None = None,
) -> Graph:
    """Copy the live part of `graph` into a new one, letting `visit` replace nodes.

    `visit(new_graph, node, new_inputs)` returns the replacement value(s), or None to copy the node.
    This is how every pass is written: read one graph, build another. Origins are inherited.
    """
    new = Graph(name or graph.name)
    mapped: dict[Value, Value] = {}
    for node in graph.live_nodes():
        inputs = tuple(mapped[v] for v in node.inputs)
        with new.origin(node.origin.layer, node.origin.line):
            results = None if node.is_source and node.role != CONSTANT else visit(new, node, inputs)
            if results is None:
                results = copy_node(new, node, inputs)
        results = results if isinstance(results, tuple) else (results,)
        for old, fresh in zip(node.outputs, results, strict=True):
            if old.type != fresh.type:
                raise CompilerBug(f"pass on {graph.name} turned {node.label}: {old.type} into {fresh.type}")
            mapped[old] = fresh
    for label, value in graph.outputs.items():
        new.output(label, mapped[value])
    for assignment in graph.assignments.values():
        new.assign(mapped[assignment.target], mapped[assignment.value])
    return new


def copy_node(graph: Graph, node: Node, inputs: Sequence[Value]) -> Value | tuple[Value, ...]:
    """Append a copy of `node` over `inputs` to `graph`."""
    if node.role == CONSTANT:
        return graph.constant(node.data)
    if node.is_source:
        return graph.source(node.role, node.name, node.output.type)
    return graph.emit(node.op, inputs, node.attrs)


def transplant(into: Graph, wanted: Sequence[Value], mapped: dict[Value, Value]) -> list[Value]:
    """Copy what `wanted` values of one graph need into another; returns them there.

    `mapped` says which values exist there already - at least all sources on the way - and gains the copies.
    """
    needed: set[Node] = set()
    stack = [v for v in wanted if v not in mapped]
    while stack:
        node = stack.pop().node
        if node not in needed:
            needed.add(node)
            stack += [v for v in node.inputs if v not in mapped]
    for node in sorted(needed, key=lambda n: int(n.label[1:])):
        with into.origin(node.origin.layer, node.origin.line):
            results = copy_node(into, node, tuple(mapped[v] for v in node.inputs))
        for old, fresh in zip(node.outputs, results if isinstance(results, tuple) else (results,), strict=True):
            mapped.setdefault(old, fresh)
    return [mapped[v] for v in wanted]


def inline(graph: Graph, into: Graph, bindings: Mapping[str, Value]) -> dict[str, Value]:
    """Copy `graph`'s nodes into another graph with its sources bound; returns the outputs by name."""
    mapped: dict[Value, Value] = {}
    for node in graph.live_nodes():
        if node.is_source and node.role != CONSTANT:
            mapped[node.output] = bindings[node.name]
            continue
        results = copy_node(into, node, tuple(mapped[v] for v in node.inputs))
        results = results if isinstance(results, tuple) else (results,)
        mapped.update(zip(node.outputs, results))
    return {label: mapped[value] for label, value in graph.outputs.items()}
