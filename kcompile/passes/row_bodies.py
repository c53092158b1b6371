"""The loop over a region's rows: what of its operands a row reads, and the body that computes one row.

    rows     along the common axes - batch, head. An operand that lacks some of them - a mask for all heads - is not
             repeated: rows that differ in these read the same
    totals   sums of large values over some common axes, as in the gradient of a bias that all of a batch share. Then
             the loop goes over the axes that are kept, and its body holds another one over those that are summed,
             which carries the sums. All loops of such a region are built so: operands lie in the same order in all

The order of all sums follows from sizes alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from kcompile.ir import dim
from kcompile.ir.body import Body
from kcompile.ir.dim import DimLike
from kcompile.ir.graph import CONSTANT, Graph, Node, Value, transplant
from kcompile.ir.op import OPS, Kind
from kcompile.ir.types import Type, f32, f64
from kcompile.ops.control import BodyBuilder, Nest, parts, run_scan
from kcompile.ops.spec import Spec, parse_spec
from kcompile.passes.regions import Places, Region, axes_of, places_of
from kcompile.passes.strips import cast_to, in_strips

Operand = "tuple[Value, Places, tuple[int | None, ...]]"  # with the axes of the large values it is read along


class RowBody:
    """The loop of one level: its operands and its body."""

    def __init__(self, region: Region, levels: dict[Node, int], level: int, outputs: list[Value]):
        self.region, self.levels, self.level, self.outputs = region, levels, level, outputs
        self.stacked: dict[Operand, None] = {}
        self.whole: dict[Value, None] = {}
        needed: set[Node] = set()  # what the body computes
        stack = [self.row_of(v).node for v in outputs]
        while stack:
            node = stack.pop()
            if node not in needed:
                needed.add(node)
                stack += [v.node for v in node.inputs if self.is_inside(v)]
        self.order = [n for n in region.graph.live_nodes() if n in needed]
        for node in self.order:
            for n, value in enumerate(node.inputs):
                if not self.is_inside(value):
                    self.enter(value, places_of(region, node, n), axes_of(region, node, n))

    def row_of(self, output: Value) -> Value:
        """The value of which a row gives a part of the output."""
        return output.node.inputs[0] if output.node in self.region.totals else output

    def is_inside(self, value: Value) -> bool:
        """True if the body computes the value."""
        node = value.node
        if node in self.region.nodes and node not in self.region.taken:
            return True
        return (node in self.region.small or node in self.region.taken) and self.levels[node] == self.level

    def enter(self, value: Value, places: Places, axes: tuple) -> None:
        if all(p is None for p in places):
            if value.node.role != CONSTANT or value.type.size != 1:
                self.whole[value] = None
        else:
            self.stacked[value, places, axes] = None

    @property
    def operands(self) -> list[Value]:
        """What the loop reads."""
        read = [v for n in self.order for v in n.inputs if not self.is_inside(v)]
        return list(dict.fromkeys([*(v for v, *_ in self.stacked), *self.whole, *read]))

    def emit(self, new: Graph, mapped: dict[Value, Value]) -> list[Value]:
        """Emit the loop; what the outputs are."""
        region = self.region
        kept, summed = region.kept, region.summed
        counts = [_product(region.rows[n] for n in axes) for axes in (kept, summed)]
        operands = [_Stack(region, *key) for key in self.stacked]
        given = [_turned(region, new, mapped, o.value, o.perm, region.all) for o in operands]
        given = [OPS["reshape"](v, shape=o.shape) for v, o in zip(given, operands)]
        row = in_strips(self.row(operands), len(operands))
        body = self.summing(row, operands, counts[1]) if summed else row
        stacks = [v for v, o in zip(given, operands) if o.kept]
        whole = [*(v for v, o in zip(given, operands) if not o.kept), *(mapped[v] for v in self.whole)]
        nest = _nest(region, kept, [o.kept for o in operands if o.kept])
        found = run_scan(new, body, [], stacks, whole, counts[0], reverse=False, nest=nest)
        return [self.result(v, made) for v, made in zip(self.outputs, found)]

    # the bodies -----------------------------------------------------------------------------------

    def row(self, operands: Sequence[_Stack]) -> Body:
        """The body for one row of all common axes; of a sum it yields the row's part."""
        builder = BodyBuilder([], [o.row for o in operands], [v.type for v in self.whole])
        inside: dict[Operand | Value, Value] = dict(zip(self.whole, builder.whole))
        for operand, source in zip(operands, builder.rows):
            inside[operand.key] = OPS["reshape"](source, shape=operand.unit)
        for node in self.order:
            inputs = [self.operand(builder.graph, node, n, inside) for n in range(len(node.inputs))]
            if node.op.name == "random_bits":
                inputs.append(builder.step)
            with builder.graph.origin(node.origin.layer, node.origin.line):
                inside[node.output] = builder.graph.emit(node.op, inputs, self.attrs(node))
        return builder.finish([], [OPS["reshape"](inside[self.row_of(v)], shape=self.rest(v)) for v in self.outputs])

    def summing(self, row: Body, operands: Sequence[_Stack], count: DimLike) -> Body:
        """The body for all rows along the summed axes: a loop over them that carries the sums."""
        region, inside = self.region, parts(row, 0, len(operands))
        plain = [v.type for v in inside.whole]
        is_total = [v.node in region.totals for v in self.outputs]
        carried = [v.type if v.dtype is f64 else v.type.with_dtype(f32) for v, t in zip(inside.yields, is_total) if t]

        rows, fixed = [o for o in operands if o.kept], [o for o in operands if not o.kept]
        outer = BodyBuilder([], [o.part for o in rows], [*(o.part for o in fixed), *plain])
        given = dict(zip((o.key for o in (*rows, *fixed)), (*outer.rows, *outer.whole)))
        shared = [*outer.whole[len(fixed) :], outer.step]

        rows, fixed = [o for o in operands if o.summed], [o for o in operands if not o.summed]
        inner = BodyBuilder(carried, [o.row for o in rows], [*(o.row for o in fixed), *plain, outer.step.type])
        own = dict(zip((o.key for o in (*rows, *fixed)), (*inner.rows, *inner.whole)))
        known = {v: own[o.key] for v, o in zip(inside.rows, operands)}
        known.update(zip(inside.whole, inner.whole[len(fixed) :]))
        known[inside.step] = _number(region, inner.whole[-1], inner.step)
        made = transplant(inner.graph, inside.yields, known)
        added = (v for v, t in zip(made, is_total) if t)
        nexts = [OPS["add"](c, cast_to(v, c.dtype)) for c, v in zip(inner.carries, added)]
        body = inner.finish(nexts, [v for v, t in zip(made, is_total) if not t])

        zeros = [OPS["broadcast_to"](outer.graph.constant(0, t.dtype), shape=tuple(t.shape)) for t in carried]
        nest = _nest(region, region.summed, [o.summed for o in rows])
        shared = [*(given[o.key] for o in fixed), *shared]
        stacks = [given[o.key] for o in rows]
        found = run_scan(outer.graph, body, zeros, stacks, shared, count, reverse=False, nest=nest)
        totals, yields = iter(found[: len(zeros)]), iter(found[len(zeros) :])
        results = [next(totals) if t else next(yields) for t in is_total]
        return outer.finish([], [cast_to(v, w.dtype) for v, w in zip(results, inside.yields)])

    def operand(self, graph: Graph, node: Node, number: int, inside: dict) -> Value:
        value = node.inputs[number]
        if value in inside:
            return inside[value]
        if value.node.role == CONSTANT and value.type.size == 1:
            return graph.constant(value.node.data)
        return inside[value, places_of(self.region, node, number), axes_of(self.region, node, number)]

    def attrs(self, node: Node) -> dict:
        """The attributes for one row."""
        attrs = dict(node.attrs)
        if node.op.name == "contract":
            letters = self.region.ends.get(node) or self.region.letters(node)
            attrs["sizes"] = tuple((k, 1 if k in letters else v) for k, v in attrs["sizes"])
        elif node.op.name in ("broadcast_to", "reshape", "iota", "random_bits"):
            attrs["shape"] = (*(1 for _ in self.region.rows), *attrs["shape"][self.region.count :])
        return attrs

    # results --------------------------------------------------------------------------------------

    def places(self, output: Value) -> tuple[int, ...]:
        """Where the common axes are in the value a row gives a part of."""
        letters = self.region.ends.get(output.node)
        if letters is None:
            return tuple(range(self.region.count))
        out = parse_spec(output.node.attrs["spec"]).out
        return tuple(out.index(c) for c in letters)

    def rest(self, output: Value) -> tuple[DimLike, ...]:
        """The shape of a row's part."""
        places = self.places(output)
        return tuple(d for i, d in enumerate(self.row_of(output).shape) if i not in places)

    def result(self, output: Value, made: Value) -> Value:
        """An output, from what the loop yields: the kept axes, the summed ones if they are not summed, the rest."""
        region = self.region
        if output.node in region.totals:
            return OPS["reshape"](made, shape=tuple(output.shape))
        order = (*region.kept, *region.summed)
        value = OPS["reshape"](made, shape=(*(region.rows[n] for n in order), *self.rest(output)))
        places = self.places(output)
        first = [places[n] for n in order]
        perm = (*first, *(i for i in range(value.rank) if i not in first))
        return OPS["transpose"](value, perm=tuple(perm.index(i) for i in range(value.rank)))


class _Stack:
    """An operand that has some of the common axes: kept ones first, then summed ones, then all others."""

    def __init__(self, region: Region, value: Value, places: Places, axes: tuple):
        self.key, self.value = (value, places, axes), value
        self.kept = [n for n in region.kept if places[n] is not None]
        self.summed = [n for n in region.summed if places[n] is not None]
        own = [places[n] for n in (*self.kept, *self.summed)]
        self.perm = (*own, *(i for i in range(value.rank) if i not in own))
        rest = tuple(value.shape[i] for i in self.perm[len(own) :])
        counts = [[_product(region.rows[n] for n in axes)] if axes else [] for axes in (self.kept, self.summed)]
        self.shape = (*counts[0], *counts[1], *rest)
        self.part = Type(value.dtype, (*counts[1], *rest))  # for all rows along the summed axes
        self.row = Type(value.dtype, rest)
        self.unit = tuple(1 if i in own else d for i, d in enumerate(value.shape))


def _nest(region: Region, axes: tuple[int, ...], along: Sequence[Sequence[int]]) -> Nest:
    """Steps along some of the common axes; each operand has rows along some of these."""
    return Nest(tuple(region.rows[n] for n in axes), tuple(tuple(axes.index(n) for n in own) for own in along))


def _number(region: Region, outer: Value, inner: Value) -> Value:
    """The number of a row among those of all common axes, from its numbers along the kept and the summed ones."""
    index: dict[int, Value] = {}
    for axes, left in ((region.kept, outer), (region.summed, inner)):
        for axis in reversed(axes):
            size = _size(left, region.rows[axis])
            index[axis] = left if axis == axes[0] else OPS["mod"](left, size)
            left = OPS["floordiv"](left, size)
    found = index[0]
    for axis in range(1, region.count):
        found = OPS["add"](OPS["mul"](found, _size(found, region.rows[axis])), index[axis])
    return found


def _size(like: Value, size: DimLike) -> Value:
    if dim.is_static(size):
        return like.graph.constant(size, like.dtype)
    return OPS["size"](like, value=size, dtype=like.dtype.name)


def _product(sizes) -> DimLike:
    return dim.product(tuple(sizes))


# operands in the order of rows ----------------------------------------------------------------------


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
