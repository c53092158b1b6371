"""What stands in the way of a region (regions.py) takes the region's shape, or is left outside.

    masks    a value that is computed element by element, as large as a row of the region but the same for all heads
             or the whole batch: computed for each of them, so that it is computed where it is read, not stored
    sums     over the common axes and others: over the others first, which rows do alone, then over the common ones

Both cost little beside what the row's products cost.
"""

from __future__ import annotations

from collections.abc import Mapping

from kcompile.ir import dim
from kcompile.ir.graph import Graph, Node, Value, rebuild
from kcompile.ir.op import OPS, Kind
from kcompile.passes.regions import REPEATED_SHARE

Shape = "tuple[DimLike, ...]"
Places = "tuple[int, ...]"  # of a value's dimensions in a region's shape


def spread(graph: Graph, shapes: Mapping[Shape, int]) -> Graph:
    """Bring what regions of these shapes read into their shape; shapes: how many common axes each has."""
    memo: dict = {}

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]) -> Value | None:
        if node.is_source or len(node.outputs) != 1:
            return None
        if node.op.name.startswith("reduce_"):
            shape = next((s for s in shapes if tuple(inputs[0].shape[: len(s)]) == s), None)
            return shape and _in_turn(new, node, inputs[0], shape, shapes[shape])
        shape = tuple(node.output.shape)
        if shape not in shapes or not _is_elementwise(node):
            return None
        region = _Region(new, shape, shapes[shape], memo)
        found = [region.spread(v, tuple(range(len(shape) - v.rank, len(shape)))) for v in inputs]
        if all(a is b for a, b in zip(found, inputs)):
            return None
        return found[0] if node.op.name == "broadcast_to" else new.emit(node.op, found, node.attrs)

    return rebuild(graph, visit)


def _is_elementwise(node: Node) -> bool:
    return not node.is_source and (node.op.kind is Kind.ELEMENTWISE or node.op.name == "broadcast_to")


def _in_turn(new: Graph, node: Node, operand: Value, shape: Shape, common: int) -> Value | None:
    """A reduction over common axes and others, as two."""
    axes = node.attrs["axes"]
    inner = tuple(a for a in axes if common <= a < len(shape))
    if not inner or min(axes) >= common:
        return None
    last = inner[-1:]  # along one axis; what that leaves is small
    first = new.emit(node.op, [operand], {**node.attrs, "axes": last, "keepdims": True})
    return new.emit(node.op, [first], node.attrs)


class _Region:
    """Emits values of one region's shape."""

    def __init__(self, graph: Graph, shape: Shape, common: int, memo: dict):
        self.graph, self.shape, self.common, self.memo = graph, shape, common, memo

    def spread(self, value: Value, places: Places) -> Value:
        """The value if it is small, or nothing is known of how it is made; else the same in the region's shape."""
        if tuple(value.shape) == self.shape or not self.is_large(value, places):
            return value
        found = self.made(value, places)
        return value if found is None else found

    def is_large(self, value: Value, places: Places) -> bool:
        """True if a part of the value for each row would be too much."""
        row = self.shape[self.common :]
        own = [d for p, d in zip(places, value.shape) if p >= self.common]
        share = dim.nominal(dim.product(own)) * REPEATED_SHARE
        return dim.degree(own) == dim.degree(row) and share > dim.nominal(dim.product(row))

    def made(self, value: Value, places: Places) -> Value | None:
        key = (value, places, self.shape)
        if key not in self.memo:
            self.memo[key] = self._made(value, places)
        return self.memo[key]

    def _made(self, value: Value, places: Places) -> Value | None:
        """The value in the region's shape; None if it is not computed element by element from smaller ones."""
        node = value.node
        if node.is_source:
            return None
        if node.op.name == "iota":
            attrs = {**node.attrs, "shape": self.shape, "axis": places[node.attrs["axis"]]}
            return self.graph.emit(node.op, node.inputs, attrs)
        if node.op.name == "reshape":
            (operand,) = node.inputs
            kept = [p for p, d in zip(places, value.shape) if d != 1]
            if [d for d in operand.shape if d != 1] != [d for d in value.shape if d != 1]:
                return None
            free = [p for p in range(len(self.shape)) if p not in kept]
            moved = _filled(operand.shape, kept, free)
            return moved and self.operand(operand, moved)
        if not _is_elementwise(node):
            return None
        found = [self.operand(v, places[value.rank - v.rank :]) for v in node.inputs]
        if any(v is None for v in found):
            return None
        if node.op.name == "broadcast_to":
            return OPS["broadcast_to"](found[0], shape=self.shape)
        if all(tuple(v.shape) != self.shape for v in found):
            found[0] = OPS["broadcast_to"](found[0], shape=self.shape)
        return self.graph.emit(node.op, found, node.attrs)

    def operand(self, value: Value, places: Places) -> Value | None:
        """An operand: in the region's shape if it is large and computed, else read where it is stored."""
        if self.is_large(value, places) and (made := self.made(value, places)) is not None:
            return made
        found = {p: d for p, d in zip(places, value.shape) if d != 1}
        if list(found) != sorted(found):
            return None
        shape = [found.get(p, 1) for p in range(len(self.shape))]
        return value if value.type.size == 1 else OPS["reshape"](value, shape=tuple(shape))


def _filled(shape: Shape, kept: list[int], free: list[int]) -> Places | None:
    """Places of an operand's dimensions: of those that are not 1 as given, of the others any in between."""
    if len(shape) > len(kept) + len(free):
        return None
    given, spare = iter(kept), list(free)
    return tuple(next(given) if d != 1 else spare.pop() for d in shape)
