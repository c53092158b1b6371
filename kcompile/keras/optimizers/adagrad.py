"""Adagrad: gradients divided by the root of all their squares so far."""

from __future__ import annotations

from kcompile.keras import ops
from kcompile.keras.optimizers.optimizer import Optimizer, Slots, register_optimizer


@register_optimizer
class Adagrad(Optimizer):
    """w - lr·g / sqrt(Σ g² + epsilon).

    Args:
        initial_accumulator_value: where the sum starts.
        epsilon: keeps the division finite.

    Source: Duchi, Hazan, Singer 2011.
    """

    slots = ("accumulator",)

    def __init__(self, learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-7, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def initial(self, slot):
        return self.initial_accumulator_value

    def update(self, w, g, slots, lr, step):
        total = slots.accumulator + ops.square(g)
        return w - lr * g / ops.sqrt(total + self.epsilon), Slots(accumulator=total)
