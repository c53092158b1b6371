"""Models in pickles and copies: what a `.keras` file holds, with the model's own classes by reference."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from typing import Any

from kcompile.keras.models.model import Model
from kcompile.keras.saving import archive
from kcompile.keras.serialization import custom_object_scope

_NAME = "model.keras"


def reduce(model: Model) -> tuple:
    """What `pickle` and `copy` need: a function and its arguments."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, _NAME)
        archive.write_archive(model, path)
        with open(path, "rb") as file:
            return restore, (file.read(), own_classes(model))


def restore(content: bytes, classes: Mapping[str, Any]) -> Model:
    """The model again, compiled as it was, with the state of its optimizer."""
    with tempfile.TemporaryDirectory() as folder, custom_object_scope(classes):
        path = os.path.join(folder, _NAME)
        with open(path, "wb") as file:
            file.write(content)
        return archive.read(path)


def own_classes(model: Model) -> dict[str, type]:
    """Classes of the model and of its layers that are not the library's, by name."""
    kinds = {type(layer) for layer in (model, *model._flatten_layers())}
    return {kind.__name__: kind for kind in kinds if not kind.__module__.startswith("kcompile.")}
