"""Large values between products, a row at a time: the attention matrix is never stored whole.

A batched product may make more than it reads (queries with keys), and another reduce that again (shares with
values). What lies between is needed row by row of the common axes - batch, head - so the products, and all that
happens between them, become the body of a loop over these rows that carries nothing. A task of it is a row
(rows.py), and the large values live in the core's own cache, one row of them for each worker. Of rows that are
too large for that the body makes strips (strips.py).

    region   nodes whose results have the large shape, the reductions of these along other axes and what is
             computed from reductions, and the products that read large values and make small ones
    level    how often a node's operands have left the region on the way to it: the gradient of a region reads
             what was computed from its results. Each level is a loop
    between  what a later level needs of an earlier one: small values are yielded; large ones are computed again

So the gradient of attention keeps two numbers per query (maximum, sum) and pays one more product.
"""

from __future__ import annotations

from kcompile.ir import dim
from kcompile.ir.graph import CONSTANT, Graph, Node, Value, copy_node
from kcompile.ir.op import OPS, Kind
from kcompile.ir.types import Type
from kcompile.ops.control import BodyBuilder, Nest, run_scan
from kcompile.ops.spec import Spec, parse_spec
from kcompile.passes.algebra import simplify
from kcompile.passes.regions import Places, Region, Users, axes_of, count_common, grows, places_of, region_of
from kcompile.passes.spread import spread
from kcompile.passes.strips import in_strips


def block_rows(graph: Graph) -> Graph:
    """Put every region into loops over its rows.

    After: no value of a region's large shape is stored, other than a row of it.
    """
    seeds = [n for n in graph.live_nodes() if grows(n)]
    if not seeds:
        return graph
    ready = spread(graph, {tuple(n.output.shape): count_common(n) for n in seeds})
    regions = _regions(ready)
    return simplify(_rewritten(ready, regions)) if regions else graph


def _regions(graph: Graph) -> list[Region]:
    live = graph.live_nodes()
    seeds = [n for n in live if grows(n)]
    users: Users = {}
    for node in live:
        for value in dict.fromkeys(node.inputs):
            users.setdefault(value, []).append(node)
    regions: list[Region] = []
    taken: set[Node] = set()
    for seed in seeds:
        region = None if seed in taken else region_of(graph, users, seed)
        if region is not None and not taken.intersection(region.all):
            regions.append(region)
            taken.update(region.all)
    return regions


def _levels(region: Region) -> dict[Node, int]:
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


def _bodies(region: Region) -> list[_RowBody]:
    """The loops of a region, the last first: what it needs of an earlier one, that one yields."""
    levels = _levels(region)
    kept = set(region.graph.results)
    last = max(levels[n] for n in (*region.ends, *region.small))
    outputs: dict[int, list[Value]] = {n: [] for n in range(1, last + 1)}
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


def _rewritten(graph: Graph, regions: list[Region]) -> Graph:
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
    region: Region, new: Graph, mapped: dict[Value, Value], value: Value, perm: tuple[int, ...], readers: set[Node]
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


Operand = "tuple[Value, Places, tuple[int | None, ...]]"  # with the axes of the large values it is read along


class _RowBody:
    """The loop of one level: its operands and its body."""

    def __init__(self, region: Region, levels: dict[Node, int], level: int, outputs: list[Value]):
        self.region, self.levels, self.level, self.outputs = region, levels, level, outputs
        self.stacked: dict[Operand, None] = {}
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
                    self.enter(value, self.places(node, n), axes_of(self.region, node, n))

    def is_inside(self, value: Value) -> bool:
        """True if the body computes the value."""
        node = value.node
        if node in self.region.nodes:
            return True
        return node in self.region.small and self.levels[node] == self.level

    def places(self, node: Node, number: int) -> Places:
        return places_of(self.region, node, number)

    def enter(self, value: Value, places: Places, axes: tuple) -> None:
        if all(p is None for p in places):
            if value.node.role != CONSTANT or value.type.size != 1:
                self.whole[value] = None
        else:
            self.stacked[value, places, axes] = None

    @property
    def operands(self) -> list[Value]:
        read = [v for n in self.order for v in n.inputs if not self.is_inside(v)]
        return list(dict.fromkeys([*(v for v, *_ in self.stacked), *self.whole, *read]))

    def emit(self, new: Graph, mapped: dict[Value, Value]) -> list[Value]:
        region = self.region
        total = dim.product(region.rows)
        rests = [tuple(d for i, d in enumerate(v.shape) if i not in places) for v, places, _ in self.stacked]
        builder = BodyBuilder(
            [],
            [Type(v.dtype, rest) for (v, *_), rest in zip(self.stacked, rests)],
            [v.type for v in self.whole],
        )
        inside: dict[Operand | Value, Value] = dict(zip(self.whole, builder.whole))
        for (value, places, axes), source in zip(self.stacked, builder.rows):
            unit = tuple(1 if i in places else d for i, d in enumerate(value.shape))
            inside[value, places, axes] = OPS["reshape"](source, shape=unit)
        for node in self.order:
            inputs = [self.operand(builder.graph, node, n, inside) for n in range(len(node.inputs))]
            if node.op.name == "random_bits":
                inputs.append(builder.step)
            with builder.graph.origin(node.origin.layer, node.origin.line):
                inside[node.output] = builder.graph.emit(node.op, inputs, self.attrs(node))
        yields, shapes = [], []
        for value in self.outputs:
            places = self.resultplaces_of(value.node)
            rest = tuple(d for i, d in enumerate(value.shape) if i not in places)
            yields.append(OPS["reshape"](inside[value], shape=rest))
            shapes.append((places, rest))
        stacks = []
        for (value, places, _), rest in zip(self.stacked, rests):
            own = [p for p in places if p is not None]
            perm = (*own, *(i for i in range(value.rank) if i not in own))
            outer = _turned(region, new, mapped, value, perm, region.all)
            stacks.append(OPS["reshape"](outer, shape=(dim.product(value.shape[p] for p in own), *rest)))
        along = (tuple(n for n, p in enumerate(places) if p is not None) for _, places, _ in self.stacked)
        nest = Nest(region.rows, tuple(along))
        body = in_strips(builder.finish([], yields), len(stacks))
        found = run_scan(new, body, [], stacks, [mapped[v] for v in self.whole], total, reverse=False, nest=nest)
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
        return inside[value, self.places(node, number), axes_of(self.region, node, number)]

    def resultplaces_of(self, node: Node) -> Places:
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
        elif node.op.name in ("broadcast_to", "reshape", "iota", "random_bits"):
            attrs["shape"] = (*(1 for _ in self.region.rows), *attrs["shape"][self.region.count :])
        return attrs
