"""Inference with OpenVINO in float32: without being told so it may compute in half the width."""

from __future__ import annotations

import openvino

from benchmarks.onnx_model import check, exported
from benchmarks.peers import Run
from benchmarks.timing import repeated
from benchmarks.workloads import Workload


def ways(peer: str, workload: Workload, threads: int) -> dict[str, Run]:
    """One request, tuned for latency; input and output are shared, not copied."""
    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    with exported(workload) as (file, x, expected):
        compiled = core.compile_model(core.read_model(str(file)), "CPU", settings)
        request = compiled.create_infer_request()
        check(request.infer([x])[0], expected)

    return {"request": repeated(lambda: request.infer([x], share_inputs=True, share_outputs=True))}
