"""The arguments of `compile`, to plain data and back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from kcompile.errors import KcompileError
from kcompile.keras.models import Model
from kcompile.keras.serialization import get_registered_object


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

    Args: native: False interprets the model's programs, as `compile(jit=False)` does.
    """
    config = {key: _with_custom(value) for key, value in config.items()}
    model.compile_from_config(config)
    if not native and model.compiled:
        model._training.jit = False


def _with_custom(value: Any) -> Any:
    """Replace names of custom objects by the objects; `deserialize` takes functions as they are."""
    if isinstance(value, str):
        found = get_registered_object(value)
        return value if found is None else found
    if isinstance(value, (list, tuple)):
        return [_with_custom(v) for v in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {k: _with_custom(v) for k, v in value.items()}
    return value
