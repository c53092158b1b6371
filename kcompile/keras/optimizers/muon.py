"""Muon: momentum made orthogonal for matrices, AdamW for everything else."""

from __future__ import annotations

import math
import re

from kcompile.keras import ops
from kcompile.keras.optimizers.optimizer import Optimizer, register_optimizer


@register_optimizer
class Muon(Optimizer):
    """w - lr·O·rms_rate·sqrt(larger side), O the momentum with its singular values moved towards 1.

    Args:
        adam_beta_1, adam_beta_2, epsilon, adam_lr_ratio, adam_weight_decay: of AdamW, which moves all weights
            but matrices, and embeddings and layers that are excluded.
        exclude_layers: patterns of paths. exclude_embeddings: leave those to AdamW.
        muon_a, muon_b, muon_c, ns_steps: coefficients and number of the Newton-Schulz iterations.
        momentum, nesterov: of the gradient before it is made orthogonal.
        rms_rate: None keeps lr·O as it is.

    Source: Jordan et al. 2024, "Muon"; Liu et al. 2025, "Muon is Scalable for LLM Training" (rms_rate).
    """

    elementwise = False

    def __init__(
        self,
        learning_rate=0.001,
        adam_beta_1=0.9,
        adam_beta_2=0.999,
        adam_weight_decay=0.004,
        epsilon=1e-7,
        weight_decay=0.004,
        exclude_layers=None,
        exclude_embeddings=True,
        muon_a=3.4445,
        muon_b=-4.7750,
        muon_c=2.0315,
        adam_lr_ratio=1,
        momentum=0.95,
        ns_steps=5,
        nesterov=True,
        rms_rate=0.2,
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **kwargs)
        self.adam_beta_1, self.adam_beta_2 = adam_beta_1, adam_beta_2
        self.adam_weight_decay = adam_weight_decay
        self.epsilon = epsilon
        self.exclude_layers = list(exclude_layers or [])
        self.exclude_embeddings = exclude_embeddings
        self.muon_a, self.muon_b, self.muon_c = muon_a, muon_b, muon_c
        self.adam_lr_ratio = adam_lr_ratio
        self.momentum = momentum
        self.ns_steps = ns_steps
        self.nesterov = nesterov
        self.rms_rate = rms_rate

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momenta, self._velocities = [], []
        for w in variables:
            self._momenta.append(self.add_variable_from_reference(w, name="momentum"))
            made = self.add_variable_from_reference(w, name="velocity") if self._by_adam(w) else None
            self._velocities.append(made)

    def _by_adam(self, variable) -> bool:
        if len(variable.shape) != 2:
            return True
        if self.exclude_embeddings and "embedding" in variable.path.lower():
            return True
        return any(re.search(pattern, variable.path) for pattern in self.exclude_layers)

    def decay_of(self, variable):
        return self.adam_weight_decay if self._by_adam(variable) else self.weight_decay

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        lr, step = self._scalars(learning_rate, variable.dtype)
        w, g = variable.value, ops.cast(gradient, variable.dtype)
        momentum, velocity = self._momenta[index], self._velocities[index]
        if velocity is not None:
            self._adam(variable, w, g, momentum, velocity, lr * self.adam_lr_ratio, step)
            return
        m = momentum.value * self.momentum + g
        self.assign(momentum, m)
        direction = self._orthogonal(g + self.momentum * m if self.nesterov else m)
        scale = 1.0 if self.rms_rate is None else self.rms_rate * math.sqrt(max(variable.shape))
        self.assign(variable, w - lr * direction * scale)

    def _adam(self, variable, w, g, momentum, velocity, lr, step):
        beta_1, beta_2 = self.adam_beta_1, self.adam_beta_2
        alpha = lr * ops.sqrt(1 - ops.power(beta_2, step)) / (1 - ops.power(beta_1, step))
        m = momentum.value + (g - momentum.value) * (1 - beta_1)
        v = velocity.value + (ops.square(g) - velocity.value) * (1 - beta_2)
        self.assign(momentum, m)
        self.assign(velocity, v)
        self.assign(variable, w - m * alpha / (ops.sqrt(v) + self.epsilon))

    def _orthogonal(self, x):
        """The Newton-Schulz iteration, run on the wide orientation: it works with the smaller square."""
        tall = x.shape[0] > x.shape[1]
        x = ops.transpose(x) if tall else x
        x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)  # no singular value above 1
        for _ in range(self.ns_steps):
            square = ops.matmul(x, ops.transpose(x))
            x = self.muon_a * x + ops.matmul(self.muon_b * square + self.muon_c * ops.matmul(square, square), x)
        return ops.transpose(x) if tall else x
