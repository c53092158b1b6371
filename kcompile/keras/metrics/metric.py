"""Metric: a value accumulated over batches.

The totals are Variables. `update_state` runs inside the traced step, where assignments become part of the
program; called on arrays it works at once. `result` is computed from the totals wherever it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from kcompile.errors import NotSupportedError
from kcompile.keras import dtype_policies, ops
from kcompile.keras.tracing.names import auto_name
from kcompile.keras.tracing.scope import name_scope
from kcompile.keras.tracing.variable import Variable


class Metric:
    """Base class of metrics; a subclass writes `__init__` (with add_weight), `update_state` and `result`.

    Args:
        dtype: of the totals; floatx by default.
        name: by default made from the class.
    """

    plugin_group = "metrics"

    def __init__(self, dtype=None, name: str | None = None):
        self.name = name or auto_name(type(self).__name__)
        self._dtype = dtype_policies.compute_dtype(dtype)

    @property
    def dtype(self) -> str:
        return self._dtype

    # variables ---------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        """Variables and metrics held as attributes (or in lists) belong to this metric."""
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, (Variable, Metric)):
                self._track(item)
        object.__setattr__(self, name, value)

    def _track(self, item: Variable | Metric) -> None:
        tracked = vars(self).setdefault("_tracked", [])
        if not any(item is t for t in tracked):
            tracked.append(item)

    def add_variable(self, shape=(), initializer="zeros", dtype=None, aggregation="sum", name=None) -> Variable:
        """Make a total that starts at `initializer`."""
        with name_scope(self.name, absolute=self.name):
            variable = Variable(
                initializer,
                shape=() if shape is None else shape,
                dtype=dtype_policies.compute_dtype(dtype or self.dtype),
                trainable=False,
                aggregation=aggregation,
                name=name,
            )
        self._track(variable)
        return variable

    def add_weight(self, shape=(), initializer="zeros", dtype=None, name=None, **kwargs) -> Variable:
        """Make a total; also takes the older order `add_weight(name, ...)`."""
        if isinstance(shape, str):
            shape, name = (), shape
        return self.add_variable(shape=shape, initializer=initializer, dtype=dtype, name=name)

    @property
    def variables(self) -> list[Variable]:
        """The totals, those of metrics inside included."""
        found: list[Variable] = []
        for item in vars(self).get("_tracked", ()):
            found.extend(item.variables if isinstance(item, Metric) else [item])
        return found

    weights = variables

    # accumulating ------------------------------------------------------------------------------------

    def update_state(self, *args, **kwargs):
        raise NotSupportedError(f"{type(self).__name__} must implement `update_state`.")

    def result(self):
        raise NotSupportedError(f"{type(self).__name__} must implement `result`.")

    def reset_state(self) -> None:
        """Set the totals back to zero."""
        for variable in self.variables:
            variable.assign(np.zeros(variable.shape))

    def reset_states(self) -> None:
        """Older name of `reset_state`."""
        self.reset_state()

    def __call__(self, *args, **kwargs):
        """Update, then return the result so far."""
        self.update_state(*args, **kwargs)
        return self.result()

    def log_value(self) -> Any:
        """Return the result as a Python number (or an array, or a dict), for logs."""
        return as_log_value(self.result())

    # without side effects ------------------------------------------------------------------------------

    def stateless_update_state(self, metric_variables: Sequence[Any], *args, **kwargs) -> list[Any]:
        """Return the totals after an update of `metric_variables`; this metric's own stay as they are."""
        return self._with(metric_variables, lambda: self.update_state(*args, **kwargs))[1]

    def stateless_result(self, metric_variables: Sequence[Any]):
        """Return the result that `metric_variables` stand for."""
        return self._with(metric_variables, self.result)[0]

    def stateless_reset_state(self) -> list[Any]:
        """Return the totals as they are at the start."""
        return self._with(self.variables, self.reset_state)[1]

    def _with(self, values: Sequence[Any], run):
        before = [v.value for v in self.variables]
        try:
            for variable, value in zip(self.variables, values, strict=True):
                variable.assign(value)
            return run(), [v.value for v in self.variables]
        finally:
            for variable, value in zip(self.variables, before):
                variable.assign(value)

    # config ----------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Metric:
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


def as_log_value(value: Any) -> Any:
    """Return numbers as Python floats; bigger results as arrays; dicts value by value."""
    if isinstance(value, dict):
        return {k: as_log_value(v) for k, v in value.items()}
    array = np.asarray(ops.convert_to_numpy(value))
    return float(array.item()) if array.size == 1 else array
