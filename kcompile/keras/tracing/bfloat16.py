"""Eager numbers of bfloat16, which NumPy has not.

A `BFloat16Tensor` holds float32 whose values are bfloat16 numbers. Ops see it (`__op_call__`), compute in float32
and round what their type rule says is bfloat16: what the interpreter does, one op at a time. NumPy sees float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kcompile.ir import interpret, types
from kcompile.ir.graph import Value
from kcompile.ir.types import Type
from kcompile.keras.tracing import operators


def rounded(array: Any) -> np.ndarray:
    """Return float32 numbers rounded to those bfloat16 has."""
    return interpret.bf16_to_f32(interpret.f32_to_bf16(np.asarray(array, np.float32)))


class BFloat16Tensor:
    """An eager tensor of bfloat16.

    >>> BFloat16Tensor([1.0, 1.001]).numpy()
    array([1., 1.], dtype=float32)
    """

    __array_priority__ = 1000  # NumPy leaves binary operators to us
    compares_numbers = True
    dtype = "bfloat16"

    def __init__(self, values: Any):
        self._values = values._values if isinstance(values, BFloat16Tensor) else rounded(values)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._values.shape

    @property
    def ndim(self) -> int:
        return self._values.ndim

    @property
    def size(self) -> int:
        return self._values.size

    def numpy(self) -> np.ndarray:
        """Return the numbers as float32, which holds them exactly."""
        return self._values.copy() if self.ndim else self._values[()]

    def item(self) -> float:
        return self._values.item()

    def tolist(self) -> Any:
        return self._values.tolist()

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self._values, dtype=dtype)

    def __op_call__(self, op, operands: Sequence[Any], attrs: dict) -> Any:
        values = [o for o in operands if isinstance(o, Value)]
        if values:
            graph = values[0].graph
            given = [graph.constant(o._values, types.bf16) if isinstance(o, BFloat16Tensor) else o for o in operands]
            return op(*given, **attrs)
        arrays = [o._values if isinstance(o, BFloat16Tensor) else _beside(o) for o in operands]
        inferred = op.infer(*(_type(o, a) for o, a in zip(operands, arrays)), **attrs)
        with np.errstate(all="ignore"):
            results = op.ref(*arrays, **attrs)
        if isinstance(inferred, Type):
            return held(results, inferred)
        return tuple(held(r, t) for r, t in zip(results, inferred, strict=True))

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self):
        return (BFloat16Tensor(v) for v in self._values)

    def __float__(self) -> float:
        return float(self._values)

    def __int__(self) -> int:
        return int(self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.ndim == 0 else str(self), spec)

    def __repr__(self) -> str:
        text = np.array2string(self._values, separator=", ", prefix="numpy=")
        return f"<Tensor: shape={self.shape}, dtype=bfloat16, numpy={text}>"


operators.install(BFloat16Tensor)


def held(array: Any, type_: Type) -> Any:
    """Return a reference's result as what eager code hands on: an array, or a BFloat16Tensor."""
    return BFloat16Tensor(array) if type_.dtype is types.bf16 else np.asarray(array, type_.dtype.numpy)


def _beside(operand: Any) -> np.ndarray:
    """A bare number takes the dtype of the tensor beside it."""
    return rounded(operand) if isinstance(operand, float) else np.asarray(operand)


def _type(operand: Any, array: np.ndarray) -> Type:
    is_half = isinstance(operand, (BFloat16Tensor, float))
    return Type(types.bf16 if is_half else types.dtype(array.dtype), array.shape)
