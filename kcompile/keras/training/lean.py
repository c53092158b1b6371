"""One batch with little Python around it: train_on_batch, test_on_batch, predict_on_batch; and predict and
evaluate where all rows are one batch and nobody watches.

Everything that can be known is found out when the first batch of a kind comes. Later batches of the same
dtypes and row shapes only pay a few comparisons, the program's own call and the division of each mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kcompile.ir import dim
from kcompile.keras.metrics.metric import Metric
from kcompile.keras.metrics.reduction import Mean
from kcompile.keras.training.checks import check_indices, check_labels
from kcompile.keras.training.compiled import CompiledLosses
from kcompile.keras.training.data import DEFAULT_BATCH_SIZE
from kcompile.keras.training.programs import Batch, StepProgram

_BATCH = dim.symbol("batch")


class Lean:
    """A step program prepared for batches like the first one.

    Args:
        reset: resets all metrics.
        entries: gives (name, metric) pairs in the order of the logs.
    """

    def __init__(
        self,
        program: StepProgram,
        batch: Batch,
        losses: CompiledLosses | None,
        reset: Callable[[], None],
        entries: Callable[[], list[tuple[str, Metric]]],
    ):
        self.program = program
        self._losses = losses if losses is not None and any(p.classes for p in losses.parts or ()) else None
        self._x = _kind(batch.x)
        self._y = _kind(batch.y)
        self._single = self._x is not None and batch.sample_weight is None
        self._names, self._metrics = [], []
        if program.mode != "predict":
            for name, metric in entries():
                self._names.append(name)
                self._metrics.append(metric)
        self._values = [m.log_value for m in self._metrics]
        plain = all(type(m).reset_state is Metric.reset_state for m in self._metrics)
        self._totals = [v._array for m in self._metrics for v in m.variables] if plain else None
        self._reset = reset
        # what a mean shows is a number, and outputs with rows are what predict joins: see is_all
        self._is_plain = all(type(m).result is Mean.result for m in self._metrics)
        self._is_plain &= all(v.shape and v.shape[0] == _BATCH for v in program.traced.graph.outputs.values())
        self._output = program.traced.structure if isinstance(program.traced.structure, str) else None

    def takes(self, x: Any, y: Any, sample_weight: Any) -> bool:
        """True if these are single arrays like the first batch's, usable as they are."""
        if not self._single or sample_weight is not None or type(x) is not np.ndarray:
            return False
        dtype, row = self._x
        if x.dtype != dtype or x.shape[1:] != row or not x.flags.c_contiguous or not len(x):
            return False
        if self.program.rows is not None and len(x) != self.program.rows:
            return False
        if self._y is None:
            return y is None
        dtype, row = self._y
        return (
            type(y) is np.ndarray
            and y.dtype == dtype
            and y.shape[1:] == row
            and len(x) == len(y)
            and y.flags.c_contiguous
        )

    def is_all(self, x, y, sample_weight, batch_size, verbose, callbacks, steps) -> bool:
        """True if a call of `predict` or `evaluate` is one batch like the first, with nothing to show or to call."""
        if verbose or callbacks or steps is not None or not self._is_plain or not self.takes(x, y, sample_weight):
            return False
        if batch_size is None:
            return len(x) <= DEFAULT_BATCH_SIZE
        return type(batch_size) is int and len(x) <= batch_size

    def step(self, x: Any, y: Any, sample_weight: Any, reset_metrics: bool, return_dict: bool) -> Any:
        """Run a train or test step; returns the values of the logs."""
        if self._losses is not None:
            check_labels(self._losses, y)
        if reset_metrics:
            if self._totals is None:
                self._reset()
            else:
                for total in self._totals:
                    total.fill(0)
        if self.program.limits:
            check_indices(self.program.limits, Batch(x).inputs())
        bound = self.program.ready()
        if self._single and sample_weight is None:
            bound.run({"x0": x, "y0": y} if y is not None else {"x0": x})
        else:
            bound.run(Batch(x, y, sample_weight).inputs())
        values = [value() for value in self._values]
        if return_dict:
            return dict(zip(self._names, values))
        return values[0] if len(values) == 1 else values

    def predict(self, x: Any) -> Any:
        """Run a predict step; returns the outputs in the model's nesting."""
        inputs = {"x0": x} if self._single else Batch(x).inputs()
        if self.program.limits:
            check_indices(self.program.limits, inputs)
        outputs = self.program.ready().run(inputs)
        return outputs[self._output] if self._output is not None else self.program.traced.pack(outputs)


def _kind(value: Any) -> tuple[np.dtype, tuple[int, ...]] | None:
    return (value.dtype, value.shape[1:]) if isinstance(value, np.ndarray) else None
