"""Which calls Python has no part in, and what they read: the ground under `compiled_calls.py`.

A layer is of this package if all that its class computes in a call is; a subclass may add methods, and
steps of training. What its calls read are its attributes: numbers and strings count by value, objects by identity. A
function of the user among them (an activation, a Lambda) may print or count, so it leaves the layer to Python.
Attributes that only making or training weights reads do not matter.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from kcompile.keras.tracing.tensor import Tensor
from kcompile.keras.tracing.variable import Variable

_PACKAGE = __name__.partition(".")[0]
# what a subclass may define though this package does: no call of the layer reads it
_STEPS = frozenset(
    """__init__ __module__ __doc__ __qualname__ __annotations__ __dict__ __weakref__ __firstlineno__
    __static_attributes__ __slotnames__ build get_config from_config get_build_config build_from_config summary
    train_step test_step predict_step compute_loss compute_metrics update_metrics metrics metrics_names reset_metrics
    compile compile_from_config get_compile_config fit evaluate predict make_train_function make_test_function
    make_predict_function save load_weights save_weights""".split()
)
_IGNORED = frozenset(
    """_version _attributes _tree _arguments _called_shape _inbound_nodes _outbound_nodes _losses _loss_functions
    _build_shapes _building _initial_weights _batch_input_shape _input_dtype _compiled_calls _weights name""".split()
)
_OF_WEIGHTS = ("_initializer", "_regularizer", "_constraint")
_VALUES = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), range, np.generic, np.dtype)


class _Impure(Exception):
    pass


def state_of(layer: Any) -> tuple[Any, list[Any]] | None:
    """Return what the calls of a layer read besides arguments and weights: a key, and the objects whose addresses
    are in it. None if Python has a part in the calls."""
    held: list[Any] = []
    parts = []
    try:
        for one in layer._flatten_layers():
            read = one.read_by_calls(outermost=one is layer) if is_ours(type(one)) else None
            if read is None:
                return None
            names = (n for n in read if n not in _IGNORED and not n.endswith(_OF_WEIGHTS))
            parts.append((id(one), *((n, _part(read[n], held)) for n in names)))
            held.append(one)
    except (_Impure, TypeError):  # TypeError: a key of a dict that cannot be compared
        return None
    return tuple(parts), held


def _part(value: Any, held: list[Any]) -> Any:
    if isinstance(value, _VALUES):
        return value
    if type(value) in (list, tuple):
        return tuple(_part(v, held) for v in value)
    if type(value) is dict:
        return tuple((k, _part(v, held)) for k, v in value.items())
    if type(value) in (set, frozenset):
        return frozenset(_part(v, held) for v in value)
    if not is_plain(value):
        raise _Impure
    held.append(value)
    return id(value)


def is_plain(value: Any) -> bool:
    """True for arrays and this package's own objects, functions and classes."""
    if isinstance(value, types.MethodType):
        value = value.__func__
    if isinstance(value, (types.FunctionType, type)):
        return _is_own(value.__module__) or (isinstance(value, type) and value.__module__ in ("builtins", "numpy"))
    return type(value) is np.ndarray or _is_own(type(value).__module__)


def _is_own(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] == _PACKAGE


@functools.lru_cache(maxsize=4096)
def is_ours(cls: type) -> bool:
    """True if this package defines all that a call of such a layer runs."""
    foreign = [c for c in cls.__mro__ if c is not object and not _is_own(c.__module__)]
    ours = [c for c in cls.__mro__ if _is_own(c.__module__)]
    replaced = {name for c in foreign for name in vars(c) if any(name in vars(o) for o in ours)}
    return replaced <= _STEPS and _is_own(cls.call.__module__) and _is_own(cls.__call__.__module__)


# arguments --------------------------------------------------------------------------------------------------

ARRAY = "<array>"  # stands for an array in the nesting of arguments


def nesting(structure: Any, arrays: list[np.ndarray]) -> tuple[tuple, dict] | None:
    """Return the nesting of [args, kwargs] as hashable data, with what is no array as it is; fills `arrays`.

    None if there is something else than arrays without masks, None, bools and strings.
    """
    try:
        args, kwargs = structure
        return tuple(_nested(a, arrays) for a in args), {k: _nested(v, arrays) for k, v in kwargs.items()}
    except _Impure:
        return None


def _nested(value: Any, arrays: list[np.ndarray]) -> Any:
    kind = type(value)
    if kind is Tensor and value.__dict__.get("_keras_mask") is None:
        arrays.append(value.view(np.ndarray))
        return ARRAY
    if kind is np.ndarray:
        arrays.append(value)
        return ARRAY
    if value is None or kind in (bool, str):
        return (kind, value)
    if kind in (list, tuple):
        return (kind, tuple(_nested(v, arrays) for v in value))
    if kind is dict:
        return (kind, tuple((k, _nested(v, arrays)) for k, v in value.items()))
    raise _Impure


def filled(nested: Any, arrays: Iterator[Any]) -> Any:
    """Return what `nesting` described, with these values for the arrays."""
    if nested is ARRAY:
        return next(arrays)
    kind, value = nested
    if kind in (list, tuple):
        return kind(filled(v, arrays) for v in value)
    return {k: filled(v, arrays) for k, v in value} if kind is dict else value


# model graphs -----------------------------------------------------------------------------------------------


def are_ours(nodes: list) -> bool:
    """True if the calls in a model graph are of layers and functions of this package, on tensors, numbers and names.

    An array among the arguments is the user's, who may change it.
    """
    for node in nodes:
        function = getattr(node.operation, "function", None)
        is_layer = getattr(type(node.operation), "plugin_group", None) == "layers"
        if not is_layer and not (function is not None and _is_own(function.__module__)):
            return False
        if not all(_is_constant(leaf) for leaf in _leaves([node.args, node.kwargs])):
            return False
    return True


def _is_constant(leaf: Any) -> bool:
    if isinstance(leaf, (*_VALUES, slice, type)):
        return True
    return not isinstance(leaf, np.ndarray) and not callable(leaf) and _is_own(type(leaf).__module__)


def variables_in_calls(layer: Any) -> list[Variable]:
    """The variables that are arguments of calls in the model graphs of a layer."""
    graphs = (getattr(one, "_graph", None) for one in layer._flatten_layers())
    nodes = (node for graph in graphs if graph is not None for node in graph.nodes)
    return [leaf for node in nodes for leaf in _leaves([node.args, node.kwargs]) if isinstance(leaf, Variable)]


def _leaves(structure: Any) -> Iterator[Any]:
    if isinstance(structure, (list, tuple)):
        for one in structure:
            yield from _leaves(one)
    elif isinstance(structure, dict):
        yield from _leaves(list(structure.values()))
    else:
        yield structure
