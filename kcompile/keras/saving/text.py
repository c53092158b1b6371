"""Models as text: JSON in the layouts of Keras 3 and tf.keras 2, and YAML (JSON is YAML)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kcompile.errors import NotSupportedError, SavedFileError
from kcompile.keras.models import Model
from kcompile.keras.saving import archive, configs
from kcompile.keras.serialization import custom_object_scope, serialize_keras_object

CLASSIC_VERSION = "2.4.0"  # the version that the classic layout says it is of


def model_to_json(model: Model, layout: str = "keras3", **options) -> str:
    """Return the structure of a model, without weights.

    Args:   layout: "keras3", or "classic" for that of tf.keras 2. options: of json.dumps.
    """
    if layout not in ("keras3", "classic"):
        raise NotSupportedError(f"to_json: layout must be 'keras3' or 'classic', received {layout!r}")
    if layout == "keras3":
        return json.dumps(archive.describe(model), **options)
    described = configs.to_classic(serialize_keras_object(model))
    return json.dumps({**described, "keras_version": CLASSIC_VERSION, "backend": "tensorflow"}, **options)


def model_to_yaml(model: Model, **options) -> str:
    """Return the structure of a model as YAML; the text is JSON, which every YAML reader reads."""
    return model_to_json(model, **{"indent": 2, **options})


def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Model:
    """Return a new model, not compiled and with fresh weights, of what `to_json` wrote (Keras 2 or 3).

    Raises: SavedFileError for text that describes no model; UnknownNameError for unknown classes.
    """
    try:
        found = json.loads(json_string)
    except (TypeError, ValueError, RecursionError) as error:
        raise SavedFileError(f"model_from_json: the text is no JSON: {error}") from None
    return model_from_config(found, custom_objects)


def model_from_yaml(yaml_string: str, custom_objects: Mapping[str, Any] | None = None) -> Model:
    """Return a new model of YAML text.

    Raises: NotSupportedError if the text is not also JSON and PyYAML is not installed.
    """
    try:
        return model_from_config(json.loads(yaml_string), custom_objects)
    except json.JSONDecodeError:
        pass
    try:
        import yaml  # optional: only YAML that is not JSON needs it
    except ImportError:
        raise NotSupportedError(
            "model_from_yaml: this text is YAML that is not also JSON; reading it needs PyYAML (pip install PyYAML)"
        ) from None
    try:
        found = yaml.safe_load(yaml_string)
    except yaml.YAMLError as error:
        raise SavedFileError(f"model_from_yaml: the text is no YAML: {error}") from None
    return model_from_config(found, custom_objects)


def model_from_config(config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Model:
    """Return a new model of `{"class_name": ..., "config": ...}`, in any of the layouts."""
    if not isinstance(config, dict) or "class_name" not in config or "config" not in config:
        raise SavedFileError(f"expected a dict with 'class_name' and 'config', received {type(config).__name__}")
    told = str(config.get("keras_version", "3"))
    keras2 = told[:1] in ("1", "2")
    entry = {k: v for k, v in config.items() if k not in ("compile_config", "keras_version", "backend")}
    with custom_object_scope(custom_objects or {}):
        module = None if "module" in entry else "keras.layers"
        return archive.model_of(configs.from_file(entry, keras2, module), "config")
