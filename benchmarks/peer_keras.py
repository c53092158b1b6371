"""A workload with `kcompile.keras`, or with `keras` on the backend KERAS_BACKEND names."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.workloads import Workload, build, data


def load(peer: str):
    """The module called keras."""
    if peer == "kcompile":
        from kcompile import keras
    else:
        import keras
    return keras


def prepare(peer: str, workload: Workload) -> Callable[[int], float]:
    """Return a function that runs about n steps and gives seconds per step."""
    model = build(load(peer), workload.model)
    if workload.mode == "fit":
        return _fit(model, workload)
    x, y = data(workload.model, workload.batch)
    if workload.mode == "train_on_batch":
        return _repeated(lambda: model.train_on_batch(x, y))
    return _repeated(lambda: model.predict_on_batch(x))


def _fit(model, workload: Workload) -> Callable[[int], float]:
    known: dict[int, tuple] = {}

    def run(steps: int) -> float:
        if steps not in known:
            known[steps] = data(workload.model, steps * workload.batch)
            model.fit(*known[steps], batch_size=workload.batch, epochs=1, verbose=0)
        start = time.perf_counter()
        model.fit(*known[steps], batch_size=workload.batch, epochs=1, verbose=0)
        return (time.perf_counter() - start) / steps

    return run


def _repeated(step: Callable[[], object]) -> Callable[[int], float]:
    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - start) / steps

    step()
    return run
