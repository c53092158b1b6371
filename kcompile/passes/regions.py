"""Regions of large values between batched products: what blocks.py puts into loops.

A region starts at a product that makes more than it reads - or a sum over features of what pairs of rows make, as in
additive attention - and grows through everything that makes or reads values of that shape, or of that shape and more
dimensions behind it. One that is made by something that does not keep the rows - the common axes of the product -
apart is read where it is stored, and one that is needed whole elsewhere is stored; if these are many, the region is
left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kcompile.ir import dim
from kcompile.ir.dim import DimLike
from kcompile.ir.graph import Graph, Node, Value
from kcompile.ir.op import Kind
from kcompile.ops.spec import parse_spec, plain_letter
from kcompile.passes.rows import STEPS_APART
from kcompile.target import Target

SMALLEST_ROW = 2048  # elements: calls of kernels for smaller rows cost more than their staying in cache saves
REPEATED_SHARE = 8  # a value less than this part of a row is stored, not computed again for each (spread.py)

MOST_TAKEN = 1  # large values of a region that are stored all the same: more of them leave too little to save

_ALIGNED = ("broadcast_to", "stop_gradient")  # ops whose operands are aligned with the result as elementwise ones are

Users = "dict[Value, list[Node]]"
Places = "tuple[int | None, ...]"  # of each common axis in a value's dimensions; None: it is the same along it


def grows(node: Node, target: Target) -> bool:
    """True for a batched product of which a row is large, and larger than both operands'; common axes first."""
    if is_sum_of_pairs(node, target):
        return True
    common = _common(node)
    if not common:
        return False
    rows = dim.product(node.output.shape[: len(common)])
    if parse_spec(node.attrs["spec"]).out[: len(common)] != common or (dim.is_static(rows) and rows < STEPS_APART):
        return False
    if is_square(node):
        return True
    sizes = [dim.nominal(v.type.size) for v in (node.output, *node.inputs)]
    if dim.nominal(dim.product(node.output.shape[len(common) :])) < SMALLEST_ROW:
        return False
    return sizes[0] > sizes[1] + sizes[2]


def is_square(node: Node) -> bool:
    """True if a row of a batched product has more named sizes for factors than one of its operands.

    However small these sizes are taken to be, there are some for which such a row is too large to be stored.
    """
    common = _common(node)
    spec = parse_spec(node.attrs["spec"])
    given = (zip(v.shape, _plain(side)) for v, side in zip(node.inputs, spec.sides))
    made = dim.degree(d for d, c in zip(node.output.shape, spec.out) if c not in common)
    return made > max(dim.degree(d for d, c in side if c not in common) for side in given)


def is_sum_of_pairs(node: Node, target: Target) -> bool:
    """True for a sum along the last axis of values made, element by element, of smaller operands.

    Larger by a named size; or, where sizes are known, than all of them together and than what a core keeps near.
    """
    if node.is_source or node.op.name != "reduce_sum":
        return False
    (operand,) = node.inputs
    if node.attrs["keepdims"] or node.attrs["axes"] != (operand.rank - 1,) or operand.rank < 4:
        return False
    leaves = _leaves(operand)
    if not leaves or not (_has_more_names(operand, leaves) or _outgrows(operand, leaves, target.l2_bytes)):
        return False
    paired = [v for v in leaves if v.rank == operand.rank]
    return len(paired) > 1 and all(v.shape[0] == operand.shape[0] for v in paired)


def _has_more_names(value: Value, leaves: list[Value]) -> bool:
    named = dim.degree(value.shape[1:])
    return named > 1 and all(dim.degree(v.shape[1:]) < named for v in leaves)


def _outgrows(value: Value, leaves: list[Value], cache_bytes: int) -> bool:
    rows, *row = value.shape
    if any(not dim.is_static(d) for d in row) or (dim.is_static(rows) and rows < STEPS_APART):
        return False
    together = sum(dim.nominal(v.type.size) for v in leaves)
    return dim.nominal(value.type.nbytes) > cache_bytes and dim.nominal(value.type.size) > together


def _leaves(value: Value) -> list[Value]:
    """What a value is computed from, element by element, of other shapes than its own."""
    found, stack, seen = [], [value], set()
    while stack:
        node = stack.pop().node
        if node in seen:
            continue
        seen.add(node)
        if node.is_source or not (node.op.kind is Kind.ELEMENTWISE or node.op.name == "broadcast_to"):
            return []
        for operand in node.inputs:
            (stack if operand.shape == value.shape else found).append(operand)
    return found


def count_common(node: Node) -> int:
    """How many axes of a region's seed are common to what it is made of and its result."""
    return len(_common(node)) if node.op.name == "contract" else 1


def _common(node: Node) -> tuple[str, ...]:
    """The letters of a product that both operands and the result have, in the order of the result."""
    if node.is_source or node.op.name != "contract":
        return ()
    spec = parse_spec(node.attrs["spec"])
    letters = [_plain(side) for side in spec.sides]
    return tuple(c for c in spec.out if all(c in side for side in letters))


def _plain(side: tuple) -> tuple[str, ...]:
    return tuple(plain_letter(d) or "" for d in side)


@dataclass(eq=False)
class Region:
    graph: Graph
    users: Users
    shape: tuple[DimLike, ...]  # of the large values
    count: int  # of common axes, which stand first in it
    nodes: set[Node] = field(default_factory=set)  # with large results
    taken: set[Node] = field(default_factory=set)  # those of them that are needed whole elsewhere
    small: set[Node] = field(default_factory=set)  # reductions, and what is computed from them
    ends: dict[Node, tuple] = field(default_factory=dict)  # products with small results -> their common letters
    totals: dict[Node, tuple[int, ...]] = field(default_factory=dict)  # sums of large values -> common axes they sum

    @property
    def rows(self) -> tuple[DimLike, ...]:
        return self.shape[: self.count]

    @property
    def all(self) -> set[Node]:
        return {*self.nodes, *self.small, *self.ends, *self.totals}

    @property
    def summed(self) -> tuple[int, ...]:
        """The common axes that sums go along."""
        return next(iter(self.totals.values()), ())

    @property
    def kept(self) -> tuple[int, ...]:
        """The other common axes."""
        return tuple(n for n in range(self.count) if n not in self.summed)

    def has(self, node: Node) -> bool:
        return node in self.nodes or node in self.small or self.is_end(node)

    def is_end(self, node: Node) -> bool:
        """True if the node's result is known only after the loop."""
        return node in self.ends or node in self.totals

    def is_large(self, value: Value) -> bool:
        """True for values of the shape, or with more dimensions behind it."""
        return value.shape[: len(self.shape)] == self.shape

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


class Refused(Exception):
    """The region cannot, or should not, be put into loops."""


def region_of(graph: Graph, users: Users, seed: Node) -> Region | None:
    region = Region(graph, users, seed.output.shape, count_common(seed))
    try:
        _grow(region, seed)
        _check(region)
    except Refused:
        return None
    return region


def _grow(region: Region, seed: Node) -> None:
    """Collect what makes and reads large values, both ways from the seed."""
    kept = set(region.graph.results)
    stack = [seed]
    if not _runs_in_rows(region, seed):
        raise Refused
    while stack:
        node = stack.pop()
        if node in region.nodes:
            continue
        region.nodes.add(node)
        if node.output in kept:
            region.taken.add(node)
        stack += [v.node for v in _large_operands(region, node) if _runs_in_rows(region, v.node)]
        for reader in region.users.get(node.output, ()):
            if _runs_in_rows(region, reader) and _keeps_shape(region, reader):
                stack.append(reader)
            elif reader.op.name == "contract" and (letters := region.letters(reader)):
                region.ends[reader] = letters
            elif _reduces_rows(region, reader):
                region.small.add(reader)
            elif reader.op.name == "reduce_sum" and 0 <= max(reader.attrs["axes"], default=-1) < region.count:
                region.totals[reader] = tuple(sorted(reader.attrs["axes"]))
            else:
                region.taken.add(node)
    region.small |= _between(region)


def _runs_in_rows(region: Region, node: Node) -> bool:
    """True if a row of the node's large result depends on a row of its operands."""
    if node.is_source or len(node.outputs) != 1:
        return False
    if node.op.name == "contract":
        return parse_spec(node.attrs["spec"]).out[: region.count] == region.letters(node)
    if node.op.name == "iota":
        return node.attrs["axis"] >= region.count
    if node.op.name == "random_bits":
        return len(node.inputs) == 1  # numbers of a row are a part of all of them
    if node.op.name == "reshape":
        return region.is_large(node.inputs[0])
    return _reduces_rows(region, node) or node.op.kind is Kind.ELEMENTWISE or node.op.name in _ALIGNED


def _large_operands(region: Region, node: Node) -> list[Value]:
    """Operands of a node with a large result that are large values, too."""
    found = [(v, n) for n, v in enumerate(node.inputs) if region.is_large(v)]
    if node.op.name == "contract":
        spec, rank = parse_spec(node.attrs["spec"]), len(region.shape)
        found = [(v, n) for v, n in found if _plain(spec.sides[n])[:rank] == spec.out[:rank]]
    return [v for v, _ in found]


def _keeps_shape(region: Region, node: Node) -> bool:
    """True if a reader of a large value makes another one; its result may have the same sizes for other axes."""
    if not region.is_large(node.output):
        return False
    if node.op.name.startswith("reduce_"):
        return min(node.attrs["axes"], default=0) >= len(region.shape)
    if node.op.name == "contract":
        return bool(_large_operands(region, node))
    return True


def _reduces_rows(region: Region, node: Node) -> bool:
    return node.op.name.startswith("reduce_") and min(node.attrs["axes"], default=0) >= region.count


def _between(region: Region) -> set[Node]:
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


def _keeps_rows(region: Region, node: Node) -> bool:
    if len(node.outputs) != 1 or node.output.shape[: region.count] != region.rows:
        return False
    if node.op.name == "reshape":
        return node.inputs[0].shape[: region.count] == region.rows
    return node.op.kind is Kind.ELEMENTWISE or node.op.name in _ALIGNED


def _check(region: Region) -> None:
    for node in [n for n, axes in region.totals.items() if axes != region.summed]:  # a loop sums along one set of axes
        del region.totals[node]
        region.taken.add(node.inputs[0].node)
    if not region.ends or len(region.taken) > MOST_TAKEN:
        raise Refused
    for node in (*region.nodes, *region.small, *region.ends):
        for n, value in enumerate(node.inputs):
            places = places_of(region, node, n)
            if any(p is not None and value.shape[p] != r for p, r in zip(places, region.rows)):
                raise Refused


def places_of(region: Region, node: Node, number: int) -> Places:
    """Where operand `number` of a region's node has the common axes."""
    value = node.inputs[number]
    if node.op.name == "contract":
        side = _plain(parse_spec(node.attrs["spec"]).sides[number])
        letters = region.ends.get(node) or region.letters(node)
        found = tuple(side.index(c) for c in letters)
    else:  # operands are aligned at their last dimension
        missing = 0 if region.has(value.node) else node.output.rank - value.rank
        found = tuple(p if p >= 0 else None for p in range(-missing, region.count - missing))
    return tuple(None if p is None or value.shape[p] == 1 else p for p in found)


def axes_of(region: Region, node: Node, number: int) -> tuple[int | None, ...]:
    """Which dimension of a large value each dimension of an operand goes along, if any.

    A value may be read along different ones: what attends to itself is queries and keys.
    """
    value = node.inputs[number]
    if node.op.name != "contract":
        missing = node.output.rank - value.rank
        return tuple(n + missing for n in range(value.rank))
    spec = parse_spec(node.attrs["spec"])
    sides = (*map(_plain, spec.sides), spec.out)
    large = next(side for v, side in zip((*node.inputs, node.output), sides) if region.is_large(v))
    return tuple(large.index(c) if c in large else None for c in sides[number])
