"""What every public `keras.ops` function shares: recording, conversion, promotion.

`@public` makes a function that
- given a KerasTensor records a node of the model graph (its result's shape comes from an abstract run),
- given traced values emits graph nodes,
- given numbers computes at once and returns a Tensor.

Inside, `tensor` and `promote` turn whatever the user passed into arrays or graph values of one dtype.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError
from kcompile.ir.dim import Dim, DimLike
from kcompile.ir.graph import Value
from kcompile.keras import config
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.bfloat16 import BFloat16Tensor
from kcompile.keras.tracing.dtypes import ir_name, is_float, numpy_dtype, result_type, standardize_dtype
from kcompile.keras.tracing.names import auto_name
from kcompile.keras.tracing.node import record
from kcompile.keras.tracing.scope import current_graph, current_scope, unwrap, user_line
from kcompile.keras.tracing.tensor import KerasTensor, StringValue, Tensor, as_tensor, default_array
from kcompile.keras.tracing.trace import infer

Operand = "np.ndarray | Value"

_FLOAT32 = np.dtype(np.float32)
PUBLIC: dict[str, Callable] = {}  # every public function by name; saved models find them here


class FunctionCall:
    """A `keras.ops` function as an operation of a model graph."""

    def __init__(self, function: Callable, name: str | None = None):
        self.function = function
        self.function_name = function.__name__
        self.name = name or auto_name(function.__name__)
        self._inbound_nodes: list = []
        self._outbound_nodes: list = []

    def __call__(self, *args, **kwargs):
        if _has_keras_tensor(args) or _has_keras_tensor(kwargs.values()):
            return record(self, args, kwargs, infer(self.function, args, kwargs))  # keeps this operation's name
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<operation {self.name}: keras.ops.{self.function_name}>"


def public(function: Callable) -> Callable:
    """Make `function` a public one (see the module's docstring)."""
    PUBLIC[function.__name__] = call = recorded(function)
    return call


def recorded(function: Callable) -> Callable:
    """Make `function` one that records a node of the model graph for KerasTensors, as public ones do."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        if _has_keras_tensor(args) or (kwargs and _has_keras_tensor(kwargs.values())):
            outputs = infer(call, args, kwargs)
            return record(FunctionCall(call), args, kwargs, outputs)
        if np.float64 in map(type, args):
            args = _beside_tensors(args)
        scope = current_scope()
        if scope is None:
            return _finish(function(*args, **kwargs))
        args, kwargs = scope.enter_arguments((args, kwargs))
        with scope.graph.origin(line=user_line() or None):
            return _finish(function(*args, **kwargs))

    return call


def _has_keras_tensor(values) -> bool:
    for value in values:
        kind = type(value)
        if kind is Tensor or kind is np.ndarray or kind is int or kind is float:
            continue
        if isinstance(value, KerasTensor):
            return True
        if isinstance(value, (list, tuple, dict)) and any(isinstance(v, KerasTensor) for v in tree.flatten(value)):
            return True
    return False


def _beside_tensors(args: Sequence[Any]) -> Sequence[Any]:
    """Arguments with NumPy's float64 scalars as Python's numbers if there is a tensor, see tracing/operators.py."""
    if not any(isinstance(a, (Tensor, Value, BFloat16Tensor)) or hasattr(a, "__tensor_value__") for a in args):
        return args
    return [float(a) if type(a) is np.float64 else a for a in args]


def _finish(result: Any) -> Any:
    """Arrays become Tensors; views of read-only memory (a variable's storage) become copies."""
    if type(result) is np.ndarray:
        return (result if result.flags.writeable else result.copy()).view(Tensor)
    if isinstance(result, (np.ndarray, np.generic)):
        array = np.asarray(result)
        return as_tensor(array if array.flags.writeable else array.copy())
    if isinstance(result, list):
        return [_finish(r) for r in result]
    if isinstance(result, tuple):
        return tuple(_finish(r) for r in result)
    return result


# conversion -------------------------------------------------------------------------------------


def tensor(x: Any, dtype: object = None) -> Operand:
    """Return `x` as an array or a graph value, cast to `dtype` if given.

    Takes tensors, variables, numbers, symbolic sizes, and nested lists of these.
    """
    kind = type(x)
    if kind is np.ndarray or kind is Tensor:
        array = x if kind is np.ndarray else x.view(np.ndarray)
        return array if dtype is None else cast(array, dtype)
    x = unwrap(x)
    if isinstance(x, Value):
        return x if dtype is None else cast(x, dtype)
    if isinstance(x, Dim):
        return sized(x, standardize_dtype(dtype or "int32"))
    if isinstance(x, (list, tuple)) and any(isinstance(unwrap(v), (Value, Dim)) for v in tree.flatten(list(x))):
        return _stack([tensor(v) for v in x], dtype)
    if isinstance(x, BFloat16Tensor):
        return x if dtype is None else cast(x, dtype)
    array = x.view(np.ndarray) if isinstance(x, Tensor) else x if isinstance(x, np.ndarray) else _plain(x)
    return array if dtype is None else cast(array, dtype)


def _plain(x: Any) -> np.ndarray:
    if isinstance(x, KerasTensor):
        raise ArgumentError(f"a KerasTensor ({x!r}) was used where a value is needed")
    if isinstance(x, StringValue):
        raise ArgumentError(
            f"compiled code holds no strings, and {x!r} are computed on: only StringLookup, TextVectorization and "
            "Hashing read strings, in Python, before the program"
        )
    if x is None or isinstance(x, (str, bytes)):
        raise ArgumentError(f"expected a tensor, a number or a list of numbers, received {x!r}")
    array = default_array(x)
    if array.dtype == object:
        raise ArgumentError(f"expected a tensor, a number or a regular list of numbers, received {x!r}")
    return array.view(np.ndarray)


def _stack(parts: Sequence[Operand], dtype: object) -> Operand:
    parts = promote(*parts, dtype=dtype)
    return prim.concat(*(prim.reshape(p, shape=(1, *p.shape)) for p in parts), axis=0)


def cast(x: Operand, dtype: object) -> Operand:
    """Return `x` in another dtype; itself if it has it."""
    name = ir_name(standardize_dtype(dtype))
    have = ir_name(x.dtype) if type(x) is np.ndarray or not isinstance(x, Value) else x.dtype.name
    if have == name:
        return x
    if name == "bf16" and not isinstance(x, Value):
        return BFloat16Tensor(x)
    return prim.cast(x, dtype=name)


def sized(size: DimLike, dtype: str) -> Operand:
    """Return a size as a scalar of `dtype`."""
    if isinstance(size, Dim):
        return prim.size(current_graph().constant(np.zeros((), np.int32)), value=size, dtype=ir_name(dtype))
    return cast(np.asarray(size, dtype=numpy_dtype(dtype)), dtype)


def broadcast(x: Operand, shape: Sequence[DimLike]) -> Operand:
    """Return `x` repeated to `shape`, which may hold symbolic sizes though `x` is an array."""
    if isinstance(x, np.ndarray) and any(isinstance(s, Dim) for s in shape):
        x = current_graph().constant(x)
    return prim.broadcast_to(x, shape=tuple(shape))


def dtype_key(x: Any) -> object:
    """Return what `result_type` needs of `x`: a dtype name, or the Python type of a bare number."""
    kind = type(x)
    if kind is np.ndarray:
        return standardize_dtype(x.dtype)
    if kind is bool or kind is int or kind is float:
        return kind
    if isinstance(x, Dim):
        return int
    if isinstance(x, Value):
        return x.type.dtype.keras
    return standardize_dtype(x.dtype)


def promote(*xs: Any, dtype: object = None, floating: bool = False, extra: Sequence[object] = ()) -> list[Operand]:
    """Return `xs` as operands of one dtype by Keras's promotion rules.

    Args:
        dtype: use this one instead.
        floating: integers and bools become floatx.
        extra: further dtypes that take part in the promotion.
    """
    xs = [x if type(x) in (bool, int, float) or isinstance(x, Dim) else tensor(x) for x in xs]
    if dtype is None:
        alike = _alike(xs)
        if alike is not None:
            return alike
        keys = [dtype_key(x) for x in xs]
        dtype = result_type(*keys, *extra, *((float,) if floating else ()))
    return [sized(x, dtype) if isinstance(x, Dim) else tensor(x, dtype) for x in xs]


def _alike(xs: Sequence[Any]) -> list[np.ndarray] | None:
    """The operands if they are arrays of one float dtype, or float32 and Python numbers: the common cases, quickly."""
    wanted, has_numbers = None, False
    for x in xs:
        kind = type(x)
        if kind is np.ndarray:
            if wanted is None:
                wanted = x.dtype
            elif x.dtype is not wanted:
                return None
        elif kind is float or kind is int or kind is bool:
            has_numbers = True
        else:
            return None
    if wanted is None or wanted.kind != "f":
        return None
    if not has_numbers:
        return xs
    is_plain = wanted is _FLOAT32 and config.floatx() == "float32"
    return [np.asarray(x, wanted) for x in xs] if is_plain else None


def floating(x: Any) -> Operand:
    """Return `x` as a float operand: integers and bools become floatx."""
    x = tensor(x)
    return x if is_float(dtype_key(x)) else cast(x, config.floatx())


def with_numbers(x: Any, *numbers: float) -> tuple[Operand, ...]:
    """Return `x` as a float operand, and the numbers as scalars of its dtype."""
    x = floating(x)
    return (x, *(tensor(float(n), dtype_key(x)) for n in numbers))


# shapes and axes --------------------------------------------------------------------------------


def rank(x: Operand) -> int:
    """Return the number of axes."""
    return len(x.shape)


def axis_of(axis: int, ndim: int) -> int:
    """Return `axis` counted from the front.

    Raises: ArgumentError if it is outside -ndim..ndim-1.
    """
    if not -ndim <= axis < ndim:
        raise ArgumentError(f"axis {axis} is out of bounds for a tensor of rank {ndim}")
    return int(axis) % ndim


def axes_of(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Return sorted axes counted from the front; None means all."""
    if axis is None:
        return tuple(range(ndim))
    found = [axis_of(a, ndim) for a in (axis if isinstance(axis, (list, tuple)) else (axis,))]
    if len(set(found)) != len(found):
        raise ArgumentError(f"duplicate axis in {axis}")
    return tuple(sorted(found))
