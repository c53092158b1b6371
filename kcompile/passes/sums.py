"""Sums whose result follows from another sum: gradients of means need no pass over memory of their own.

    sum(x * a + (x - mean(x)) * b)   ->   a * sum(x)          for a, b that do not vary along the axes

The gradient of a normalisation sums such a value (the mean is subtracted once more from the gradient).
What is centred sums to zero; a product with a number per result is the product of the sum; and the sum
of the gradient itself is there already, as the gradient of the shift. A sum is replaced only if at most
one term is left, so nothing can cancel, and if that leaves less to read. NaN and infinity still show: a
centred term leaves 0 times its mean behind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kcompile import ops
from kcompile.ir import dim
from kcompile.ir.graph import Graph, Node, Value, rebuild
from kcompile.ir.types import Shape

_REDUCE, _LINEAR = "reduce_sum", ("add", "sub", "neg", "mul", "div")
_DEEPEST = 8  # levels of sums and products looked through


@dataclass(frozen=True)
class _Term:
    """`value` times `factors` (numerators, then denominators); a centred value has its mean."""

    value: Value
    sign: int
    times: tuple[Value, ...]
    over: tuple[Value, ...]
    mean: Value | None = None


def reuse_sums(graph: Graph) -> Graph:
    """Replace sums that follow from other sums.

    Before: any graph.
    After:  no sum over a linear combination of centred values and at most one other, whose own sum exists.
    """
    known = {_key(n) for n in graph.live_nodes() if _is_sum(n)}
    old: dict[Value, Value] = {}

    def visit(new: Graph, node: Node, inputs: tuple[Value, ...]) -> Value | None:
        old.update(zip(inputs, node.inputs))
        if not _is_sum(node):
            return None
        axes = _axes(node)
        terms = _terms(inputs[0], axes, lambda value: (old[value], axes) in known)
        rest = [t for t in terms if t.mean is None]
        if len(rest) > 1 or (rest and rest[0].value is inputs[0]):
            return None
        if len(rest) == len(terms) and (old[rest[0].value], axes) not in known:
            return None
        total = None
        for term in terms:
            part = _sum_of(term, axes)
            total = part if total is None else ops.add(total, part)
        return ops.reshape(ops.broadcast_to(total, shape=_kept(node.inputs[0].shape, axes)), shape=node.output.shape)

    return rebuild(graph, visit) if known else graph


def _is_sum(node: Node) -> bool:
    return (
        not node.is_source
        and node.op.name == _REDUCE
        and node.output.dtype.name in ("f32", "f64")  # a narrow sum might overflow where a scaled one does not
        and bool(_axes(node))
    )


def _axes(node: Node) -> tuple[int, ...]:
    return tuple(sorted(node.attrs["axes"]))


def _key(node: Node) -> tuple[Value, tuple[int, ...]]:
    return node.inputs[0], _axes(node)


def _kept(shape: Shape, axes: tuple[int, ...]) -> Shape:
    return tuple(1 if n in axes else size for n, size in enumerate(shape))


# taking apart ----------------------------------------------------------------------------------


def _terms(value: Value, axes: tuple[int, ...], is_known, depth: int = 0) -> list[_Term]:
    """Terms that add up to `value`; factors do not vary along the axes."""
    node, shape = value.node, value.shape
    whole = [_Term(value, 1, (), ())]
    if node.is_source or node.op.name not in _LINEAR or (depth and is_known(value)) or depth == _DEEPEST:
        return whole

    def below(x: Value) -> list[_Term]:
        return _terms(x, axes, is_known, depth + 1)

    name, inputs = node.op.name, node.inputs
    if name == "neg":
        return [_scaled(t, sign=-1) for t in below(inputs[0])]
    x, y = inputs
    if name in ("add", "sub"):
        if x.shape != shape:
            return whole
        sign = 1 if name == "add" else -1
        if sign < 0 and _is_mean(y, x, axes):
            return [_Term(value, 1, (), (), mean=y)]
        if y.shape != shape:
            return whole
        return [*below(x), *(_scaled(t, sign=sign) for t in below(y))]
    if name == "mul" and x.shape != shape:
        x, y = y, x
    if x.shape != shape or not _is_fixed(y, shape, axes):
        return whole
    return [_scaled(t, times=(y,)) if name == "mul" else _scaled(t, over=(y,)) for t in below(x)]


def _scaled(term: _Term, sign: int = 1, times: tuple[Value, ...] = (), over: tuple[Value, ...] = ()) -> _Term:
    return _Term(term.value, sign * term.sign, times + term.times, over + term.over, term.mean)


def _is_fixed(y: Value, shape: Shape, axes: tuple[int, ...]) -> bool:
    """True if y, broadcast to `shape`, is the same all along the axes."""
    skip = len(shape) - y.rank
    return all(n < skip or y.shape[n - skip] == 1 for n in axes)


def _is_mean(m: Value, x: Value, axes: tuple[int, ...]) -> bool:
    """True if m is the mean of x over the axes, with the axes kept."""
    if m.shape != _kept(x.shape, axes):
        return False
    count = dim.product(x.shape[n] for n in axes)
    divided = False
    while not m.node.is_source:
        node = m.node
        if node.op.name == "reshape":
            m = node.inputs[0]
        elif node.op.name in ("div", "mul") and not divided and _is_count(node, count):
            m, divided = node.inputs[0], True
        else:
            return divided and _is_sum(node) and _key(node) == (x, axes)
    return False


def _is_count(node: Node, count: dim.DimLike) -> bool:
    """True if a node divides by `count`."""
    other = node.inputs[1].node
    if other.is_source:
        if other.data is None or other.data.size != 1 or not dim.is_static(count):
            return False
        number = float(other.data.reshape(-1)[0])
        ratio = number / count if node.op.name == "div" else number * count
        return abs(ratio - 1) <= np.finfo(other.data.dtype).eps
    return node.op.name == "div" and other.op.name == "size" and other.attrs["value"] == count


# putting together ------------------------------------------------------------------------------


def _sum_of(term: _Term, axes: tuple[int, ...]) -> Value:
    """The sum of a term, axes kept as 1."""
    if term.mean is not None:
        total = ops.mul(term.mean, 0.0)
    else:
        total = ops.reduce_sum(term.value, axes=axes, keepdims=True)
    for factor in term.times:
        total = ops.mul(total, factor)
    for factor in term.over:
        total = ops.div(total, factor)
    return ops.neg(total) if term.sign < 0 else total
