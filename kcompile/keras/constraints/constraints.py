"""Norm limits and non-negativity. `axis` is what a norm runs over: 0 for Dense kernels."""

from __future__ import annotations

from kcompile.keras import config, ops
from kcompile.keras.configurable import Configurable
from kcompile.keras.registry import register


class Constraint(Configurable):
    """Base class: `constraint(w)` returns the projected weight."""

    plugin_group = "constraints"

    def __call__(self, w):
        return w


def _norms(w, axis):
    return ops.sqrt(ops.sum(ops.square(w), axis=axis, keepdims=True))


@register
class MaxNorm(Constraint):
    """Norms at most `max_value`. Source: Srivastava et al. 2014."""

    def __init__(self, max_value=2, axis=0):
        self.max_value, self.axis = max_value, axis

    def __call__(self, w):
        norms = _norms(w, self.axis)
        wanted = ops.clip(norms, 0, self.max_value)
        return w * (wanted / (config.epsilon() + norms))


@register
class NonNeg(Constraint):
    """No weight below 0."""

    def __call__(self, w):
        return w * ops.cast(ops.greater_equal(w, 0.0), ops.dtype(w))


@register
class UnitNorm(Constraint):
    """Norms of 1."""

    def __init__(self, axis=0):
        self.axis = axis

    def __call__(self, w):
        return w / (config.epsilon() + _norms(w, self.axis))


@register
class MinMaxNorm(Constraint):
    """Norms between min_value and max_value, moved there by the fraction `rate`."""

    def __init__(self, min_value=0.0, max_value=1.0, rate=1.0, axis=0):
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w):
        norms = _norms(w, self.axis)
        wanted = self.rate * ops.clip(norms, self.min_value, self.max_value) + (1 - self.rate) * norms
        return w * (wanted / (config.epsilon() + norms))
