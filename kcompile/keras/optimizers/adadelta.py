"""Adadelta: steps whose size follows from past steps and gradients."""

from __future__ import annotations

from kcompile.keras import ops
from kcompile.keras.optimizers.optimizer import Optimizer, Slots, register_optimizer


@register_optimizer
class Adadelta(Optimizer):
    """w - lr·g·rms(past steps) / rms(past gradients), rms(x) = sqrt(mean of x² + epsilon).

    Args:
        rho: weight of the past in both means.
        epsilon: keeps the division finite and starts the first step.

    Source: Zeiler 2012.
    """

    slots = ("accumulated_grad", "accumulated_delta_var")

    def __init__(self, learning_rate=0.001, rho=0.95, epsilon=1e-7, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.rho = rho
        self.epsilon = epsilon

    def update(self, w, g, slots, lr, step):
        gradients = self.rho * slots.accumulated_grad + (1 - self.rho) * ops.square(g)
        move = -(ops.sqrt(slots.accumulated_delta_var + self.epsilon) * g / ops.sqrt(gradients + self.epsilon))
        moves = self.rho * slots.accumulated_delta_var + (1 - self.rho) * ops.square(move)
        return w + lr * move, Slots(accumulated_grad=gradients, accumulated_delta_var=moves)
