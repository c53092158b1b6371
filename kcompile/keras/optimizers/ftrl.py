"""Ftrl: follow the regularised leader; weights that do not pull stay exactly zero."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras import ops
from kcompile.keras.optimizers.optimizer import Optimizer, Slots, register_optimizer


@register_optimizer
class Ftrl(Optimizer):
    """w = (clip(z, -l1, l1) - z) / (n^p / lr + 2·l2 + beta / lr), p = -learning_rate_power.

    n sums the squared gradients; z sums g - (n^p - n_before^p) / lr · w.

    Args:
        learning_rate_power: at most 0; how fast the rate falls with n.
        initial_accumulator_value: where n starts.
        l1_regularization_strength, l2_regularization_strength: pull towards zero.
        l2_shrinkage_regularization_strength: added to the gradient that enters z, as 2·s·w.
        beta: as in the paper, spread over l2.

    Source: McMahan et al. 2013, "Ad Click Prediction", algorithm 1.
    """

    slots = ("accumulator", "linear")

    def __init__(
        self,
        learning_rate=0.001,
        learning_rate_power=-0.5,
        initial_accumulator_value=0.1,
        l1_regularization_strength=0.0,
        l2_regularization_strength=0.0,
        l2_shrinkage_regularization_strength=0.0,
        beta=0.0,
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        at_least_zero = {
            "initial_accumulator_value": initial_accumulator_value,
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
            "l2_shrinkage_regularization_strength": l2_shrinkage_regularization_strength,
        }
        for name, value in at_least_zero.items():
            if value < 0.0:
                raise ArgumentError(f"`{name}` needs to be positive or zero. Received: {name}={value}.")
            setattr(self, name, value)
        if learning_rate_power > 0.0:
            raise ArgumentError(
                "`learning_rate_power` needs to be negative or zero. "
                f"Received: learning_rate_power={learning_rate_power}."
            )
        self.learning_rate_power = learning_rate_power
        self.beta = beta

    def initial(self, slot):
        return self.initial_accumulator_value if slot == "accumulator" else 0.0

    def update(self, w, g, slots, lr, step):
        power = -self.learning_rate_power
        total = slots.accumulator + ops.square(g)
        grown = ops.power(total, power)
        pull = g + 2 * self.l2_shrinkage_regularization_strength * w
        linear = slots.linear + pull - (grown - ops.power(slots.accumulator, power)) / lr * w
        l1 = self.l1_regularization_strength
        l2 = self.l2_regularization_strength + self.beta / (2.0 * lr)
        new = (ops.clip(linear, -l1, l1) - linear) / (grown / lr + 2 * l2)
        return new, Slots(accumulator=total, linear=linear)
