"""Projections applied to weights after each update."""

from kcompile.keras.constraints.constraints import Constraint, MaxNorm, MinMaxNorm, NonNeg, UnitNorm
from kcompile.keras.serialization import resolver

get, _serialize, deserialize = resolver("constraints", "constraint")


def serialize(constraint):
    """Return the config of a constraint."""
    return _serialize(constraint)


max_norm, min_max_norm, non_neg, unit_norm = MaxNorm, MinMaxNorm, NonNeg, UnitNorm

__all__ = [
    "Constraint",
    "MaxNorm",
    "MinMaxNorm",
    "NonNeg",
    "UnitNorm",
    "deserialize",
    "get",
    "max_norm",
    "min_max_norm",
    "non_neg",
    "serialize",
    "unit_norm",
]
