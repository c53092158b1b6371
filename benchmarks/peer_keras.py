"""A workload with `kcompile.keras`, or with `keras` on the backend KERAS_BACKEND names."""

from __future__ import annotations

import time

from benchmarks.models_keras import build
from benchmarks.peers import OURS, Run
from benchmarks.timing import repeated
from benchmarks.workloads import FIT, INFER, PREDICT, PREDICT_ON_BATCH, TRAIN, TRAIN_ON_BATCH, Workload, data

MOST_BYTES = 200 << 20  # of an epoch's inputs


def load(peer: str, threads: int):
    """The module called keras."""
    if peer == OURS:
        from kcompile import keras  # each peer only in its own process
    else:
        if peer == "keras-tensorflow":
            import tensorflow as tf  # as above

            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        import keras
    return keras


def ways(peer: str, workload: Workload, threads: int) -> dict[str, Run]:
    """The calls that do a workload. Keras's `fit` may wait for its input pipeline: then `train_on_batch` counts."""
    model = build(load(peer, threads), workload.model)
    x, y = data(workload.model, workload.batch)
    calls = {
        FIT: _fit(model, workload),
        TRAIN_ON_BATCH: repeated(lambda: model.train_on_batch(x, y)),
        PREDICT_ON_BATCH: repeated(lambda: model.predict_on_batch(x)),
        PREDICT: repeated(lambda: model.predict(x, batch_size=workload.batch, verbose=0)),
    }
    of = {TRAIN: (FIT,) if peer == OURS else (FIT, TRAIN_ON_BATCH), INFER: (PREDICT_ON_BATCH,)}
    return {name: calls[name] for name in of.get(workload.mode, (workload.mode,))}


def _fit(model, workload: Workload) -> Run:
    known: dict[int, tuple] = {}

    def run(steps: int) -> float:
        if steps not in known:
            row_bytes = data(workload.model, 1)[0].nbytes
            batches = max(1, min(steps, MOST_BYTES // (workload.batch * row_bytes)))
            known.clear()
            known[steps] = (*data(workload.model, batches * workload.batch), batches)
            model.fit(*known[steps][:2], batch_size=workload.batch, epochs=1, verbose=0)
        x, y, batches = known[steps]
        start = time.perf_counter()
        model.fit(x, y, batch_size=workload.batch, epochs=1, verbose=0)
        return (time.perf_counter() - start) / batches

    return run
