"""Values made of pieces side by side along their last axis, as the gates of a recurrent cell.

join_pads    a sum of pads whose contents lie side by side (the gradient of a split) is a concat
is_pieced    which concats a kernel writes piece by piece: its points are those of one piece, so that the
             pieces share what they have in common, and what else is computed from it
pack_yields  yields of a loop that together are as wide as an operand only this loop reads: one yield, which
             can then take the operand's place in memory (see place.py); loops that read a piece are given the whole
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kcompile.ir import dim
from kcompile.ir.graph import Graph, Node, Value, rebuild, transplant
from kcompile.ir.op import OPS, Kind
from kcompile.ops.control import BodyBuilder, Scan, row_type, run_scan, scan_of
from kcompile.passes.alias import is_view
from kcompile.passes.bodies import has_loops

NARROWEST = 8  # columns of a piece: fewer lie badly in vectors
MOST_PADS = 16  # of one sum


# pads ------------------------------------------------------------------------------------------


def join_pads(graph: Graph) -> Graph:
    """Replace sums of pads that cover the result, each element once, by the concat of what they surround."""
    if not any(_is_add(n) for n in graph.live_nodes()):
        return graph

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]) -> Value | None:
        pads = _addends(inputs) if _is_add(node) else None
        axis = _padded_axis(pads) if pads else None
        if axis is None:
            return None
        pads.sort(key=lambda n: n.attrs["low"][axis])
        end = 0
        for pad in pads:
            if pad.attrs["low"][axis] != end:
                return None
            end += pad.inputs[0].shape[axis]
        return OPS["concat"](*(p.inputs[0] for p in pads), axis=axis) if end == node.output.shape[axis] else None

    return rebuild(graph, visit)


def _is_add(node: Node) -> bool:
    return not node.is_source and node.op.name == "add"


def _addends(values: Sequence[Value]) -> list[Node] | None:
    """The pads that are added up, or None if something else is."""
    found: list[Node] = []
    stack = list(values)
    while stack:
        value = stack.pop()
        node = value.node
        if value.shape != values[0].shape or len(found) + len(stack) > MOST_PADS:
            return None
        if _is_add(node):
            stack += node.inputs
        elif not node.is_source and node.op.name == "pad" and node.attrs["value"] == 0:
            found.append(node)
        else:
            return None
    return found


def _padded_axis(pads: Sequence[Node]) -> int | None:
    """The one axis along which all pads put zeros around their operand, by known amounts; None if there is none."""
    axes: set[int] = set()
    for pad in pads:
        low, high = pad.attrs["low"], pad.attrs["high"]
        axes |= {n for n in range(len(low)) if low[n] != 0 or high[n] != 0}
        known = (*low, *high, *(pad.inputs[0].shape[n] for n in axes))
        if any(pad.attrs["interior"]) or any(n != 0 and (not dim.is_static(n) or n < 0) for n in known):
            return None
    return axes.pop() if len(axes) == 1 else None


# kernels ---------------------------------------------------------------------------------------


def is_pieced(node: Node, consumers: Mapping[Value, Sequence[Node]]) -> bool:
    """True for a concat whose pieces are computed at the same points.

    They are as large as each other, none lies in memory already, and nobody continues with the whole element by
    element, which would be a kernel of its own then.
    """
    if node.is_source or node.op.name != "concat" or len(node.inputs) < 2:
        return False
    first, whole = node.inputs[0], node.output
    if whole.rank < 2 or node.attrs["axis"] != whole.rank - 1 or any(v.shape != first.shape for v in node.inputs):
        return False
    if not dim.is_static(first.shape[-1]) or first.shape[-1] < NARROWEST:
        return False
    if any(v.node.is_source or v.node.op.kind is not Kind.ELEMENTWISE for v in node.inputs):
        return False
    users = consumers.get(whole, ())
    return not any(user.op.kind is Kind.ELEMENTWISE and user.output.shape == whole.shape for user in users)


# loops -----------------------------------------------------------------------------------------


def pack_yields(graph: Graph) -> Graph:
    """Make one yield of several that together are as large as an operand which dies in the loop."""
    if not has_loops(graph):
        return graph
    consumers = graph.consumers()
    results = set(graph.results)
    chosen: dict[Node, list[int]] = {}
    for node in graph.live_nodes():
        if not node.is_source and node.op.name == "scan":
            found = _packable(scan_of(node), consumers, results)
            if found:
                chosen[node] = found
    if not chosen:
        return graph
    packed: set[Node] = set()  # loops of the new graph that have such a yield

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]):
        if node.is_source or node.op.name != "scan":
            return None
        scan = scan_of(node)
        reads_piece = any(_whole_of(v, packed) is not v for v in inputs[len(scan.inits) :][: len(scan.stacks)])
        if node not in chosen and not reads_piece:
            return None
        return _rebuilt(new, scan, inputs, chosen.get(node, []), packed)

    return rebuild(graph, visit)


def _packable(scan: Scan, consumers: Mapping[Value, Sequence[Node]], results: set[Value]) -> list[int]:
    """Which yields to pack: the first that fill a row of a dying operand; none if they do not."""
    if scan.guarded or scan.strips or not scan.inits:
        return []
    outputs = scan.node.outputs[len(scan.inits) :]
    for operand, row in zip(scan.stacks, scan.inside.rows):
        if list(consumers[operand]) != [scan.node] or operand.node.is_source or is_view(operand.node):
            continue
        groups: dict[int, list[int]] = {}
        for n, (value, made) in enumerate(zip(outputs, scan.inside.yields)):
            fits = made.rank and made.dtype is row.dtype and made.shape[:-1] == row.shape[:-1]
            computed = not made.node.is_source and made.node.op.kind is Kind.ELEMENTWISE
            if fits and computed and value not in results and _only_stacked(value, consumers):
                width = made.shape[-1]
                if all(map(dim.is_static, (width, row.shape[-1]))) and width >= NARROWEST:
                    groups.setdefault(width, []).append(n)
        for width, found in groups.items():
            count, rest = divmod(row.shape[-1], width)
            if rest == 0 and 2 <= count <= len(found):
                return found[:count]
    return []


def _only_stacked(value: Value, consumers: Mapping[Value, Sequence[Node]]) -> bool:
    """True if loops alone read the value, a row per step."""
    for user in consumers.get(value, ()):
        if user.op.name != "scan":
            return False
        scan = scan_of(user)
        if scan.strips or value in scan.inits or value in scan.shared:
            return False
    return True


def _whole_of(value: Value, packed: set[Node]) -> Value:
    """The packed value of which this is a piece, or the value itself."""
    node = value.node
    if node.is_source or node.op.name != "slice" or node.inputs[0].node not in packed:
        return value
    return node.inputs[0]


def _rebuilt(
    new: Graph, scan: Scan, inputs: Sequence[Value], chosen: Sequence[int], packed: set[Node]
) -> tuple[Value, ...]:
    """The scan with the chosen yields as its last, and operands that are pieces cut inside; its results as before."""
    old = scan.inside
    carries, stacked = len(scan.inits), len(scan.stacks)
    stacks, shared = inputs[carries : carries + stacked], inputs[carries + stacked :]
    wholes = list(dict.fromkeys(_whole_of(v, packed) for v in stacks))
    builder = BodyBuilder(
        [v.type for v in old.carries], [row_type(v.type) for v in wholes], [v.type for v in old.whole]
    )
    rows = dict(zip(wholes, builder.rows))
    known = {old.step: builder.step, **dict(zip(old.carries, builder.carries))}
    known |= dict(zip(old.whole, builder.whole))
    for source, value in zip(old.rows, stacks):
        whole = _whole_of(value, packed)
        known[source] = rows[whole] if whole is value else _piece(rows[whole], value.node.attrs["starts"][-1], source)
    nexts, yields = (transplant(builder.graph, values, known) for values in (old.next, old.yields))
    made = [v for n, v in enumerate(yields) if n not in chosen]
    if chosen:
        made.append(OPS["concat"](*(yields[n] for n in chosen), axis=yields[chosen[0]].rank - 1))
    found = run_scan(new, builder.finish(nexts, made), inputs[:carries], wholes, shared, scan.length, scan.reverse)
    if chosen:
        packed.add(found[0].node)
    rest = iter(found[carries:])
    results: list[Value] = list(found[:carries])
    start = 0
    pieces: dict[int, Value] = {}
    for n in chosen:
        like = scan.node.outputs[carries + n]
        pieces[n] = _piece(found[-1], start, like)
        start += like.shape[-1]
    results += [pieces[n] if n in pieces else next(rest) for n in range(len(yields))]
    return tuple(results)


def _piece(whole: Value, start: int, like: Value) -> Value:
    """The columns of `whole` from `start` on, as many as `like` has."""
    starts = (*(0 for _ in like.shape[:-1]), start)
    return OPS["slice"](whole, starts=starts, sizes=tuple(like.shape), strides=(1,) * like.rank)
