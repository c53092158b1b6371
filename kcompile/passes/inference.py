"""Fold scales and shifts into constant weights: what batch normalization is at inference.

    contract(x, w) * s + t   ->   contract(x, w * s) + t      for constant w, s, t

A scale may vary along the result letters that w has (output channels) and must be 1-sized along all
others. What stands between the contraction and the scale (a constant shift, a reshape of grouped
channels, a division) is moved out of the way first.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kcompile import ops
from kcompile.errors import CompilerBug
from kcompile.ir.graph import PARAMETER, STATE, Graph, Value, copy_node
from kcompile.ir.op import Kind
from kcompile.ir.pattern import Match, Rule, attributes, computed, constant, rewrite, wildcards
from kcompile.ops.spec import parse_spec, plain_letter
from kcompile.passes.fold import fold_constants

x, y = wildcards("x y")
s, t, u = attributes("s t u")
c, d, w = constant("c"), constant("d"), constant("w")


def fold_scales(graph: Graph) -> Graph:
    """Multiply constant scales into the constant weights of the contraction they follow.

    Before: BatchNormalization and the like are products and sums with constants.
    After:  no contraction with a constant right operand, read by nothing else, is directly followed
            by a product with a constant per output channel.
    """
    graph = fold_constants(graph)
    nodes = (n for n in graph.live_nodes() if not n.is_source and n.op.kind is Kind.CONTRACT)
    if not any(v.is_constant for n in nodes for v in n.inputs):
        return graph  # a training step: its weights are parameters
    return rewrite(graph, SCALES)


# where a constant scale can go -----------------------------------------------------------------


def _aligned_scale(m: Match) -> np.ndarray | None:
    """The scale `c` arranged along w's dimensions, or None if it varies along a letter that w lacks."""
    spec = parse_spec(m.s)
    data = m.c.node.data
    if data.ndim > len(spec.out):
        return None
    data = data.reshape((1,) * (len(spec.out) - data.ndim) + data.shape)
    varying = {letter for letter, size in zip(spec.out, data.shape) if size != 1}
    letters = [plain_letter(dims) for dims in spec.rhs]
    if not varying <= set(letters):
        return None
    kept = [letter for letter in letters if letter in varying]
    moved = np.transpose(
        data.reshape([n for n in data.shape if n != 1]),
        [[letter for letter in spec.out if letter in varying].index(letter) for letter in kept],
    )
    sizes = dict(zip(kept, moved.shape))
    return moved.reshape([sizes.get(letter, 1) for letter in letters])


def _scaled(m: Match) -> Value:
    scale = _aligned_scale(m)
    return ops.contract(m.x, m.root.graph.constant(m.w.node.data * scale), spec=m.s, sizes=m.t)


def _follows_contraction(m: Match) -> bool:
    """True if `x` is a contraction with constant weights behind shifts and reshapes only read here."""
    value = m.x
    while not value.node.is_source and m.is_private(value):
        node = value.node
        if node.op.kind is Kind.CONTRACT:
            return node.inputs[1].is_constant
        if node.op.name not in ("reshape", "add", "sub", "mul"):
            return False
        value = node.inputs[0]
    return False


def _reshaped_scale(m: Match) -> np.ndarray | None:
    """The scale of reshape(x) as a scale of x, where it varies along trailing dimensions that were joined."""
    data = m.c.node.data
    if data.ndim == 0 or data.size == 1:
        return data.reshape(())
    if data.size != data.shape[-1] or data.shape[-1] != m.root.shape[-1]:
        return None  # only a scale per channel, the last dimension
    tail: list[int] = []
    product = 1
    for size in reversed(m.x.shape):
        tail.insert(0, size)
        product = product * size
        if product == data.size:
            return data.reshape(tail)
    return None


# computed at once, not left to folding: what follows must see a constant
c_times_d = computed(lambda m: m.root.graph.constant(m.c.node.data * m.d.node.data))

SCALES = (
    Rule(
        "scale_weights",
        ops.contract(x, w, spec=s, sizes=t) * c,
        computed(_scaled),
        where=lambda m: m.is_private(m.root.node.inputs[0]) and _aligned_scale(m) is not None,
    ),
    Rule(
        "div_to_scale",
        x / c,
        x * computed(lambda m: m.root.graph.constant(1 / m.c.node.data)),
        where=_follows_contraction,
    ),
    Rule("shift_then_scale", (x + c) * d, x * d + c_times_d, where=_follows_contraction, grows="d moves inwards"),
    Rule("sub_then_scale", (x - c) * d, x * d - c_times_d, where=_follows_contraction, grows="d moves inwards"),
    Rule("scale_twice", (x * c) * d, x * c_times_d, where=_follows_contraction),
    Rule(
        "scale_behind_reshape",
        ops.reshape(x, shape=u) * c,
        ops.reshape(x * computed(lambda m: m.root.graph.constant(_reshaped_scale(m))), shape=u),
        where=lambda m: _follows_contraction(m) and _reshaped_scale(m) is not None,
    ),
)


def freeze(graph: Graph, arrays: Mapping[str, np.ndarray]) -> Graph:
    """Make parameters and state constants, so that what depends on them alone can be folded.

    Args:    arrays: their values by name; they are copied, so later training does not change the graph.
    Raises:  CompilerBug if the graph assigns one of them: a training step cannot be frozen.
    """
    if graph.assignments:
        raise CompilerBug(f"{graph.name} assigns {', '.join(graph.assignments)}: only inference can be frozen")
    frozen = Graph(graph.name)
    mapped: dict[Value, Value] = {}
    for node in graph.live_nodes():
        with frozen.origin(node.origin.layer, node.origin.line):
            if node.role in (PARAMETER, STATE):
                made = frozen.constant(np.array(arrays[node.name]))
            else:
                made = copy_node(frozen, node, tuple(mapped[v] for v in node.inputs))
        mapped.update(zip(node.outputs, made if isinstance(made, tuple) else (made,)))
    for name, value in graph.outputs.items():
        frozen.output(name, mapped[value])
    return frozen
