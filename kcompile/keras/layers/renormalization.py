"""Batch renormalisation: training uses the batch's statistics, corrected towards running ones.

Source: Ioffe 2017. What is normalised by the batch, (x - mean) / deviation, becomes that * r + d with constant
r = deviation / running deviation and d = (mean - running mean) / running deviation, each within given bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras import initializers, ops

_BOUNDS = ("rmax", "rmin", "dmax")


def checked_bounds(bounds: Mapping[str, float] | None) -> dict[str, float]:
    """Return the argument `renorm_clipping`.

    Raises: ArgumentError for unknown keys, or bounds that nothing is within.
    """
    bounds = dict(bounds or {})
    if set(bounds) - set(_BOUNDS):
        raise ArgumentError(f"`renorm_clipping` takes the keys {_BOUNDS}. Received: {bounds}")
    low, high, most = bounds.get("rmin"), bounds.get("rmax"), bounds.get("dmax")
    if low is not None and high is not None and high < low:
        raise ArgumentError(f"`renorm_clipping`: rmax should not be less than rmin. Received: {bounds}")
    if most is not None and most < 0:
        raise ArgumentError(f"`renorm_clipping`: dmax should be non-negative. Received: {bounds}")
    return bounds


def add_averages(layer: Any, shape: tuple[int, ...]) -> None:
    """Add the running deviations that a BatchNormalization with `renorm` has, and a faster mean."""

    def deviation(shape, dtype=None):
        return ops.sqrt(initializers.get(layer.moving_variance_initializer)(shape, dtype=dtype))

    layer.moving_stddev = layer.add_weight(shape=shape, name="moving_stddev", initializer=deviation, trainable=False)
    layer.renorm_mean = layer.add_weight(
        shape=shape, name="renorm_mean", initializer=layer.moving_mean_initializer, trainable=False
    )
    layer.renorm_stddev = layer.add_weight(shape=shape, name="renorm_stddev", initializer=deviation, trainable=False)


def corrections(layer: Any, mean: Any, variance: Any) -> tuple[Any, Any]:
    """Return r and d for the statistics of a batch; gradients do not go through them."""
    deviation = ops.sqrt(variance + layer.epsilon)
    running = ops.maximum(ops.reshape(layer.renorm_stddev, mean.shape), layer.epsilon**0.5)
    r, d = deviation / running, (mean - ops.reshape(layer.renorm_mean, mean.shape)) / running
    low, high, most = (layer.renorm_clipping.get(k) for k in ("rmin", "rmax", "dmax"))
    r = r if low is None else ops.maximum(r, low)
    r = r if high is None else ops.minimum(r, high)
    d = d if most is None else ops.clip(d, -most, most)
    return ops.stop_gradient(r), ops.stop_gradient(d)


def update(layer: Any, mean: Any, variance: Any) -> None:
    """Move all averages towards the statistics of a batch; the variance follows from the deviation."""
    deviation = ops.sqrt(variance + layer.epsilon)
    layer.move(layer.renorm_mean, mean, layer.renorm_momentum)
    layer.move(layer.renorm_stddev, deviation, layer.renorm_momentum)
    layer.move(layer.moving_mean, mean)
    moved = layer.move(layer.moving_stddev, deviation)
    layer.moving_variance.assign(ops.relu(ops.square(moved) - layer.epsilon))
