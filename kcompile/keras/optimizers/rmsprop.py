"""RMSprop: gradients divided by a running root mean square."""

from __future__ import annotations

from kcompile.keras import ops
from kcompile.keras.optimizers.optimizer import Optimizer, Slots, register_optimizer


@register_optimizer
class RMSprop(Optimizer):
    """w - lr·g / sqrt(mean of g² + epsilon).

    Args:
        rho: weight of the past in the mean of g².
        momentum: of the steps.
        epsilon: keeps the division finite.
        centered: subtract the squared mean of g, which makes the mean of g² a variance.

    Source: Tieleman, Hinton 2012, lecture 6.5.
    """

    def __init__(self, learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.rho = rho
        self.momentum = momentum
        self.epsilon = epsilon
        self.centered = centered
        self.slots = (
            "velocity",
            *(("momentum",) if momentum > 0 else ()),
            *(("average_gradient",) if centered else ()),
        )
        self.slot_groups = tuple((s,) for s in self.slots)

    def update(self, w, g, slots, lr, step):
        new = Slots(velocity=self.rho * slots.velocity + (1 - self.rho) * ops.square(g))
        variance = new.velocity + self.epsilon
        if self.centered:
            new.average_gradient = self.rho * slots.average_gradient + (1 - self.rho) * g
            variance = new.velocity - ops.square(new.average_gradient) + self.epsilon
        move = lr * g / ops.sqrt(variance)
        if self.momentum > 0:
            move = new.momentum = self.momentum * slots.momentum + move
        return w - move, new
