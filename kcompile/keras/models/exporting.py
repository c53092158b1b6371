"""model.export: the prediction program of a model as a shared library with a C header."""

from __future__ import annotations

import os
from pathlib import Path

from kcompile import pipeline
from kcompile.errors import NotSupportedError
from kcompile.export.library import export_library
from kcompile.keras.models.model import Model, check_built
from kcompile.keras.training.programs import trace_predict
from kcompile.passes.inference import freeze
from kcompile.target import Target


def export_model(
    model: Model,
    filepath: str | os.PathLike,
    format: str | None = None,
    verbose: bool | None = None,
    input_signature=None,
    *,
    target: Target | None = None,
    fold_weights: bool = False,
) -> Path:
    """Write `filepath` (.so, .dylib or .dll) and a header beside it; returns the header's path.

    Args:
        format: None or "library"; the formats of Keras's export are not written.
        verbose: True prints what was written.
        input_signature: accepted as None: sizes left open in the model's inputs stay open in the library.
        target: default this machine.
        fold_weights: multiply normalisations into the weights before them. Fewer operations; results differ
            from `predict` by rounding, where without it they are equal to the bit.

    Raises: KcompileError if the model is not built; LinkerError without a linker.
    """
    if format not in (None, "library"):
        raise NotSupportedError(f"export(format={format!r}) is missing from kcompile: it writes shared libraries.")
    if input_signature is not None:
        raise NotSupportedError("export(input_signature=...) is missing from kcompile: it uses the model's inputs.")
    check_built(model, "export")
    traced = trace_predict(model)
    graph, arrays = traced.graph, traced.arrays()
    if fold_weights:
        graph, arrays = freeze(graph, arrays), {}
    header = export_library(pipeline.build(graph, target=target, precision=model._training.precision), arrays, filepath)
    if verbose:
        print(f"wrote {os.fspath(filepath)} and {header}")
    return header
