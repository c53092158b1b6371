"""Passes inside the bodies of loops, and loops that are merged or freed of what nobody reads.

everywhere(run)   the pass `run` on a graph and on the bodies in it
merge_scans       the scan of the forward computation and the one its gradient made: one
prune_scans       unread yields, dead carries, carries that never change, repeated or unread operands
own_operands      before lowering: constant arrays and numbers become operands in memory
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kcompile.ir.body import map_bodies
from kcompile.ir.graph import CONSTANT, Graph, Node, Value, rebuild, transplant
from kcompile.ir.op import OPS, Kind
from kcompile.ir.types import Type
from kcompile.ops.control import BodyBuilder, Scan, run_scan, scan_of


def has_loops(graph: Graph) -> bool:
    """True if a live node has a body."""
    return any(not n.is_source and n.op.kind is Kind.CONTROL for n in graph.live_nodes())


def everywhere(run: Callable[[Graph], Graph]) -> Callable[[Graph], Graph]:
    """The pass on a graph after it ran on all bodies in it."""

    def visit(graph: Graph, node: Node, inputs: tuple[Value, ...]):
        if node.is_source or node.op.kind is not Kind.CONTROL:
            return None
        attrs = map_bodies(on_all, node)
        return None if attrs is None else graph.emit(node.op, inputs, attrs)

    def on_all(graph: Graph) -> Graph:
        return run(rebuild(graph, visit) if has_loops(graph) else graph)

    return on_all


# merging ---------------------------------------------------------------------------------------


def merge_scans(graph: Graph) -> Graph:
    """Run scans over the same operands, whose carries are the same, as one that yields what all of them do."""
    groups: dict[tuple, list[Node]] = {}
    for node in graph.live_nodes():
        if not node.is_source and node.op.name == "scan":
            key = (node.inputs, *(node.attrs[k] for k in ("carries", "stacked", "length", "reverse", "guarded")))
            groups.setdefault(key, []).append(node)
    merged: dict[Node, tuple[Node, ...]] = {}
    for nodes in groups.values():
        group = [nodes[0]]
        group += [n for n in nodes[1:] if _merged_body([nodes[0], n]) is not None]
        if len(group) > 1:
            merged.update((n, tuple(group)) for n in group)
    if not merged:
        return graph
    made: dict[tuple[Node, ...], dict[Node, tuple[Value, ...]]] = {}

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]):
        group = merged.get(node)
        if group is None:
            return None
        if group not in made:
            made[group] = _emit_merged(new, group, inputs)
        return made[group][node]

    return rebuild(graph, visit)


def _merged_body(group: Sequence[Node]):
    """(body, per node the positions of its results in it), or None if the carries differ."""
    first = scan_of(group[0]).inside
    builder = BodyBuilder(*([v.type for v in values] for values in (first.carries, first.rows, first.whole)))
    places: dict[Value, int] = {}
    nexts: list[Value] | None = None
    positions: dict[Node, list[int]] = {}
    for node in group:
        inside = scan_of(node).inside
        sources = (inside.step, *inside.carries, *inside.rows, *inside.whole)
        known = dict(zip(sources, (builder.step, *builder.carries, *builder.rows, *builder.whole)))
        found = transplant(builder.graph, [*inside.next, *inside.yields], known)
        own, yields = found[: len(inside.next)], found[len(inside.next) :]
        if nexts is not None and own != nexts:
            return None
        nexts = own
        positions[node] = [*range(len(own)), *(len(own) + places.setdefault(v, len(places)) for v in yields)]
    return builder.finish(nexts or [], list(places)), positions


def _emit_merged(new: Graph, group: tuple[Node, ...], inputs: tuple[Value, ...]) -> dict[Node, tuple[Value, ...]]:
    body, positions = _merged_body(group)
    found = new.emit(group[0].op, inputs, {**group[0].attrs, "body": body})
    found = found if isinstance(found, tuple) else (found,)
    return {node: tuple(found[p] for p in positions[node]) for node in group}


# operands in memory ------------------------------------------------------------------------------


def own_operands(graph: Graph) -> Graph:
    """Give a loop's body all arrays as operands, and the loop all operands in memory.

    After: no body holds a constant array, and no operand of a loop is a number, which kernels have in their code.
    """

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]):
        if node.is_source or node.op.name != "scan":
            return None
        scan = scan_of(node)
        arrays = [n for n in scan.body.graph.live_nodes() if n.role == CONSTANT and n.output.type.size != 1]
        inside = scan.inside
        builder = BodyBuilder(
            [v.type for v in inside.carries],
            [v.type for v in inside.rows],
            [*(v.type for v in inside.whole), *(n.output.type for n in arrays)],
        )
        old = (inside.step, *inside.carries, *inside.rows, *inside.whole, *(n.output for n in arrays))
        known = dict(zip(old, (builder.step, *builder.carries, *builder.rows, *builder.whole)))
        body = builder.finish(
            transplant(builder.graph, inside.next, known), transplant(builder.graph, inside.yields, known)
        )
        operands = [*inputs, *(new.constant(n.data) for n in arrays)]
        owned = [OPS["cast"](v, dtype=v.dtype.name) if is_number(v) else v for v in operands]
        return new.emit(node.op, owned, {**node.attrs, "body": body})

    return rebuild(graph, visit) if has_loops(graph) else graph


def is_number(value: Value) -> bool:
    """True for a constant of one element, or a view of one."""
    while value.node.op is not None and value.node.op.name in ("reshape", "stop_gradient"):
        value = value.node.inputs[0]
    return value.node.role == CONSTANT and value.type.size == 1


# pruning ---------------------------------------------------------------------------------------


def prune_scans(graph: Graph) -> Graph:
    """Free every scan of what is not used.

    After: each yield is read, each carry changes and is needed, no operand is unread or given twice,
           and none repeats one row: such a row is a whole value.
    """
    if not has_loops(graph):
        return graph
    read = {v for n in graph.live_nodes() for v in n.inputs} | set(graph.results)

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]):
        if node.is_source or node.op.name != "scan":
            return None
        return _pruned(new, scan_of(node), inputs, read)

    return rebuild(graph, visit)


def _pruned(new: Graph, scan: Scan, inputs: Sequence[Value], read: set[Value]) -> tuple[Value, ...]:
    inside, count = scan.inside, len(scan.inits)
    inits, rest = inputs[:count], inputs[count:]
    stacks, shared = rest[: len(scan.stacks)], rest[len(scan.stacks) :]
    outputs = scan.node.outputs
    guard = {0} if scan.guarded else set()
    fixed = [n for n in range(count) if inside.next[n] is inside.carries[n] and n not in guard]
    wanted_yields = [n for n, v in enumerate(outputs[count:]) if v in read]
    passed = {n: inside.rows.index(inside.yields[n]) for n in wanted_yields if inside.yields[n] in inside.rows}
    kept_yields = [n for n in wanted_yields if n not in passed]
    carries = guard | {n for n in range(count) if outputs[n] in read and n not in fixed}
    while True:
        needed = _needed([inside.next[n] for n in carries] + [inside.yields[n] for n in kept_yields])
        grown = carries | {n for n in range(count) if inside.carries[n] in needed and n not in fixed}
        if grown == carries:
            break
        carries = grown
    kept = sorted(carries)

    # operands that are read, each once
    whole: dict[Value, list[Value]] = {}  # operand -> the sources it stands for
    rows: dict[Value, list[Value]] = {}
    repeated: list[tuple[Value, Value]] = []  # source, the one row it always is
    numbers: list[tuple[Value, Value]] = []  # source, the number it always is
    for source, value in zip(inside.whole, shared):
        if source in needed and is_number(value):
            numbers.append((source, value))
        elif source in needed:
            whole.setdefault(value, []).append(source)
    for n in fixed:
        if inside.carries[n] in needed:
            whole.setdefault(inits[n], []).append(inside.carries[n])
    for source, value in zip(inside.rows, stacks):
        if source not in needed:
            continue
        row = _repeated_row(value)
        if row is None:
            rows.setdefault(value, []).append(source)
        elif is_number(row):
            numbers.append((source, row))
        else:
            whole.setdefault(row, [])
            repeated.append((source, row))
    builder = BodyBuilder(
        [inside.carries[n].type for n in kept],
        [Type(v.dtype, v.shape[1:]) for v in rows],
        [v.type for v in whole],
    )
    known = {inside.step: builder.step}
    known.update((inside.carries[n], source) for n, source in zip(kept, builder.carries))
    for sources, made in ((rows.values(), builder.rows), (whole.values(), builder.whole)):
        known.update((old, fresh) for group, fresh in zip(sources, made) for old in group)
    for source, value in numbers:
        known[source] = _number_as(builder.graph, value, source.type)
    for source, row in repeated:
        made = builder.whole[list(whole).index(row)]
        known[source] = _broadcast_row(made, source.type)
    nexts = transplant(builder.graph, [inside.next[n] for n in kept], known)
    yields = transplant(builder.graph, [inside.yields[n] for n in kept_yields], known)
    distinct = list(dict.fromkeys(yields))
    found: tuple[Value, ...] = ()
    if nexts or distinct:
        body = builder.finish(nexts, distinct)
        operands = ([inits[n] for n in kept], list(rows), list(whole))
        found = run_scan(new, body, *operands, scan.length, scan.reverse, scan.guarded)
    results: list[Value] = []
    for n in range(count):
        results.append(found[kept.index(n)] if n in carries else inits[n])
    for n, value in enumerate(outputs[count:]):
        if n in passed:
            results.append(stacks[passed[n]])
        elif n in kept_yields:
            results.append(found[len(kept) + distinct.index(yields[kept_yields.index(n)])])
        else:
            results.append(_nothing(new, value.type))
    return tuple(results)


def _needed(values: Sequence[Value]) -> set[Value]:
    found: set[Value] = set()
    stack = list(values)
    while stack:
        value = stack.pop()
        if value not in found:
            found.add(value)
            stack += value.node.inputs
    return found


def _repeated_row(stack: Value) -> Value | None:
    """What a broadcast along dimension 0 repeats; its shape broadcasts to a row's."""
    node = stack.node
    if node.op is None or node.op.name != "broadcast_to":
        return None
    below = node.inputs[0]
    if below.rank < stack.rank:
        return below
    if below.shape[0] != 1:
        return None
    return OPS["reshape"](below, shape=below.shape[1:])


def _number_as(graph: Graph, value: Value, type_: Type) -> Value:
    while not value.is_constant:
        value = value.node.inputs[0]
    return _broadcast_row(graph.constant(value.node.data.reshape(())), type_)


def _broadcast_row(value: Value, type_: Type) -> Value:
    return value if value.type == type_ else OPS["broadcast_to"](value, shape=tuple(type_.shape))


def _nothing(graph: Graph, type_: Type) -> Value:
    """Stands for a result nobody reads; dead at once."""
    zero = graph.constant(False if type_.dtype.category == "bool" else 0, type_.dtype)
    return zero if type_.rank == 0 else OPS["broadcast_to"](zero, shape=tuple(type_.shape))
