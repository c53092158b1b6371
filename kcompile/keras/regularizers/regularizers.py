"""L1, L2, both, and orthogonality."""

from __future__ import annotations

import math

from kcompile.errors import ArgumentError
from kcompile.keras import ops
from kcompile.keras.configurable import Configurable
from kcompile.keras.registry import register


class Regularizer(Configurable):
    """Base class: `regularizer(x)` returns the penalty as a scalar."""

    plugin_group = "regularizers"

    def __call__(self, x):
        return 0.0


def _factor(value, name: str) -> float:
    if value is None:
        return 0.0
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise ArgumentError(
            f"Invalid value for argument {name}: expected a non-negative float. Received: {name}={value}"
        )
    return float(value)


@register
class L1(Regularizer):
    """l1 · Σ |x|."""

    def __init__(self, l1=0.01):
        self.l1 = _factor(0.01 if l1 is None else l1, "l1")

    def __call__(self, x):
        return ops.multiply(ops.sum(ops.absolute(x)), self.l1)


@register
class L2(Regularizer):
    """l2 · Σ x²."""

    def __init__(self, l2=0.01):
        self.l2 = _factor(0.01 if l2 is None else l2, "l2")

    def __call__(self, x):
        return ops.multiply(ops.sum(ops.square(x)), self.l2)


@register(aliases=("l1_l2",))
class L1L2(Regularizer):
    """l1 · Σ |x| + l2 · Σ x²."""

    def __init__(self, l1=0.0, l2=0.0):
        self.l1, self.l2 = _factor(l1, "l1"), _factor(l2, "l2")

    def __call__(self, x):
        penalty = 0.0
        if self.l1:
            penalty = ops.multiply(ops.sum(ops.absolute(x)), self.l1)
        if self.l2:
            penalty = ops.add(penalty, ops.multiply(ops.sum(ops.square(x)), self.l2))
        return penalty


def l1(l1=0.01):
    """Return an L1 penalty."""
    return L1(l1)


def l2(l2=0.01):
    """Return an L2 penalty."""
    return L2(l2)


def l1_l2(l1=0.01, l2=0.01):
    """Return an L1 and L2 penalty."""
    return L1L2(l1, l2)


@register
class OrthogonalRegularizer(Regularizer):
    """factor · mean |cos| between different rows (or columns) of a matrix."""

    def __init__(self, factor=0.01, mode="rows"):
        self.factor = _factor(factor, "factor")
        if mode not in ("rows", "columns"):
            raise ArgumentError(f"Invalid value for argument `mode`. Expected 'rows' or 'columns'. Received: {mode}")
        self.mode = mode

    def __call__(self, inputs):
        if len(inputs.shape) != 2:
            raise ArgumentError(f"Inputs to OrthogonalRegularizer must have rank 2. Received: shape {inputs.shape}")
        x = inputs if self.mode == "rows" else ops.transpose(inputs)
        count = x.shape[0]
        x = ops.normalize(x, axis=1)
        product = ops.matmul(x, ops.transpose(x))
        off = ops.multiply(product, 1.0 - ops.eye(count, dtype=ops.dtype(product)))
        pairs = max(count * (count - 1) / 2.0, 1.0)
        return ops.multiply(ops.sum(ops.absolute(off)), self.factor * 0.5 / pairs)
