"""save_model, load_model, save_weights, load_weights: which format, then the file that knows it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from kcompile.errors import ArgumentError, KcompileError, SavedFileError
from kcompile.keras import hdf5
from kcompile.keras.models.model import Model, check_built
from kcompile.keras.saving import archive, files, legacy_h5, state
from kcompile.keras.serialization import custom_object_scope

_HDF5 = (".h5", ".hdf5", ".hdf", ".keras.h5")
_FORMATS = {"keras": "keras", "h5": "h5", "hdf5": "h5", "tf": "tf", "tensorflow": "tf", "keras_v3": "keras"}


# whole models -------------------------------------------------------------------------------------------


def save_model(
    model: Model,
    filepath: str | os.PathLike,
    overwrite: bool = True,
    include_optimizer: bool = True,
    save_format: str | None = None,
    signatures=None,
    options=None,
    save_traces: bool = True,
    *,
    zipped: bool | None = None,
) -> None:
    """Save a model: configuration, weights, compile arguments and optimizer state.

    The format follows from the name: `.keras` (Keras 3), `.h5`/`.hdf5` (HDF5); any other name, or
    `save_format="tf"`, is a folder that `load_model` reads (it is no TensorFlow SavedModel).

    Args:
        overwrite: False asks before replacing a file, or refuses where nobody can be asked.
        include_optimizer: False leaves out compile arguments and optimizer state.
        zipped: False writes `.keras` as a folder.
        signatures, options, save_traces: of TensorFlow; accepted.

    Raises: ArgumentError for a name that contradicts `save_format`; an error if the model is not built.
    """
    path = os.fspath(filepath)
    kind = _format_of(path, save_format)
    if not model.built and model.layers:
        check_built(model, "save")
    if not files.may_write(path, overwrite):
        return
    if kind == "h5":
        legacy_h5.write_model(model, path, include_optimizer)
    elif kind == "keras" and zipped is not False:
        archive.write_archive(model, path, include_optimizer)
    else:
        archive.write_folder(model, path, include_optimizer)
        if kind == "tf":
            warnings.warn(
                f"{path} is a folder that kcompile (and Keras 3) loads; it is no TensorFlow SavedModel.", stacklevel=3
            )


def _format_of(path: str, save_format: str | None) -> str:
    suffix = os.path.splitext(path)[1].lower()
    by_name = "keras" if suffix == ".keras" else "h5" if suffix in _HDF5 else None
    if save_format is None:
        return by_name or "tf"
    kind = _FORMATS.get(str(save_format).lower())
    if kind is None:
        raise ArgumentError(f"Unknown save_format {save_format!r}. Expected one of {', '.join(_FORMATS)}.")
    if by_name is not None and kind != by_name:
        raise ArgumentError(f"save_format={save_format!r} contradicts the name {path!r}.")
    return kind


def load_model(
    filepath: str | os.PathLike,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,
    safe_mode: bool = True,
    options=None,
) -> Model:
    """Return a saved model, ready to use and to train on from where it stopped.

    Reads `.keras`, `.h5` (Keras 3, tf.keras 2, Keras 2) and folders that `save` wrote; the content decides,
    not the name. No code in the file is run, whatever `safe_mode` says.

    Args:
        custom_objects: name -> class or function, for names that are not registered.
        compile: False leaves the model uncompiled.

    Raises: SavedFileError naming the file and what is wrong; UnknownNameError for unknown classes.
    """
    path = os.fspath(filepath)
    kind = kind_of(path)
    read = legacy_h5.read_model if kind == "h5" else archive.read
    with custom_object_scope(custom_objects or {}), _Naming(path):
        return read(path, compile)


def kind_of(path: str) -> str:
    """Return "h5", "keras" (a zip) or "folder", by content.

    Raises: SavedFileError if there is no such file, or it is none of these.
    """
    if os.path.isdir(path):
        return "folder"
    if not os.path.exists(path):
        raise SavedFileError(f"File not found: filepath={path}. Please ensure the file is an accessible saved model.")
    with open(path, "rb") as file:
        start = file.read(8)
    if start == hdf5.SIGNATURE:
        return "h5"
    if start[:4] == b"PK\x03\x04":
        return "keras"
    if not start:
        raise SavedFileError(f"{path} is empty")
    raise SavedFileError(f"{path} is neither a .keras archive nor an HDF5 file (it begins with {start!r})")


class _Naming:
    """Inside, what goes wrong with unforeseen data is reported with the name of the file."""

    def __init__(self, path: str):
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error, trace) -> bool:
        if isinstance(error, KcompileError):
            if self.path in str(error):
                return False
            raise type(error)(f"{self.path}: {error}") from error
        if isinstance(error, (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError)):
            raise SavedFileError(
                f"{self.path}: the file does not describe a model that can be built here: "
                f"{type(error).__name__}: {error}"
            ) from error
        if isinstance(error, (MemoryError, OverflowError)):
            raise SavedFileError(f"{self.path}: the model does not fit into memory: {error}") from error
        return False


# weights ------------------------------------------------------------------------------------------------


def save_weights(model: Model, filepath: str | os.PathLike, overwrite: bool = True, save_format=None) -> None:
    """Save the weights: names ending in `.weights.h5` in Keras 3's layout, other `.h5` names in the older one.

    Raises: an error if the model is not built.
    """
    path = os.fspath(filepath)
    check_built(model, "save_weights")
    if path.lower().endswith(".keras"):
        raise ArgumentError(f"{path!r}: .keras files hold whole models; use model.save, or a name in .weights.h5")
    if not files.may_write(path, overwrite):
        return
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _HDF5 and not path.lower().endswith(".weights.h5"):
        legacy_h5.write_weights(model, path)
        return
    with files.replacing(path) as scratch, hdf5.writing(scratch) as file:
        state.write_state(file, model)


def load_weights(
    model: Model,
    filepath: str | os.PathLike,
    by_name: bool = False,
    skip_mismatch: bool = False,
    options=None,
) -> None:
    """Set the weights from a file of weights or of a whole model, in any of the layouts.

    Args:
        by_name: fill layers of the same name only, for models that share some layers.
        skip_mismatch: leave layers that do not fit as they are, with a warning.

    Raises: ShapeError naming layer, expected and received; SavedFileError for a damaged file.
    """
    path = os.fspath(filepath)
    check_built(model, "load_weights")
    if kind_of(path) != "h5":
        if by_name:
            raise ArgumentError(f"load_weights(by_name=True) reads HDF5 files; received {path!r}")
        problems = archive.read_weights(path, model, skip_mismatch)
    else:
        with _Naming(path), hdf5.reading(path, path) as file:
            layers = file if _holds_layers(file) else hdf5.find(file, "model_weights")
            if layers is not None:
                problems = legacy_h5.read_layers(layers, model, path, by_name, skip_mismatch)
            elif by_name:
                problems = state.read_by_name(file, model, path, skip_mismatch)
            else:
                problems = state.read_state(file, model, path, skip_mismatch)
    for problem in problems:
        warnings.warn(f"load_weights: left out: {problem}", stacklevel=3)


def _holds_layers(file: Any) -> bool:
    return "layer_names" in file.attrs or "layer_names0" in file.attrs
