"""Two activations as layers."""

from kcompile.keras import layers, ops
from kcompile.keras.initializers import Constant
from kcompile.keras.registry import register
from kcompile_extras.ops import squareplus


@register
class Swish(layers.Layer):
    """x · sigmoid(βx) with a learned slope β.

    Shapes:  any -> same.
    Weights: beta, scalar.
    Source:  Ramachandran, Zoph, Le 2017.
    """

    def __init__(self, initial_beta=1.0, **kwargs):
        super().__init__(**kwargs)
        self.initial_beta = initial_beta

    def build(self, input_shape):
        self.beta = self.add_weight(name="beta", shape=(), initializer=Constant(self.initial_beta))

    def call(self, x):
        return x * ops.sigmoid(self.beta * x)


@register
class Squareplus(layers.Layer):
    """(x + sqrt(x² + 4)) / 2, through a primitive of this package.

    Shapes:  any -> same.
    Source:  Barron 2021, "Squareplus: a softplus-like algebraic rectifier".
    """

    def call(self, x):
        return squareplus(x)
