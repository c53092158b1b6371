"""One node for all steps at once: the same op over values with a new leading axis.

`batchable` says whether it can be done, given which operands differ from step to step; `batched` does it.
Each family has one rule: elementwise ops align ranks, shape ops leave the first axis alone, a
contraction gets a letter more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kcompile.ir.dim import DimLike
from kcompile.ir.graph import Graph, Node, Value
from kcompile.ir.op import OPS, Kind
from kcompile.ops.spec import letters_of, parse_spec

STEP_LETTER = "step"


def batchable(node: Node, varies: Sequence[bool]) -> bool:
    """True if `batched` has a rule for the node with these operands differing from step to step."""
    if node.is_source or not any(varies):
        return False
    if node.op.kind is Kind.ELEMENTWISE or node.op.kind is Kind.CONTRACT:
        return True
    if node.op.name == "gather":
        return tuple(varies) == (False, True) and node.attrs.get("axis", 0) == 0
    return node.op.name in _RULES and (len(node.inputs) == 1 or node.op.name == "concat")


def batched(graph: Graph, node: Node, inputs: Sequence[Value], varies: Sequence[bool], length: DimLike) -> Value:
    """Emit the node over `inputs`, those that vary having an axis of `length` first; the result has it too."""
    if node.op.kind is Kind.ELEMENTWISE:
        rank = node.output.rank
        aligned = [_padded(x, rank) if v else x for x, v in zip(inputs, varies)]
        found = graph.emit(node.op, aligned, node.attrs)
        return found
    if node.op.kind is Kind.CONTRACT:
        return contract_over_steps(graph, node, inputs, varies, summed=False)
    if node.op.name == "gather":
        return graph.emit(node.op, inputs, node.attrs)
    return _RULES[node.op.name](graph, node, inputs, varies, length)


def contract_over_steps(
    graph: Graph, node: Node, inputs: Sequence[Value], varies: Sequence[bool], *, summed: bool
) -> Value:
    """A contraction with the steps as one more axis: of the result, or of the sum."""
    spec = parse_spec(node.attrs["spec"])
    letter = STEP_LETTER
    while letter in letters_of(*spec.sides):
        letter += "_"
    sides = [str(spec).partition("->")[0].split(";")[n] for n in range(2)]
    sides = [",".join(filter(None, (letter, side))) if v else side for side, v in zip(sides, varies)]
    out = ",".join(spec.out if summed else (letter, *spec.out))
    return graph.emit(node.op, inputs, {**node.attrs, "spec": f"{';'.join(sides)}->{out}"})


def _padded(x: Value, rank: int) -> Value:
    """The value with axes of size 1 behind the first, so that the rest broadcasts as before."""
    missing = rank + 1 - x.rank
    shape = (x.shape[0], *(1,) * missing, *x.shape[1:])
    return OPS["reshape"](x, shape=shape) if missing else x


Rule = Callable[[Graph, Node, Sequence[Value], Sequence[bool], DimLike], Value]


def _with_front(**fronts) -> Rule:
    """A rule that only adds an entry for the new axis to attributes that have one per axis."""

    def rule(graph, node, inputs, varies, length):
        attrs = dict(node.attrs)
        for key, front in fronts.items():
            attrs[key] = (length if front == "length" else front, *attrs[key])
        return graph.emit(node.op, inputs, attrs)

    return rule


def _slice(graph, node, inputs, varies, length):
    attrs = dict(node.attrs)
    attrs.update(starts=(0, *attrs["starts"]), sizes=(length, *attrs["sizes"]))
    if attrs.get("strides"):
        attrs["strides"] = (1, *attrs["strides"])
    return graph.emit(node.op, inputs, attrs)


def _transpose(graph, node, inputs, varies, length):
    return graph.emit(node.op, inputs, {**node.attrs, "perm": (0, *(p + 1 for p in node.attrs["perm"]))})


def _broadcast(graph, node, inputs, varies, length):
    shape = tuple(node.attrs["shape"])
    return graph.emit(node.op, [_padded(inputs[0], len(shape))], {"shape": (length, *shape)})


def _on_axes(graph, node, inputs, varies, length):
    return graph.emit(node.op, inputs, {**node.attrs, "axes": tuple(a + 1 for a in node.attrs["axes"])})


def _on_axis(graph, node, inputs, varies, length):
    return graph.emit(node.op, inputs, {**node.attrs, "axis": node.attrs["axis"] + 1})


def _concat(graph, node, inputs, varies, length):
    whole = [
        x if v else OPS["broadcast_to"](OPS["reshape"](x, shape=(1, *x.shape)), shape=(length, *x.shape))
        for x, v in zip(inputs, varies)
    ]
    return graph.emit(node.op, whole, {**node.attrs, "axis": node.attrs["axis"] + 1})


def _same(graph, node, inputs, varies, length):
    return graph.emit(node.op, inputs, node.attrs)


_RULES: dict[str, Rule] = {
    "reshape": _with_front(shape="length"),
    "pad": _with_front(low=0, high=0, interior=0),
    "slice": _slice,
    "transpose": _transpose,
    "broadcast_to": _broadcast,
    "reverse": _on_axes,
    "concat": _concat,
    "stop_gradient": _same,
    **{f"reduce_{how}": _on_axes for how in ("sum", "max", "min", "prod", "any", "all")},
    "argmax": _on_axis,
    "argmin": _on_axis,
    "cumsum": _on_axis,
}
