"""Objects <-> configs: plain data that JSON can hold, in Keras 3's layout, reading Keras 2's too.

An object becomes `{"module": "keras.layers", "class_name": "Dense", "config": {...},
"registered_name": None}`. A class is found by name in the plugin registry, among registered custom
objects, or in `custom_objects=`. Nothing is ever imported by a name found in a file, and no code in a
file is run.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kcompile import plugins
from kcompile.errors import ArgumentError, SavedFileError, UnknownNameError, suggestion
from kcompile.ir.types import DType
from kcompile.keras import dtype_policies
from kcompile.keras.lambdas import is_lambda, known_lambda, lambda_config
from kcompile.keras.tracing.dtypes import standardize_dtype
from kcompile.keras.tracing.tensor import KerasTensor

# group -> the module name Keras writes
MODULES = {
    "layers": "keras.layers",
    "losses": "keras.losses",
    "optimizers": "keras.optimizers",
    "metrics": "keras.metrics",
    "activations": "keras.activations",
    "initializers": "keras.initializers",
    "regularizers": "keras.regularizers",
    "constraints": "keras.constraints",
    "callbacks": "keras.callbacks",
}
_registered: dict[str, Any] = {}  # "package>Name" -> object, by register_keras_serializable
_local = threading.local()


# custom objects -----------------------------------------------------------------------------------


def get_custom_objects() -> dict[str, Any]:
    """Return the global dict of custom objects; entries may be added."""
    return _registered


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable:
    """Register a class or function under `package>name`, so that saved models find it."""

    def enter(obj: Any) -> Any:
        label = f"{package}>{name or obj.__name__}"
        _registered[label] = obj
        obj._registered_name = label if isinstance(obj, type) else getattr(obj, "_registered_name", label)
        return obj

    return enter


def get_registered_name(obj: Any) -> str:
    """Return the name `obj` is registered under, or its own."""
    return next((n for n, o in _registered.items() if o is obj), getattr(obj, "__name__", type(obj).__name__))


def get_registered_object(name: str, custom_objects: Mapping | None = None, module_objects: Mapping | None = None):
    """Return the custom object called `name`, or None."""
    for known in (_scoped(), custom_objects or {}, _registered, module_objects or {}):
        if name in known:
            return known[name]
    return None


@contextlib.contextmanager
def custom_object_scope(*custom_objects: Mapping[str, Any]):
    """Inside, the names in `custom_objects` are known to `from_config` and to loading."""
    before = _scoped()
    merged = dict(before)
    for objects in custom_objects:
        merged.update(objects or {})
    _local.scope = merged
    try:
        yield merged
    finally:
        _local.scope = before


CustomObjectScope = custom_object_scope


def _scoped() -> dict[str, Any]:
    return getattr(_local, "scope", {})


# objects -> configs ---------------------------------------------------------------------------------


def serialize_keras_object(obj: Any) -> Any:
    """Return plain data for numbers, strings, containers, arrays, dtypes and objects with `get_config`."""
    if obj is None or isinstance(obj, (bool, int, float, str)):
        return obj
    if isinstance(obj, (list, tuple)) and not hasattr(obj, "get_config"):
        return type(obj)(serialize_keras_object(v) for v in obj)
    if isinstance(obj, dict):
        return {k: serialize_keras_object(v) for k, v in obj.items()}
    if isinstance(obj, np.generic):
        return obj.item()
    if isinstance(obj, np.ndarray):
        return {
            "class_name": "__numpy__",
            "config": {"value": obj.tolist(), "dtype": standardize_dtype(obj.dtype)},
        }
    if isinstance(obj, (np.dtype, DType)):
        return standardize_dtype(obj)
    if isinstance(obj, slice):
        parts = {"start": obj.start, "stop": obj.stop, "step": obj.step}
        return {"class_name": "__slice__", "config": {k: serialize_keras_object(v) for k, v in parts.items()}}
    if obj is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if isinstance(obj, KerasTensor):
        history = [obj.history.operation.name, obj.history.node_index, obj.history.tensor_index]
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": list(obj.shape), "dtype": obj.dtype, "keras_history": history},
        }
    if hasattr(obj, "get_config"):
        return _object_config(obj)
    if inspect.isfunction(obj) or callable(obj):
        return _function_config(obj)
    raise ArgumentError(f"cannot write {obj!r} of {type(obj)} into a config")


def _object_config(obj: Any) -> dict[str, Any]:
    cls = type(obj)
    group = getattr(cls, "plugin_group", None)
    registered = getattr(cls, "_registered_name", None)
    builtin = cls.__module__.startswith("kcompile.")
    found = {
        "module": _module_of(cls, group) if builtin else cls.__module__,
        "class_name": vars(cls).get("public_name", cls.__name__),
        "config": obj.get_config(),
        "registered_name": None if builtin else (registered or cls.__name__),
    }
    build = getattr(obj, "get_build_config", None)
    if build is not None and (shape := build()) is not None:
        found["build_config"] = shape
    return found


def _module_of(cls: type, group: str | None) -> str:
    """The module Keras writes for a built-in class: its own `keras_module`, else that of its group."""
    return getattr(cls, "keras_module", None) or MODULES.get(group, cls.__module__)


def _function_config(function: Callable) -> Any:
    if is_lambda(function):
        return lambda_config(function)
    name = getattr(function, "__name__", None)
    if name is None:
        raise ArgumentError(f"{function!r} has no name to write into a config: define a function and register it")
    if getattr(function, "__module__", "").startswith("kcompile.keras."):
        return name
    registered = next((n for n, o in _registered.items() if o is function), name)
    return {
        "module": function.__module__,
        "class_name": "function",
        "config": registered,  # Keras finds a function by this entry
        "registered_name": registered,
    }


# configs -> objects ---------------------------------------------------------------------------------


def deserialize_keras_object(
    config: Any,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    group: str | None = None,
    **kwargs,
) -> Any:
    """Return the object that `config` describes.

    Args:
        custom_objects: name -> class or function, for names nobody registered.
        group: where a bare string or a Keras 2 config (`{"class_name", "config"}`) is looked up.

    Raises: UnknownNameError for unknown classes; SavedFileError for configs that are no configs.
    """
    with custom_object_scope(custom_objects or {}):
        return _deserialize(config, group)


def _deserialize(config: Any, group: str | None) -> Any:
    if config is None or isinstance(config, (bool, int, float)):
        return config
    if isinstance(config, str):
        return _lookup(config, group, None) if group else config
    if isinstance(config, (list, tuple)):
        return type(config)(_deserialize(v, None) for v in config)
    if not isinstance(config, dict):
        raise SavedFileError(f"expected a config, received {config!r}")
    if "class_name" not in config or "config" not in config:
        return {k: _deserialize(v, None) for k, v in config.items()}
    name, inner = config["class_name"], config["config"]
    if name == "__numpy__":
        return np.asarray(inner["value"], dtype=inner["dtype"])
    if name == "__tensor__":
        return np.asarray(inner["value"], dtype=inner["dtype"])
    if name == "__slice__":
        return slice(*(_deserialize(inner.get(k), None) for k in ("start", "stop", "step")))
    if name == "__ellipsis__":
        return Ellipsis
    if name == "__lambda__":
        if (function := known_lambda(config)) is not None:
            return function
        raise SavedFileError(
            "the config holds a Python lambda, which is code; it is never run. Write a named function instead, and "
            "register it with @keras.saving.register_keras_serializable() or pass it in custom_objects."
        )
    if name == "function":
        registered = config.get("registered_name")  # Keras 3 writes "function" for one that nobody registered
        return _lookup(inner if registered in (None, "function") else registered, None, config)
    if name == "DTypePolicy":
        return dtype_policies.get(inner["name"])
    cls = _lookup(name, group or _group_of(config.get("module")), config)
    if not isinstance(cls, type):
        return cls
    made = cls.from_config(dict(inner)) if hasattr(cls, "from_config") else cls(**inner)
    build = config.get("build_config")
    if build and hasattr(made, "build_from_config") and not getattr(made, "built", True):
        made.build_from_config(build)
    return made


def _group_of(module: str | None) -> str | None:
    if not module:
        return None
    for group, prefix in MODULES.items():
        if module == prefix or module.startswith((f"keras.src.{group}", f"kcompile.keras.{group}")):
            return group
    return {"keras": "layers", "keras.models": "layers"}.get(module) or (
        "layers" if module.startswith("keras.src.models") else None
    )


def _lookup(name: str, group: str | None, config: Mapping | None) -> Any:
    registered = config.get("registered_name") if config else None
    for label in (registered, name):
        if label is None:
            continue
        found = get_registered_object(label)
        if found is None:  # a custom object may be given by its bare name
            found = next((o for n, o in _registered.items() if n.split(">")[-1] == label), None)
        if found is not None:
            return found
    for where in [group] if group else MODULES:
        found = plugins.find(where, name)
        if found is not None:
            return found
    for where in MODULES:
        found = plugins.find(where, name)
        if found is not None:
            return found
    known = [n for where in ([group] if group else MODULES) for n in plugins.names(where)]
    raise UnknownNameError(
        f"Unknown object: {name!r}.{suggestion(name, known)} "
        "If it is a custom object, pass it in `custom_objects` or register it with "
        "@keras.saving.register_keras_serializable()."
    )


# one group's get / serialize / deserialize ---------------------------------------------------------------


def resolver(group: str, what: str) -> tuple[Callable, Callable, Callable]:
    """Return `get`, `serialize` and `deserialize` of a group whose members are objects.

    `get` takes None, a name, a config, a class, an object or a callable.
    """

    def get(identifier: Any) -> Any:
        if identifier is None:
            return None
        if isinstance(identifier, str):
            found = get_registered_object(identifier) or plugins.get(group, identifier)
            return found() if isinstance(found, type) else found
        if isinstance(identifier, dict):
            return deserialize(identifier)
        if isinstance(identifier, type):
            return identifier()
        if callable(identifier):
            return identifier
        raise ArgumentError(f"Could not interpret {what} identifier: {identifier!r}")

    def serialize(obj: Any) -> Any:
        return serialize_keras_object(obj)

    def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
        found = deserialize_keras_object(config, custom_objects, group=group)
        return found() if isinstance(found, type) else found

    get.__doc__ = f"Return the {what} that a name, config, class or object stands for; None for None."
    serialize.__doc__ = f"Return the config of a {what}."
    deserialize.__doc__ = f"Return the {what} that a config describes."
    return get, serialize, deserialize
