"""SGD: gradient descent, with momentum."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras.optimizers.optimizer import Optimizer, Slots, register_optimizer


@register_optimizer
class SGD(Optimizer):
    """w - lr·g; with momentum, a velocity v = momentum·v - lr·g is added instead.

    Args:
        momentum: in [0, 1].
        nesterov: look ahead: add momentum·v - lr·g with the new v.

    Source: Polyak 1964; Nesterov 1983; Sutskever et al. 2013.
    """

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        if not isinstance(momentum, (int, float)) or not 0 <= momentum <= 1:
            raise ArgumentError(f"`momentum` must be a float between [0, 1]. Received: momentum={momentum}")
        self.momentum = float(momentum)
        self.nesterov = nesterov
        self.slots = ("momentum",) if self.momentum else ()

    def update(self, w, g, slots, lr, step):
        if not self.momentum:
            return w - g * lr, Slots()
        velocity = slots.momentum * self.momentum - g * lr
        move = velocity * self.momentum - g * lr if self.nesterov else velocity
        return w + move, Slots(momentum=velocity)
