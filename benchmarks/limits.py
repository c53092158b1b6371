"""The arithmetic of a workload, counted in kcompile's own forms: its products, whatever kernels make of them."""

from __future__ import annotations

import functools

from benchmarks.models_keras import build
from benchmarks.workloads import Workload, data
from kcompile import keras, pipeline
from kcompile.forms.records import Contract
from kcompile.forms.work import work
from kcompile.ir.graph import Graph
from kcompile.keras.training.programs import PREDICT, TRAIN, Batch
from kcompile.passes.fuse import fuse
from kcompile.passes.lower import lower


@functools.lru_cache(maxsize=64)
def multiply_adds(workload: Workload) -> int:
    """Of one step on one batch."""
    sizes = {"batch": workload.batch}
    return sum(work(c.form, sizes).multiply_adds for c in lower(fuse(_passed(graph(workload)))) if _is_product(c))


def graph(workload: Workload) -> Graph:
    """The traced step; nothing is compiled."""
    model = build(keras, workload.model)
    model._training.jit = False
    x, y = data(workload.model, workload.batch)
    batch = Batch(x, y) if workload.trains else Batch(x, None)
    return model._program(TRAIN if workload.trains else PREDICT, batch).traced.graph


def _passed(found: Graph) -> Graph:
    for row in pipeline.passes():
        found = row.run(found)
    return found


def _is_product(call) -> bool:
    return isinstance(call.form, Contract)
