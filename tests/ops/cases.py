"""The samples of all ops as test cases, with symbolic twins; shared by the generated tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import kcompile.ops  # noqa: F401  (fills OPS)
from kcompile.errors import KcompileError
from kcompile.ir import dim
from kcompile.ir.op import OPS as ALL_OPS
from kcompile.ir.op import Kind, Op
from kcompile.ir.types import Type, dtype

SEED = 20240229
OPS = {name: op for name, op in ALL_OPS.items() if op.kind is not Kind.CONTROL}  # loops: keras/tracing/test_loops.py


@dataclass(frozen=True, eq=False)
class Case:
    """One op on one sample: arrays, their types (symbolic or not), attributes, sizes of symbols."""

    op: Op
    arrays: tuple[np.ndarray, ...]
    types: tuple[Type, ...]
    attrs: Mapping[str, Any]
    sizes: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        attrs = ",".join(f"{k}={v}" for k, v in self.attrs.items()).replace(" ", "")
        return f"{self.op.name}({','.join(map(str, self.types))}){attrs and '-' + attrs}"


def cases(op: Op) -> list[Case]:
    """One case per sample of `op`, all sizes known."""
    found = []
    for arrays, attrs in op.samples(np.random.default_rng(SEED)):
        arrays = tuple(np.asarray(a) for a in arrays)
        found.append(Case(op, arrays, tuple(Type(dtype(a.dtype), a.shape) for a in arrays), attrs))
    return found


def all_cases() -> list[Case]:
    """Every op on every sample."""
    return [case for op in OPS.values() for case in cases(op)]


# attributes that repeat the leading dimension of the operand
SHAPE_ATTRS = ("shape", "sizes")


def symbolic(case: Case, name: str = "n") -> Case | None:
    """The case with the first operand's leading dimension, wherever it occurs in front, called `name`.

    None where the op cannot take it: an axis that is sliced or reshaped into others by its number.
    """
    if case.types[0].rank == 0 or case.types[0].shape[0] < 2:
        return None
    leading = case.types[0].shape[0]
    n = dim.symbol(name)

    def renamed(shape):
        return (n, *shape[1:]) if shape and shape[0] == leading else tuple(shape)

    types = tuple(t.with_shape(renamed(t.shape)) for t in case.types)
    attrs = {k: renamed(v) if k in SHAPE_ATTRS and k != "spec" else v for k, v in case.attrs.items()}
    try:
        case.op.infer(*types, **attrs)
    except KcompileError:
        return None
    return Case(case.op, case.arrays, types, attrs, {name: leading})
