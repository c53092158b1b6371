"""MultiOptimizer: weights moved by different optimizers, and OptimizerMap, which says which by their paths."""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping
from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras.optimizers.optimizer import Optimizer, register_optimizer
from kcompile.keras.optimizers.wrapper import LossScaleOptimizer
from kcompile.keras.serialization import deserialize_keras_object, serialize_keras_object


class OptimizerMap(MutableMapping):
    """From a weight's path to its optimizer: keys are paths or patterns of whole paths, the rest has the default one.

    >>> OptimizerMap(SGD(), {".*/kernel": Adam()})
    """

    keras_module = "keras.optimizers"

    def __init__(self, default_optimizer, optimizer_map=None):
        if not isinstance(default_optimizer, Optimizer):
            raise TypeError(f"default_optimizer must be a Keras Optimizer instance. Received: {default_optimizer}")
        if optimizer_map is not None and not isinstance(optimizer_map, dict):
            raise TypeError(f"optimizer_map must be a dictionary. Received: {optimizer_map}")
        self.default_optimizer = default_optimizer
        self._by_path = dict(optimizer_map or {})

    def __getitem__(self, path: str) -> Optimizer:
        if path in self._by_path:
            return self._by_path[path]
        found = [pattern for pattern in self._by_path if re.fullmatch(pattern, path)]
        if len(found) > 1:
            raise ArgumentError(f"Multiple optimizers assigned to variable {path}: patterns {found}")
        return self._by_path[found[0]] if found else self.default_optimizer

    def __setitem__(self, path: str, optimizer: Optimizer) -> None:
        if path in self._by_path:
            raise ArgumentError(f"{path!r} already exists in the OptimizerMap with value {self._by_path[path]}")
        if not isinstance(path, str):
            raise ArgumentError(f"key must be a string. Received: {path}")
        _check(optimizer, path)
        self._by_path[path] = optimizer

    def __delitem__(self, path: str) -> None:
        del self._by_path[path]

    def __len__(self) -> int:
        return len(self._by_path)

    def __iter__(self):
        return iter(self._by_path)

    def __call__(self, variable) -> Optimizer:
        return self[variable.path]

    def get_config(self) -> dict[str, Any]:
        return {
            "default_optimizer": serialize_keras_object(self.default_optimizer),
            "optimizer_map": {path: serialize_keras_object(o) for path, o in self._by_path.items()},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects=None) -> OptimizerMap:
        def made(item):
            return deserialize_keras_object(item, custom_objects, group="optimizers")

        return cls(made(config["default_optimizer"]), {k: made(v) for k, v in config["optimizer_map"].items()})


def _check(optimizer: Any, what: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"Optimizer for {what} is not an Optimizer instance: {optimizer}")
    if isinstance(optimizer, (LossScaleOptimizer, MultiOptimizer)):
        raise ArgumentError(f"{type(optimizer).__name__} cannot be used inside a MultiOptimizer (for {what})")


@register_optimizer
class MultiOptimizer(Optimizer):
    """Gives each weight to the optimizer that `optimizer_map(weight)` names.

    Args: optimizer_map: an OptimizerMap, or any function from a variable to an optimizer.
    """

    elementwise = False

    def __init__(self, optimizer_map: Callable[[Any], Optimizer], loss_scale_factor=None, name=None):
        super().__init__(learning_rate=0.0, name=name)
        self._map = optimizer_map
        self.optimizers: list[Optimizer] = []
        for optimizer in (*_values(optimizer_map), getattr(optimizer_map, "default_optimizer", None)):
            if optimizer is not None:
                self._add(optimizer)
        self.loss_scale_factor = loss_scale_factor
        self._owner: dict[int, Optimizer] = {}

    def _add(self, optimizer: Optimizer) -> None:
        if not any(optimizer is known for known in self.optimizers):
            self.optimizers.append(optimizer)

    @property
    def loss_scale_factor(self):
        """Of all optimizers: gradients are those of a loss multiplied by it."""
        return self._loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, value):
        self._loss_scale_factor = value
        for optimizer in vars(self).get("optimizers", ()):
            optimizer.loss_scale_factor = value

    @property
    def learning_rate(self):
        raise AttributeError(
            "Learning rate cannot be accessed on a MultiOptimizer. Access the learning rate on the individual "
            "sub-optimizers (`optimizers`) instead."
        )

    @learning_rate.setter
    def learning_rate(self, value):
        raise AttributeError(
            "Learning rate cannot be set on a MultiOptimizer. Set the learning rate on the individual sub-optimizers "
            "(`optimizers`) instead."
        )

    @property
    def variables(self):
        return [*super().variables, *(v for optimizer in self.optimizers for v in optimizer.variables)]

    weights = variables

    def build(self, variables):
        if self.built:
            return
        for variable in variables:
            optimizer = self._map(variable)
            _check(optimizer, variable.path)
            self._add(optimizer)
            self._owner[id(variable)] = optimizer
        self.loss_scale_factor = self._loss_scale_factor
        for optimizer, owned in self._parts(variables):
            optimizer.build(owned)
        super().build(variables)

    def _parts(self, variables) -> list[tuple[Optimizer, list]]:
        """The optimizers that own some of these, with what they own."""
        parts = [(o, [v for v in variables if self._owner[id(v)] is o]) for o in self.optimizers]
        return [part for part in parts if part[1]]

    def apply(self, grads, trainable_variables=None, flat=()):
        if not grads:
            return
        if trainable_variables is None and not self.built:
            raise ArgumentError("MultiOptimizer is not built: call `build(trainable_variables)` first.")
        variables = list(self._trainable_variables if trainable_variables is None else trainable_variables)
        self.build(variables)
        if len(grads) != len(variables):
            raise ArgumentError(f"received {len(grads)} gradients for {len(variables)} variables")
        gradient_of = {id(v): g for v, g in zip(variables, grads)}
        for optimizer, owned in self._parts(variables):
            optimizer.apply([gradient_of[id(v)] for v in owned], owned, flat=())
        self._iterations.assign_add(1)

    def finalize_variable_values(self, var_list):
        for optimizer, owned in self._parts(var_list):
            optimizer.finalize_variable_values(owned)

    def get_config(self):
        held = self._map
        held = {"class_name": "OptimizerMap", "config": held.get_config()} if isinstance(held, OptimizerMap) else held
        return {"name": self.name, "loss_scale_factor": self.loss_scale_factor, "optimizer_map": held}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        held = config["optimizer_map"]
        if isinstance(held, dict):
            held = OptimizerMap.from_config(held["config"], custom_objects)
        return cls(**{**config, "optimizer_map": held})


def _values(optimizer_map) -> list:
    return list(optimizer_map.values()) if hasattr(optimizer_map, "values") else []
