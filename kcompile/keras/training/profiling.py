"""model.profile: one step of a model on one batch of data, kernel by kernel."""

from __future__ import annotations

from typing import Any

from kcompile import pipeline
from kcompile.errors import ArgumentError
from kcompile.keras.tracing import tree
from kcompile.keras.training.data import ArrayData, convert_all
from kcompile.keras.training.programs import PREDICT, TEST, TRAIN, Batch
from kcompile.runtime.profile import Profile
from kcompile.runtime.profile import profile as profile_program


def profile(model: Any, x: Any, y: Any = None, batch_size: int = 32) -> Profile:
    """Profile the step that `fit` (or `evaluate`, or `predict`) runs for these data.

    Args:
        x, y: arrays, nested as for `fit`; the first `batch_size` rows of each are used.
    Raises: ArgumentError for data without rows; KcompileError for targets on a model that is not compiled.
    """
    if batch_size < 1:
        raise ArgumentError(f"`batch_size` must be at least 1. Received: {batch_size}")
    x, y = convert_all(model._on_host(x), "x"), convert_all(y, "y")
    data = ArrayData(x, y)  # checks the lengths
    if not data.num_batches:
        raise ArgumentError("`profile` needs data with at least one row.")
    mode = PREDICT
    if y is not None:
        model._assert_compiled("profile")
        mode = TEST if model.optimizer is None else TRAIN
    batch = Batch(_head(x, batch_size), _head(y, batch_size))
    traced = model._program(mode, batch).traced
    built = pipeline.build(traced.graph, precision=model._training.precision)
    return profile_program(built, batch.inputs(), traced.arrays(), num_threads=model._training.num_threads)


def _head(part: Any, rows: int) -> Any:
    return tree.map_structure(lambda a: None if a is None else a[:rows], part)
