"""Arrays that every step of a loop contracts with lie as they are read: turned once, before the loop.

A kernel reads the operand with the result's columns in vectors, so these come last, behind what is summed.
Where they do not, as for the weights of a step backwards, each step would pack them again.
"""

from __future__ import annotations

from kcompile.ir.graph import Graph, Node, Value, rebuild
from kcompile.ir.op import OPS, Kind
from kcompile.ops.control import BodyBuilder, Scan, scan_of
from kcompile.ops.spec import letters_of, parse_spec, plain_letter
from kcompile.passes.bodies import has_loops


def lay_out_loops(graph: Graph) -> Graph:
    """Turn whole values that contractions of a body read across their rows."""

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]):
        if node.is_source or node.op.name != "scan":
            return None
        return _turned(new, scan_of(node), inputs)

    return rebuild(graph, visit) if has_loops(graph) else graph


def _turned(new: Graph, scan: Scan, inputs: tuple[Value, ...]):
    turned: dict[tuple[Value, tuple[int, ...]], None] = {}
    for node in scan.body.graph.live_nodes():
        turned.update((found[1:], None) for found in _read_across(node, scan))
    if not turned:
        return None
    inside = scan.inside
    builder = BodyBuilder(
        [v.type for v in inside.carries],
        [v.type for v in inside.rows],
        [*(v.type for v in inside.whole), *(v.type.with_shape(v.shape[p] for p in perm) for v, perm in turned)],
    )
    extra = dict(zip(turned, builder.whole[len(inside.whole) :]))
    sources = (inside.step, *inside.carries, *inside.rows, *inside.whole)
    mapped = dict(zip(sources, (builder.step, *builder.carries, *builder.rows, *builder.whole)))
    for node in scan.body.graph.live_nodes():
        if node.output in mapped:
            continue
        operands = [mapped[v] for v in node.inputs]
        if node.is_source:
            mapped[node.output] = builder.graph.constant(node.data)
            continue
        attrs = dict(node.attrs)
        for side, value, perm in _read_across(node, scan):
            operands[side] = extra[value, perm]
            attrs["spec"] = _permuted(attrs["spec"], side, perm)
        with builder.graph.origin(node.origin.layer, node.origin.line):
            made = builder.graph.emit(node.op, operands, attrs)
        mapped.update(zip(node.outputs, made if isinstance(made, tuple) else (made,)))
    body = builder.finish([mapped[v] for v in inside.next], [mapped[v] for v in inside.yields])
    given = dict(zip(inside.whole, inputs[len(scan.inits) + len(scan.stacks) :]))
    whole = [OPS["transpose"](given[value], perm=perm) for value, perm in turned]
    return new.emit(scan.node.op, (*inputs, *whole), {**scan.node.attrs, "body": body})


def _read_across(node: Node, scan: Scan) -> list[tuple[int, Value, tuple[int, ...]]]:
    """(side, whole value, order of its dimensions wanted) of a contraction's operands that lie otherwise."""
    if node.is_source or node.op.kind is not Kind.CONTRACT:
        return []
    spec = parse_spec(node.attrs["spec"])
    found = []
    for side in range(2):
        value = node.inputs[side]
        letters = [plain_letter(d) for d in spec.sides[side]]
        if value not in scan.inside.whole or node.inputs[1 - side] in scan.inside.whole or None in letters:
            continue
        other = letters_of(spec.sides[1 - side])
        shared = [c for c in spec.out if c in letters and c in other]
        summed = [c for c in other if c in letters and c not in spec.out]
        columns = [c for c in spec.out if c in letters and c not in other]
        wanted = [*shared, *summed, *columns]
        if columns and len(wanted) == len(letters) and wanted != letters:
            found.append((side, value, tuple(letters.index(c) for c in wanted)))
    return found


def _permuted(text: str, side: int, perm: tuple[int, ...]) -> str:
    sides, _, out = text.replace(" ", "").partition("->")
    operands = sides.split(";")
    dims = operands[side].split(",")
    operands[side] = ",".join(dims[p] for p in perm)
    return f"{';'.join(operands)}->{out}"
