"""`keras.optimizers`: one file per optimizer; optimizer.py holds what they share, schedules.py the rates."""

from __future__ import annotations

from typing import Any

from kcompile import plugins
from kcompile.errors import ArgumentError, MissingNameError, suggestion
from kcompile.keras.optimizers import legacy, schedules
from kcompile.keras.optimizers.adadelta import Adadelta
from kcompile.keras.optimizers.adafactor import Adafactor
from kcompile.keras.optimizers.adagrad import Adagrad
from kcompile.keras.optimizers.adam import Adam, AdamW
from kcompile.keras.optimizers.adamax import Adamax
from kcompile.keras.optimizers.ftrl import Ftrl
from kcompile.keras.optimizers.lamb import Lamb
from kcompile.keras.optimizers.lion import Lion
from kcompile.keras.optimizers.multi_optimizer import MultiOptimizer, OptimizerMap
from kcompile.keras.optimizers.muon import Muon
from kcompile.keras.optimizers.nadam import Nadam
from kcompile.keras.optimizers.optimizer import FlatWeights, Optimizer, Slots, register_optimizer
from kcompile.keras.optimizers.rmsprop import RMSprop
from kcompile.keras.optimizers.schedule_free_adamw import ScheduleFreeAdamW
from kcompile.keras.optimizers.schedules import LearningRateSchedule
from kcompile.keras.optimizers.sgd import SGD
from kcompile.keras.optimizers.wrapper import LossScaleOptimizer, TFOptimizer
from kcompile.keras.serialization import custom_object_scope, get_registered_object, serialize_keras_object

__all__ = [
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "FlatWeights",
    "Ftrl",
    "Lamb",
    "LearningRateSchedule",
    "Lion",
    "LossScaleOptimizer",
    "MultiOptimizer",
    "Muon",
    "Nadam",
    "Optimizer",
    "OptimizerMap",
    "RMSprop",
    "ScheduleFreeAdamW",
    "Slots",
    "TFOptimizer",
    "deserialize",
    "get",
    "legacy",
    "register_optimizer",
    "schedules",
    "serialize",
]


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


def __getattr__(name: str):
    """Optimizers of installed plugins appear here under their names."""
    if name.startswith("__"):
        raise AttributeError(name)
    found = plugins.find("optimizers", name)
    if found is None:
        hint = suggestion(name, plugins.names("optimizers"))
        raise MissingNameError(f"keras.optimizers has no optimizer {name!r} in kcompile.{hint}")
    return found
