"""Initializers without randomness."""

from __future__ import annotations

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras.initializers.initializer import Initializer
from kcompile.keras.registry import register


@register
class Zeros(Initializer):
    """All 0."""

    def values(self, shape):
        return np.zeros(shape)


@register
class Ones(Initializer):
    """All 1."""

    def values(self, shape):
        return np.ones(shape)


@register
class Constant(Initializer):
    """All `value`, a number or an array that broadcasts to the shape."""

    def __init__(self, value=0.0):
        self.value = value

    def values(self, shape):
        return np.broadcast_to(np.asarray(self.value), shape)


@register(aliases=("IdentityInitializer", "identity"))
class Identity(Initializer):
    """`gain` on the diagonal of a matrix, 0 elsewhere."""

    def __init__(self, gain=1.0):
        self.gain = gain

    def values(self, shape):
        if len(shape) != 2:
            raise ArgumentError(f"Identity initializer can only be used for 2D matrices. Received: shape={shape}")
        return self.gain * np.eye(*shape)
