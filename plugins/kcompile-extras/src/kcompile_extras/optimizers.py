"""Sign momentum."""

from kcompile.keras import ops
from kcompile.keras.optimizers.optimizer import Optimizer, Slots
from kcompile.keras.registry import register


@register("SignMomentum")
class SignMomentum(Optimizer):
    """Moves every weight by the sign of an interpolated momentum.

    Source: Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2.
    """

    slots = ("momentum",)

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.99, name="sign_momentum", **kwargs):
        super().__init__(learning_rate, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2

    def update(self, w, g, slots, lr, step):
        m = slots.momentum
        direction = ops.sign(self.beta_1 * m + (1 - self.beta_1) * g)
        return w - lr * direction, Slots(momentum=self.beta_2 * m + (1 - self.beta_2) * g)

    def get_config(self):
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2}
