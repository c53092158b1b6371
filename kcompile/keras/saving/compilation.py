"""The arguments of `compile`, to plain data and back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from kcompile.errors import KcompileError, SavedFileError
from kcompile.keras.models import Model
from kcompile.keras.serialization import deserialize_keras_object, get_registered_object
from kcompile.keras.training.trainer import Trainer


def compile_config(model: Model) -> dict[str, Any] | None:
    """Return the arguments of `compile` as plain data; None, with a warning, if one cannot be written down."""
    if not model.compiled:
        return None
    try:
        return model.get_compile_config()
    except KcompileError as error:
        warnings.warn(
            f"The arguments of compile() of model {model.name!r} are left out of the file: {error} "
            "Loading gives a model that is not compiled.",
            stacklevel=2,
        )
        return None


def compile_from(model: Model, config: Mapping[str, Any], native: bool = True) -> None:
    """Compile `model` with arguments from a file; names of custom objects are looked up now, while they are in scope.

    Args:   native: False interprets the model's programs, as `compile(jit=False)` does.
    Raises: SavedFileError for an argument that is not known here.
    """
    if type(model).compile_from_config is not Trainer.compile_from_config:
        model.compile_from_config(config)
    else:
        try:
            given = {key: value if key == "optimizer" else _objects(value) for key, value in config.items()}
        except SavedFileError as error:
            raise SavedFileError(f"{error} With compile=False the model is loaded without it.") from error
        if not isinstance(given.get("jit_compile"), bool):
            given.pop("jit_compile", None)
        model.compile(**given)
    if not native:
        model._training.jit = False


def fit_optimizer(model: Model, count: int) -> None:
    """Make the slots of a loaded model's optimizer, unless the file holds the `count` variables of one never used."""
    optimizer = model.optimizer
    if optimizer.built or count == len(optimizer.variables) or not model.trainable_variables:
        return
    optimizer.build(model.trainable_variables)
    optimizer.built = True


def _objects(value: Any) -> Any:
    """Turn configs into objects, and names of custom objects too; other names are for `compile` to look up."""
    if isinstance(value, str):
        found = get_registered_object(value)
        return value if found is None else found
    if isinstance(value, (list, tuple)):
        return [_objects(v) for v in value]
    if isinstance(value, dict):
        if "class_name" in value and "config" in value:
            return deserialize_keras_object(value)
        return {k: _objects(v) for k, v in value.items()}
    return value
