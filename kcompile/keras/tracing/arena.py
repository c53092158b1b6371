"""VariableArena: many variables in one flat, aligned buffer.

All weights of a model, and each slot of its optimizer, are one arena each, with the same layout. So an
elementwise optimizer is one loop over flat buffers, and `variable._array` is a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir import interpret
from kcompile.ir.graph import Value
from kcompile.keras.tracing.bfloat16 import BFloat16Tensor
from kcompile.keras.tracing.dtypes import storage_dtype
from kcompile.keras.tracing.scope import current_scope, unwrap
from kcompile.keras.tracing.tensor import Tensor, as_tensor
from kcompile.keras.tracing.variable import Variable
from kcompile.runtime.kept import changed

ALIGN_BYTES = 64  # a cache line, and the widest vector register


class VariableArena:
    """One 64-byte aligned buffer that holds `variables` of one dtype, each at an aligned offset.

    Args:
        name: the source's name in graphs, e.g. `"params"`.
        variables: they are adopted: their storage becomes a view into `buffer`.
        trainable: the source's role (parameter or state); default: whether the variables are trainable.

    The gaps between variables hold zeros and stay zero under elementwise updates of zeros.
    """

    adoptions = 0  # how often any arena has moved variables: bound programs look whether theirs may have moved

    def __init__(self, name: str, variables: Sequence[Variable], trainable: bool | None = None):
        self.path = self.name = name
        self.variables = tuple(variables)
        dtypes = {v.dtype for v in self.variables}
        if len(dtypes) != 1:
            raise ArgumentError(f"the arena {name!r} needs variables of one dtype, received {sorted(dtypes) or 'none'}")
        self.dtype = dtypes.pop()
        self.trainable = all(v.trainable for v in self.variables) if trainable is None else trainable
        self.offsets, self.size = layout([v.size for v in self.variables], storage_dtype(self.dtype).itemsize)
        self.buffer = aligned_zeros(self.size, self.dtype)
        self._ranges = {id(v): (o, v.size) for v, o in zip(self.variables, self.offsets)}
        for variable, offset in zip(self.variables, self.offsets):
            variable.adopt(self.buffer[offset : offset + variable.size].reshape(variable.shape), self)
        VariableArena.adoptions += 1

    @property
    def shape(self) -> tuple[int]:
        return (self.size,)

    @property
    def _array(self) -> np.ndarray:
        return self.buffer

    @property
    def value(self) -> Tensor | Value:
        """The whole buffer: a graph value inside a trace, a copy as a Tensor outside."""
        found = self.__tensor_value__()
        return as_tensor(found.copy()) if isinstance(found, np.ndarray) else found

    def __tensor_value__(self) -> np.ndarray | Value:
        scope = current_scope()
        if scope is not None:
            return scope.read_arena(self)
        if self.dtype == "bfloat16":
            return BFloat16Tensor(interpret.bf16_to_f32(self.buffer))
        view = self.buffer.view()
        view.flags.writeable = False
        return view

    def assign(self, value: Any) -> None:
        """Set the whole buffer; inside a trace this records one assignment."""
        value = unwrap(value)
        if tuple(value.shape) != self.shape:
            raise ShapeError(f"the arena {self.name!r} holds {self.shape}, received {tuple(value.shape)}")
        if isinstance(value, Value):
            current_scope().write_arena(self, value)
        else:
            self.buffer[...] = interpret.f32_to_bf16(value) if self.dtype == "bfloat16" else value
            changed(self.buffer)

    def range_of(self, variable: Variable) -> tuple[int, int]:
        """Return (offset, size) of a variable, in elements."""
        return self._ranges[id(variable)]

    def holds(self, variables: Sequence[Variable]) -> bool:
        """True if the arena holds exactly these variables, in this order, and still owns their storage."""
        return len(variables) == len(self.variables) and all(
            a is b and a._arena is self for a, b in zip(self.variables, variables)
        )

    def __repr__(self) -> str:
        return f"<VariableArena {self.name}: {len(self.variables)} variables, {self.dtype}[{self.size}]>"


def layout(sizes: Sequence[int], itemsize: int) -> tuple[list[int], int]:
    """Return the offset of each size (in elements, aligned) and the total, also aligned."""
    step = max(1, ALIGN_BYTES // itemsize)
    offsets, end = [], 0
    for size in sizes:
        offsets.append(end)
        end += -(-size // step) * step
    return offsets, max(end, step)


def aligned_zeros(size: int, dtype: object) -> np.ndarray:
    """Return `size` zeros that begin at a multiple of ALIGN_BYTES."""
    wanted = storage_dtype(dtype)
    raw = np.zeros(size * wanted.itemsize + ALIGN_BYTES, np.uint8)
    start = -raw.ctypes.data % ALIGN_BYTES
    return raw[start : start + size * wanted.itemsize].view(wanted)
