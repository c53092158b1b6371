"""Adam: momentum divided by a running root mean square, both corrected for their start at zero."""

from __future__ import annotations

from kcompile.keras import ops
from kcompile.keras.optimizers.optimizer import Optimizer, Slots, register_optimizer


@register_optimizer
class Adam(Optimizer):
    """w - alpha·m / (sqrt(v) + epsilon), alpha = lr·sqrt(1 - beta_2^t) / (1 - beta_1^t).

    Args:
        beta_1, beta_2: weights of the past in the means of g (m) and g² (v).
        epsilon: keeps the division finite.
        amsgrad: divide by the largest v so far.

    Source: Kingma, Ba 2014, the formulation before section 2.1; Reddi et al. 2018 (amsgrad).
    """

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.amsgrad = amsgrad
        self.slots = ("momentum", "velocity", *(("velocity_hat",) if amsgrad else ()))
        self.slot_groups = (("momentum", "velocity"), *((("velocity_hat",),) if amsgrad else ()))

    def update(self, w, g, slots, lr, step):
        alpha = lr * ops.sqrt(1 - ops.power(self.beta_2, step)) / (1 - ops.power(self.beta_1, step))
        m = slots.momentum + (g - slots.momentum) * (1 - self.beta_1)
        v = slots.velocity + (ops.square(g) - slots.velocity) * (1 - self.beta_2)
        new = Slots(momentum=m, velocity=v)
        if self.amsgrad:
            v = new.velocity_hat = ops.maximum(slots.velocity_hat, v)
        return w - m * alpha / (ops.sqrt(v) + self.epsilon), new


@register_optimizer
class AdamW(Adam):
    """Adam with decoupled weight decay.

    Source: Loshchilov, Hutter 2019.
    """

    def __init__(self, learning_rate=0.001, weight_decay=0.004, **kwargs):
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **kwargs)
