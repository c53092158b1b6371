"""A sum of products with the shares of a softmax divides once, not every share.

    sum(g * (e / s))   ->   sum(g * e) / s        e = exp(x - max(x)), s = sum(e)

The gradient of a softmax takes such a sum. s lies between 1 and the number of terms: so what is summed is finite
where g is, and only a sum that was within that number of the largest float becomes infinite.
"""

from __future__ import annotations

from kcompile import ops
from kcompile.ir.graph import Value
from kcompile.ir.pattern import Match, Rule, attributes, wildcards

x, y, z = wildcards("x y z")
(t,) = attributes("t")


def _source(value: Value) -> Value:
    """What a value is but for its place and gradients."""
    while not value.node.is_source and value.node.op.name in ("stop_gradient", "broadcast_to"):
        value = value.node.inputs[0]
    return value


def _is(value: Value, name: str) -> bool:
    return not value.node.is_source and value.node.op.name == name


def is_sum_of_shifted(total: Value, axes: tuple[int, ...]) -> bool:
    """True for a sum, along axes, of exponentials under their largest argument along these."""
    if not _is(total, "reduce_sum") or total.node.attrs["axes"] != axes or not total.node.attrs["keepdims"]:
        return False
    terms = total.node.inputs[0]
    if not _is(terms, "exp") or not _is(terms.node.inputs[0], "sub"):
        return False
    value, top = terms.node.inputs[0].node.inputs
    top = _source(top)
    return _is(top, "reduce_max") and top.node.attrs["axes"] == axes and top.node.inputs[0] is value


def _divides_once(m: Match) -> bool:
    product = m.root.node.inputs[0]
    quotient = next(v for v in product.node.inputs if _is(v, "div"))
    same = m.y.shape == product.shape and m.z.shape == m.root.shape
    return same and m.is_private(quotient) and m.is_private(product) and is_sum_of_shifted(m.z, m.t)


SHARES = (
    Rule(
        "sum_of_shares",
        ops.reduce_sum(x * (y / z), axes=t, keepdims=True),
        ops.reduce_sum(x * y, axes=t, keepdims=True) / z,
        where=_divides_once,
    ),
)
