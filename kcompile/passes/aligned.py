"""Sums over several axes that their operands hold in another order: the smaller operand is turned.

    x[b, t, m] * y[t, b, n] -> [m, n]        x is copied as [t, b, m]

Then the axes are one, and a block of the sum is a piece of both operands: the weight gradient of a recurrent
layer, whose steps are the outermost axis of all it makes, but not of what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence

from kcompile.ir import dim
from kcompile.ir.graph import Graph, Node, Value, rebuild
from kcompile.ir.op import OPS, Kind
from kcompile.ops.spec import Spec, parse_spec, plain_letter

SHORTEST_ROW = 16  # elements that stay together in the copy


def align_sums(graph: Graph) -> Graph:
    """Copy operands of contractions whose summed axes stand together, but in another order than the other's.

    After: the copy is a value of its own; no pass behind this one may read through it.
    """
    copies: dict[tuple[Value, tuple[int, ...]], Value] = {}

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]) -> Value | None:
        found = None if node.is_source or node.op.kind is not Kind.CONTRACT else _turn(node)
        if found is None:
            return None
        side, perm = found
        key = inputs[side], perm
        if key not in copies:
            turned = OPS["transpose"](inputs[side], perm=perm)
            copies[key] = OPS["cast"](turned, dtype=turned.dtype.name)  # which has to exist
        spec = parse_spec(node.attrs["spec"])
        sides = list(spec.sides)
        sides[side] = tuple(sides[side][n] for n in perm)
        operands = tuple(copies[key] if n == side else v for n, v in enumerate(inputs))
        return new.emit(node.op, operands, {**node.attrs, "spec": str(Spec(*sides, spec.out))})

    return rebuild(graph, visit)


def _turn(node: Node) -> tuple[int, tuple[int, ...]] | None:
    """(the side to turn, its dimensions in the order wanted), or None."""
    spec = parse_spec(node.attrs["spec"])
    letters = [[plain_letter(d) for d in side] for side in spec.sides]
    if any(name is None for side in letters for name in side):
        return None
    over = set(spec.over)
    places = [[n for n, name in enumerate(side) if name in over] for side in letters]
    orders = [[side[n] for n in own] for side, own in zip(letters, places)]
    if len(over) < 2 or sorted(orders[0]) != sorted(orders[1]) or orders[0] == orders[1]:
        return None
    if not all(_stand_together(own, len(side)) for own, side in zip(places, letters)):
        return None
    sizes = [dim.nominal(v.type.size) for v in node.inputs]
    side = 0 if sizes[0] <= sizes[1] else 1
    row = node.inputs[side].shape[places[side][-1] + 1 :]
    if not all(map(dim.is_static, row)) or dim.product(row) < SHORTEST_ROW:
        return None
    perm = list(range(len(letters[side])))
    for place, name in zip(places[side], orders[1 - side]):
        perm[place] = letters[side].index(name)
    return side, tuple(perm)


def _stand_together(places: Sequence[int], rank: int) -> bool:
    """True for neighbouring dimensions, none of them the last."""
    return places[-1] - places[0] == len(places) - 1 and places[-1] < rank - 1
