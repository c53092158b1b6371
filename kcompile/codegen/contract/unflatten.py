"""A position counted over several axes -> the value of each."""

from __future__ import annotations

from collections.abc import Sequence

from kcompile.codegen.contract.frame import Frame
from kcompile.codegen.llvm_types import Index
from kcompile.ir.dim import Axis


def unflatten(frame: Frame, axes: Sequence[Axis], number: Index) -> dict[Axis, Index]:
    """The value of each axis at position `number`, the last axis fastest."""
    b = frame.b
    places: dict[Axis, Index] = {}
    for place, axis in reversed(list(enumerate(axes))):
        if place == 0:
            places[axis] = number
        else:
            size = frame.index(axis.extent)
            places[axis] = b.mod_nonneg(number, size)
            number = b.div_nonneg(number, size)
    return places
