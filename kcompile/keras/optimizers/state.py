"""What an optimizer holds: the iteration, the learning rate, and slots beside each weight; and how that is saved."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import config, ops
from kcompile.keras.optimizers.schedules import LearningRateSchedule
from kcompile.keras.tracing.dtypes import numpy_dtype
from kcompile.keras.tracing.scope import name_scope, unwrap
from kcompile.keras.tracing.variable import Variable


class OptimizerState:
    """Variables of an optimizer, in the order of its files: iteration, learning rate, then the slots."""

    slots: tuple[str, ...] = ()
    # how the slots' variables are ordered in files: weight by weight within a group, group after group
    slot_groups: tuple[tuple[str, ...], ...] | None = None
    decay: float = 0.0

    def _begin(self, learning_rate: Any) -> None:
        """Make the first two variables; the rest waits for the weights (`build`)."""
        self.built = False
        self._trainable_variables: list[Variable] = []
        self._index: dict[int, int] = {}
        self._slot_variables: dict[str, list[Variable]] = {}
        self._averages: list[Variable] = []
        self._accumulated: list[Variable] = []
        with name_scope(self.name, absolute=self.name):
            self._iterations = Variable(0, name="iteration", dtype="int32", trainable=False)
            self._learning_rate = self._as_rate(learning_rate)

    def __setattr__(self, name: str, value: Any) -> None:
        """Variables held as attributes (or in lists) belong to the optimizer's state, in this order."""
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, Variable) and name != "_trainable_variables":
                self._track(item)
        object.__setattr__(self, name, value)

    def _track(self, variable: Variable) -> None:
        tracked = vars(self).setdefault("_variables", [])
        if not any(variable is v for v in tracked):
            tracked.append(variable)

    @property
    def variables(self) -> list[Variable]:
        """The state: iteration, learning rate, then the slots."""
        return list(vars(self).get("_variables", ()))

    weights = variables

    @property
    def iterations(self) -> Any:
        """How many updates were made; with accumulation, the steps made divided by the steps of an update."""
        if self.gradient_accumulation_steps:
            return ops.floor_divide(self._iterations.value, self.gradient_accumulation_steps)
        return self._iterations

    @iterations.setter
    def iterations(self, value):
        self._iterations.assign(unwrap(value))

    def _updates(self):
        """The value of `iterations`."""
        found = self.iterations
        return found.value if isinstance(found, Variable) else found

    @property
    def learning_rate(self):
        """The rate's Variable, or its present value if it follows a schedule."""
        rate = self._learning_rate
        if isinstance(rate, Variable):
            return rate
        return rate(self._iterations) if isinstance(rate, LearningRateSchedule) else rate()

    @learning_rate.setter
    def learning_rate(self, value):
        if callable(value) and not isinstance(value, Variable):
            self._variables = [v for v in self._variables if v is not self._learning_rate]
            self._learning_rate = value
            return
        if not isinstance(self._learning_rate, Variable):
            raise TypeError(
                "This optimizer was created with a `LearningRateSchedule` object as its `learning_rate` constructor "
                "argument, hence its learning rate is not settable. If you need the learning rate to be settable, "
                "you should instantiate the optimizer with a float `learning_rate` argument."
            )
        self._learning_rate.assign(np.float32(unwrap(value)))

    @property
    def lr(self):
        """Older name of `learning_rate`."""
        return self.learning_rate

    @lr.setter
    def lr(self, value):
        self.learning_rate = value

    def _as_rate(self, rate: Any) -> Any:
        if callable(rate) and not isinstance(rate, Variable):
            return rate
        try:
            number = None if isinstance(rate, str) else float(rate)
        except (TypeError, ValueError):
            number = None
        if number is None:
            raise ArgumentError(
                "Argument `learning_rate` should be float, or an instance of LearningRateSchedule, or a callable. "
                f"Received instead: learning_rate={rate!r}"
            )
        return Variable(number, name="learning_rate", dtype=config.floatx(), trainable=False)

    def _current_rate(self):
        rate = self.learning_rate
        rate = rate.value if isinstance(rate, Variable) else rate
        if self.decay:
            rate = rate / (1.0 + self.decay * ops.cast(self._iterations.value, config.floatx()))
        return rate

    def _rate_config(self):
        rate = self._learning_rate
        if isinstance(rate, Variable):
            return float(rate.numpy())
        if isinstance(rate, LearningRateSchedule):
            return {
                "module": "keras.optimizers.schedules",
                "class_name": type(rate).__name__,
                "config": rate.get_config(),
                "registered_name": None,
            }
        return 0.5  # a plain function cannot be written down; a number keeps the file loadable

    def build(self, variables: Sequence[Variable]) -> None:
        """Make the slots of these weights."""
        if self.built:
            return
        self._trainable_variables = list(variables)
        self._index = {id(v): i for i, v in enumerate(self._trainable_variables)}
        if self.use_ema:
            self._averages = self.add_optimizer_variables(self._trainable_variables, "average")
        if self.gradient_accumulation_steps:
            self._accumulated = self.add_optimizer_variables(self._trainable_variables, "gradient_accumulator")
        for group in self.slot_groups or ((self.slots,) if self.slots else ()):
            starts = [self.initial(s) for s in group]
            made = self.add_optimizer_variables(self._trainable_variables, list(group), starts)
            self._slot_variables.update(zip(group, made))
        self.built = True

    def initial(self, slot: str) -> float:
        """Return the value a slot starts from."""
        return 0.0

    def add_variable(self, shape, initializer="zeros", dtype=None, aggregation="none", layout=None, name=None):
        """Make a variable of the optimizer's state."""
        with name_scope(self.name, absolute=self.name):
            variable = Variable(initializer, shape=shape, dtype=dtype, trainable=False, name=name)
        self._track(variable)
        return variable

    add_weight = add_variable

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros", **kwargs):
        """Make a variable with the shape and dtype of a weight."""
        path = getattr(reference_variable, "path", reference_variable.name).replace("/", "_").replace(":", "_")
        shape = tuple(reference_variable.shape)
        if isinstance(initializer, (int, float)):
            initializer = np.full(shape, initializer, numpy_dtype(reference_variable.dtype))
        dtype = reference_variable.dtype
        return self.add_variable(shape, initializer=initializer, dtype=dtype, name=f"{path}_{name or 'var'}")

    def add_optimizer_variables(self, trainable_variables, name, initializer="zeros"):
        """Make one variable per weight, or with several names one list per name."""
        names = [name] if isinstance(name, str) else list(name)
        initializers = list(initializer) if isinstance(initializer, (list, tuple)) else [initializer] * len(names)
        made: tuple[list[Variable], ...] = tuple([] for _ in names)
        for variable in trainable_variables:
            for found, label, initial in zip(made, names, initializers, strict=True):
                found.append(self.add_variable_from_reference(variable, name=label, initializer=initial))
        return made[0] if isinstance(name, str) else made

    def _check_known(self, variables) -> None:
        if not self._index and self._trainable_variables == []:
            self._trainable_variables = list(variables)  # a subclass whose build() did not call super().build()
            self._index = {id(v): i for i, v in enumerate(variables)}
        for v in variables:
            if id(v) not in self._index:
                raise ArgumentError(
                    f"Unknown variable: {v}. This optimizer can only be called for the variables it was originally "
                    "built with. When working with a new set of variables, you should recreate a new optimizer "
                    "instance."
                )

    def _get_variable_index(self, variable: Variable) -> int:
        return self._index[id(variable)]

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of the state arrays, in the order of `variables`."""
        return [v.numpy() for v in self.variables]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the state arrays."""
        if len(weights) != len(self.variables):
            raise ArgumentError(
                f"{self.name} has {len(self.variables)} state arrays, received {len(weights)}."
                + ("" if self.built else " It is not built yet: call `optimizer.build(trainable_variables)` first.")
            )
        for variable, weight in zip(self.variables, weights):
            if tuple(variable.shape) != np.shape(weight):
                raise ShapeError(
                    f"Optimizer variable {variable.path} has shape {variable.shape} not compatible with provided "
                    f"weight shape {np.shape(weight)}."
                )
            variable.assign(np.asarray(weight))

    def save_own_variables(self, store) -> None:
        """Write the state into a mapping, under its numbers."""
        for i, variable in enumerate(self.variables):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store) -> None:
        """Read the state from a mapping; one with another number of arrays is left with a warning."""
        if len(store) != len(self.variables):
            warnings.warn(
                f"Skipping variable loading for optimizer '{self.name}', because it has {len(self.variables)} "
                f"variables whereas the saved optimizer has {len(store)} variables.",
                stacklevel=2,
            )
            return
        for i, variable in enumerate(self.variables):
            variable.assign(np.asarray(store[str(i)]))
