"""Bounds on gradients, before the weights move."""

from __future__ import annotations

from typing import Any

from kcompile.keras import ops


def clipped(
    grads: list[Any], clipnorm: float | None, global_clipnorm: float | None, clipvalue: float | None
) -> list[Any]:
    """Return the gradients, each shrunk to a norm, all together to a norm, or each number to a range."""
    if clipnorm:
        return [_scaled_to(g, clipnorm, _norm([g])) for g in grads]
    if global_clipnorm:
        norm = _norm(grads)
        return [_scaled_to(g, global_clipnorm, norm) for g in grads]
    if clipvalue:
        return [ops.clip(g, -clipvalue, clipvalue) for g in grads]
    return grads


def _norm(grads):
    return ops.sqrt(sum(ops.sum(ops.square(g)) for g in grads))


def _scaled_to(g, limit, norm):
    """Shrink to `limit` if the norm is above it."""
    scaled = g * (limit / ops.maximum(norm, 1e-30))  # an all-zero gradient has no direction to shrink
    return ops.where(norm > limit, scaled, g)
