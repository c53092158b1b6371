"""What happens around `call`: the call in progress, arguments made tensors, signatures, masks."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.ir.graph import Value
from kcompile.keras.ops.function import cast as cast_operand
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.dtypes import is_float, standardize_dtype
from kcompile.keras.tracing.scope import unwrap
from kcompile.keras.tracing.tensor import KerasTensor, as_tensor, is_tensor
from kcompile.keras.tracing.variable import Variable


class _Local(threading.local):
    def __init__(self):
        self.calls: list[Call] = []


_local = _Local()


@dataclass
class Call:
    """A layer being called; nested layers inherit `training`."""

    layer: Any
    training: bool | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    def __enter__(self) -> Call:
        _local.calls.append(self)
        return self

    def __exit__(self, *error) -> None:
        _local.calls.pop()


def current_call() -> Call | None:
    """Return the innermost call in progress."""
    return _local.calls[-1] if _local.calls else None


def calls_in_progress() -> list[Call]:
    """All calls in progress on this thread, the outermost first; not to be changed."""
    return _local.calls


# signatures ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CallSignature:
    """The parameters of a `call` method: names in order, and whether it takes training and mask."""

    names: tuple[str, ...]
    has_training: bool
    has_mask: bool
    training_default: Any
    has_kwargs: bool
    signature: inspect.Signature


@functools.lru_cache(maxsize=1024)
def signature_of(function: Callable) -> CallSignature:
    """Return the signature of an unbound `call`, without self."""
    found = inspect.signature(function)
    parameters = list(found.parameters.values())[1:]
    named = {p.name: p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters)
    default = named["training"].default if "training" in named else None
    return CallSignature(
        tuple(named),
        "training" in named,
        "mask" in named,
        None if default is inspect.Parameter.empty else default,
        open_ended,
        found.replace(parameters=parameters),
    )


def parameter_names(function: Callable) -> tuple[str, ...]:
    """Return the names of what a function takes; none if it does not say."""
    try:
        return tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()


def check_arguments(layer: Any, args: tuple, kwargs: dict) -> None:
    """Raises: ArgumentError naming the first argument of `call` that is needed and was not given."""
    signature = signature_of(type(layer).call).signature
    given = signature.bind_partial(*args, **kwargs).arguments
    for name, parameter in signature.parameters.items():
        plain = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if plain and parameter.default is parameter.empty and name not in (*given, "training", "mask"):
            raise ArgumentError(f"layer {layer.name!r} ({type(layer).__name__}) is called without `{name}`")


# arguments ----------------------------------------------------------------------------------------


def as_call_tensors(structure: Any, compute_dtype: str | None) -> Any:
    """Turn arrays, lists of numbers and numbers into tensors; floats take `compute_dtype`."""
    if isinstance(structure, (list, tuple)) and structure and _all_numbers(structure):
        structure = _regular(structure)
    elif isinstance(structure, (list, tuple)) and structure and _all_strings(structure):
        structure = as_tensor(np.asarray(structure, object))
    return tree.map_structure(lambda leaf: _as_call_tensor(leaf, compute_dtype, numbers=True), structure)


def cast_tensors(structure: Any, compute_dtype: str | None) -> Any:
    """Turn arrays into tensors of the compute dtype; leave everything else alone."""
    return tree.map_structure(lambda leaf: _as_call_tensor(leaf, compute_dtype, numbers=False), structure)


def _regular(numbers: Any) -> Any:
    try:
        return as_tensor(list(numbers))
    except ValueError:
        raise ArgumentError(
            "the rows of a list of numbers differ in length; pad them with keras.utils.pad_sequences. "
            f"Received: {numbers}"
        ) from None


def _all_numbers(structure: Any) -> bool:
    if isinstance(structure, (list, tuple)):
        return all(_all_numbers(s) for s in structure)
    return isinstance(structure, (int, float, np.number, np.bool_))


def _all_strings(structure: Any) -> bool:
    if isinstance(structure, (list, tuple)):
        return all(_all_strings(s) for s in structure)
    return isinstance(structure, (str, bytes))


def _as_call_tensor(leaf: Any, compute_dtype: str | None, numbers: bool) -> Any:
    if isinstance(leaf, KerasTensor):
        return leaf
    if isinstance(leaf, Variable):
        leaf = unwrap(leaf)
    if numbers and isinstance(leaf, (int, float, np.generic)) and not isinstance(leaf, bool):
        leaf = as_tensor(leaf)
    if not is_tensor(leaf):
        return _foreign(leaf, compute_dtype) if numbers else leaf
    if isinstance(leaf, np.ndarray) and leaf.dtype == object:
        return leaf
    mask = getattr(leaf, "_keras_mask", None)
    if compute_dtype is not None and is_float(leaf.dtype) and standardize_dtype(leaf.dtype) != compute_dtype:
        leaf = cast_operand(leaf, compute_dtype)
    if not isinstance(leaf, Value):
        leaf = as_tensor(leaf)
    if mask is not None:
        leaf._keras_mask = mask
    return leaf


def _foreign(leaf: Any, compute_dtype: str | None) -> Any:
    """Take what offers `__array__` (data frames, other libraries' tensors); leave the rest."""
    if leaf is None or isinstance(leaf, (str, bytes, bool)) or not hasattr(leaf, "__array__"):
        return leaf
    return _as_call_tensor(np.asarray(leaf), compute_dtype, numbers=False)


def apart(outputs: Any, given: Any) -> Any:
    """Copy results that lie in the memory of an argument: what a user writes into one must not show in the other."""
    taken = [a for a in tree.flatten(given) if isinstance(a, np.ndarray)]

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray) or not any(np.may_share_memory(leaf, a) for a in taken):
            return leaf
        return set_mask(leaf.copy(), getattr(leaf, "_keras_mask", None))

    return tree.map_structure(own, outputs)


# masks ----------------------------------------------------------------------------------------------


def mask_of(structure: Any) -> Any:
    """Return the masks of nested tensors, or None if there is none."""
    masks = tree.map_structure(lambda t: getattr(t, "_keras_mask", None), structure)
    return None if all(m is None for m in tree.flatten(masks)) else masks


def masks_by_name(signature: CallSignature, args: tuple, kwargs: dict) -> list[tuple[str, Any]]:
    """Return the masks of arguments `x` for parameters `x_mask` that were not given."""
    given = {**dict(zip(signature.names, args)), **kwargs}
    found = ((f"{name}_mask", mask_of(value)) for name, value in given.items() if value is not None)
    return [(n, m) for n, m in found if m is not None and n in signature.names and given.get(n) is None]


def set_mask(outputs: Any, masks: Any) -> Any:
    """Attach masks to nested outputs that have none yet; returns the outputs."""
    if masks is None:
        return outputs
    flat, leaves = tree.flatten(outputs), tree.flatten(masks)
    if len(flat) != len(leaves):
        return outputs
    for tensor, mask in zip(flat, leaves):
        if mask is None or isinstance(tensor, np.generic) or not hasattr(tensor, "shape"):
            continue
        if getattr(tensor, "_keras_mask", None) is None:
            tensor._keras_mask = mask
    return outputs
