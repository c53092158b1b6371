"""Running programs over data: epochs of batches, native where nobody watches each batch.

Whole arrays: the program runs many batches per call, in slices of about a tenth of a second, so that the
progress bar moves and Ctrl-C works. As soon as a callback overrides a batch hook, it is called for every
batch (or every `steps_per_execution` batches). Iterables of batches go one by one.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from kcompile.keras.callbacks import CallbackList
from kcompile.keras.tracing.arena import VariableArena
from kcompile.keras.training.checks import check_rows
from kcompile.keras.training.data import ArrayData, BatchData
from kcompile.keras.training.programs import PREDICT, TRAIN, Batch, StepProgram

WAKE_S = 0.1  # how long a native slice should take
GROWTH = 8  # a slice is at most so many times the one before: the first ones only measure, unless a pass before did


class Run:
    """One pass over data in one mode.

    Args:
        mode: "train", "test" or "predict".
        program_for: Batch -> StepProgram.
        callbacks: whose batch hooks are called.
        logs: gives the values so far, as the hooks see them.
        stopped: True once training is to stop.
        chunk: steps per execution.
    """

    def __init__(
        self,
        mode: str,
        program_for: Callable[[Batch], Any],
        callbacks: CallbackList,
        logs: Callable[[], dict[str, float]],
        stopped: Callable[[], bool],
        chunk: int = 1,
    ):
        self.mode = mode
        self.program_for = program_for
        self.logs = logs
        self.stopped = stopped
        self.chunk = max(1, int(chunk or 1))
        self.program: StepProgram | None = None  # of the arrays run last
        self.begin = getattr(callbacks, f"on_{mode}_batch_begin")
        self.end = getattr(callbacks, f"on_{mode}_batch_end")
        self.every = callbacks.wants_every_batch(mode)
        self.some = callbacks.wants_some_batches(mode)

    # whole arrays ------------------------------------------------------------------------------------

    def arrays(self, data: ArrayData, order: np.ndarray | None, outputs: dict[str, np.ndarray] | None = None) -> int:
        """Run all batches of whole arrays; returns how many ran. `outputs` receive the rows of predictions."""
        batch = Batch(data.x, data.y, data.sample_weight)
        self.program = program = self.program_for(batch)
        check_rows(program.rows, data.batch_size, data.rows)
        bound = program.ready()
        inputs = batch.inputs()
        total, done = data.num_batches, 0
        count = max(1, int(WAKE_S / (program.row_s * data.batch_size))) if program.row_s else 1
        fixed = {"order": order, "batch_size": data.batch_size, **({"outputs": outputs} if outputs is not None else {})}
        while done < total and not self.stopped():
            if self.every:
                count = self.chunk
                self.begin(done, {})
            count = min(count, total - done)
            started = time.perf_counter()
            bound.run_batches(inputs, first=done, count=count, **fixed)
            elapsed = time.perf_counter() - started
            done += count
            if self.every or self.some:
                self.end(done - 1, self._batch_logs(outputs, data, done - count, done))
                if program.adoptions != VariableArena.adoptions:  # a callback has trained, and weights have moved
                    self.program = program = self.program_for(batch)
                    bound = program.ready()
            step_s = max(elapsed, 1e-9) / count
            count = max(1, min(GROWTH * count, int(WAKE_S / step_s)))
        if done:
            program.row_s = step_s / data.batch_size
        return done

    def _batch_logs(self, outputs, data: ArrayData, first: int, stop: int) -> dict[str, Any]:
        if self.mode != PREDICT:
            return self.logs()
        rows = slice(first * data.batch_size, stop * data.batch_size)
        found = [a[rows] for a in (outputs or {}).values()]
        return {"outputs": found[0] if len(found) == 1 else found}

    # batch by batch ------------------------------------------------------------------------------------

    def batches(self, data: BatchData, rng: np.random.Generator, collect: Callable | None = None) -> int:
        """Run the batches of one epoch of an iterable; returns how many ran.

        collect: called with (program, outputs, number of rows) after each batch.
        """
        done, shown_s, pending = 0, 0.0, False
        for batch in (Batch(*b) for b in data.epoch(rng)):
            if self.every:
                self.begin(done, {})
            program = self.program_for(batch)
            inputs = batch.inputs()
            if program.rows is not None:
                size = len(next(iter(inputs.values())))
                check_rows(program.rows, size, size)
            outputs = program.ready().run(inputs)
            if collect is not None:
                collect(program, outputs)
            done += 1
            now = time.perf_counter()
            pending = self.some and not self.every
            if self.every or (pending and now - shown_s > WAKE_S):
                found = list(outputs.values())
                predicted = {"outputs": found[0] if len(found) == 1 else found}
                self.end(done - 1, predicted if self.mode == PREDICT else self.logs())
                shown_s, pending = now, False
            if self.stopped():
                break
        if pending:
            self.end(done - 1, self.logs())
        expected = data.num_batches
        if self.mode == TRAIN and done < (1 if expected is None else expected) and not self.stopped():
            warnings.warn(
                "Your input ran out of data; interrupting training. Make sure that your dataset or generator can "
                "generate at least `steps_per_epoch * epochs` batches.",
                stacklevel=3,
            )
        return done
