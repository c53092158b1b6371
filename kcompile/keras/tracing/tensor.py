"""What layers compute on: `Tensor` (numbers now), `KerasTensor` (a promise in a model), `TracedValue` (in a graph).

Tensor        an np.ndarray, so that everything which takes an array takes it; adds `.numpy()` and
              Keras's promotion rules
KerasTensor   shape, dtype, name and where it came from (`history`); made by `Input` and by calling
              layers on KerasTensors
TracedValue   an ir.Value with Python's operators in Keras's meaning; lives while `trace` runs
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kcompile.errors import KcompileError
from kcompile.ir import dim
from kcompile.ir.dim import Dim, DimLike
from kcompile.ir.graph import Value
from kcompile.keras.tracing import operators
from kcompile.keras.tracing.bfloat16 import BFloat16Tensor
from kcompile.keras.tracing.dtypes import standardize_dtype
from kcompile.keras.tracing.names import auto_name


class Tensor(np.ndarray):
    """An eager result: a NumPy array that also answers `.numpy()`.

    >>> as_tensor([1.0, 2.0]).numpy()
    array([1., 2.], dtype=float32)
    """

    __array_priority__ = 1000  # NumPy's scalars leave binary operators to us
    compares_numbers = True

    def numpy(self):
        """Return the plain NumPy array (a NumPy scalar for shape `()`)."""
        return self.view(np.ndarray)[()] if self.ndim == 0 else self.view(np.ndarray)

    def __repr__(self) -> str:
        text = np.array2string(self.view(np.ndarray), separator=", ", prefix="numpy=")
        return f"<Tensor: shape={self.shape}, dtype={self.dtype}, numpy={text}>"

    def __str__(self) -> str:
        return repr(self)

    def __getitem__(self, key):
        if any(isinstance(k, (Value, Dim, KerasTensor)) for k in (key if isinstance(key, tuple) else (key,))):
            return operators.function("get_item")(self, key)
        found = self.view(np.ndarray)[np.asarray(key) if isinstance(key, Tensor) else key]
        return as_tensor(found)

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.ndim == 0 else str(self), spec)

    def __reduce__(self):  # copies and pickles as the class it is, without NumPy's subclass machinery
        return (as_tensor, (np.array(self.view(np.ndarray)),))

    def __deepcopy__(self, memo):
        return as_tensor(np.array(self.view(np.ndarray)))


operators.install(Tensor, indexing=False)
Tensor.__hash__ = None


def as_tensor(array: Any) -> Tensor:
    """View an array or NumPy scalar as a Tensor; Python numbers and lists get Keras's default dtypes."""
    if isinstance(array, (Tensor, BFloat16Tensor)):
        return array
    if not isinstance(array, (np.ndarray, np.generic)):
        array = default_array(array)
    return np.asarray(array).view(Tensor)


def default_array(value: Any) -> np.ndarray:
    """Convert Python numbers and nested lists: floats to floatx, integers to int32, the rest as NumPy does."""
    array = np.asarray(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return array
    if array.dtype == np.float64 and not _holds_float64(value):
        return array.astype(standardize_dtype(None))
    if array.dtype == np.int64 and not _holds(value, np.int64):
        return array.astype(np.int32)
    return array


def _holds_float64(value: Any) -> bool:
    return _holds(value, np.float64)


def _holds(value: Any, kind: type) -> bool:
    """True if a NumPy array or scalar of this dtype is inside nested lists (only the first leaf is looked at)."""
    while isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, (np.ndarray, np.generic)) and value.dtype == kind


class TracedValue(Value):
    """A graph value with Python's operators in Keras's meaning (promotion, indexing)."""

    __slots__ = ("_keras_mask",)

    @property
    def compares_numbers(self) -> bool:
        """True while the graph is recorded: `==` is elementwise then. To passes, equal values are the same ones."""
        return self.graph.is_open

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    def numpy(self):
        raise KcompileError(
            f"a symbolic value ({self.type}) has no numbers yet: it is being traced. "
            "Use keras.ops inside call(); Python side effects run once, at trace time."
        )

    def __iter__(self):
        size = self.type.shape[0] if self.type.shape else None
        if not isinstance(size, int):
            raise KcompileError(f"cannot iterate over {self!r}: its first size is only known when the program runs")
        return (self[i] for i in range(size))

    def __len__(self) -> int:
        size = self.type.shape[0] if self.type.shape else None
        if not isinstance(size, int):
            raise KcompileError(f"len({self!r}) is only known when the program runs; use keras.ops.shape(x)[0]")
        return size


operators.install(TracedValue)
TracedValue.__hash__ = Value.__hash__  # equal hashes are equal objects: no table ever asks `==`


class KerasTensor:
    """A symbolic tensor of a model: shape (None where unknown), dtype, name, and the call that made it.

    `dims` holds the exact symbolic sizes behind the Nones, so that Flatten or Reshape of unknown sizes
    stays exact while a model is put together.
    """

    __array_priority__ = 1000  # NumPy leaves binary operators to us
    compares_numbers = False

    def __init__(
        self,
        shape: Sequence[int | None],
        dtype: object = "float32",
        sparse: bool = False,
        ragged: bool = False,
        record_history: bool = True,
        name: str | None = None,
        dims: Sequence[DimLike] | None = None,
        **kwargs,
    ):
        self.shape = tuple(None if s is None or isinstance(s, Dim) else int(s) for s in shape)
        self.dims = tuple(dims) if dims is not None else symbolic_shape(self.shape)
        self.dtype = standardize_dtype(dtype)
        self.sparse, self.ragged = bool(sparse), bool(ragged)
        self.record_history = record_history
        self.name = name or auto_name("keras_tensor")
        self.history = None  # models.node.History(operation, node_index, tensor_index)
        self._keras_mask = None

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def _keras_history(self):
        return self.history

    def reshape(self, new_shape):
        return operators.function("reshape")(self, new_shape)

    def squeeze(self, axis=None):
        return operators.function("squeeze")(self, axis=axis)

    def __len__(self) -> int:
        raise TypeError(f"len() of {self!r} is not known while the model is put together; use .shape[0]")

    def __iter__(self):
        raise TypeError(f"cannot iterate over the symbolic tensor {self!r}")

    def __bool__(self) -> bool:
        raise TypeError(f"the truth of the symbolic tensor {self!r} is unknown while the model is put together")

    def __array__(self, *args, **kwargs):
        raise ValueError(
            f"A KerasTensor is symbolic: it's a placeholder for a shape and a dtype ({self!r}). It has no numbers. "
            "Use keras.layers or keras.ops on it, not NumPy."
        )

    def __float__(self):
        raise TypeError(f"the symbolic tensor {self!r} has no value; call the model on data to get numbers")

    __int__ = __float__

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"


operators.install(KerasTensor)
KerasTensor.__ne__ = operators.elementwise("not_equal")  # `==` says whether two are the same tensor, as in Keras
KerasTensor.__hash__ = object.__hash__


class StringValue:
    """Strings in a run for shapes alone: what layers on strings take there; nothing computes on them."""

    dtype = "string"

    def __init__(self, shape: Sequence[DimLike], part_of: tuple[StringValue, Any] | None = None):
        self.shape = tuple(shape)
        self.part_of = part_of  # (strings, key): this is strings[key]

    def __getitem__(self, key):
        return operators.function("get_item")(self, key)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<strings of shape {public_shape(self.shape)}>"


def symbolic_shape(shape: Sequence[int | None], batch: str = "batch", prefix: str = "dim") -> tuple[DimLike, ...]:
    """Replace None by named sizes: `batch` on axis 0, `<prefix>1`, `<prefix>2`, ... on the others."""
    return tuple(
        (dim.symbol(batch if axis == 0 else f"{prefix}{axis}") if size is None else size)
        for axis, size in enumerate(shape)
    )


def public_shape(dims: Sequence[DimLike]) -> tuple[int | None, ...]:
    """Replace symbolic sizes by None."""
    return tuple(None if isinstance(d, Dim) else d for d in dims)


def is_symbolic(x: Any) -> bool:
    """True for a KerasTensor."""
    return isinstance(x, KerasTensor)


def is_tensor(x: Any) -> bool:
    """True for arrays, eager tensors, traced values, KerasTensors and variables."""
    return isinstance(x, (np.ndarray, Value, KerasTensor, BFloat16Tensor)) or hasattr(x, "__tensor_value__")
