"""Each cluster of nodes -> one form over named buffers.

A value computed inside the kernel becomes an expression; a value in memory becomes a buffer. Buffer
names are given in order of first use (b0, b1, ...), so kernels that do the same have equal forms
and are compiled once, whatever layer they come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from kcompile.errors import CompilerBug
from kcompile.forms import compose
from kcompile.forms.records import (
    IN,
    LOCAL,
    OUT,
    Accumulate,
    Border,
    Buffer,
    Contract,
    Form,
    Loops,
    Nest,
    Store,
    axes_for,
    border,
    indices,
)
from kcompile.forms.scalar import Expr, Load, const, load, loads, walk
from kcompile.ir import dim
from kcompile.ir.dim import Axis, DimLike
from kcompile.ir.graph import Graph, Node, Value
from kcompile.ir.op import Kind
from kcompile.ir.types import Shape, Type
from kcompile.ops.control import Scan, scan_of
from kcompile.passes.alias import storage
from kcompile.passes.fuse import CONTRACT, MAP, ROW, TILES, Cluster, Fusion, fuse
from kcompile.passes.nests import merged_nests
from kcompile.passes.roots import is_border, is_map_node, is_scalar_constant
from kcompile.passes.rows import SplitRows, split_rows

Index = "tuple[DimLike, ...]"
STEPS_WORTH_A_COPY = 8  # of a loop, for an operand that all of them read to be copied into panels
OUTPUT_PREFIX = "output:"  # of a result's name, which may be a source's too


@dataclass(frozen=True, eq=False)
class KernelCall:
    """One step of a program: a form and the values its buffers stand for."""

    cluster: Cluster
    form: Form
    reads: dict[str, Value]  # buffer name -> value (maybe a view of another value's storage)
    writes: dict[str, Value]  # buffer name -> value this kernel brings into existence

    @property
    def name(self) -> str:
        return self.form.name


@dataclass(frozen=True, eq=False)
class LoopCall:
    """One step of a program that is a loop: its body, lowered.

    Names of operands and results are those of the body's sources and outputs. rows: the body was made for any
    number of rows, if they do not depend on each other.
    """

    cluster: Cluster
    scan: Scan
    body: Graph
    calls: list[KernelCall | LoopCall]
    reads: dict[str, Value]
    writes: dict[str, Value]
    rows: SplitRows | None = None

    name = "loop"


def lower(fusion: Fusion) -> list[KernelCall | LoopCall]:
    """Return one call per cluster, in the clusters' order; packs need none (see place.py)."""
    readers = _readers(fusion)
    makers = {Kind.CONTROL: _loop_call}
    plain = lambda c: _Lowering(fusion, c, readers).run()  # noqa: E731
    kinds = [(c, c.units[0].op.kind) for c in fusion.clusters]
    return [makers.get(kind, plain)(c) for c, kind in kinds if kind is not Kind.PACK]


def _loop_call(cluster: Cluster) -> LoopCall:
    """The loop of a scan, its body fused and lowered on its own."""
    (node,) = cluster.units
    scan = scan_of(node)
    rows = split_rows(scan)
    body = rows.body if rows else scan.body.graph
    _, *names = body.sources
    reads = dict(zip(names, node.inputs, strict=True))
    writes = {f"{OUTPUT_PREFIX}{name}": v for name, v in zip(body.outputs, node.outputs, strict=True)}
    return LoopCall(cluster, scan, body, _steady(lower(fuse(body)), scan, rows), reads, writes, rows)


def _steady(calls: list[KernelCall | LoopCall], scan: Scan, rows: SplitRows | None) -> list[KernelCall | LoopCall]:
    """The calls of a body; contractions say which of their buffers all steps read: a copy of them is made once."""
    if scan.strips or (dim.is_static(scan.length) and scan.length < STEPS_WORTH_A_COPY):
        return calls
    same = {v.node.name for v in scan.inside.whole} - (rows.sources if rows else frozenset())

    def steady(call: KernelCall) -> tuple[str, ...]:
        sides = dict.fromkeys(e.buffer for e in walk(call.form.lhs, call.form.rhs) if isinstance(e, Load))
        sources = ((n, storage(call.reads[n])[0].node) for n in sides if n in call.reads)
        return tuple(n for n, node in sources if node.is_source and node.name in same)

    return [
        replace(c, form=replace(c.form, steady=steady(c)))
        if isinstance(c, KernelCall) and isinstance(c.form, Contract)
        else c
        for c in calls
    ]


def _readers(fusion: Fusion) -> dict[Node, set[object]]:
    """Who needs each unit's result in memory: clusters (through the map nodes inside), or the graph."""
    readers: dict[Node, set[object]] = {}
    for value in fusion.graph.results:
        readers.setdefault(storage(value)[0].node, set()).add(fusion.graph)
        readers.setdefault(value.node, set()).add(fusion.graph)
    for cluster in fusion.clusters:
        stack = [v for unit in cluster.units for v in unit.inputs]
        seen: set[Node] = set()
        while stack:
            node = stack.pop().node
            if node in seen:
                continue
            seen.add(node)
            if node in fusion.cluster_of:
                readers.setdefault(node, set()).add(cluster)
            elif not node.is_source:
                stack += node.inputs
    return readers


class _Lowering:
    """Builds one form. Names buffers, and turns values into expressions."""

    def __init__(self, fusion: Fusion, cluster: Cluster, readers: dict[Node, set[object]]):
        self.fusion, self.cluster, self.readers = fusion, cluster, readers
        self.buffers: list[Buffer] = []
        self.reads: dict[str, Value] = {}
        self.writes: dict[str, Value] = {}
        self.named: dict[Value, str] = {}  # values in memory: inputs, and this kernel's own
        self.here: dict[Value, Callable[[Index], Expr]] = {}  # this kernel's results as expressions
        self.memo: dict[tuple[Value, Index], Expr] = {}

    def run(self) -> KernelCall:
        builders = {MAP: self.map_form, ROW: self.row_form, CONTRACT: self.contract_form, TILES: self.tiles_form}
        form = builders.get(self.cluster.kind, self.anchored_form)()
        name = "_".join([u.op.name for u in self.cluster.units][:4])
        form = compose.pruned(replace(form, name=name))
        return KernelCall(self.cluster, form, self.reads, self.writes)

    # values ---------------------------------------------------------------------------------

    def needed_outside(self, node: Node) -> bool:
        return any(reader is not self.cluster for reader in self.readers.get(node, ()))

    def buffer(self, type_: Type, role: str) -> str:
        name = f"b{len(self.buffers)}"
        self.buffers.append(Buffer(name, type_, role))
        return name

    def local(self, type_: Type) -> str:
        return self.buffer(type_, LOCAL)

    def output(self, value: Value) -> str:
        """The buffer `value` is written to, a new one the first time."""
        name = next((n for n, v in self.writes.items() if v is value), None)
        if name is None:
            name = self.buffer(value.type, OUT)
            self.writes[name] = value
        return name

    def expression(self, value: Value, index: Index) -> Expr:
        """The element of `value` at `index`, computed here or loaded."""
        key = (value, index)
        if key not in self.memo:
            self.memo[key] = self._expression(value, index)
        return self.memo[key]

    def _expression(self, value: Value, index: Index) -> Expr:
        if value in self.here:
            return self.here[value](index)
        if is_scalar_constant(value):
            return const(value.node.data.reshape(-1)[0].item(), value.dtype)
        node = value.node
        if self.is_in_memory(value):
            return load(self.input_buffer(value), index, value.dtype)
        if not is_map_node(node):
            raise CompilerBug(f"{node} is read before it exists, in {self.cluster}")
        form = node.op.lower(*(v.type for v in node.inputs), **node.attrs)
        return compose.evaluate(form, index, lambda n, at: self.expression(node.inputs[n], at))

    def is_in_memory(self, value: Value) -> bool:
        """True for a written value of another kernel, or a view of one."""
        base = storage(value)[0]
        written = self.fusion.is_written(base) and not is_scalar_constant(base)
        return written and self.fusion.cluster_of.get(base.node) is not self.cluster

    def input_buffer(self, value: Value) -> str:
        if value not in self.named:
            self.named[value] = self.buffer(value.type, IN)
            self.reads[self.named[value]] = value
        return self.named[value]

    def operand_of(self, node: Node):
        return lambda n, at: self.expression(node.inputs[n], at)

    def map_expression(self, node: Node, index: Index) -> Expr:
        """The element of a map node, computed here."""
        form = node.op.lower(*(v.type for v in node.inputs), **node.attrs)
        return compose.evaluate(form, index, self.operand_of(node))

    # forms ----------------------------------------------------------------------------------

    def map_form(self) -> Loops:
        axes = axes_for(self.cluster.domain)
        body = self.map_stores(self.cluster.units, indices(axes))
        return Loops(tuple(self.buffers), axes, tuple(body))

    def map_stores(self, units: list[Node], at: Index) -> list[Store]:
        """Stores of map units at one index; each is an expression for the ones after it."""
        stores = []
        for unit in units:
            if unit.output.shape != self.cluster.domain and self.cluster.kind == MAP:
                stores += self.piece_stores(unit, at)
                continue
            value = self.map_expression(unit, at)
            self.here[unit.output] = self.at_place(unit, at, value)
            if self.needed_outside(unit):
                stores.append(Store(self.output(unit.output), at, value))
        return stores

    def piece_stores(self, unit: Node, at: Index) -> list[Store]:
        """A concat's element of each piece, for one index of a piece."""
        width = unit.inputs[0].shape[-1]
        return [
            Store(self.output(unit.output), (*at[:-1], at[-1] + n * width), self.expression(piece, at))
            for n, piece in enumerate(unit.inputs)
        ]

    def at_place(self, unit: Node, at: Index, value: Expr):
        def read(index: Index) -> Expr:
            if index != at:
                raise CompilerBug(f"{unit} is read at {index} inside {self.cluster}, which computes {at}")
            return value

        return read

    def contract_form(self) -> Contract:
        anchor, *epilogue = self.cluster.units
        form = anchor.op.lower(*(v.type for v in anchor.inputs), **anchor.attrs)

        def stores(acc: Expr, at: Index) -> tuple[Store, ...]:
            result = form.stores[0].value  # the lowering's own last step (a cast, say) over the sum
            self.here[anchor.output] = self.at_place(anchor, at, result)
            own = [Store(self.output(anchor.output), at, result)] if self.needed_outside(anchor) else []
            own += self.map_stores([u for u in epilogue if u.op.kind is not Kind.REDUCE], at)
            sums = [self.column_sum(u, at) for u in epilogue if u.op.kind is Kind.REDUCE]
            if not own:  # only its sums are needed: there is no kernel without a result
                own = [Store(self.output(anchor.output), at, result)]
            return (*sums, *own)

        lhs, rhs, all_stores = compose.contract_with(form, self.operand_of(anchor), stores)
        borders = tuple(self.borders(dict.fromkeys(node.buffer for node in loads(lhs, rhs))))
        return replace(form, buffers=tuple(self.buffers), lhs=lhs, rhs=rhs, stores=all_stores, borders=borders)

    def borders(self, names: Iterable[str]) -> Iterator[Border]:
        """The borders of zeros around those of these inputs that have one."""
        for name in names:
            node = self.reads[name].node if name in self.reads else None
            if node is not None and is_border(node) and node.attrs["value"] == 0:
                low, shape = node.attrs["low"], node.inputs[0].shape
                yield Border(name, tuple((first, first + size) for first, size in zip(low, shape, strict=True)))

    def column_sum(self, unit: Node, at: Index) -> Accumulate:
        value = self.expression(unit.inputs[0], at)
        kept = tuple(at[-1] if n == unit.output.rank - 1 else 0 for n in range(unit.output.rank))
        return Accumulate(self.output(unit.output), kept, "sum", value)

    def tiles_form(self) -> Loops:
        """A nest per kind of tile, each with a store per element of a tile; map units follow every one of them.

        A unit that puts a border around them stores the element inside it; the border has nests of its own.
        """
        anchor, *units = self.cluster.units
        borders = [u for u in units if u.output.shape != self.cluster.domain]
        units = [u for u in units if u not in borders]
        form = anchor.op.lower(*(v.type for v in anchor.inputs), **anchor.attrs)
        names = self.nest_names(form)
        body = []
        for nest in compose.splice(form, (), self.operand_of(anchor), {"y": "y"}, lambda index: index, names):
            stores: list[Store] = []
            for element in nest.body:
                self.here[anchor.output] = self.at_place(anchor, element.index, element.value)
                if self.needed_outside(anchor):
                    stores.append(Store(self.output(anchor.output), element.index, element.value))
                stores += self.map_stores(units, element.index)
                for unit in borders:
                    place = tuple(i + low for i, low in zip(element.index, unit.attrs["low"]))
                    value = self.expression(unit.inputs[0], element.index)
                    stores.append(Store(self.output(unit.output), place, value))
            body.append(Nest(nest.axes, tuple(stores)))
        for unit in borders:
            value = const(unit.attrs["value"], unit.output.dtype)
            for axes, place in border(self.cluster.domain, unit.attrs["low"], unit.attrs["high"]):
                body.append(Nest(axes, (Store(self.output(unit.output), place, value),)))
        return Loops(tuple(self.buffers), (), tuple(body))

    def anchored_form(self) -> Loops:
        """Reductions, windows, scatters: their own loops, then map units at the same points."""
        anchors = [u for u in self.cluster.units if not is_map_node(u)]
        units = [u for u in self.cluster.units if is_map_node(u)]
        first = anchors[0].op.lower(*(v.type for v in anchors[0].inputs), **anchors[0].attrs)
        outer = tuple(Axis(f"i{n}", a.extent) for n, a in enumerate(first.outer))
        at = indices(outer)
        shape = self.cluster.domain
        # where the results stand; a scatter or a scan stands alone and places its own
        place = at if len(at) == len(shape) or not units else _spread(at, shape)
        body: list = []
        for anchor in anchors:
            body += self.anchor_statements(anchor, at, place, keep_local=bool(units))
        body = merged_nests(body)
        if units:  # behind the loops, so that these merge
            written = [a.output for a in anchors if self.needed_outside(a)]
            body += [Store(self.output(v), place, self.here[v](place)) for v in written]
        body += self.map_stores(units, place)
        return Loops(tuple(self.buffers), outer, tuple(body))

    def anchor_statements(self, anchor: Node, at: Index, place: Index, keep_local: bool) -> list:
        form = anchor.op.lower(*(v.type for v in anchor.inputs), **anchor.attrs)
        rename = self.renamed_locals(form)
        if keep_local:
            name = rename["y"] = self.local(anchor.output.type.with_shape(()))
            result = load(name, (), anchor.output.dtype)
            self.here[anchor.output] = self.at_place(anchor, place, result)
            placed = lambda index: ()  # noqa: E731
        else:
            rename["y"] = self.output(anchor.output)
            placed = lambda index: index  # noqa: E731
        names = self.nest_names(form)
        return list(compose.splice(form, at, self.operand_of(anchor), rename, placed, names))

    def renamed_locals(self, form: Loops) -> dict[str, str]:
        return {b.name: self.local(b.type) for b in form.buffers if b.role == LOCAL}

    def nest_names(self, form: Loops) -> dict[Axis, Axis]:
        """Nest axes named by position (j0, j1, ...), so that equal nests of two anchors can merge."""
        names: dict[Axis, Axis] = {}
        for statement in form.body:
            if isinstance(statement, Nest):
                names.update((a, Axis(f"j{n}", a.extent)) for n, a in enumerate(statement.axes))
        return names

    def row_form(self) -> Loops:
        """Several stages over the same rows: outer axes are the rows, each stage a nest over the rest."""
        rows = self.cluster.domain
        outer = axes_for(rows)
        at = indices(outer)
        body: list = []
        for unit in self.cluster.units:
            stage = self.row_map(unit, at, rows) if is_map_node(unit) else self.row_reduction(unit, at, rows)
            body += stage
        return Loops(tuple(self.buffers), outer, tuple(merged_nests(body)))

    def row_map(self, unit: Node, at: Index, rows: Shape) -> list:
        rest = unit.output.shape[len(rows) :]
        nest = tuple(Axis(f"j{n}", size) for n, size in enumerate(rest))
        inner = indices(nest)
        value = self.map_expression(unit, (*at, *inner))
        outside = self.needed_outside(unit)
        if dim.product(rest) == 1:  # one number per row: keep it in a register, write it if asked
            name = self.local(unit.output.type.with_shape(()))
            self.here[unit.output] = lambda index: load(name, (), unit.output.dtype)
            stages: list = [Store(name, (), value)]
            if outside:
                stages.append(Store(self.output(unit.output), (*at, *inner), value))
            return stages
        if outside:
            name = self.output(unit.output)
            self.here[unit.output] = lambda index: load(name, index, unit.output.dtype)
            return [Nest(nest, (Store(name, (*at, *inner), value),))]
        name = self.local(unit.output.type.with_shape(rest))
        self.here[unit.output] = lambda index: load(name, index[len(rows) :], unit.output.dtype)
        return [Nest(nest, (Store(name, inner, value),))]

    def row_reduction(self, unit: Node, at: Index, rows: Shape) -> list:
        form = unit.op.lower(*(v.type for v in unit.inputs), **unit.attrs)
        kept = (*at, *(0 for _ in form.outer[len(rows) :]))  # reduced dimensions that were kept as 1
        rename = self.renamed_locals(form)
        name = rename["y"] = self.local(unit.output.type.with_shape(()))
        result = load(name, (), unit.output.dtype)
        self.here[unit.output] = lambda index: result
        names = self.nest_names(form)
        body = list(compose.splice(form, kept, self.operand_of(unit), rename, lambda index: (), names))
        if self.needed_outside(unit):
            place = (*at, *(0 for _ in unit.output.shape[len(rows) :]))
            body.append(Store(self.output(unit.output), place, result))
        return body


def _spread(at: Index, shape: Shape) -> Index:
    """The kept axes as an index of a result that kept reduced dimensions as 1."""
    kept = list(at)
    index: list[DimLike] = []
    wanted = [size for size in shape if size != 1]
    if len(kept) != len(wanted):  # some kept axes are of size 1 too: they index as 0 anyway
        kept = [a for a in kept if a != 0]
    for size in shape:
        index.append(0 if size == 1 else kept.pop(0))
    return tuple(index)
