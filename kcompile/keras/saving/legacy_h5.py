"""The older HDF5 layout (`.h5`), which Keras 3, tf.keras 2 and Keras 2 share.

Attributes `model_config` and `training_config` hold JSON; `model_weights/<layer>/` holds the weights of a
layer under the names in its attribute `weight_names`; `optimizer_weights` the optimizer's state.
A file of weights alone has the content of `model_weights` at its root.
"""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

import numpy as np

from kcompile.errors import SavedFileError, ShapeError
from kcompile.keras import hdf5, version
from kcompile.keras.models import Model
from kcompile.keras.optimizers import Optimizer
from kcompile.keras.saving import archive, compilation, configs, files
from kcompile.keras.saving.cudnn import cudnn_shapes, from_cudnn
from kcompile.keras.serialization import serialize_keras_object
from kcompile.keras.tracing.names import uniquify
from kcompile.keras.tracing.variable import Variable

_TOP = "top_level_model_weights"

# names of slots in files of tf.keras 2 -> ours
_SLOTS = {
    "m": "momentum",
    "v": "velocity",
    "vhat": "velocity_hat",
    "momentum": "momentum",
    "rms": "velocity",
    "mg": "average_gradient",
    "accumulator": "accumulator",
    "accum_grad": "accumulated_grad",
    "accum_var": "accumulated_delta_var",
}
_SLOTS_BY_OPTIMIZER = {"adamax": {"v": "norm"}}


# writing ----------------------------------------------------------------------------------------------


def write_model(model: Model, path: str | os.PathLike, include_optimizer: bool = True) -> None:
    """Write configuration, weights, compile arguments and optimizer state into one file."""
    described = configs.to_legacy_objects(serialize_keras_object(model))
    compiled = compilation.compile_config(model) if include_optimizer else None
    with files.replacing(path) as scratch, hdf5.writing(scratch) as file:
        file.attrs["backend"] = "tensorflow"  # a name every reader knows
        file.attrs["keras_version"] = version()
        file.attrs["model_config"] = json.dumps(described)
        if model.compiled and not model._training.jit:
            file.attrs["kcompile"] = json.dumps({"jit": False})
        if compiled is not None:
            file.attrs["training_config"] = json.dumps(_training_config(compiled))
        _write_layers(file.create_group("model_weights"), model)
        if compiled is not None and model.optimizer is not None and model.optimizer.variables:
            _write_variables(file.create_group("optimizer_weights"), model.optimizer.variables)


def write_weights(model: Model, path: str | os.PathLike) -> None:
    """Write the weights alone."""
    with files.replacing(path) as scratch, hdf5.writing(scratch) as file:
        _write_layers(file, model)


def _training_config(compiled: dict[str, Any]) -> dict[str, Any]:
    found = {k: _without_modules(configs.to_keras(v)) for k, v in compiled.items() if k != "optimizer"}
    optimizer = compiled.get("optimizer")
    if isinstance(optimizer, dict):
        registered = optimizer.get("registered_name")
        name = registered if registered and ">" in registered else optimizer["class_name"]
        found["optimizer_config"] = {"class_name": name, "config": optimizer["config"]}
    return found


def _without_modules(value: Any) -> Any:
    """Losses and metrics in this layout are `{"class_name", "config"}`, functions their names."""
    if isinstance(value, (list, tuple)):
        return [_without_modules(v) for v in value]
    if isinstance(value, dict):
        if value.get("class_name") == "function":
            return value["config"]
        if "class_name" in value and "config" in value:
            return {"class_name": value["class_name"], "config": value["config"]}
        return {k: _without_modules(v) for k, v in value.items()}
    return value


def _write_layers(group: Any, model: Model) -> None:
    group.attrs["backend"] = "tensorflow"
    group.attrs["keras_version"] = version()
    hdf5.write_names(group, "layer_names", [layer.name for layer in model.layers])
    for layer in model.layers:
        _write_variables(group.create_group(layer.name), _in_file_order(layer))
    _write_variables(group.create_group(_TOP), _top_level(model))


def _in_file_order(layer: Any) -> list[Variable]:
    return [*layer.trainable_weights, *layer.non_trainable_weights]


def _top_level(model: Model) -> list[Variable]:
    """Weights that belong to the model itself, not to one of its layers."""
    inside = {id(v) for layer in model.layers for v in layer.weights}
    return [v for v in _in_file_order(model) if id(v) not in inside]


def _write_variables(group: Any, variables: list[Variable]) -> None:
    names: list[str] = []
    for variable in variables:
        name = variable.path
        while name in names or any(n.startswith(f"{name}/") or name.startswith(f"{n}/") for n in names):
            name = uniquify(variable.path, {*names, name})
        names.append(name)
        group.create_dataset(name, data=variable.numpy())
    hdf5.write_names(group, "weight_names", names)


# reading ----------------------------------------------------------------------------------------------


def read_model(path: str | os.PathLike, compile: bool = True) -> Model:
    """Return the model in a file.

    Raises: SavedFileError naming the file and what is wrong with it.
    """
    with hdf5.reading(os.fspath(path), os.fspath(path)) as file:
        if "model_config" not in file.attrs:
            raise SavedFileError(
                f"{path} holds weights only, no model: build the model and call model.load_weights({os.fspath(path)!r})"
            )
        keras2 = is_keras2(file)
        described = configs.from_file(_json(file, "model_config", path), keras2, "keras.layers")
        if not isinstance(described, dict) or "class_name" not in described:
            raise SavedFileError(f"{path}: model_config describes no model")
        model = archive.model_of(described, path)
        layers = hdf5.find(file, "model_weights")
        if layers is None:
            raise SavedFileError(f"{path}: model_weights is missing")
        read_layers(layers, model, os.fspath(path))
        if compile and "training_config" in file.attrs:
            training = configs.from_compile(_json(file, "training_config", path), keras2)
            _compile(model, training, "kcompile" not in file.attrs)
            state = hdf5.find(file, "optimizer_weights")
            if state is not None and model.optimizer is not None:
                _read_optimizer(state, model, os.fspath(path))
    return model


def is_keras2(file: Any) -> bool:
    """Whether Keras 2 or older wrote the file: versions 1.x, 2.x, and 2.x-tf."""
    told = file.attrs.get("keras_version")
    return told is None or not hdf5.text(told)[:1].isdigit() or int(hdf5.text(told).split(".")[0]) < 3


def _json(file: Any, attribute: str, path: str | os.PathLike) -> dict[str, Any]:
    try:
        found = json.loads(hdf5.text(file.attrs[attribute]))
    except (ValueError, RecursionError, OSError) as error:
        raise SavedFileError(f"{path}: the attribute {attribute} is damaged: {error}") from None
    if not isinstance(found, dict):
        raise SavedFileError(f"{path}: the attribute {attribute} is no JSON object")
    return found


def _compile(model: Model, training: dict[str, Any], native: bool) -> None:
    taken = ("loss", "loss_weights", "metrics", "weighted_metrics", "run_eagerly", "steps_per_execution")
    arguments = {k: training[k] for k in taken if training.get(k) is not None}
    optimizer = training.get("optimizer_config") or training.get("optimizer")
    if optimizer is not None:
        arguments["optimizer"] = optimizer
    compilation.compile_from(model, arguments, native)


def read_layers(group: Any, model: Model, name: str, by_name: bool = False, skip_mismatch: bool = False) -> list[str]:
    """Set the weights of `model` from a group of layers; all is checked before anything is set.

    Args:    by_name: fill layers of the same name only; else layers are matched in order.
    Returns: what did not fit and was left out (with `skip_mismatch`).
    Raises:  ShapeError naming layer, expected and received.
    """
    held = {n: hdf5.find(group, n) for n in hdf5.names(group, "layer_names")}
    for layer_name, layer_group in held.items():
        if layer_group is None:
            raise SavedFileError(f"{name}: the group of layer {layer_name!r} is missing")
    if by_name:
        pairs = [(layer, held[layer.name]) for layer in model.layers if layer.name in held]
    else:
        pairs = _in_order(model, held, name)
    todo, problems = [], []
    for layer, layer_group in pairs:
        try:
            todo += _assignments(layer.name, _in_file_order(layer), layer_group, name)
        except ShapeError as error:
            problems.append(str(error))
    top = hdf5.find(group, _TOP)
    if top is not None and not by_name and hdf5.names(top, "weight_names"):
        todo += _assignments(model.name, _top_level(model), top, name)
    if problems and not skip_mismatch:
        raise ShapeError("\n".join(problems))
    for variable, value in todo:
        variable.assign(value)
    return problems


def _in_order(model: Model, held: dict[str, Any], name: str) -> list[tuple[Any, Any]]:
    layers = [layer for layer in model.layers if layer.weights]
    groups = {n: g for n, g in held.items() if hdf5.names(g, "weight_names")}
    if len(layers) != len(groups):
        raise ShapeError(
            f"{name}: expected weights of {len(layers)} layers {[layer.name for layer in layers]}, received "
            f"{len(groups)}: {list(groups)}."
        )
    return list(zip(layers, groups.values()))


def _assignments(label: str, variables: list[Variable], group: Any, name: str) -> list[tuple[Variable, np.ndarray]]:
    names = hdf5.names(group, "weight_names")
    if len(names) != len(variables):
        raise ShapeError(
            f"{name}: layer '{label}' expected {len(variables)} weights {[v.name for v in variables]}, received "
            f"{len(names)}: {names}."
        )
    datasets = []
    for dataset_name in names:
        dataset = hdf5.find(group, dataset_name)
        if dataset is None or not hdf5.is_dataset(dataset):
            raise SavedFileError(f"{name}: weight {dataset_name!r} of layer '{label}' is missing")
        datasets.append(dataset)
    shapes = [tuple(d.shape or ()) for d in datasets]
    older = cudnn_shapes(variables, shapes)
    for n, variable in enumerate(variables):
        if shapes[n] != older.get(n, tuple(variable.shape)):
            raise ShapeError(
                f"{name}: layer '{label}', weight '{variable.name}': expected shape {tuple(variable.shape)}, "
                f"received {shapes[n]} ({names[n]})."
            )
    return list(zip(variables, from_cudnn([hdf5.array(d) for d in datasets], [*older])))


# optimizer state ----------------------------------------------------------------------------------------


def _read_optimizer(group: Any, model: Model, name: str) -> None:
    names, optimizer = hdf5.names(group, "weight_names"), model.optimizer
    compilation.fit_optimizer(model, len(names))
    arrays = []
    for dataset_name in names:
        dataset = hdf5.find(group, dataset_name)
        if dataset is None:
            raise SavedFileError(f"{name}: optimizer weight {dataset_name!r} is missing")
        arrays.append(hdf5.array(dataset))
    todo = _whole_state(optimizer, names, arrays) or _slots(optimizer, names, arrays)
    if todo is None:
        warnings.warn(
            f"{name}: the optimizer's state ({len(names)} arrays) does not fit {type(optimizer).__name__} of this "
            "model; the optimizer starts anew.",
            stacklevel=2,
        )
        return
    for variable, value in todo:
        variable.assign(np.asarray(value))


def _whole_state(optimizer: Optimizer, names: list[str], arrays: list) -> list[tuple] | None:
    """Keras 3: the same variables in the same order."""
    variables = optimizer.variables
    if not names or not names[0].split(":")[0].endswith("iteration") or len(names) != len(variables):
        return None
    fits = all(tuple(v.shape) == a.shape for v, a in zip(variables, arrays))
    return list(zip(variables, arrays)) if fits else None


def _slots(optimizer: Optimizer, names: list[str], arrays: list) -> list[tuple] | None:
    """tf.keras 2: the counter, then for each slot one array per weight, the slot named in the path."""
    kind = type(optimizer).__name__.lower()
    table = {**_SLOTS, **_SLOTS_BY_OPTIMIZER.get(kind, {})}
    found: dict[str, list] = {}
    todo: list[tuple] = []
    for label, value in zip(names, arrays):
        parts = label.split(":")[0].split("/")
        if parts[-1] in ("iter", "iterations", "iteration"):
            todo.append((optimizer.iterations, value))
        elif parts[-1] in ("learning_rate", "_learning_rate"):
            if isinstance(optimizer._learning_rate, Variable):
                todo.append((optimizer._learning_rate, value))
        else:
            slot = parts[-1] if parts[-1] in table else next((p for p in parts[1:2] if p in table), None)
            if slot is None:
                return None
            found.setdefault(table[slot], []).append(value)
    own = optimizer._slot_variables
    for slot, values in found.items():
        variables = own.get(slot)
        if variables is None or [tuple(v.shape) for v in variables] != [a.shape for a in values]:
            return None
        todo += zip(variables, values)
    return todo if found or not own else None
