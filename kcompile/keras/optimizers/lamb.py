"""Lamb: Adam's direction, with a step per weight as long as the weight asks for."""

from __future__ import annotations

from kcompile.keras import ops
from kcompile.keras.optimizers.optimizer import Optimizer, Slots, register_optimizer


@register_optimizer
class Lamb(Optimizer):
    """w - lr·(|w| / |u|)·u, u = Adam's m / (sqrt(v) + epsilon), both corrected; ratio 1 where a norm is 0.

    Args:
        beta_1, beta_2: weights of the past in the means of g (m) and g² (v).
        epsilon: keeps the division finite.

    Source: You et al. 2019, "Large Batch Optimization for Deep Learning", algorithm 2.
    """

    slots = ("momentum", "velocity")
    elementwise = False  # the norms are those of one weight

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def update(self, w, g, slots, lr, step):
        beta_1, beta_2 = (ops.cast(b, w.dtype) for b in (self.beta_1, self.beta_2))
        m = slots.momentum + (g - slots.momentum) * (1 - self.beta_1)
        v = slots.velocity + (ops.square(g) - slots.velocity) * (1 - self.beta_2)
        root = ops.sqrt(v / (1 - ops.power(beta_2, step))) + self.epsilon
        move = m / (1 - ops.power(beta_1, step)) / root
        weight_norm, move_norm = (ops.sqrt(ops.sum(ops.square(a))) for a in (w, move))
        has_ratio = ops.logical_and(weight_norm > 0, move_norm > 0)
        ratio = ops.where(has_ratio, ops.divide_no_nan(weight_norm, move_norm), 1.0)
        return w - ratio * lr * move, Slots(momentum=m, velocity=v)
