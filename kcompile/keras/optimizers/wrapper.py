"""Optimizers around another one: dynamic loss scaling, and the older TFOptimizer."""

from __future__ import annotations

from typing import Any

from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras import ops
from kcompile.keras.optimizers import lookup
from kcompile.keras.optimizers.adagrad import Adagrad
from kcompile.keras.optimizers.adam import Adam
from kcompile.keras.optimizers.optimizer import Optimizer, register_optimizer
from kcompile.keras.optimizers.sgd import SGD
from kcompile.keras.serialization import serialize_keras_object


class Wrapper(Optimizer):
    """Passes everything on to `inner_optimizer`; a subclass changes what it wants to."""

    def __init__(self, inner_optimizer: Optimizer, name=None):
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer
        self.use_ema = inner_optimizer.use_ema

    def build(self, variables):
        self.inner_optimizer.build(variables)
        super().build(variables)

    @property
    def variables(self):
        return [*super().variables, *self.inner_optimizer.variables]

    weights = variables

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        self.inner_optimizer.learning_rate = value

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    @iterations.setter
    def iterations(self, value):
        self.inner_optimizer.iterations = value

    @property
    def is_flat(self):
        return self.inner_optimizer.is_flat

    def flat_weights(self, weights):
        return self.inner_optimizer.flat_weights(weights)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def finalize_variable_values(self, var_list):
        self.inner_optimizer.finalize_variable_values(var_list)

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)

    def apply(self, grads, trainable_variables=None, flat=()):
        variables = self._known(trainable_variables)
        self.inner_optimizer.apply(grads, variables, flat=flat)

    def apply_gradients(self, grads_and_vars, name=None, **kwargs):
        super().apply_gradients(grads_and_vars)
        return self.iterations

    def _known(self, variables):
        if not self.built:
            if variables is None:
                raise ArgumentError(f"{type(self).__name__} is not built: call `build(trainable_variables)` first.")
            self.build(list(variables))
        return self._trainable_variables if variables is None else list(variables)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "inner_optimizer": serialize_keras_object(self.inner_optimizer)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        key = "inner_optimizer" if "inner_optimizer" in config else "optimizer"
        inner = config.pop(key)
        return cls(lookup.deserialize(inner, custom_objects) if isinstance(inner, dict) else inner, **config)


@register_optimizer
class LossScaleOptimizer(Wrapper):
    """Multiplies the loss, so that small gradients survive half precision, and finds the factor as it goes.

    A step with an infinite or NaN gradient is left out and halves the factor; it doubles after
    `dynamic_growth_steps` good steps in a row.

    Args:
        inner_optimizer: what moves the weights.
        initial_scale: the first factor.

    Source: Micikevicius et al. 2018, "Mixed Precision Training", section 3.2.
    """

    def __init__(self, inner_optimizer, initial_scale=2.0**15, dynamic_growth_steps=2000, name=None, **kwargs):
        if not kwargs.pop("dynamic", True):
            raise ArgumentError(
                "LossScaleOptimizer does not support `dynamic=False`. Instead, set `loss_scale_factor` on the "
                "`inner_optimizer`."
            )
        unset = {"use_ema": False, "ema_momentum": 0.99}  # what older configs hold beside None
        refused = [k for k, v in kwargs.items() if v is not None and unset.get(k) != v]
        if refused:
            raise ArgumentError(
                f"LossScaleOptimizer does not support {', '.join(refused)}: set it on the `inner_optimizer`."
            )
        super().__init__(inner_optimizer, name=name)
        self.initial_scale = initial_scale
        self.dynamic_growth_steps = dynamic_growth_steps
        inner_optimizer.loss_scale_factor = None  # gradients are scaled once

    def build(self, variables):
        if self.built:
            return
        self.step_counter = self.add_variable((), dtype="int32", name="step_counter")
        self.dynamic_scale = self.add_variable((), dtype="float32", name="dynamic_scale")
        self.dynamic_scale.assign(float(self.initial_scale))
        super().build(variables)

    def scale_loss(self, loss):
        scale = self.dynamic_scale.value if self.built else self.initial_scale
        return loss * ops.cast(scale, ops.dtype(loss))

    def apply(self, grads, trainable_variables=None, flat=()):
        variables = self._known(trainable_variables)
        scale, counter = self.dynamic_scale.value, self.step_counter.value
        is_finite = None
        for g in grads:
            if g is not None:
                finite = ops.all(ops.isfinite(g))
                is_finite = finite if is_finite is None else ops.logical_and(is_finite, finite)
        inner = self.inner_optimizer
        unscaled = [None if g is None else g / ops.cast(scale, ops.dtype(g)) for g in grads]
        inner.only_if(is_finite, variables, flat, lambda: inner.apply(unscaled, variables, flat=flat))
        grows = ops.equal(counter, self.dynamic_growth_steps - 1)
        self.step_counter.assign(ops.where(ops.logical_and(is_finite, ops.logical_not(grows)), counter + 1, 0))
        grown = ops.where(grows, scale * 2.0, scale)
        self.dynamic_scale.assign(ops.where(is_finite, grown, scale * 0.5))

    def get_config(self):
        return {
            **super().get_config(),
            "initial_scale": self.initial_scale,
            "dynamic_growth_steps": self.dynamic_growth_steps,
        }


# TensorFlow 1 optimizers whose rule is one of ours: class -> (ours, {our argument: its attribute}, fixed arguments)
_NATIVE = {
    "GradientDescentOptimizer": (SGD, {"learning_rate": "_learning_rate"}, {}),
    "MomentumOptimizer": (
        SGD,
        {"learning_rate": "_learning_rate", "momentum": "_momentum", "nesterov": "_use_nesterov"},
        {},
    ),
    "AdamOptimizer": (
        Adam,
        {"learning_rate": "_lr", "beta_1": "_beta1", "beta_2": "_beta2", "epsilon": "_epsilon"},
        {},
    ),
    "AdagradOptimizer": (
        Adagrad,
        {"learning_rate": "_learning_rate", "initial_accumulator_value": "_initial_accumulator_value"},
        {"epsilon": 0.0},
    ),
}


@register_optimizer
class TFOptimizer(Wrapper):
    """Wrapper of a native optimizer object.

    Args:
        optimizer: an optimizer of this package, one of Keras (taken over by its config), or one of
            TensorFlow 1's GradientDescent, Momentum, Adam or Adagrad optimizers (by its hyperparameters).

    Raises: NotSupportedError for any other object.
    """

    def __init__(self, optimizer, iterations=None, name=None):
        super().__init__(_adopted(optimizer), name=name)
        if iterations is not None:
            self.iterations = iterations

    @property
    def optimizer(self):
        return self.inner_optimizer


def _adopted(optimizer: Any) -> Optimizer:
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, (str, dict)):
        return lookup.get(optimizer)
    name = type(optimizer).__name__
    if name in _NATIVE:
        cls, arguments, fixed = _NATIVE[name]
        return cls(**{ours: getattr(optimizer, theirs) for ours, theirs in arguments.items()}, **fixed)
    if callable(getattr(optimizer, "get_config", None)):
        return lookup.deserialize({"class_name": name, "config": optimizer.get_config()})
    raise NotSupportedError(
        f"TFOptimizer cannot compile the update of {name!r}. Known are the optimizers of kcompile and Keras, and "
        f"TensorFlow's {', '.join(_NATIVE)}. Or write one: subclass Optimizer with `slots` and `update`."
    )
