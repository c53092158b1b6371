"""Adamax: Adam with the largest gradient in place of the root mean square."""

from __future__ import annotations

from kcompile.keras import ops
from kcompile.keras.optimizers.optimizer import Optimizer, Slots, register_optimizer


@register_optimizer
class Adamax(Optimizer):
    """w - lr·m / ((1 - beta_1^t)·(u + epsilon)), u = max(beta_2·u, |g|).

    Args:
        beta_1: weight of the past in the mean of g (m).
        beta_2: how fast a large gradient is forgotten.
        epsilon: keeps the division finite.

    Source: Kingma, Ba 2014, section 7.1.
    """

    slots = ("momentum", "norm")

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def update(self, w, g, slots, lr, step):
        m = slots.momentum + (g - slots.momentum) * (1 - self.beta_1)
        u = ops.maximum(self.beta_2 * slots.norm, ops.abs(g))
        move = lr * m / ((1 - ops.power(self.beta_1, step)) * (u + self.epsilon))
        return w - move, Slots(momentum=m, norm=u)
