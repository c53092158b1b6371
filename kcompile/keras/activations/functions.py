"""The activation functions: `keras.ops` under the names and arguments that layers use."""

from __future__ import annotations

from collections.abc import Callable

from kcompile.keras import ops
from kcompile.keras.registry import register_activation


@register_activation
def linear(x):
    """Return x."""
    return x


@register_activation
def relu(x, negative_slope=0.0, max_value=None, threshold=0.0):
    """Return max(x, 0); or, generalised: x between threshold and max_value, negative_slope · (x - threshold) below."""
    if negative_slope == 0.0 and max_value is None and threshold == 0:
        return ops.relu(x)
    if negative_slope == 0.0 and max_value == 6 and threshold == 0:
        return ops.relu6(x)
    above = ops.where(ops.greater(x, threshold) if threshold else ops.greater_equal(x, 0.0), x, 0.0)
    if max_value is not None:
        above = ops.minimum(above, max_value)
    if negative_slope == 0.0:
        return above
    below = ops.multiply(ops.minimum(ops.subtract(x, threshold), 0.0), negative_slope)
    return ops.add(above, below)


@register_activation
def softmax(x, axis=-1):
    """Return eˣ / Σ eˣ along an axis."""
    return ops.softmax(x, axis=axis)


@register_activation
def log_softmax(x, axis=-1):
    """Return log(softmax(x))."""
    return ops.log_softmax(x, axis=axis)


@register_activation
def sparsemax(x, axis=-1):
    """Return the nearest point of the probability simplex. Source: Martins, Astudillo 2016."""
    return ops.sparsemax(x, axis=axis)


@register_activation
def elu(x, alpha=1.0):
    """Return x for x >= 0 and alpha · (eˣ - 1) below. Source: Clevert et al. 2016."""
    return ops.elu(x, alpha=alpha)


@register_activation
def leaky_relu(x, negative_slope=0.2):
    """Return x for x >= 0 and negative_slope · x below."""
    return ops.leaky_relu(x, negative_slope=negative_slope)


@register_activation
def gelu(x, approximate=False):
    """Return x · Φ(x)."""
    return ops.gelu(x, approximate=approximate)


@register_activation
def celu(x, alpha=1.0):
    """Return the continuously differentiable elu. Source: Barron 2017."""
    return ops.celu(x, alpha=alpha)


@register_activation
def glu(x, axis=-1):
    """Return the gated linear unit of the two halves of x."""
    return ops.glu(x, axis=axis)


@register_activation
def threshold(x, threshold, default_value):
    """Return x where x > threshold, else default_value."""
    return ops.threshold(x, threshold, default_value)


@register_activation
def hard_shrink(x, threshold=0.5):
    """Return x where |x| > threshold, else 0."""
    return ops.hard_shrink(x, threshold=threshold)


@register_activation
def soft_shrink(x, threshold=0.5):
    """Return x moved towards 0 by threshold."""
    return ops.soft_shrink(x, threshold=threshold)


@register_activation
def squareplus(x, b=4):
    """Return (x + √(x² + b)) / 2."""
    return ops.squareplus(x, b=b)


def _plain(name: str, function: str | None = None, aliases: tuple[str, ...] = ()) -> Callable:
    compute = getattr(ops, function or name)

    def activation(x):
        return compute(x)

    activation.__name__ = activation.__qualname__ = name
    activation.__doc__ = compute.__doc__
    return register_activation(name, *aliases)(activation)


selu = _plain("selu")
softplus = _plain("softplus")
softsign = _plain("softsign")
tanh = _plain("tanh")
sigmoid = _plain("sigmoid")
exponential = _plain("exponential", "exp")
hard_sigmoid = _plain("hard_sigmoid")
silu = _plain("silu", aliases=("swish",))
hard_silu = _plain("hard_silu", aliases=("hard_swish",))
relu6 = _plain("relu6")
log_sigmoid = _plain("log_sigmoid")
mish = _plain("mish")
hard_tanh = _plain("hard_tanh")
tanh_shrink = _plain("tanh_shrink")
sparse_plus = _plain("sparse_plus")
sparse_sigmoid = _plain("sparse_sigmoid")


@register_activation
def hard_sigmoid_keras2(x):
    """Return clip(0.2·x + 0.5, 0, 1): the hard_sigmoid of Keras 2, which its files ask for."""
    return ops.clip(x * 0.2 + 0.5, 0.0, 1.0)
