"""keras.backend: global settings, and the functions tf.keras 2 scripts reach as `K.<name>`."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from kcompile.errors import MissingNameError
from kcompile.keras import legacy_backend, legacy_functions, ops
from kcompile.keras.config import (
    backend,
    epsilon,
    floatx,
    image_data_format,
    set_epsilon,
    set_floatx,
    set_image_data_format,
    standardize_data_format,  # noqa: F401
)
from kcompile.keras.models.function import function  # noqa: F401
from kcompile.keras.ops.recurrence import rnn  # noqa: F401
from kcompile.keras.tracing.dtypes import is_float, is_int, result_type, standardize_dtype
from kcompile.keras.tracing.names import auto_name, reset_names
from kcompile.keras.tracing.scope import name_scope  # noqa: F401
from kcompile.keras.tracing.tensor import KerasTensor, is_tensor  # noqa: F401
from kcompile.keras.tracing.tensor import is_symbolic as is_keras_tensor
from kcompile.keras.tracing.variable import Variable

__all__ = [  # what a star brings, as Keras's; other names are found by `K.<name>`
    "backend",
    "clear_session",
    "epsilon",
    "floatx",
    "get_uid",
    "image_data_format",
    "is_float_dtype",
    "is_int_dtype",
    "is_keras_tensor",
    "result_type",
    "set_epsilon",
    "set_floatx",
    "set_image_data_format",
    "standardize_dtype",
]

# tf.keras 2's names that are spelled differently in keras.ops
_OLDER = {"abs": "absolute", "flatten": "ravel"}


def clear_session(free_memory: bool = True) -> None:
    """Forget automatic names, so that the next layer is numbered from the start."""
    reset_names()


def get_uid(prefix: str = "") -> int:
    """Return the next number of a prefix, from 1."""
    name = auto_name(prefix or "default")
    tail = name.rsplit("_", 1)[-1]
    return int(tail) + 1 if tail.isdigit() else 1


def cast_to_floatx(x: Any) -> np.ndarray:
    """Return x as an array of floatx."""
    return np.asarray(x, dtype=floatx())


def constant(value: Any, dtype: Any = None, shape=None, name: str | None = None):
    """Return a tensor of `value`."""
    return ops.convert_to_tensor(value if shape is None else np.full(shape, value), dtype or floatx())


def variable(value: Any, dtype: Any = None, name: str | None = None, constraint=None) -> Variable:
    """Return a Variable."""
    return Variable(value, dtype=dtype or floatx(), name=name, constraint=constraint)


def int_shape(x: Any) -> tuple:
    """Return the shape of x with None for unknown sizes."""
    return tuple(s if isinstance(s, int) else None for s in x.shape)


def gather(reference: Any, indices: Any):
    """Return rows of `reference`."""
    return ops.take(reference, indices, axis=0)


def batch_flatten(x: Any):
    """Return x as [batch, n]."""
    return ops.reshape(x, (ops.shape(x)[0], -1))


def get_value(x: Any) -> np.ndarray:
    """Return the numbers of a variable or tensor."""
    return x.numpy() if hasattr(x, "numpy") else np.asarray(x)


def set_value(x: Variable, value: Any) -> None:
    """Set the numbers of a variable."""
    x.assign(value)


def batch_set_value(tuples) -> None:
    """Set several variables."""
    for x, value in tuples:
        x.assign(value)


def batch_get_value(tensors) -> list[np.ndarray]:
    """Return the numbers of several variables."""
    return [get_value(x) for x in tensors]


def count_params(x: Any) -> int:
    """Return the number of elements of a variable."""
    return int(np.prod(x.shape))


def update(x: Variable, new_x: Any):
    """Set a variable; recorded while tracing."""
    return x.assign(new_x)


def is_float_dtype(dtype: Any) -> bool:
    """True for a floating-point dtype."""
    return is_float(dtype)


def is_int_dtype(dtype: Any) -> bool:
    """True for a signed or unsigned integer dtype."""
    return is_int(dtype)


def update_add(x: Variable, increment: Any):
    """Add to a variable; recorded while tracing."""
    return x.assign_add(increment)


def update_sub(x: Variable, decrement: Any):
    """Subtract from a variable; recorded while tracing."""
    return x.assign_sub(decrement)


def switch(condition: Any, then_expression: Any, else_expression: Any):
    """Return one of two tensors, element by element."""
    return ops.where(condition, then_expression, else_expression)


def binary_crossentropy(target: Any, output: Any, from_logits: bool = False):
    """Return the element-wise cross-entropy."""
    return ops.binary_crossentropy(target, output, from_logits=from_logits)


def categorical_crossentropy(target: Any, output: Any, from_logits: bool = False, axis: int = -1):
    """Return the cross-entropy along an axis."""
    return ops.categorical_crossentropy(target, output, from_logits=from_logits, axis=axis)


def __getattr__(name: str):
    if name.startswith("__"):
        raise MissingNameError(f"keras.backend has no {name!r} in kcompile")
    older = next((f for m in (legacy_backend, legacy_functions) if (f := vars(m).get(name)) is not None), None)
    found = getattr(ops, _OLDER.get(name, name), None) if older is None else older
    if found is None or inspect.ismodule(found):
        raise MissingNameError(f"keras.backend has no {name!r} in kcompile")
    return found
