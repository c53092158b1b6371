"""Large values between products, a row at a time: the attention matrix is never stored whole.

A batched product may make more than it reads (queries with keys), and another reduce that again (shares with
values). What lies between is needed row by row of the common axes - batch, head - so the products, and all that
happens between them, become the body of a loop over these rows that carries nothing. A task of it is a row
(rows.py), and the large values live in the core's own cache, one row of them for each worker.

    region   nodes whose results have the large shape, the reductions of these along other axes and what is
             computed from reductions, and the products that read large values and make small ones
    level    how often a node's operands have left the region on the way to it: the gradient of a region reads
             what was computed from its results. Each level is a loop
    between  what a later level needs of an earlier one: small values are yielded; large ones are computed again

So the gradient of attention keeps two numbers per query (maximum, sum) and pays one more product.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kcompile.ir import dim
from kcompile.ir.dim import DimLike
from kcompile.ir.graph import CONSTANT, Graph, Node, Value, copy_node
from kcompile.ir.op import OPS, Kind
from kcompile.ir.types import Type
from kcompile.ops.control import BodyBuilder, run_scan
from kcompile.ops.spec import Spec, parse_spec, plain_letter
from kcompile.passes.algebra import simplify
from kcompile.passes.rows import STEPS_APART

REPEATED_SHARE = 8  # an operand is repeated for each row if that makes less than this part of the large value

Users = "dict[Value, list[Node]]"
Places = "tuple[int, ...]"  # of the common axes, in a value's dimensions


def block_rows(graph: Graph) -> Graph:
    """Put every region into loops over its rows.

    After: no value of a region's large shape is stored, other than a row of it.
    """
    live = graph.live_nodes()
    seeds = [n for n in live if _grows(n)]
    if not seeds:
        return graph
    users: Users = {}
    for node in live:
        for value in dict.fromkeys(node.inputs):
            users.setdefault(value, []).append(node)
    regions: list[_Region] = []
    taken: set[Node] = set()
    for seed in seeds:
        region = None if seed in taken else _region(graph, users, seed)
        if region is not None and not taken.intersection(region.all):
            regions.append(region)
            taken.update(region.all)
    return simplify(_rewritten(graph, regions)) if regions else graph


def _grows(node: Node) -> bool:
    """True for a batched product of which a row is larger than both operands'; common axes first."""
    common = _common(node)
    if not common:
        return False
    rows = dim.product(node.output.shape[: len(common)])
    if parse_spec(node.attrs["spec"]).out[: len(common)] != common or (dim.is_static(rows) and rows < STEPS_APART):
        return False
    sizes = [dim.nominal(v.type.size) for v in (node.output, *node.inputs)]
    return sizes[0] > sizes[1] + sizes[2]


def _common(node: Node) -> tuple[str, ...]:
    """The letters of a product that both operands and the result have, in the order of the result."""
    if node.is_source or node.op.name != "contract":
        return ()
    spec = parse_spec(node.attrs["spec"])
    letters = [_plain(side) for side in spec.sides]
    return tuple(c for c in spec.out if all(c in side for side in letters))


def _plain(side: tuple) -> tuple[str, ...]:
    return tuple(plain_letter(d) or "" for d in side)


# regions ---------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Region:
    graph: Graph
    users: Users
    shape: tuple[DimLike, ...]  # of the large values
    count: int  # of common axes, which stand first in it
    nodes: set[Node] = field(default_factory=set)  # with large results
    small: set[Node] = field(default_factory=set)  # reductions, and what is computed from them
    ends: dict[Node, tuple] = field(default_factory=dict)  # products with small results -> their common letters

    @property
    def rows(self) -> tuple[DimLike, ...]:
        return self.shape[: self.count]

    @property
    def all(self) -> set[Node]:
        return {*self.nodes, *self.small, *self.ends}

    def has(self, node: Node) -> bool:
        return node in self.nodes or node in self.small or node in self.ends

    def is_large(self, value: Value) -> bool:
        return value.shape == self.shape

    def letters(self, node: Node) -> tuple[str, ...] | None:
        """The letters of a product that are the common axes; None if it is over others."""
        spec = parse_spec(node.attrs["spec"])
        for value, side in zip(node.inputs, map(_plain, spec.sides)):
            if self.is_large(value):
                wanted = side[: self.count]
                break
        else:
            wanted = spec.out[: self.count]
        return wanted if len(wanted) == self.count and set(wanted) <= set(_common(node)) else None


class _Refused(Exception):
    """The region cannot, or should not, be put into loops."""


def _region(graph: Graph, users: Users, seed: Node) -> _Region | None:
    region = _Region(graph, users, seed.output.shape, len(_common(seed)))
    try:
        _grow(region, seed)
        _check(region)
    except _Refused:
        return None
    return region


def _grow(region: _Region, seed: Node) -> None:
    """Collect what makes and reads large values, both ways from the seed."""
    kept = set(region.graph.results)
    stack = [seed]
    while stack:
        node = stack.pop()
        if node in region.nodes:
            continue
        if len(node.outputs) != 1 or node.output in kept or not _runs_in_rows(region, node):
            raise _Refused
        region.nodes.add(node)
        stack += [v.node for v in node.inputs if region.is_large(v)]
        for reader in region.users.get(node.output, ()):
            if len(reader.outputs) == 1 and region.is_large(reader.output):
                stack.append(reader)
            elif reader.op.name == "contract" and (letters := region.letters(reader)):
                region.ends[reader] = letters
            elif _reduces_rows(region, reader):
                region.small.add(reader)
            else:
                raise _Refused
    region.small |= _between(region)


def _runs_in_rows(region: _Region, node: Node) -> bool:
    """True if a row of the node's large result depends on a row of its operands."""
    if node.is_source:
        return False
    if node.op.name == "contract":
        return parse_spec(node.attrs["spec"]).out[: region.count] == region.letters(node)
    if node.op.name == "iota":
        return node.attrs["axis"] >= region.count
    return node.op.kind is Kind.ELEMENTWISE or node.op.name in ("broadcast_to", "stop_gradient")


def _reduces_rows(region: _Region, node: Node) -> bool:
    return node.op.name.startswith("reduce_") and min(node.attrs["axes"], default=0) >= region.count


def _between(region: _Region) -> set[Node]:
    """Nodes on the way from a reduction to a large value that keep the common axes first."""
    found: set[Node] = set()
    stack = list(region.small)
    while stack:
        for reader in region.users.get(stack.pop().output, ()):
            if reader not in found and not region.has(reader) and _keeps_rows(region, reader):
                found.add(reader)
                stack.append(reader)
    while True:
        needed = {n for n in found if any(u in found or region.has(u) for u in region.users.get(n.output, ()))}
        if needed == found:
            return found
        found = needed


def _keeps_rows(region: _Region, node: Node) -> bool:
    if len(node.outputs) != 1 or node.output.shape[: region.count] != region.rows:
        return False
    if node.op.name == "reshape":
        return node.inputs[0].shape[: region.count] == region.rows
    return node.op.kind is Kind.ELEMENTWISE or node.op.name in ("broadcast_to", "stop_gradient")


def _check(region: _Region) -> None:
    if not region.ends:
        raise _Refused
    large = dim.nominal(dim.product(region.shape[region.count :]))
    for node in (*region.nodes, *region.small, *region.ends):
        for n, value in enumerate(node.inputs):
            if region.has(value.node):
                continue
            places = _places(region, node, n)
            rest = [d for i, d in enumerate(value.shape) if i not in places]
            sizes = [value.shape[p] for p in places]
            if all(s == 1 for s in sizes) or sizes == list(region.rows):
                continue
            if len(sizes) < region.count or any(s not in (1, r) for s, r in zip(sizes, region.rows)):
                raise _Refused
            if dim.nominal(dim.product(rest)) * REPEATED_SHARE > large:
                raise _Refused


def _places(region: _Region, node: Node, number: int) -> Places:
    """Where operand `number` of a region's node has the common axes; fewer places if it has not all of them."""
    value = node.inputs[number]
    if node.op.name == "contract":
        side = _plain(parse_spec(node.attrs["spec"]).sides[number])
        letters = region.ends.get(node) or region.letters(node)
        return tuple(side.index(c) for c in letters)
    if region.has(value.node):
        return tuple(range(region.count))
    missing = node.output.rank - value.rank  # operands are aligned at their last dimension
    return tuple(range(max(region.count - missing, 0)))


# loops -----------------------------------------------------------------------------------------


def _levels(region: _Region) -> dict[Node, int]:
    """The level of each of the region's nodes; of others the highest they are computed from."""
    levels: dict[Node, int] = {}
    for node in region.graph.live_nodes():
        before = [(v.node, levels[v.node]) for v in node.inputs]
        if region.has(node):
            within = (n for n, _ in before if region.has(n) and n not in region.ends)
            left = (level + 1 for n, level in before if not region.has(n) or n in region.ends)
            levels[node] = max(1, *(levels[n] for n in within), *left, 1)
        else:
            levels[node] = max((level for _, level in before), default=0)
    return levels


def _bodies(region: _Region) -> list[_RowBody]:
    """The loops of a region, the last first: what it needs of an earlier one, that one yields."""
    levels = _levels(region)
    kept = set(region.graph.results)
    outputs: dict[int, list[Value]] = {n: [] for n in range(1, max(levels[n] for n in region.ends) + 1)}
    for node in region.graph.live_nodes():
        if node in region.ends or node in region.small:
            leaves = node.output in kept or any(not region.has(u) for u in region.users.get(node.output, ()))
            if node in region.ends or leaves:
                outputs[levels[node]].append(node.output)
    found: list[_RowBody] = []
    for level in sorted(outputs, reverse=True):
        if outputs[level]:
            body = _RowBody(region, levels, level, outputs[level])
            found.append(body)
            for value in body.operands:
                if value.node in region.small and value not in outputs[levels[value.node]]:
                    outputs[levels[value.node]].append(value)
    return found


def _rewritten(graph: Graph, regions: list[_Region]) -> Graph:
    maker = {v: body for region in regions for body in _bodies(region) for v in body.outputs}
    new = Graph(graph.name)
    mapped: dict[Value, Value] = {}
    for value in graph.sources.values():
        mapped[value] = new.source(value.node.role, value.node.name, value.type)
    stack = [*reversed(graph.results)]
    while stack:
        value = stack[-1]
        if value in mapped:
            stack.pop()
            continue
        body = maker.get(value)
        needed = body.operands if body else value.node.inputs
        missing = [v for v in needed if v not in mapped]
        if missing:
            stack += missing
            continue
        stack.pop()
        with new.origin(value.node.origin.layer, value.node.origin.line):
            if body:
                mapped.update(zip(body.outputs, body.emit(new, mapped)))
            else:
                made = copy_node(new, value.node, tuple(mapped[v] for v in value.node.inputs))
                mapped.update(zip(value.node.outputs, made if isinstance(made, tuple) else (made,)))
    for name, value in graph.outputs.items():
        new.output(name, mapped[value])
    for assignment in graph.assignments.values():
        new.assign(mapped[assignment.target], mapped[assignment.value])
    return new


def _turned(
    region: _Region, new: Graph, mapped: dict[Value, Value], value: Value, perm: tuple[int, ...], readers: set[Node]
) -> Value:
    """The value with its dimensions in another order: made so, if nobody but `readers` needs it as it is.

    A product can write its result in any order, and so can what is added to it.
    """
    node = value.node
    if all(u in readers for u in region.users.get(value, ())) and value not in region.graph.results:
        if not node.is_source and node.op.name == "contract":
            spec = parse_spec(node.attrs["spec"])
            turned = Spec(*spec.sides, tuple(spec.out[p] for p in perm))
            inputs = [mapped[v] for v in node.inputs]
            return new.emit(node.op, inputs, {**node.attrs, "spec": str(turned)})
        if not node.is_source and node.op.kind is Kind.ELEMENTWISE:
            inputs = [
                _turned(region, new, mapped, v, perm, {node}) if v.rank == len(perm) else _raised(mapped[v], perm)
                for v in node.inputs
            ]
            return new.emit(node.op, inputs, node.attrs)
    return OPS["transpose"](mapped[value], perm=perm)


def _raised(value: Value, perm: tuple[int, ...]) -> Value:
    """An operand of fewer dimensions, for a result whose dimensions are turned."""
    if value.rank == 0:
        return value
    full = OPS["reshape"](value, shape=(*(1,) * (len(perm) - value.rank), *value.shape))
    return OPS["transpose"](full, perm=perm)


class _RowBody:
    """The loop of one level: its operands and its body."""

    def __init__(self, region: _Region, levels: dict[Node, int], level: int, outputs: list[Value]):
        self.region, self.levels, self.level, self.outputs = region, levels, level, outputs
        self.stacked: dict[tuple[Value, Places], None] = {}
        self.whole: dict[Value, None] = {}
        needed: set[Node] = set()  # what the body computes
        stack = [v.node for v in outputs]
        while stack:
            node = stack.pop()
            if node not in needed:
                needed.add(node)
                stack += [v.node for v in node.inputs if self.is_inside(v)]
        self.order = [n for n in region.graph.live_nodes() if n in needed]
        for node in self.order:
            for n, value in enumerate(node.inputs):
                if not self.is_inside(value):
                    self.enter(value, self.places(node, n))

    def is_inside(self, value: Value) -> bool:
        """True if the body computes the value."""
        node = value.node
        if node in self.region.nodes:
            return True
        return node in self.region.small and self.levels[node] == self.level

    def places(self, node: Node, number: int) -> Places:
        return _places(self.region, node, number)

    def enter(self, value: Value, places: Places) -> None:
        if all(value.shape[p] == 1 for p in places):
            if value.node.role != CONSTANT or value.type.size != 1:
                self.whole[value] = None
        else:
            self.stacked[value, places] = None

    @property
    def operands(self) -> list[Value]:
        read = [v for n in self.order for v in n.inputs if not self.is_inside(v)]
        return list(dict.fromkeys([*(v for v, _ in self.stacked), *self.whole, *read]))

    def emit(self, new: Graph, mapped: dict[Value, Value]) -> list[Value]:
        region = self.region
        total = dim.product(region.rows)
        rests = [tuple(d for i, d in enumerate(v.shape) if i not in places) for v, places in self.stacked]
        builder = BodyBuilder(
            [],
            [Type(v.dtype, rest) for (v, _), rest in zip(self.stacked, rests)],
            [v.type for v in self.whole],
        )
        inside: dict[tuple[Value, Places] | Value, Value] = dict(zip(self.whole, builder.whole))
        for (value, places), source in zip(self.stacked, builder.rows):
            unit = tuple(1 if i in places else d for i, d in enumerate(value.shape))
            inside[value, places] = OPS["reshape"](source, shape=unit)
        for node in self.order:
            inputs = [self.operand(builder.graph, node, n, inside) for n in range(len(node.inputs))]
            with builder.graph.origin(node.origin.layer, node.origin.line):
                inside[node.output] = builder.graph.emit(node.op, inputs, self.attrs(node))
        yields, shapes = [], []
        for value in self.outputs:
            places = self.result_places(value.node)
            rest = tuple(d for i, d in enumerate(value.shape) if i not in places)
            yields.append(OPS["reshape"](inside[value], shape=rest))
            shapes.append((places, rest))
        stacks = []
        for (value, places), rest in zip(self.stacked, rests):
            full = tuple(region.rows[places.index(i)] if i in places else d for i, d in enumerate(value.shape))
            perm = (*places, *(i for i in range(value.rank) if i not in places))
            if full == tuple(value.shape):
                outer = _turned(region, new, mapped, value, perm, region.all)
            else:
                outer = OPS["transpose"](OPS["broadcast_to"](mapped[value], shape=full), perm=perm)
            stacks.append(OPS["reshape"](outer, shape=(total, *rest)))
        found = run_scan(
            new, builder.finish([], yields), [], stacks, [mapped[v] for v in self.whole], total, reverse=False
        )
        results = []
        for value, (places, rest) in zip(found, shapes):
            value = OPS["reshape"](value, shape=(*region.rows, *rest))
            perm = (*places, *(i for i in range(value.rank) if i not in places))
            results.append(OPS["transpose"](value, perm=tuple(perm.index(i) for i in range(value.rank))))
        return results

    def operand(self, graph: Graph, node: Node, number: int, inside: dict) -> Value:
        value = node.inputs[number]
        if self.is_inside(value):
            return inside[value]
        if value in inside:
            return inside[value]
        if value.node.role == CONSTANT and value.type.size == 1:
            return graph.constant(value.node.data)
        return inside[value, self.places(node, number)]

    def result_places(self, node: Node) -> Places:
        letters = self.region.ends.get(node)
        if letters is None:
            return tuple(range(self.region.count))
        out = parse_spec(node.attrs["spec"]).out
        return tuple(out.index(c) for c in letters)

    def attrs(self, node: Node) -> dict:
        """The attributes for one row."""
        attrs = dict(node.attrs)
        if node.op.name == "contract":
            letters = self.region.ends.get(node) or self.region.letters(node)
            attrs["sizes"] = tuple((k, 1 if k in letters else v) for k, v in attrs["sizes"])
        elif node.op.name in ("broadcast_to", "reshape", "iota"):
            attrs["shape"] = (*(1 for _ in self.region.rows), *attrs["shape"][self.region.count :])
        return attrs
