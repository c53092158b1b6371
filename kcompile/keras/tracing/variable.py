"""Variable: numbers that change. Eager outside a trace; inside one, reads are graph values and
assignments are recorded.

The storage is a NumPy array (of bits, for bfloat16) that begins on a cache line, possibly a view into a
`VariableArena`. It never moves except when an arena adopts it, so compiled programs and Python see the same memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kcompile import plugins
from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir import interpret
from kcompile.ir import op as op_table
from kcompile.ir.graph import Value
from kcompile.keras.tracing import operators
from kcompile.keras.tracing.bfloat16 import BFloat16Tensor
from kcompile.keras.tracing.dtypes import ir_name, is_float, numpy_dtype, standardize_dtype
from kcompile.keras.tracing.names import auto_name
from kcompile.keras.tracing.scope import autocast_dtype, current_path, current_scope, enter, unwrap
from kcompile.keras.tracing.tensor import Tensor, as_tensor
from kcompile.runtime.arena import aligned_copy
from kcompile.runtime.kept import changed


class Variable:
    """A named array that training or the user changes.

    Args:
        initializer: an array, number or list; a name (`"zeros"`); or a callable `(shape, dtype)`.
        shape: needed with a callable or a name.
        dtype: default: that of the given values, floatx otherwise.
        trainable: whether gradients are taken with respect to it.
        regularizer, constraint: callables, used by training.

    >>> v = Variable([1.0, 2.0], name="v"); v.assign_add([1.0, 1.0]).numpy()
    array([2., 3.], dtype=float32)
    """

    __array_priority__ = 1000  # NumPy leaves binary operators to us
    compares_numbers = True

    def __init__(
        self,
        initializer: Any,
        shape=None,
        dtype=None,
        trainable: bool = True,
        autocast: bool = True,
        aggregation: str = "none",
        synchronization: str = "auto",
        name: str | None = None,
        layout=None,
        regularizer: Callable | None = None,
        constraint: Callable | None = None,
        path: str | None = None,
    ):
        self.name = name or auto_name(type(self).__name__)
        if not isinstance(self.name, str) or "/" in self.name:
            raise ArgumentError(
                f"Argument `name` must be a string and cannot contain character `/`. Received: name={name}"
            )
        prefix = current_path()
        self.path = path or (f"{prefix}/{self.name}" if prefix else self.name)
        self.trainable = self.trainable_when_made = bool(trainable)  # freezing a layer must be undoable
        self.autocast = bool(autocast)
        self.aggregation, self.synchronization = aggregation, synchronization
        self.regularizer, self.constraint = regularizer, constraint
        self.overwrite_with_gradient = False
        values, self.dtype = _initial_value(initializer, shape, dtype)
        self._array = aligned_copy(_stored(values, self.dtype))
        self._arena = None

    # looking ----------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return self._array.size

    @property
    def nbytes(self) -> int:
        return self._array.nbytes

    @property
    def value(self) -> Tensor | Value:
        """The current value: a graph value inside a trace, a copy as a Tensor outside."""
        found = self.__tensor_value__()
        return as_tensor(np.array(found)) if isinstance(found, np.ndarray) else found

    def numpy(self) -> np.ndarray:
        """Return a copy of the numbers (of the storage, also while tracing); float32 for bfloat16."""
        numbers = interpret.bf16_to_f32(self._array) if self.dtype == "bfloat16" else self._array
        return numbers.copy() if numbers.ndim else numbers[()]

    def __tensor_value__(self) -> np.ndarray | BFloat16Tensor | Value:
        """Return what ops compute on: a graph value inside a trace, a read-only view outside."""
        wanted = autocast_dtype() if self.autocast and is_float(self.dtype) else None
        scope = current_scope()
        if scope is None:
            if "bfloat16" in (self.dtype, wanted):
                numbers = self.numpy()
                is_half = wanted in (None, "bfloat16")
                return BFloat16Tensor(numbers) if is_half else np.asarray(numbers, numpy_dtype(wanted))
            array = self._array if wanted in (None, self.dtype) else self._array.astype(numpy_dtype(wanted))
            view = array.view()
            view.flags.writeable = False
            return view
        value = scope.read(self)
        return value if wanted in (None, self.dtype) else op_table.get("cast")(value, dtype=ir_name(wanted))

    def __op_call__(self, op, operands, attrs):
        return op(*(unwrap(o) for o in operands), **attrs)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        found = self.__tensor_value__()
        if isinstance(found, Value):
            return found.__array__()
        return np.array(found, dtype=dtype)

    # changing ---------------------------------------------------------------------------------

    def assign(self, value: Any) -> Tensor | Value:
        """Set the value; inside a trace this records an assignment of the graph and writes nothing.

        Raises: ShapeError if the shape differs.
        """
        value = unwrap(value)
        scope = current_scope()
        if isinstance(value, Value) or scope is not None:
            return self._assign_traced(scope, value)
        array = np.asarray(value)
        if array.shape != self._array.shape:
            raise self._shape_error(array.shape)
        self._array[...] = _stored(array, self.dtype)
        changed(self._array)
        return self.value

    def _assign_traced(self, scope, value: Any) -> Value:
        if not isinstance(value, Value):
            value = scope.graph.constant(np.asarray(value, dtype=numpy_dtype(self.dtype)))
        if tuple(value.shape) != self._array.shape:
            raise self._shape_error(value.shape)
        if value.dtype.keras != self.dtype:
            value = op_table.get("cast")(value, dtype=ir_name(self.dtype))
        scope.write(self, value)
        return value

    def _shape_error(self, shape) -> ShapeError:
        return ShapeError(
            "The shape of the target variable and the shape of the target value in `variable.assign(value)` must "
            f"match. variable.path={self.path}, expected shape {self.shape}, received {tuple(shape)}"
        )

    def assign_add(self, value: Any) -> Tensor | Value:
        """Add to the value; returns the new one."""
        return self.assign(operators.function("add")(self, value))

    def assign_sub(self, value: Any) -> Tensor | Value:
        """Subtract from the value; returns the new one."""
        return self.assign(operators.function("subtract")(self, value))

    def adopt(self, storage: np.ndarray, arena=None) -> None:
        """Move the numbers into `storage` (an equal-shaped array, e.g. a view into an arena)."""
        storage[...] = self._array
        self._array = storage
        self._arena = arena

    # being a number ---------------------------------------------------------------------------

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return int(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a variable of shape ()")
        return self.shape[0]

    def __repr__(self) -> str:
        return (
            f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}, "
            f"value={np.array2string(np.asarray(self.numpy()), separator=', ', prefix='value=', threshold=60)}>"
        )

    def __deepcopy__(self, memo):
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        copied._array, copied._arena = aligned_copy(self._array), None
        return copied

    def __reduce__(self):  # an arena's storage must not travel with one of its variables
        return (_rebuild, (type(self), {**vars(self), "_array": self._array.copy(), "_arena": None}))


operators.install(Variable)
Variable.__hash__ = object.__hash__  # a key stands for the variable, not for its numbers


def _rebuild(cls: type, state: dict) -> Variable:
    variable = object.__new__(cls)
    vars(variable).update(state)
    variable._array = aligned_copy(variable._array)
    return variable


def _stored(numbers: np.ndarray, dtype: str) -> np.ndarray:
    return interpret.f32_to_bf16(numbers) if dtype == "bfloat16" else numbers


def _initial_value(initializer: Any, shape, dtype) -> tuple[np.ndarray, str]:
    """Return the first numbers and the name of the dtype."""
    if isinstance(initializer, str):
        initializer = plugins.get("initializers", initializer)()
    with enter(None):  # a layer built while tracing still gets its numbers now
        if callable(initializer) and not isinstance(initializer, np.ndarray):
            if shape is None:
                raise ArgumentError(
                    "When creating a Variable from an initializer, the `shape` argument should be specified. "
                    f"Received: initializer={initializer} and shape={shape}"
                )
            shape = tuple(int(s) for s in ((shape,) if isinstance(shape, int) else shape))
            array = np.asarray(unwrap(initializer(shape, dtype=standardize_dtype(dtype))))
            if array.shape != shape:
                raise ShapeError(f"the initializer {initializer} returned shape {array.shape}, expected {shape}")
            return np.asarray(array, dtype=numpy_dtype(dtype)), standardize_dtype(dtype)
        value = unwrap(initializer)
        if isinstance(value, Value):
            raise ArgumentError("a Variable cannot be created from a symbolic value: it needs numbers")
        value = as_tensor(value)
        name = standardize_dtype(value.dtype if dtype is None else dtype)
        array = np.asarray(value, dtype=numpy_dtype(name))
        if shape is not None and tuple(shape) != array.shape:
            raise ShapeError(f"initial value of shape {array.shape} for a Variable of shape {tuple(shape)}")
        return array, name
