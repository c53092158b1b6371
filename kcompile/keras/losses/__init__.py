"""`keras.losses`: functions, the classes made from them, and their names.

loss.py           Loss, reductions, register_loss
regression.py     between numbers
probabilistic.py  between distributions
hinge.py          margins
metric_learning.py between embeddings
overlap.py        between sets: Dice, Tversky
ctc.py            between label sequences and frames
"""

from __future__ import annotations

from typing import Any

from kcompile import plugins
from kcompile.errors import ArgumentError, MissingNameError, suggestion
from kcompile.keras.losses import ctc as _ctc
from kcompile.keras.losses import hinge as _hinge
from kcompile.keras.losses import metric_learning as _metric_learning
from kcompile.keras.losses import overlap as _overlap
from kcompile.keras.losses import probabilistic as _probabilistic
from kcompile.keras.losses import regression as _regression
from kcompile.keras.losses.loss import Loss, LossFunctionWrapper, Reduction, register_loss
from kcompile.keras.serialization import deserialize_keras_object, get_registered_object, serialize_keras_object

plugins.register("losses", "Loss", Loss)

# every function and class of the families, under each of its names: mean_squared_error, mse, MeanSquaredError, ...
_BUILTIN: dict[str, Any] = {}
for _family in (_hinge, _probabilistic, _regression, _overlap, _ctc, _metric_learning):
    for _function in [v for v in vars(_family).values() if hasattr(v, "loss_class")]:
        _BUILTIN.update(dict.fromkeys(_function.loss_names, _function))
        _BUILTIN[_function.loss_class.__name__] = _function.loss_class
globals().update(_BUILTIN)

__all__ = ["Loss", "LossFunctionWrapper", "Reduction", "deserialize", "get", "register_loss", "serialize", *_BUILTIN]


def get(identifier: Any):
    """Return a loss: None as it is, an object or function as it is, a name or config looked up.

    >>> get("mse").__name__
    'mean_squared_error'
    """
    if identifier is None:
        return None
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, str):
        identifier = get_registered_object(identifier) or plugins.get("losses", identifier)
    if isinstance(identifier, type):
        return identifier()
    if callable(identifier):
        return identifier
    raise ArgumentError(f"Could not interpret loss identifier: {identifier}")


def serialize(loss: Any) -> Any:
    """Return the config of a loss object, or the name of a function."""
    return serialize_keras_object(loss)


def deserialize(name: Any, custom_objects: dict[str, Any] | None = None):
    """Return a loss from a name or from `serialize`'s config."""
    found = deserialize_keras_object(name, custom_objects, group="losses")
    return found() if isinstance(found, type) else found


def __getattr__(name: str):
    """Losses of installed plugins appear here under their names."""
    if name.startswith("__"):
        raise AttributeError(name)
    found = plugins.find("losses", name)
    if found is None:
        hint = suggestion(name, plugins.names("losses"))
        raise MissingNameError(f"keras.losses has no loss {name!r} in kcompile.{hint}")
    return found
