"""Loops freed of what nobody reads: yields, dead carries, carries that never change, repeated or unread operands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kcompile.ir.graph import Graph, Node, Value, rebuild, transplant
from kcompile.ir.op import OPS
from kcompile.ir.types import Type
from kcompile.ops.control import BodyBuilder, Scan, run_scan, scan_of
from kcompile.passes.bodies import has_loops, is_number


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


@dataclass(frozen=True)
class _Wanted:
    """What stays of a loop; carries and yields by number."""

    carries: list[int]
    fixed: list[int]  # carries that never change
    yields: list[int]
    passed: dict[int, int]  # yields that are a row of an operand -> which
    needed: set[Value]  # all values of the body that these depend on


def _wanted(scan: Scan, read: set[Value]) -> _Wanted:
    inside, count, outputs = scan.inside, len(scan.inits), scan.node.outputs
    guard = {0} if scan.guarded else set()
    fixed = [n for n in range(count) if inside.next[n] is inside.carries[n] and n not in guard]
    wanted = [n for n, v in enumerate(outputs[count:]) if v in read]
    passed = {n: inside.rows.index(inside.yields[n]) for n in wanted if inside.yields[n] in inside.rows}
    yields = [n for n in wanted if n not in passed]
    carries = guard | {n for n in range(count) if outputs[n] in read and n not in fixed}
    while True:
        needed = _needed([inside.next[n] for n in carries] + [inside.yields[n] for n in yields])
        grown = carries | {n for n in range(count) if inside.carries[n] in needed and n not in fixed}
        if grown == carries:
            return _Wanted(sorted(carries), fixed, yields, passed, needed)
        carries = grown


@dataclass
class _Operands:
    """Operands that are read, each once, with the sources in the body that it stands for."""

    whole: dict[Value, list[Value]] = field(default_factory=dict)
    rows: dict[Value, list[Value]] = field(default_factory=dict)
    repeated: list[tuple[Value, Value]] = field(default_factory=list)  # source, the one row it always is
    numbers: list[tuple[Value, Value]] = field(default_factory=list)  # source, the number it always is


def _operands(scan: Scan, wanted: _Wanted, inputs: Sequence[Value]) -> _Operands:
    inside, count, needed = scan.inside, len(scan.inits), wanted.needed
    stacks, shared = inputs[count : count + len(scan.stacks)], inputs[count + len(scan.stacks) :]
    found = _Operands()
    for source, value in zip(inside.whole, shared):
        if source in needed and is_number(value):
            found.numbers.append((source, value))
        elif source in needed:
            found.whole.setdefault(value, []).append(source)
    for n in wanted.fixed:
        if inside.carries[n] in needed:
            found.whole.setdefault(inputs[n], []).append(inside.carries[n])
    for source, value in zip(inside.rows, stacks):
        if source not in needed:
            continue
        row = _repeated_row(value)
        if row is None:
            found.rows.setdefault(value, []).append(source)
        elif is_number(row):
            found.numbers.append((source, row))
        else:
            found.whole.setdefault(row, [])
            found.repeated.append((source, row))
    return found


def _pruned(new: Graph, scan: Scan, inputs: Sequence[Value], read: set[Value]) -> tuple[Value, ...]:
    """The results of the loop, made by one that holds what is wanted only."""
    wanted = _wanted(scan, read)
    operands = _operands(scan, wanted, inputs)
    builder = BodyBuilder(
        [scan.inside.carries[n].type for n in wanted.carries],
        [Type(v.dtype, v.shape[1:]) for v in operands.rows],
        [v.type for v in operands.whole],
    )
    known = _known(scan, wanted, operands, builder)
    nexts = transplant(builder.graph, [scan.inside.next[n] for n in wanted.carries], known)
    yields = transplant(builder.graph, [scan.inside.yields[n] for n in wanted.yields], known)
    distinct = list(dict.fromkeys(yields))
    found: tuple[Value, ...] = ()
    if nexts or distinct:
        body = builder.finish(nexts, distinct)
        given = ([inputs[n] for n in wanted.carries], list(operands.rows), list(operands.whole))
        found = run_scan(new, body, *given, scan.length, scan.reverse, scan.guarded)
    count = len(scan.inits)
    results = [found[wanted.carries.index(n)] if n in wanted.carries else inputs[n] for n in range(count)]
    for n, value in enumerate(scan.node.outputs[count:]):
        if n in wanted.passed:
            results.append(inputs[count + wanted.passed[n]])
        elif n in wanted.yields:
            results.append(found[len(wanted.carries) + distinct.index(yields[wanted.yields.index(n)])])
        else:
            results.append(_nothing(new, value.type))
    return tuple(results)


def _known(scan: Scan, wanted: _Wanted, operands: _Operands, builder: BodyBuilder) -> dict[Value, Value]:
    """What the sources of the old body are in the new one."""
    inside = scan.inside
    known = {inside.step: builder.step}
    known.update((inside.carries[n], source) for n, source in zip(wanted.carries, builder.carries))
    for sources, made in ((operands.rows.values(), builder.rows), (operands.whole.values(), builder.whole)):
        known.update((old, fresh) for group, fresh in zip(sources, made) for old in group)
    for source, value in operands.numbers:
        known[source] = _number_as(builder.graph, value, source.type)
    for source, row in operands.repeated:
        made = builder.whole[list(operands.whole).index(row)]
        known[source] = _broadcast_row(made, source.type)
    return known


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
