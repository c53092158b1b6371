"""One batch with little Python around it: train_on_batch, test_on_batch, predict_on_batch; and predict and
evaluate where all rows are one batch and nobody watches.

Everything that can be known is found out when the first batch of a kind comes. Later batches of the same
dtypes and row shapes only pay a few comparisons, the program's own call and the division of each mean.
Inputs and targets may be single arrays, or lists, tuples and dicts of arrays; what nests deeper goes the long way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kcompile.ir import dim
from kcompile.keras.metrics.metric import Metric
from kcompile.keras.metrics.reduction import Mean
from kcompile.keras.tracing import tree
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

    def takes(self, x: Any, y: Any, sample_weight: Any) -> bool:
        """True if these are arrays like the first batch's, usable as they are."""
        if not self.is_direct or sample_weight is not None:
            return False
        rows = self._x.rows(x)
        if not rows or self.program.rows not in (None, rows):
            return False
        return y is None if self._y is None else self._y.rows(y) == rows

    def is_all(self, x, y, sample_weight, batch_size, verbose, callbacks, steps) -> bool:
        """True if a call of `predict` or `evaluate` is one batch like the first, with nothing to show or to call."""
        if verbose or callbacks or steps is not None or not self._is_plain or not self.takes(x, y, sample_weight):
            return False
        if batch_size is None:
            return self._x.rows(x) <= DEFAULT_BATCH_SIZE
        return type(batch_size) is int and self._x.rows(x) <= batch_size

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
        named = dict(zip(self._x.labels, self._x.arrays(x)))
        if y is not None:
            named.update(zip(self._y.labels, self._y.arrays(y)))
        return named


class _Kind(NamedTuple):
    """What arrays must be like: how they nest, their names in a dict, the labels of the program's inputs, and the
    dtype and the shape of a row of each."""

    nesting: type
    names: tuple[Any, ...] | None
    labels: tuple[str, ...]
    leaves: tuple[tuple[np.dtype, tuple[int, ...]], ...]

    def arrays(self, value: Any) -> Any:
        """The arrays of a value of this nesting, in the order of the labels."""
        if self.nesting is np.ndarray:
            return (value,)
        return value if self.names is None else [value.get(n) for n in self.names]

    def rows(self, value: Any) -> int:
        """How many rows the arrays of a value have; 0 if it is not of this kind."""
        if type(value) is not self.nesting or (self.nesting is not np.ndarray and len(value) != len(self.leaves)):
            return 0
        rows = 0
        for array, (dtype, row) in zip(self.arrays(value), self.leaves):
            if type(array) is not np.ndarray or array.dtype != dtype or array.shape[1:] != row:
                return 0
            if not array.flags.c_contiguous or (rows and len(array) != rows):
                return 0
            rows = len(array)
        return rows


def _kind(value: Any, prefix: str) -> _Kind | None:
    """The kind of arrays, None for anything else."""
    nesting, names = type(value), None
    if isinstance(value, np.ndarray):
        arrays = [value]
    elif nesting in (list, tuple):
        arrays = value
    elif nesting is dict:
        names = tuple(key for key, _ in tree.items(value))
        arrays = [value[n] for n in names]
    else:
        return None
    if not arrays or not all(isinstance(a, np.ndarray) and a.ndim for a in arrays):
        return None
    labels = tuple(f"{prefix}{i}" for i in range(len(arrays)))
    return _Kind(nesting, names, labels, tuple((a.dtype, a.shape[1:]) for a in arrays))
