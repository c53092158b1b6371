"""Which values must exist in memory: the roots. Everything else is computed inside what reads it.

A map value is a root if it is a result of the graph, if recomputing it in several kernels or for several elements
would cost more than a store and a load, or if its reader touches each element many times (a contraction's operand
that is not a plain view). Decided on kinds and shapes, never on names.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from kcompile.forms import compose
from kcompile.forms.records import axes_for, indices
from kcompile.forms.scalar import Expr, Load, axes_in, load
from kcompile.forms.sliding import sliding
from kcompile.ir import dim
from kcompile.ir.dim import Axis, FloorDiv, Loaded
from kcompile.ir.graph import CONSTANT, Graph, Node, Value
from kcompile.ir.op import OPS, Kind
from kcompile.ir.types import Shape, Type, boolean
from kcompile.passes.alias import is_view, storage

MAP_KINDS = (Kind.ELEMENTWISE, Kind.SHAPE, Kind.INDEX, Kind.RANDOM)
REUSING_KINDS = (
    Kind.CONTRACT,
    Kind.TILES,
)  # they read elements of operands again, if they do not say otherwise (a fact `computes_operands`)

CHEAP_COST = 4  # operations that cost about as much as storing and loading the value again
LIGHT_COST = 8  # the same where storing it would save reading no second array
EXPANDED_COST = 2  # operations on a value read for many elements that cost less than computing it beforehand
WINDOW_COST = 8  # operations per window element that still cost less than a pass over memory
MAX_DEPTH = 40  # map nodes computed one inside the other, at most: whatever walks an expression recurses


def is_map_node(node: Node) -> bool:
    """True for a node whose lowering is one pure function of the output index."""
    return not node.is_source and node.op.kind in MAP_KINDS


def is_scalar_constant(value: Value) -> bool:
    """True for a constant of one element: it is written into the kernel."""
    return value.node.role == CONSTANT and value.type.size == 1


def choose_roots(graph: Graph) -> set[Node]:
    """Return the map nodes whose results must exist in memory."""
    consumers = graph.consumers()
    results = {v.node for v in graph.results}
    roots: set[Node] = set()
    kernels: dict[Node, set[Node]] = {}  # map node -> the units that would compute it
    costs, arrays = inlined_costs(graph), inlined_arrays(graph)
    for node in reversed(graph.live_nodes()):
        if not is_map_node(node):
            roots |= _repeated_operands(node)
            continue
        users = consumers.get(node.output, [])
        targets: set[Node] = set()
        for user in users:
            targets |= kernels[user] if is_map_node(user) and user not in roots else {user}
        kernels[node] = targets
        base = storage(node.output)[0].node
        if node in results and not is_view(node):
            roots.add(node)
        elif node in results:
            roots |= {base} if is_map_node(base) else set()
        elif is_view(node) and (base in roots or not is_map_node(base)):
            continue  # the same bytes as something that exists
        elif _must_exist(node, users, targets, costs[node], len(arrays[node])) or _is_sought(node, targets, consumers):
            roots.add(base if is_view(node) else node)
    return roots


def cut_chains(graph: Graph, roots: set[Node]) -> tuple[set[Node], dict[Node, int]]:
    """Return roots so close that no chain between them passes MAX_DEPTH, and how deep each map node is above them."""
    roots, depths = set(roots), {}
    for node in graph.live_nodes():
        if not is_map_node(node):
            continue
        below = (depths.get(v.node, 0) for v in node.inputs if v.node not in roots)
        depths[node] = 1 + max(below, default=0)
        if depths[node] >= MAX_DEPTH and not is_view(node):
            roots.add(node)
    return roots, depths


def inlined_costs(graph: Graph) -> dict[Node, int]:
    """Rough operations per element of each map node when computed from anchors and sources.

    What an operand costs that is computed once for many elements is not theirs (see `_is_shared`), nor what
    exists whatever it costs.
    """
    costs: dict[Node, int] = {}
    exists = {v.node for v in graph.results}
    for node in graph.live_nodes():
        if not node.is_source and _reads_again(node):
            exists |= {v.node for v in node.inputs if is_map_node(v.node) and not _is_affine_step(v.node)}
    for node in graph.live_nodes():
        if is_map_node(node):
            inner = sum(
                costs.get(v.node, 0)
                for v in set(node.inputs)
                if v.node not in exists and not _is_shared(v, node, costs)
            )
            costs[node] = inner + (0 if is_view(node) else node.op.cost)
    return costs


def inlined_arrays(graph: Graph) -> dict[Node, set[Value]]:
    """The arrays as large as its result that each map node reads when computed from anchors and sources."""
    arrays: dict[Node, set[Value]] = {}
    for node in graph.live_nodes():
        if is_map_node(node):
            below = (arrays.get(v.node, {v}) for v in node.inputs if v.type.size == node.output.type.size)
            arrays[node] = set().union(*below)
    return arrays


def _reads_again(node: Node) -> bool:
    """True if the node reads each element of an operand so often that it has to be in memory."""
    return node.op.kind in REUSING_KINDS and not node.op.facts.get("computes_operands")


def _is_shared(value: Value, user: Node, costs: dict[Node, int]) -> bool:
    """True if many elements of `user` read the same element of `value`, and it is computed before them."""
    if not _expands(user, value):
        return False
    return value.type.size == 1 or costs.get(value.node, 0) > EXPANDED_COST


def _expands(user: Node, value: Value) -> bool:
    repeats = user.op.kind is Kind.ELEMENTWISE or user.op.name == "broadcast_to"
    return repeats and is_map_node(user) and user.output.shape != value.shape


def _must_exist(node: Node, users: list[Node], targets: set[Node], cost: int, arrays: int) -> bool:
    if len(targets) > 1 and cost > (CHEAP_COST if arrays > 1 else LIGHT_COST):
        return True
    for target in targets:
        kind = target.op.kind
        if kind is Kind.CONTRACT and not _is_affine_view(node) and not _is_border(node, target):
            return True
        if kind is Kind.TILES and _reads_again(target) and not _is_affine_view(node):
            return True
        if kind in (Kind.WINDOW, Kind.TILES) and cost > WINDOW_COST:
            return True
        if kind in (Kind.PACK, Kind.OPAQUE, Kind.CONTROL) and not is_view(node):
            return True
    if cost <= EXPANDED_COST or node.output.type.size == 1:
        return False
    # an element that many result elements read is better computed once; scalars are hoisted anyway
    return any(_expands(user, node.output) for user in users)


def _is_sought(node: Node, targets: set[Node], consumers: dict[Value, list[Node]]) -> bool:
    """True if the largest (or smallest) element is picked and then looked for, as the gradient of a maximum does.

    Computed a second time, an element may differ in its last bit from what was picked, because multiplications
    and additions contract as each kernel finds best, and then nothing is equal to the maximum.
    """
    if not node.output.dtype.is_float or not any(t.op.facts.get("picks") for t in targets):
        return False
    stack, seen = [node], set()
    while stack:
        for user in consumers.get(stack.pop().output, ()):
            if user.op.kind is Kind.ELEMENTWISE and user.output.dtype is boolean:
                return True
            if is_view(user) and user not in seen:
                seen.add(user)
                stack.append(user)
    return False


def _repeated_operands(node: Node) -> set[Node]:
    """The operands of a contraction that read neither side along some axis: there the same values repeat.

    Read through the broadcast, such an axis would index nothing; written down, it does.
    """
    if node.is_source or node.op.kind is not Kind.CONTRACT:
        return set()
    form = node.op.lower(*(v.type for v in node.inputs), **node.attrs)
    lhs, rhs, _ = compose.contract_with(
        form, lambda n, at: _through_shape_ops(node.inputs[n], at, []), lambda total, at: ()
    )
    read = axes_in(lhs, rhs)
    if all(a in read or a.extent == 1 for a in (*form.out_axes, *form.over)):
        return set()
    bases = (storage(v)[0].node for v in node.inputs)
    return {base for base in bases if is_map_node(base)}


def _is_affine_view(node: Node) -> bool:
    """True if the node's element is one element of what lies below at an address affine in the index.

    Below a chain of shape ops that are each affine: one that is not, a pad say, has to exist for the contraction.
    """
    if not _is_affine_step(node):
        return False
    below: list[Value] = []
    expr = _through_shape_ops(node.output, indices(axes_for(node.output.shape)), below)
    return isinstance(expr, Load) and _is_affine_load(expr, below[0].shape)


def _is_border(node: Node, target: Node) -> bool:
    """True if the node only adds zeros around and between elements, and the contraction leaves them out.

    Shape ops and pads between the two are computed inside the contraction as well; what is below is in memory.
    """
    if not _adds_zeros(node):
        return False
    shapes: dict[str, Shape] = {}
    seen: list[Value] = []

    def element(value: Value, at: tuple) -> Expr:
        inner = value.node
        if node not in {v.node for v in seen} and (_adds_zeros(inner) or _is_affine_step(inner)):
            seen.append(value)
            form = inner.op.lower(*(v.type for v in inner.inputs), **inner.attrs)
            return compose.evaluate(form, at, lambda n, index: element(inner.inputs[n], index))
        shapes.setdefault(value.node.label, value.shape)
        return load(value.node.label, at, value.dtype)

    form = target.op.lower(*(v.type for v in target.inputs), **target.attrs)
    (store,) = form.stores
    shapes[store.buffer] = target.output.shape
    lhs, rhs, stores = compose.contract_with(
        form, lambda n, at: element(target.inputs[n], at), lambda total, at: form.stores
    )
    found = sliding(replace(form, lhs=lhs, rhs=rhs, stores=stores), shapes)
    return found is not None and any(v.node is node for v in seen)


def _adds_zeros(node: Node) -> bool:
    return not node.is_source and node.op.name == "pad" and node.attrs["value"] == 0


def is_border(node: Node) -> bool:
    """True for a pad that puts nothing between elements and cuts none off."""
    if node.is_source or node.op.name != "pad" or any(node.attrs["interior"]):
        return False
    return all(dim.is_nonnegative(n) for n in (*node.attrs["low"], *node.attrs["high"]))


def _is_affine_step(node: Node) -> bool:
    """The same for the node's own operand."""
    if node.is_source or node.op.kind is not Kind.SHAPE or len(node.inputs) != 1:
        return False
    return _reads_affinely(node.op.name, node.inputs[0].type, tuple(sorted(node.attrs.items())))


@lru_cache(maxsize=4096)  # asked for every operand of a contraction, several times
def _reads_affinely(name: str, operand: Type, attrs: tuple) -> bool:
    form = OPS[name].lower(operand, **dict(attrs))
    at = indices(tuple(Axis(f"r{n}", a.extent) for n, a in enumerate(form.outer)))
    expr = compose.evaluate(form, at, lambda n, index: load("below", index, operand.dtype))
    return isinstance(expr, Load) and _is_affine_load(expr, operand.shape)


def _is_affine_load(expr: Load, shape: Shape) -> bool:
    stride, address = 1, 0
    for i, size in zip(reversed(expr.index), reversed(shape)):
        address, stride = address + i * stride, stride * size
    return _is_affine(address)


def _through_shape_ops(value: Value, index: tuple, below: list[Value]) -> Expr:
    """The element of a chain of affine shape ops, down to the first value that is none (entered in `below`)."""
    node = value.node
    if _is_affine_step(node):
        form = node.op.lower(*(v.type for v in node.inputs), **node.attrs)
        return compose.evaluate(form, index, lambda n, at: _through_shape_ops(node.inputs[n], at, below))
    below.append(value)
    return load("below", index, value.dtype)


def _is_affine(address) -> bool:
    if dim.is_static(address):
        return True
    for monomial in address.terms:
        axes = [a for a in monomial if isinstance(a, Axis)]
        if len(axes) > 1 or any(isinstance(a, Loaded) for a in monomial):
            return False
        if any(isinstance(a, FloorDiv) and dim.has_axes(dim.of(a)) for a in monomial):
            return False
    return True
