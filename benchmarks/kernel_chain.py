"""Chains of elementwise operations, for any library with NumPy's names."""

from __future__ import annotations


def chain(lib, steps: int, x, y):
    """Apply the first `steps` operations of the list, at most ten."""
    apply = (
        lambda x: x * y, lambda x: x + y, lambda x: lib.maximum(x, y), lambda x: x * 0.5, lambda x: x - y,
        lib.square, lambda x: x + 1.0, lambda x: x * y, lambda x: lib.maximum(x, -x), lambda x: x - 0.25,
    )  # fmt: skip
    for step in apply[:steps]:
        x = step(x)
    return x
