"""Penalties on weights or outputs, added to the loss."""

from kcompile.keras.regularizers.regularizers import L1, L1L2, L2, OrthogonalRegularizer, Regularizer, l1, l1_l2, l2
from kcompile.keras.serialization import resolver

get, _serialize, deserialize = resolver("regularizers", "regularizer")


def serialize(regularizer):
    """Return the config of a regularizer."""
    return _serialize(regularizer)


orthogonal_regularizer = OrthogonalRegularizer

__all__ = [
    "L1",
    "L1L2",
    "L2",
    "OrthogonalRegularizer",
    "Regularizer",
    "deserialize",
    "get",
    "l1",
    "l1_l2",
    "l2",
    "orthogonal_regularizer",
    "serialize",
]
