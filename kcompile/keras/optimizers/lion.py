"""Lion: steps of one size, in the direction of the sign of a momentum."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras import ops
from kcompile.keras.optimizers.optimizer import Optimizer, Slots, register_optimizer


@register_optimizer
class Lion(Optimizer):
    """w - lr·sign(beta_1·m + (1 - beta_1)·g), then m = beta_2·m + (1 - beta_2)·g.

    Args:
        beta_1: in (0, 1], weight of the past in the direction.
        beta_2: weight of the past in what is kept.

    Source: Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2.
    """

    slots = ("momentum",)

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.99, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        if not 0 < beta_1 <= 1:
            raise ArgumentError(f"`beta_1` must be in the range (0, 1]. Received: beta_1={beta_1}")
        self.beta_1 = beta_1
        self.beta_2 = beta_2

    def update(self, w, g, slots, lr, step):
        beta_1, beta_2 = (ops.cast(b, w.dtype) for b in (self.beta_1, self.beta_2))
        direction = ops.sign(slots.momentum * beta_1 + g * (1.0 - beta_1))
        return w - lr * direction, Slots(momentum=slots.momentum * beta_2 + g * (1.0 - beta_2))
