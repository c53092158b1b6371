"""Schedule-free AdamW: an average of the weights takes the place of a falling rate."""

from __future__ import annotations

from kcompile.keras import ops
from kcompile.keras.optimizers.optimizer import Optimizer, Slots, register_optimizer


@register_optimizer
class ScheduleFreeAdamW(Optimizer):
    """w = (1 - beta_1)·z + beta_1·x: z moves by lr·g / (sqrt(v) + epsilon), x is the mean of all z so far.

    Args:
        beta_1: share of the mean in the weights gradients are taken at.
        beta_2: weight of the past in the mean of g² (v).
        warmup_steps: the rate rises over so many steps.

    Source: Defazio et al. 2024, "The road less scheduled", algorithm 1.
    """

    slots = ("momentum", "velocity")  # z and v

    def __init__(
        self, learning_rate=0.0025, beta_1=0.9, beta_2=0.999, epsilon=1e-8, warmup_steps=0, weight_decay=None, **kwargs
    ):
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **kwargs)
        self.beta_1, self.beta_2, self.epsilon, self.warmup_steps = beta_1, beta_2, epsilon, warmup_steps

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        for z, variable in zip(self._slot_variables["momentum"], self._trainable_variables):
            z.assign(variable.value)

    def update(self, w, g, slots, lr, step):
        if self.warmup_steps > 0:
            lr = lr * ops.minimum(step / self.warmup_steps, 1.0)
        v = slots.velocity + (ops.square(g) - slots.velocity) * (1 - self.beta_2)
        root = ops.sqrt(v / (1 - ops.power(self.beta_2, step))) + self.epsilon
        z = slots.momentum - lr * g / root
        mean = (w - (1 - self.beta_1) * slots.momentum) / self.beta_1
        mean = mean + (z - mean) / step
        return (1 - self.beta_1) * z + self.beta_1 * mean, Slots(momentum=z, velocity=v)
