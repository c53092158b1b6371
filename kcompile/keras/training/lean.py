"""One batch with little Python around it: train_on_batch, test_on_batch, predict_on_batch; and predict and
evaluate where all rows are one batch and nobody watches.

Everything that can be known is found out when the first batch of a kind comes. Later batches of the same
dtypes and row shapes only pay a few comparisons, the program's own call and the division of each mean.
Inputs and targets may be single arrays, or lists, tuples and dicts of arrays; what nests deeper goes the long way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kcompile.ir import dim
from kcompile.keras.layers.indices import check_indices
from kcompile.keras.metrics.metric import Metric
from kcompile.keras.metrics.reduction import Mean
from kcompile.keras.tracing import tree
from kcompile.keras.training.checks import check_labels
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
        self._x = _kind(batch.x, "x")
        self._y = _kind(batch.y, "y")
        known = self._x is not None and (self._y is not None or batch.y is None)
        self.is_direct = known and batch.sample_weight is None
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

    def takes(self, x: Any, y: Any, sample_weight: Any) -> int:
        """The rows of arrays like the first batch's, usable as they are; 0 if these are not."""
        if sample_weight is not None or not self.is_direct:
            return 0
        rows = self._x.rows(x)
        if not rows or (self.program.rows is not None and rows != self.program.rows):
            return 0
        if self._y is None:
            return rows if y is None else 0
        return rows if self._y.rows(y) == rows else 0

    def is_all(self, x, y, sample_weight, batch_size, verbose, callbacks, steps) -> bool:
        """True if a call of `predict` or `evaluate` is one batch like the first, with nothing to show or to call."""
        if verbose or callbacks or steps is not None or not self._is_plain:
            return False
        rows = self.takes(x, y, sample_weight)
        if batch_size is None:
            return 0 < rows <= DEFAULT_BATCH_SIZE
        return type(batch_size) is int and 0 < rows <= batch_size

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
        inputs = self._inputs(x, y, sample_weight)
        if self.program.limits:
            check_indices(self.program.limits, inputs)
        self.program.ready().run(inputs)
        values = [value() for value in self._values]
        if return_dict:
            return dict(zip(self._names, values))
        return values[0] if len(values) == 1 else values

    def predict(self, x: Any) -> Any:
        """Run a predict step; returns the outputs in the model's nesting."""
        inputs = self._inputs(x)
        if self.program.limits:
            check_indices(self.program.limits, inputs)
        outputs = self.program.ready().run(inputs)
        return outputs[self._output] if self._output is not None else self.program.traced.pack(outputs)

    def _inputs(self, x: Any, y: Any = None, sample_weight: Any = None) -> dict[str, np.ndarray]:
        if not self.is_direct or sample_weight is not None:
            return Batch(x, y, sample_weight).inputs()
        named = self._x.named(x)
        return named if y is None else {**named, **self._y.named(y)}


class _Single:
    """What an array must be like."""

    __slots__ = ("dtype", "label", "row")

    def __init__(self, array: np.ndarray, label: str):
        self.dtype, self.row, self.label = array.dtype, array.shape[1:], label

    def named(self, value: np.ndarray) -> dict[str, np.ndarray]:
        """The array by the name of the program's input."""
        return {self.label: value}

    def rows(self, value: Any) -> int:
        """How many rows an array of this kind has; 0 for anything else."""
        if type(value) is not np.ndarray or value.dtype != self.dtype or value.shape[1:] != self.row:
            return 0
        return len(value) if value.flags.c_contiguous else 0


class _Several:
    """What the arrays of a list, tuple or dict must be like."""

    def __init__(self, nesting: type, keys: tuple[Any, ...], parts: list[_Single]):
        self.nesting, self.keys, self.parts = nesting, keys, parts

    def named(self, value: Any) -> dict[str, np.ndarray]:
        """The arrays by the names of the program's inputs."""
        return {p.label: value[key] for key, p in zip(self.keys, self.parts)}

    def rows(self, value: Any) -> int:
        """How many rows all arrays of a value of this kind have; 0 for anything else."""
        if type(value) is not self.nesting or len(value) != len(self.keys):
            return 0
        if self.nesting is dict and not all(key in value for key in self.keys):
            return 0
        rows = {p.rows(value[key]) for key, p in zip(self.keys, self.parts)}
        return rows.pop() if len(rows) == 1 else 0


def _kind(value: Any, prefix: str) -> _Single | _Several | None:
    """The kind of arrays, None for anything else."""
    if isinstance(value, np.ndarray):
        return _Single(value, f"{prefix}0") if value.ndim else None
    if type(value) not in (list, tuple, dict) or not value:
        return None
    keys, arrays = zip(*tree.items(value))
    if not all(isinstance(a, np.ndarray) and a.ndim for a in arrays):
        return None
    return _Several(type(value), keys, [_Single(a, f"{prefix}{n}") for n, a in enumerate(arrays)])
