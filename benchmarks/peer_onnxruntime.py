"""Inference with ONNX Runtime."""

from __future__ import annotations

import onnxruntime

from benchmarks.onnx_model import INPUT, check, exported
from benchmarks.peers import Run
from benchmarks.timing import repeated
from benchmarks.workloads import Workload


def ways(peer: str, workload: Workload, threads: int) -> dict[str, Run]:
    """A session with all of its optimizations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    with exported(workload) as (file, x, expected):
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        check(session.run(None, {INPUT: x})[0], expected)
    return {"session": repeated(lambda: session.run(None, {INPUT: x}))}
