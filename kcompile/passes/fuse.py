"""Which nodes become one kernel.

In:  a legalised graph. Out: clusters in a valid order; each holds *units*, the nodes whose results
are written down: anchors (contractions, reductions, windows, ...) and *roots* (elementwise or index
results that must exist in memory). Every other map node is computed inside the units that read it.

Three steps, each decided on kinds and shapes, never on names:
  1. roots: which map values must exist (roots.py).
  2. clusters: each unit, in order, joins the cluster of a value it reads or of a sibling if
     `refusal` finds no reason against it (legality) and the join saves memory traffic (profit).
  3. what the clusters read and write follows.

Source: the join of a producer's anchor with its elementwise consumers follows TVM's operator kinds
(Chen et al., OSDI 2018, section 3); a refusal always carries its reason (`Fusion.refusals`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kcompile.forms.scalar import axes_in
from kcompile.ir import dim
from kcompile.ir.graph import Graph, Node, Value
from kcompile.ir.op import Kind
from kcompile.ir.types import Shape, Type
from kcompile.passes.pieces import is_pieced
from kcompile.passes.roots import MAX_DEPTH, choose_roots, cut_chains, is_border, is_map_node, is_scalar_constant

CACHED_BYTES = 8 << 20  # of a result that a later kernel reads as cheaply as a contraction's epilogue adds to sums
FEWEST_COLUMNS = 8  # of a contraction that also sums them: fewer lie badly in vectors
SEED_SIZE = 16  # numbers at most that a mask drawn at random is made from
MAX_UNITS = 24  # per cluster: LLVM's register allocation and our patience

MAP, ROW, REDUCE, WINDOW, CONTRACT, SINGLE = "map", "row", "reduce", "window", "contract", "single"
TILES = "tiles"


@dataclass(eq=False)
class Cluster:
    """Nodes that run as one kernel over `domain` (the output shape; for rows the shape of the rows)."""

    kind: str
    domain: Shape
    units: list[Node]
    number: int

    def __repr__(self) -> str:
        return f"<cluster {self.number} {self.kind} {'+'.join(u.op.name for u in self.units)}>"


@dataclass
class Fusion:
    """The result: clusters in order, the cluster of each unit, and why joins were refused."""

    graph: Graph
    clusters: list[Cluster]
    cluster_of: dict[Node, Cluster]
    roots: set[Node]
    refusals: list[tuple[Node, Cluster, str]] = field(default_factory=list)

    def is_written(self, value: Value) -> bool:
        """True if the value exists in memory: a source, or a unit's result."""
        return value.node.is_source or value.node in self.cluster_of


def fuse(graph: Graph) -> Fusion:
    """Group the graph's nodes into clusters."""
    roots, depths = cut_chains(graph, choose_roots(graph))
    builder = _Builder(graph, roots, depths)
    for node in graph.live_nodes():
        if node in roots or not (node.is_source or is_map_node(node)):
            builder.place(node)
    return Fusion(graph, [c for c in builder.clusters if c.units], builder.cluster_of, roots, builder.refusals)


# 2. clusters -----------------------------------------------------------------------------------


class _Builder:
    """Places units one by one; keeps, per cluster, the set of clusters it depends on."""

    def __init__(self, graph: Graph, roots: set[Node], inner_depths: dict[Node, int]):
        self.graph, self.roots, self.inner_depths = graph, roots, inner_depths
        self.consumers = graph.consumers()
        self.pieced = {n for n in roots if is_pieced(n, self.consumers)}
        self.depths: dict[Node, int] = {}  # of each unit's expression, through the other units of its cluster
        self.clusters: list[Cluster] = []
        self.cluster_of: dict[Node, Cluster] = {}
        self.refusals: list[tuple[Node, Cluster, str]] = []
        self.before: list[int] = []  # bit set of cluster numbers each cluster needs
        self.readers: dict[Value, dict[Cluster, None]] = {}
        self.inputs: dict[Node, list[Value]] = {}

    def place(self, node: Node) -> None:
        reads = self.inputs[node] = self.written_inputs(node)
        needed = {self.cluster_of[v.node] for v in reads if v.node in self.cluster_of}
        needed = self.merged(node, needed)
        producers = sorted(needed, key=lambda c: -c.number)
        may_join = is_map_node(node) or node.op.kind in (Kind.REDUCE, Kind.WINDOW)  # who only reads the same, too
        large = [v for v in reads if v.type.size != 1] if may_join else []
        siblings = [c for v in large for c in self.readers.get(v, ()) if c not in needed]
        for cluster in dict.fromkeys([*producers, *reversed(siblings)]):
            reason = self.refusal(node, cluster, needed)
            if reason is None:
                self.join(node, cluster, needed)
                break
            self.refusals.append((node, cluster, reason))
        else:
            self.open(node, needed)
        for value in reads:
            self.readers.setdefault(value, {})[self.cluster_of[node]] = None
        self.depths[node] = self.depth_in(node, self.cluster_of[node])

    def depth_in(self, node: Node, cluster: Cluster) -> int:
        """How many map nodes at most would be computed one inside the other for this unit, in this cluster."""
        if not is_map_node(node):
            return 0
        below = (self.depths[v.node] for v in self.inputs[node] if self.cluster_of.get(v.node) is cluster)
        return self.inner_depths[node] + max(below, default=0)

    def written_inputs(self, node: Node) -> list[Value]:
        """Values in memory that computing this unit reads, through the map nodes computed inside it."""
        found: dict[Value, None] = {}
        stack = list(node.inputs)
        seen: set[Node] = set()
        while stack:
            value = stack.pop()
            inner = value.node
            if is_map_node(inner) and inner not in self.roots:
                if inner not in seen:
                    seen.add(inner)
                    stack += inner.inputs
            elif not is_scalar_constant(value):
                found[value] = None
        return list(found)

    def open(self, node: Node, needed: Iterable[Cluster]) -> None:
        kind, domain = _shape_of_cluster(node)
        cluster = Cluster(kind, self.points(node) if kind == MAP else domain, [node], len(self.clusters))
        self.clusters.append(cluster)
        self.before.append(self.closure(needed))
        self.cluster_of[node] = cluster

    def points(self, node: Node) -> Shape:
        """The points a map unit is computed at: one for each element, or for each element of a piece."""
        return node.inputs[0].shape if node in self.pieced else node.output.shape

    def join(self, node: Node, cluster: Cluster, needed: Iterable[Cluster]) -> None:
        cluster.units.append(node)
        self.cluster_of[node] = cluster
        if cluster.kind == MAP and node.op.kind is Kind.REDUCE:
            cluster.kind, cluster.domain = ROW, _rows(node)
        gained = self.closure(c for c in needed if c is not cluster)
        bit = 1 << cluster.number
        for number in range(len(self.clusters)):  # whoever needs this cluster now needs what it gained
            if number == cluster.number or self.before[number] & bit:
                self.before[number] |= gained

    def merged(self, node: Node, needed: set[Cluster]) -> set[Cluster]:
        """Make one of the kernels over the same rows that `node` reads, could join, and that do not know each other."""
        rows = sorted((c for c in needed if c.kind == ROW), key=lambda c: c.number)
        for other in rows[1:]:
            first = rows[0]
            is_later = self.before[other.number] >> first.number & 1 or self.before[first.number] >> other.number & 1
            if is_later or other.domain != first.domain or len(first.units) + len(other.units) >= MAX_UNITS:
                continue
            if all(self.refusal(node, c, needed - {first, other}) is None for c in (first, other)):
                self.absorb(first, other)
                needed = needed - {other}
        return self.with_masks(node, needed)

    def with_masks(self, node: Node, needed: set[Cluster]) -> set[Cluster]:
        """Move what reads no array and `node` needs (dropout's mask) into the contraction that `node` could join.

        The product is then never stored. Where others need it anyway (the gradient of a relu before the dropout),
        nothing is saved: a loop draws the numbers a little faster than an epilogue.
        """
        anchors = [c for c in needed if c.kind == CONTRACT]
        if not is_map_node(node) or len(anchors) != 1 or self.users(anchors[0].units[0]) != {node}:
            return needed
        (anchor,) = anchors
        for other in [c for c in needed if c.kind == MAP and c.domain == anchor.domain]:
            reads = [v for u in other.units for v in self.inputs[u]]
            is_mask = all(dim.is_static(v.type.size) and v.type.size <= SEED_SIZE for v in reads)
            knows = self.before[other.number] >> anchor.number & 1 or self.before[anchor.number] >> other.number & 1
            if not is_mask or knows or len(anchor.units) + len(other.units) >= MAX_UNITS:
                continue
            if self.refusal(node, anchor, needed - {other}) is None:
                self.absorb(anchor, other)
                needed = needed - {other}
        return needed

    def absorb(self, cluster: Cluster, other: Cluster) -> None:
        """Move the units of `other`, which neither needs `cluster` nor is needed by it, to `cluster`."""
        cluster.units += other.units
        self.cluster_of.update(dict.fromkeys(other.units, cluster))
        other.units = []
        gained, old = self.before[other.number] | self.before[cluster.number], 1 << other.number
        self.before[cluster.number] = gained
        for number, before in enumerate(self.before):
            if before & (old | 1 << cluster.number):
                self.before[number] = (before & ~old) | gained | 1 << cluster.number
        for value, readers in self.readers.items():
            if other in readers:
                self.readers[value] = dict.fromkeys(cluster if c is other else c for c in readers)

    def users(self, producer: Node) -> set[Node]:
        """The units that read a node's result, through the map nodes computed inside them."""
        found: set[Node] = set()
        stack = list(self.consumers.get(producer.output, ()))
        while stack:
            user = stack.pop()
            if is_map_node(user) and user not in self.roots:
                stack += self.consumers.get(user.output, ())
            else:
                found.add(user)
        return found

    def closure(self, clusters: Iterable[Cluster]) -> int:
        bits = 0
        for c in clusters:
            bits |= self.before[c.number] | (1 << c.number)
        return bits

    def refusal(self, node: Node, cluster: Cluster, needed: set[Cluster]) -> str | None:
        """Return why `node` may not join `cluster`, or None if it may."""
        if len(cluster.units) >= MAX_UNITS:
            return "the kernel is large enough"
        if self.depth_in(node, cluster) > MAX_DEPTH:
            return "its expression would be too deep"
        bit = 1 << cluster.number
        for other in needed:
            if other is not cluster and self.before[other.number] & bit:
                return f"it also needs {other}, which runs after this kernel"
        if is_map_node(node):
            return self.map_refusal(node, cluster)
        if node.op.kind is Kind.REDUCE:
            return self.reduce_refusal(node, cluster)
        if node.op.kind is Kind.WINDOW and cluster.kind == WINDOW:
            first = cluster.units[0]
            same = first.attrs == node.attrs and first.inputs[0] is node.inputs[0]
            return None if same and first.output.shape == node.output.shape else "the windows differ"
        return f"a {node.op.kind.value} starts a kernel of its own"

    def map_refusal(self, node: Node, cluster: Cluster) -> str | None:
        if cluster.kind == SINGLE:
            return "nothing joins this kind of kernel"
        if cluster.kind == ROW:
            return self.row_refusal(node, cluster, cluster.domain)
        if cluster.kind == TILES and is_border(node):
            return self.border_refusal(node, cluster)
        points = self.points(node) if cluster.kind == MAP else node.output.shape
        if points != cluster.domain:
            return f"its shape {points} is not the kernel's {cluster.domain}"

        def local(user: Node, value: Value) -> bool:
            return (user is node and user in self.pieced and cluster.kind == MAP) or _same_place(user, value)

        if not self.reads_here(node, cluster, local):
            return "it reads this kernel's result at another place"
        return None

    def border_refusal(self, node: Node, cluster: Cluster) -> str | None:
        """A border around what tiles make: it is written beside them, and their elements inside it."""
        if node.inputs[0].shape != cluster.domain:
            return f"what it surrounds, {node.inputs[0].shape}, is not the kernel's {cluster.domain}"
        if not self.reads_here(node, cluster, lambda user, value: user is node or _same_place(user, value)):
            return "it reads this kernel's result at another place"
        return None

    def reduce_refusal(self, node: Node, cluster: Cluster) -> str | None:
        if cluster.kind == CONTRACT:
            return self.column_sum_refusal(node, cluster)
        if _is_row_reduction(node):
            rows = _rows(node)
            if cluster.kind == MAP:
                if cluster.domain[: len(rows)] != rows:
                    return f"rows {rows} are not the kernel's {cluster.domain}"
                return self.row_refusal(node, cluster, rows)
            if cluster.kind == ROW:
                if cluster.domain != rows:
                    return f"rows {rows} are not the kernel's rows {cluster.domain}"
                return self.row_refusal(node, cluster, rows)
            return "a reduction over rows joins only kernels over the same rows"
        if cluster.kind != REDUCE:
            return "a reduction over leading axes starts a kernel of its own"
        first = cluster.units[0]
        same = (
            first.op.kind is Kind.REDUCE
            and first.inputs[0].shape == node.inputs[0].shape
            and reduced_axes(first) == reduced_axes(node)
            and first.output.shape == node.output.shape
        )
        if not same:
            return "the reductions run over different elements"
        if any(v.node in self.cluster_of and self.cluster_of[v.node] is cluster for v in self.inputs[node]):
            return "it needs the finished sum"
        return None

    def column_sum_refusal(self, node: Node, cluster: Cluster) -> str | None:
        """A contraction also sums columns of what it makes: bias gradients, batch statistics."""
        anchor, operand = cluster.units[0], node.inputs[0]
        if not node.op.facts.get("adds") or node.output.dtype is not anchor.output.dtype:
            return "a contraction's epilogue only sums, in the contraction's dtype"
        if operand.shape != cluster.domain or reduced_axes(node) != tuple(range(operand.rank - 1)):
            return "a contraction's epilogue sums over all axes but the last"
        if _fits_cache(operand.type):
            return "what it sums is still in the cache when it is read again"
        if not _columns_are_its_own(anchor) or node.output.shape == cluster.domain:
            return "the last axis of the contraction is not one of a single operand, or there is no other"
        if any(
            v.node in self.cluster_of and self.cluster_of[v.node] is cluster and v.shape != cluster.domain
            for v in self.inputs[node]
        ):
            return "it needs the finished sum"

        def same_place(user: Node, value: Value) -> bool:
            return user is node or _same_place(user, value)

        if not self.reads_here(node, cluster, same_place):
            return "it reads this kernel's result at another place"
        return None

    def row_refusal(self, node: Node, cluster: Cluster, rows: Shape) -> str | None:
        if node.output.shape[: len(rows)] != rows and not (node.op.kind is Kind.REDUCE and _rows(node) == rows):
            return f"its shape {node.output.shape} does not start with the rows {rows}"
        if not self.reads_here(node, cluster, lambda user, value: _same_row(user, value, rows)):
            return "it reads this kernel's result from other rows"
        return None

    def reads_here(self, node: Node, cluster: Cluster, local) -> bool:
        """True if every path from a unit of `cluster` to `node` stays in place by `local`."""
        stack = [(node, value, True) for value in node.inputs]
        seen: set[tuple[Value, bool]] = set()
        while stack:
            user, value, here = stack.pop()
            here = here and local(user, value)
            inner = value.node
            if self.cluster_of.get(inner) is cluster:
                if not here:
                    return False
            elif is_map_node(inner) and inner not in self.roots and (value, here) not in seen:
                seen.add((value, here))
                stack += [(inner, v, here) for v in inner.inputs]
        return True


def _shape_of_cluster(node: Node) -> tuple[str, Shape]:
    kind = node.op.kind
    if is_map_node(node):
        return MAP, node.output.shape
    if kind is Kind.REDUCE:
        return (ROW, _rows(node)) if _is_row_reduction(node) else (REDUCE, node.output.shape)
    if kind is Kind.WINDOW:
        return WINDOW, node.output.shape
    if kind is Kind.CONTRACT:
        return CONTRACT, node.output.shape
    if kind is Kind.TILES:
        return TILES, node.output.shape
    return SINGLE, node.output.shape


def reduced_axes(node: Node) -> tuple[int, ...]:
    """The axes a reduction removes, sorted."""
    axes = node.attrs.get("axes", node.attrs.get("axis"))
    rank = node.inputs[0].rank
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    return tuple(sorted(a % rank for a in axes))


def _columns_are_its_own(anchor: Node) -> bool:
    """True if the last axis of a contraction's result is long, and an axis of just one operand."""
    form = anchor.op.lower(*(v.type for v in anchor.inputs), **anchor.attrs)
    last = form.out_axes[-1]
    sides = [last in axes_in(side) for side in (form.lhs, form.rhs)]
    return dim.is_static(last.extent) and last.extent >= FEWEST_COLUMNS and sides.count(True) == 1


def _fits_cache(type_: Type) -> bool:
    return dim.nominal(type_.size) * type_.dtype.size_bytes <= CACHED_BYTES


def _is_row_reduction(node: Node) -> bool:
    axes, rank = reduced_axes(node), node.inputs[0].rank
    return 0 < len(axes) < rank and axes == tuple(range(rank - len(axes), rank))


def _rows(node: Node) -> Shape:
    return node.inputs[0].shape[: node.inputs[0].rank - len(reduced_axes(node))]


def _same_place(user: Node, value: Value) -> bool:
    return user.op.kind is Kind.ELEMENTWISE and user.output.shape == value.shape


def _same_row(user: Node, value: Value, rows: Shape) -> bool:
    """True if `user` reads row r of `value` to make row r of its result."""
    depth = len(rows)
    if value.shape[:depth] != rows:
        return False
    if user.op.kind is Kind.REDUCE:
        return min(reduced_axes(user)) >= depth
    if user.op.kind is Kind.ELEMENTWISE:
        return user.output.rank == value.rank and user.output.shape[:depth] == rows
    if user.op.name in ("reshape", "stop_gradient"):
        return user.output.shape[:depth] == rows
    if user.op.name == "broadcast_to":
        return user.output.rank == value.rank
    if user.op.name == "pick":
        return user.output.shape[:depth] == rows and user.attrs["axis"] >= depth
    if user.op.name == "slice":  # as long as the rows are, it begins with them
        return user.output.shape[:depth] == rows and all(n == 1 for n in user.attrs["strides"][:depth])
    return False
