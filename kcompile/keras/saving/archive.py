"""The `.keras` format: a zip of metadata.json, config.json and model.weights.h5; or a folder of the same.

A file is read with distrust: member names that leave the archive and sizes that no save produces are
refused before anything is unpacked, and no member is ever written to disk.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from kcompile.errors import NotSupportedError, SavedFileError
from kcompile.keras import hdf5, version
from kcompile.keras.models import Model, feature_space  # noqa: F401  a file may hold one
from kcompile.keras.saving import compilation, configs, files, state
from kcompile.keras.serialization import deserialize_keras_object, serialize_keras_object

METADATA, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
_MAX_TEXT = 1 << 28  # bytes of config.json; a model of 10,000 layers takes about 2**23
_INFLATION = 1100  # deflate cannot shrink data by more than about 1030 to 1


# writing ----------------------------------------------------------------------------------------------


def describe(model: Model, include_optimizer: bool = True) -> dict[str, Any]:
    """Return the model as config.json holds it."""
    described = configs.to_keras(serialize_keras_object(model))
    described.setdefault("build_config", _build_config(model))
    compiled = compilation.compile_config(model) if include_optimizer else None
    if compiled is not None:
        described["compile_config"] = configs.to_keras(compiled)
    return described


def _build_config(model: Model) -> dict[str, Any]:
    if model._graph is None:
        return model.get_build_config() or {}
    shapes = [list(t.shape) for t in model.inputs]
    return {"input_shape": shapes[0] if len(shapes) == 1 else shapes}


def metadata(model: Model) -> str:
    """Return metadata.json: the version of the layout, the date, and how kcompile runs the model."""
    told = {
        "keras_version": version(),
        "date_saved": datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S"),
    }
    if model.compiled and not model._training.jit:
        told["kcompile"] = {"jit": False}
    return json.dumps(told)


def write_archive(model: Model, path: str | os.PathLike, include_optimizer: bool = True) -> None:
    """Write a `.keras` file."""
    described = json.dumps(describe(model, include_optimizer))
    with files.replacing(path) as scratch:
        with zipfile.ZipFile(scratch, "w") as archive:
            archive.writestr(METADATA, metadata(model))
            archive.writestr(CONFIG, described)
            with archive.open(WEIGHTS, "w", force_zip64=True) as member:
                member.write(_weights(model, include_optimizer))


def _weights(model: Model, include_optimizer: bool) -> memoryview:
    buffer = io.BytesIO()
    with hdf5.writing_to(buffer) as file:
        state.write_state(file, model, include_optimizer)
    return buffer.getbuffer()


def write_folder(model: Model, path: str | os.PathLike, include_optimizer: bool = True) -> None:
    """Write the same three files into a folder, which Keras 3 reads too."""
    described = json.dumps(describe(model, include_optimizer))
    with files.replacing_folder(path) as scratch:
        for name, content in ((METADATA, metadata(model)), (CONFIG, described)):
            with open(os.path.join(scratch, name), "w", encoding="utf-8") as out:
                out.write(content)
        with hdf5.writing(os.path.join(scratch, WEIGHTS)) as file:
            state.write_state(file, model, include_optimizer)


# reading ----------------------------------------------------------------------------------------------


def read(path: str | os.PathLike, compile: bool = True) -> Model:
    """Return the model in a `.keras` file or folder.

    Raises: SavedFileError naming the file and what is wrong with it.
    """
    with _members(path) as (read_text, open_weights):
        told = _json(read_text(METADATA), METADATA, path) if read_text(METADATA, optional=True) else {}
        described = configs.from_file(_json(read_text(CONFIG), CONFIG, path))
        if not isinstance(described, dict) or "class_name" not in described:
            raise SavedFileError(f"{path}: {CONFIG} describes no model")
        compiled = described.pop("compile_config", None)
        model = model_of(described, path)
        if compile and compiled:
            native = not (isinstance(told.get("kcompile"), dict) and told["kcompile"].get("jit") is False)
            compilation.compile_from(model, configs.from_compile(compiled), native)
        with open_weights() as file:
            state.read_state(file, model, os.fspath(path), continues=True)
    return model


def model_of(described: dict[str, Any], path: str | os.PathLike) -> Model:
    """Return the model of an entry in Keras 3's layout, built if the entry says how."""
    model = deserialize_keras_object(described, group="layers")
    if not isinstance(model, Model):
        raise SavedFileError(f"{path}: expected a model, found a {type(model).__name__}")
    return model


def read_weights(path: str | os.PathLike, model: Model, skip_mismatch: bool = False) -> list[str]:
    """Set the weights of `model` from a `.keras` file or folder; returns what did not fit."""
    with _members(path) as (_, open_weights), open_weights() as file:
        return state.read_state(file, model, os.fspath(path), skip_mismatch)


@contextlib.contextmanager
def _members(path: str | os.PathLike) -> Iterator[tuple[Callable, Callable]]:
    """Give `read_text(name, optional=False)` and `open_weights()` of an archive or folder."""
    with (_folder_members if os.path.isdir(path) else _archive_members)(path) as found:
        yield found


@contextlib.contextmanager
def _archive_members(path: str | os.PathLike) -> Iterator[tuple[Callable, Callable]]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise SavedFileError(f"{path}: not a readable .keras file (truncated or damaged?): {error}") from None
    with archive:
        _check_members(archive, path)
        names = set(archive.namelist())

        def read_bytes(name: str) -> bytes:
            if name not in names:
                raise SavedFileError(f"{path}: {name} is missing; it holds {sorted(names)[:10]}")
            try:
                return archive.read(name)
            except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
                raise SavedFileError(f"{path}: {name} is damaged: {error}") from None

        def read_text(name: str, optional: bool = False) -> str | None:
            if optional and name not in names:
                return None
            if archive.getinfo(name).file_size > _MAX_TEXT if name in names else False:
                raise SavedFileError(f"{path}: {name} claims {archive.getinfo(name).file_size} bytes")
            return _decoded(read_bytes(name), name, path)

        @contextlib.contextmanager
        def open_weights() -> Iterator[Any]:
            _check_weights_format(names, path)
            with hdf5.reading(io.BytesIO(read_bytes(WEIGHTS)), f"{os.fspath(path)}/{WEIGHTS}") as file:
                yield file

        yield read_text, open_weights


@contextlib.contextmanager
def _folder_members(path: str | os.PathLike) -> Iterator[tuple[Callable, Callable]]:
    names = set(os.listdir(path))
    if CONFIG not in names and "saved_model.pb" in names:
        raise NotSupportedError(
            f"{path} is a TensorFlow SavedModel, which kcompile does not read. In TensorFlow, load it and save it as "
            ".keras or .h5."
        )

    def read_text(name: str, optional: bool = False) -> str | None:
        if name not in names:
            if optional:
                return None
            raise SavedFileError(f"{path}: {name} is missing; the folder is no saved model")
        file = os.path.join(path, name)
        if os.path.getsize(file) > _MAX_TEXT:
            raise SavedFileError(f"{path}: {name} has {os.path.getsize(file)} bytes")
        with open(file, "rb") as source:
            return _decoded(source.read(), name, path)

    @contextlib.contextmanager
    def open_weights() -> Iterator[Any]:
        _check_weights_format(names, path)
        file = os.path.join(path, WEIGHTS)
        with hdf5.reading(file, file) as opened:
            yield opened

    yield read_text, open_weights


def _check_members(archive: zipfile.ZipFile, path: str | os.PathLike) -> None:
    size = os.path.getsize(path)
    total = 0
    for member in archive.infolist():
        name = member.filename.replace("\\", "/")
        if name.startswith("/") or ":" in name or ".." in name.split("/"):
            raise SavedFileError(f"{path}: the member {member.filename!r} would leave the archive; the file is refused")
        total += member.file_size
        if member.file_size > member.compress_size * _INFLATION + 4096:
            raise SavedFileError(f"{path}: the member {member.filename!r} claims {member.file_size} bytes")
    if total > size * _INFLATION:
        raise SavedFileError(f"{path}: its members claim {total} bytes in a file of {size}")


def _check_weights_format(names: set[str], path: str | os.PathLike) -> None:
    if WEIGHTS in names:
        return
    other = sorted(n for n in names if n.startswith("model.weights") or n.endswith(".weights.h5"))
    if other:
        raise NotSupportedError(f"{path}: weights as {other[0]!r} are not read; expected {WEIGHTS}")
    raise SavedFileError(f"{path}: {WEIGHTS} is missing")


def _decoded(data: bytes, name: str, path: str | os.PathLike) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SavedFileError(f"{path}: {name} is damaged: {error}") from None


def _json(text: str, name: str, path: str | os.PathLike) -> Any:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SavedFileError(f"{path}: {name} is damaged: {error}") from None
    return found
