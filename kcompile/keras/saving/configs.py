"""Configs as files hold them, to and from the one form that the rest of the front reads and writes.

`from_file` turns what Keras 3, tf.keras 2 and Keras 2 write into Keras 3's layout without what kcompile
has no use for. `to_keras` and `to_classic` go the other way: Keras 3's layout to the letter, and the
layout of tf.keras 2. All work on plain data; no class is looked up except to know its arguments.
"""

from __future__ import annotations

from typing import Any

from kcompile import plugins
from kcompile.errors import SavedFileError
from kcompile.keras.configurable import constructor_parameters
from kcompile.keras.lambdas import known_lambda
from kcompile.keras.saving import operations
from kcompile.keras.serialization import get_registered_object

MAX_DEPTH = 200  # nested models: each level of nesting takes about six

# the ends of keys -> the module of what is under them, for layouts that do not say it
_MODULE_OF_KEY = {
    "initializer": "keras.initializers",
    "regularizer": "keras.regularizers",
    "constraint": "keras.constraints",
    "learning_rate": "keras.optimizers.schedules",
    "layer": "keras.layers",
    "layers": "keras.layers",
    "cell": "keras.layers",
    "cells": "keras.layers",
    "optimizer_config": "keras.optimizers",
    "optimizer": "keras.optimizers",
    "loss": "keras.losses",
    "metrics": "keras.metrics",
    "weighted_metrics": "keras.metrics",
}

# arguments of other versions that change nothing here, by class
_IGNORED = {
    "BatchNormalization": ("virtual_batch_size", "fused", "adjustment"),
    "Dense": ("input_dim_", "quantization_config"),
    "InputLayer": ("sparse", "ragged"),
}


# reading -----------------------------------------------------------------------------------------------


def from_file(config: Any, keras2: bool = False, module: str | None = None) -> Any:
    """Return `config` in Keras 3's layout.

    Args:
        keras2: written by Keras 2 or tf.keras 2, where `hard_sigmoid` has another slope.
        module: of the objects that do not say theirs.

    Raises: SavedFileError for configs nested beyond reason, and for code in place of data.
    """
    return _read(config, keras2, module, 0)


def from_compile(config: dict[str, Any], keras2: bool = False) -> dict[str, Any]:
    """Return the arguments of `compile` in Keras 3's layout."""
    return {k: _read(v, keras2, _module_of(k), 0) for k, v in config.items()}


def _read(value: Any, keras2: bool, module: str | None, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise SavedFileError(f"the config is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, list):
        return [_read(v, keras2, module, depth + 1) for v in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("class_name"), str) and isinstance(value.get("config"), (dict, list)):
        return _read_object(value, keras2, module, depth)
    return {k: _read(v, keras2, _module_of(k) or module, depth + 1) for k, v in value.items()}


def _module_of(key: str) -> str | None:
    return _MODULE_OF_KEY.get(key) or _MODULE_OF_KEY.get(str(key).rsplit("_", 1)[-1])


def _read_object(entry: dict, keras2: bool, module: str | None, depth: int) -> Any:
    name, inner = entry["class_name"], entry["config"]
    if name.startswith("__"):  # __keras_tensor__, __numpy__, __slice__, ...
        return entry
    found = {k: v if k in ("config", "compile_config") else _read(v, keras2, None, depth + 1) for k, v in entry.items()}
    if name in ("Sequential", "Model", "Functional") and isinstance(inner, list):  # Keras before 2.2.3
        inner = {"layers": inner}
    if not isinstance(inner, dict):
        return entry
    inner = {k: _read(v, keras2, _module_of(k), depth + 1) for k, v in inner.items()}
    found["config"] = inner
    if operations.is_operation(found):
        return operations.from_keras(found)
    if module is not None and "module" not in found:
        found["module"] = module
    _refuse_code(name, inner)
    if keras2:
        for key, value in inner.items():
            if value == "hard_sigmoid":
                inner[key] = "hard_sigmoid_keras2"
    change = _CHANGES.get(name)
    if change is not None:
        changed = change(inner, found)
        if not isinstance(changed, dict):
            return changed
        found["config"] = inner = changed
    if str(found.get("module", "")).startswith("keras.initializers"):
        inner.pop("dtype", None)  # TensorFlow 1
    _drop_unknown(found, inner)
    return found


def _refuse_code(name: str, inner: dict) -> None:
    """Lambda layers hold Python functions; a saved one is bytecode, which is never run, whatever `safe_mode` says."""
    if name != "Lambda":
        return
    function, mask = inner.get("function"), inner.get("mask")
    label = inner.get("name", "lambda")
    if _is_code(function) and get_registered_object(label) is not None:
        function = label
    if isinstance(function, str):
        inner["function"] = {"class_name": "function", "module": None, "config": function, "registered_name": function}
    elif _is_code(function) and known_lambda(function) is None:
        raise SavedFileError(
            f"the Lambda layer {label!r} holds Python code in the file, which is never run. Pass the function as "
            f"custom_objects={{{label!r}: function}}, or rewrite the model with a Layer class."
        )
    for key in ("function_type", "module", "output_shape_type", "output_shape_module"):
        inner.pop(key, None)
    if _is_code(mask) and known_lambda(mask) is None:
        raise SavedFileError(f"the Lambda layer {label!r} holds a mask function as code, which is never run")


def _is_code(entry: Any) -> bool:
    return isinstance(entry, list) or (isinstance(entry, dict) and entry.get("class_name") == "__lambda__")


def _drop_unknown(entry: dict, inner: dict) -> None:
    """Leave out arguments of other versions that say nothing: None, False or empty."""
    name = entry["class_name"]
    for key in _IGNORED.get(name, ()):
        inner.pop(key, None)
    cls = _class_of(entry)
    if cls is None or not cls.__module__.startswith("kcompile."):
        return
    known = constructor_parameters(cls)
    if "layers" in inner:
        return  # models read their own configs
    for key in [k for k, v in inner.items() if k not in known and (v is None or v is False or v == [] or v == {})]:
        if key not in ("input_shape", "batch_input_shape"):
            inner.pop(key)


def _class_of(entry: dict) -> type | None:
    if get_registered_object(entry["class_name"]) is not None:
        return None
    group = str(entry.get("module") or "keras.layers").removeprefix("keras.").split(".")[0]
    if group not in plugins.GROUPS:
        group = "layers"
    found = plugins.find(group, entry["class_name"])
    return found if isinstance(found, type) else None


def _batch_norm(inner: dict, entry: dict) -> dict:
    axis = inner.get("axis")
    if isinstance(axis, list) and len(axis) == 1:  # tf.keras 2
        inner["axis"] = axis[0]
    return inner


def _metric_wrapper(inner: dict, entry: dict) -> Any:
    """tf.keras 2 writes metrics given by name as wrapped functions: go back to the name."""
    for name in (inner.get("name"), inner.get("fn")):
        if isinstance(name, str) and (plugins.find("metrics", name) is not None or name in ("accuracy", "acc", "ce")):
            return name
    function = inner.get("fn")
    return inner["name"] if function is None else function


def _loss_wrapper(inner: dict, entry: dict) -> Any:
    return inner.get("fn") or inner.get("name")


def _without_function(inner: dict, entry: dict) -> dict:
    if str(entry.get("module", "")).startswith(("keras.losses", "keras.metrics")):
        inner.pop("fn", None)
    return inner


_CHANGES = {
    "BatchNormalization": _batch_norm,
    "BatchNormalizationV1": _batch_norm,
    "BatchNormalizationV2": _batch_norm,
    "MeanMetricWrapper": _metric_wrapper,
    "LossFunctionWrapper": _loss_wrapper,
    **dict.fromkeys(
        (
            "MeanSquaredError",
            "MeanAbsoluteError",
            "MeanAbsolutePercentageError",
            "MeanSquaredLogarithmicError",
            "BinaryCrossentropy",
            "CategoricalCrossentropy",
            "SparseCategoricalCrossentropy",
            "Huber",
            "LogCosh",
            "KLDivergence",
            "Poisson",
            "Hinge",
            "SquaredHinge",
            "CategoricalHinge",
            "CosineSimilarity",
            "BinaryAccuracy",
            "CategoricalAccuracy",
            "SparseCategoricalAccuracy",
        ),
        _without_function,
    ),
}


# writing Keras 3's layout --------------------------------------------------------------------------------


def to_keras(config: Any) -> Any:
    """Return a config of ours as Keras 3 reads it: functions of keras.ops become Keras's operations."""
    if isinstance(config, (list, tuple)):
        return [to_keras(v) for v in config]
    if not isinstance(config, dict):
        return config
    found = {k: to_keras(v) for k, v in config.items()}
    return operations.to_keras(found) if found.get("class_name") == "FunctionCall" else found


# writing tf.keras 2's layout ----------------------------------------------------------------------------


def to_legacy_objects(entry: dict) -> dict:
    """Return a model's entry as Keras 3 puts it into HDF5 files: layers by class name, the rest as it is."""
    entry = to_keras(entry)
    registered = entry.get("registered_name")
    own = getattr(plugins.find("layers", entry["class_name"]), "__name__", entry["class_name"])
    found = {"class_name": registered if registered and ">" in registered else own}
    inner = dict(entry["config"])
    if isinstance(inner.get("layers"), list):
        inner["layers"] = [
            to_legacy_objects(e) if isinstance(e, dict) and "class_name" in e else e for e in inner["layers"]
        ]
    found["config"] = inner
    found.update({k: entry[k] for k in ("name", "inbound_nodes") if k in entry})
    return found


def to_classic(entry: dict) -> dict:
    """Return a model's entry as tf.keras 2 writes it: class names only, `batch_input_shape`, dtypes as strings.

    Raises: SavedFileError for models that layout cannot hold (functions of keras.ops).
    """
    return _classic(entry, None)


def _classic(value: Any, first_shape: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_classic(v, None) for v in value]
    if not isinstance(value, dict):
        return value
    if "class_name" not in value or "config" not in value:
        return {k: _classic(v, None) for k, v in value.items()}
    name, inner = value["class_name"], value["config"]
    if name == "DTypePolicy":
        policy = inner["name"]
        return {"class_name": "Policy", "config": {"name": policy}} if policy.startswith("mixed_") else policy
    if name == "FunctionCall":
        raise SavedFileError(
            f"the layout of tf.keras 2 cannot hold the keras.ops function {inner['function']!r}; use Keras 3's"
        )
    if name == "function":
        return inner
    inner = dict(inner)
    layers = inner.pop("layers", None)
    inner = {k: _classic(v, None) for k, v in inner.items()}
    if isinstance(layers, list):
        return {"class_name": name, "config": _classic_model(name, inner, layers)}
    if name == "InputLayer":
        inner.pop("optional", None)
        shape = inner.pop("batch_shape")
        inner = {"batch_input_shape": shape, **inner}
    elif first_shape is not None:
        inner["batch_input_shape"] = first_shape
    found = {"class_name": name, "config": inner}
    if "inbound_nodes" in value:
        found["name"] = value["name"]
        found["inbound_nodes"] = [_classic_node(n) for n in value["inbound_nodes"]]
    return found


def _classic_model(name: str, inner: dict, layers: list) -> dict:
    if name == "Sequential":
        shape, made = None, []
        for entry in layers:
            made.append(_classic(entry, shape))
            shape = entry["config"].get("batch_shape") if entry["class_name"] == "InputLayer" else None
        return {"name": inner["name"], "layers": made}
    made = []
    for entry in layers:
        found = _classic(entry, None)
        if "inbound_nodes" not in found:
            found["name"] = entry["name"]
            found["inbound_nodes"] = [_classic_node(n) for n in entry.get("inbound_nodes", ())]
        made.append(found)
    return {
        "name": inner["name"],
        "layers": made,
        "input_layers": _as_list(inner["input_layers"]),
        "output_layers": _as_list(inner["output_layers"]),
    }


def _as_list(references: Any) -> Any:
    single = isinstance(references, list) and references and isinstance(references[0], str)
    return [references] if single else references


def _classic_node(node: dict) -> list:
    """[[layer, call, output, kwargs], ...] from {"args": ..., "kwargs": ...}."""
    tensors: list = []

    def collect(value: Any) -> None:
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            tensors.append(value["config"]["keras_history"])
        elif isinstance(value, (list, tuple)):
            for one in value:
                collect(one)
        elif value is not None:
            raise SavedFileError(f"the layout of tf.keras 2 cannot hold a call with the argument {value!r}")

    collect(node["args"])
    kwargs = {k: v for k, v in node["kwargs"].items() if v is not None}
    return [[*reference, kwargs if number == 0 else {}] for number, reference in enumerate(tensors)]
