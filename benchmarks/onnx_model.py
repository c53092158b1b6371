"""The PyTorch twin of a workload as an ONNX file, for the libraries that only infer."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.peer_torch import DEFAULT, inputs, model_for
from benchmarks.workloads import Workload

INPUT = "x"


@contextmanager
def exported(workload: Workload) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
    """Give the file, the batch, and what PyTorch answers; sizes are fixed, the file goes at the end."""
    model, x = model_for(workload, DEFAULT), inputs(workload)
    with torch.inference_mode():
        expected = model(x).numpy()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(model, (x,), str(file), input_names=[INPUT], output_names=["y"], dynamo=True)
        yield file, x.numpy(), expected


def check(found: np.ndarray, expected: np.ndarray) -> None:
    """A fast wrong answer is no answer."""
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
