"""Optimizers by name, class or config."""

from __future__ import annotations

from typing import Any

from kcompile import plugins
from kcompile.errors import ArgumentError
from kcompile.keras.optimizers.optimizer import Optimizer
from kcompile.keras.serialization import custom_object_scope, get_registered_object, serialize_keras_object


def get(identifier: Any):
    """Return an optimizer: None or an object as it is, a name (in any case), class or config made into one.

    >>> get("SGD").learning_rate.numpy()
    np.float32(0.01)
    """
    if identifier is None or isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        identifier = _named(identifier)
    if isinstance(identifier, type):
        return identifier()
    if hasattr(identifier, "apply_gradients"):
        return identifier
    raise ArgumentError(f"Could not interpret optimizer identifier: {identifier}")


def _named(name: str) -> type[Optimizer]:
    found = get_registered_object(name) or plugins.find("optimizers", name) or plugins.find("optimizers", name.lower())
    return found if found is not None else plugins.get("optimizers", name)


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """Return an optimizer's class and config."""
    return serialize_keras_object(optimizer)


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> Optimizer:
    """Return an optimizer from `serialize`'s dict; class names in any case."""
    if not isinstance(config, dict) or "class_name" not in config:
        raise ArgumentError(f"Could not interpret optimizer config: {config!r}")
    name = config["class_name"]
    with custom_object_scope(custom_objects or {}):
        cls = get_registered_object(config.get("registered_name") or name) or get_registered_object(name)
        return (cls or _named(name)).from_config(dict(config.get("config") or {}))
