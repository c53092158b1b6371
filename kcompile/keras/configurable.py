"""Configs derived from constructors: an object remembers the arguments it was made with.

`get_config` returns, for every parameter of the constructors along the class hierarchy, the attribute
of the same name if there is one (it may have been changed since), else the argument given. So a class
writes no config code.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from kcompile.keras.serialization import serialize_keras_object


@functools.lru_cache(maxsize=1024)
def constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Return the named parameters of the constructors along the class hierarchy, nearest first."""
    found: dict[str, inspect.Parameter] = {}
    for owner in cls.__mro__:
        constructor = owner.__dict__.get("__init__")
        if constructor is None or owner is object:
            continue
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, parameter)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break  # what stands above cannot be given by the caller
    return found


def given_arguments(cls: type, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Return the arguments of `cls(*args, **kwargs)` by name; what does not bind is left to the call's own error."""
    parameters = [
        p
        for p in list(inspect.signature(cls.__init__).parameters.values())[1:]
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    found = {p.name: value for p, value in zip(parameters, args)}
    found.update(kwargs)
    return found


def derived_config(obj: Any, arguments: dict[str, Any], skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return {parameter: plain data} of the constructor of `obj`."""
    config = {}
    for name, parameter in constructor_parameters(type(obj)).items():
        if name in skip:
            continue
        if name in vars(obj):
            value = getattr(obj, name)
        elif name in arguments:
            value = arguments[name]
        elif parameter.default is not parameter.empty:
            value = parameter.default
        else:
            continue
        config[name] = serialize_keras_object(value)
    return config


class Configurable:
    """Base of small objects (initializers, regularizers, ...) whose config is their arguments."""

    def __new__(cls, *args, **kwargs):
        made = super().__new__(cls)
        made._arguments = given_arguments(cls, args, kwargs)
        return made

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain data."""
        return derived_config(self, self._arguments)

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """Return a new object with these arguments."""
        return cls(**config)

    def clone(self):
        """Return a new object with the same arguments."""
        return type(self).from_config(self.get_config())

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        config = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({config})"
