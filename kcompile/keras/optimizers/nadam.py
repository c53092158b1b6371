"""Nadam: Adam with Nesterov momentum."""

from __future__ import annotations

from kcompile.keras import ops
from kcompile.keras.optimizers.optimizer import Optimizer, Slots, register_optimizer
from kcompile.keras.tracing.variable import Variable

_DECAY = 0.96  # of the momentum schedule; Dozat 2016, section 3


@register_optimizer
class Nadam(Optimizer):
    """Adam whose momentum looks one step ahead, with a momentum that warms up.

    Args:
        beta_1, beta_2: weights of the past in the means of g and g².
        epsilon: keeps the division finite.

    Source: Dozat 2016, algorithm 2.
    """

    slots = ("momentum", "velocity")

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        dtype = variables[0].dtype if variables else None
        self._u_product = Variable(1.0, dtype=dtype, trainable=False, name="u_product")

    def begin_step(self):
        step = ops.cast(self._updates() + 1, self._u_product.dtype)
        self._u_product.assign(self._u_product.value * self._momentum_at(step))

    def _momentum_at(self, step):
        return self.beta_1 * (1.0 - 0.5 * ops.power(_DECAY, step))

    def update(self, w, g, slots, lr, step):
        now, ahead = self._momentum_at(step), self._momentum_at(step + 1)
        product = ops.cast(self._u_product.value, w.dtype)
        beta_1, beta_2 = (ops.cast(b, w.dtype) for b in (self.beta_1, self.beta_2))  # 1 - beta rounds as beta^t does
        m = slots.momentum + (g - slots.momentum) * (1 - beta_1)
        v = slots.velocity + (ops.square(g) - slots.velocity) * (1 - beta_2)
        m_hat = ahead * m / (1 - product * ahead) + (1 - now) * g / (1 - product)
        v_hat = v / (1 - ops.power(beta_2, step))
        return w - m_hat * lr / (ops.sqrt(v_hat) + self.epsilon), Slots(momentum=m, velocity=v)
