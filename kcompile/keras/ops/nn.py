"""keras.ops functions of neural networks: activations, normalisation, cross-entropies.

Convolution and pooling stand in convolution.py and pooling.py.
"""

from __future__ import annotations

import math

from kcompile import ops as prim
from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import config
from kcompile.keras.ops.creation import iota
from kcompile.keras.ops.function import (
    PUBLIC,
    axes_of,
    axis_of,
    dtype_key,
    floating,
    promote,
    public,
    rank,
    tensor,
    with_numbers,
)
from kcompile.keras.ops.ordering import sorted_along
from kcompile.keras.ops.products import einsum
from kcompile.keras.ops.reductions import cumsum, mean_over, moments_over, vector_norm
from kcompile.keras.ops.shapes import split
from kcompile.keras.tracing.dtypes import is_int

SELU_ALPHA = 1.6732632423543772  # Klambauer et al. 2017, section "fixed point"
SELU_SCALE = 1.0507009873554805


@public
def relu(x):
    """Return max(x, 0); integers stay integers."""
    x = tensor(x)
    return prim.maximum(x, tensor(0, dtype_key(x))) if is_int(dtype_key(x)) else prim.relu(floating(x))


@public
def relu6(x):
    """Return min(max(x, 0), 6)."""
    x, six = with_numbers(x, 6)
    return prim.minimum(prim.relu(x), six)


@public
def sigmoid(x):
    """Return 1 / (1 + e⁻ˣ)."""
    return prim.sigmoid(floating(x))


@public
def softplus(x):
    """Return log(1 + eˣ)."""
    return prim.softplus(floating(x))


@public
def softsign(x):
    """Return x / (1 + |x|)."""
    x, one = with_numbers(x, 1)
    return prim.div(x, prim.add(prim.abs(x), one))


@public
def silu(x):
    """Return x · sigmoid(x)."""
    x = floating(x)
    return prim.mul(x, prim.sigmoid(x))


swish = silu


@public
def log_sigmoid(x):
    """Return log(sigmoid(x)) without underflow."""
    x = floating(x)
    return prim.neg(prim.softplus(prim.neg(x)))


@public
def leaky_relu(x, negative_slope=0.2):
    """Return x for x >= 0 and negative_slope · x below."""
    x, slope, zero = with_numbers(x, negative_slope, 0)
    return prim.select(prim.ge(x, zero), x, prim.mul(x, slope))


@public
def hard_sigmoid(x):
    """Return relu6(x + 3) / 6."""
    x, zero, three, six = with_numbers(x, 0, 3, 6)
    return prim.div(prim.minimum(prim.maximum(prim.add(x, three), zero), six), six)


@public
def hard_silu(x):
    """Return x · hard_sigmoid(x)."""
    x = floating(x)
    return prim.mul(x, tensor(hard_sigmoid(x)))


hard_swish = hard_silu


@public
def elu(x, alpha=1.0):
    """Return x for x >= 0 and alpha · (eˣ - 1) below."""
    x, alpha, zero = with_numbers(x, alpha, 0)
    below = prim.mul(prim.expm1(prim.minimum(x, zero)), alpha)
    return prim.select(prim.gt(x, zero), x, below)


@public
def selu(x):
    """Return the scaled elu that keeps mean 0 and variance 1. Source: Klambauer et al. 2017."""
    x, alpha, scale, zero = with_numbers(x, SELU_ALPHA, SELU_SCALE, 0)
    below = prim.mul(prim.expm1(prim.minimum(x, zero)), alpha)
    return prim.mul(prim.select(prim.gt(x, zero), x, below), scale)


@public
def celu(x, alpha=1.0):
    """Return max(x, 0) + min(0, alpha · (e^(x / alpha) - 1))."""
    x, alpha, zero = with_numbers(x, alpha, 0)
    below = prim.mul(prim.expm1(prim.div(prim.minimum(x, zero), alpha)), alpha)
    return prim.add(prim.maximum(x, zero), below)


@public
def gelu(x, approximate=True):
    """Return x · Φ(x); `approximate` uses the tanh formula. Source: Hendrycks, Gimpel 2016."""
    x, half, one = with_numbers(x, 0.5, 1)
    if approximate:
        _, factor, cubic = with_numbers(x, math.sqrt(2 / math.pi), 0.044715)
        inner = prim.mul(factor, prim.add(x, prim.mul(cubic, prim.mul(x, prim.square(x)))))
        return prim.mul(prim.mul(half, x), prim.add(one, prim.tanh(inner)))
    return prim.mul(x, prim.normcdf(x))


@public
def mish(x):
    """Return x · tanh(softplus(x)). Source: Misra 2019."""
    x = floating(x)
    return prim.mul(x, prim.tanh(prim.softplus(x)))


@public
def tanh_shrink(x):
    """Return x - tanh(x)."""
    x = floating(x)
    return prim.sub(x, prim.tanh(x))


@public
def hard_tanh(x):
    """Return x limited to -1..1; integers stay integers."""
    x = tensor(x)
    if is_int(dtype_key(x)):
        low = 0 if dtype_key(x).startswith("uint") else -1
        return prim.minimum(prim.maximum(x, tensor(low, dtype_key(x))), tensor(1, dtype_key(x)))
    x, low, high = with_numbers(x, -1, 1)
    return prim.minimum(prim.maximum(x, low), high)


@public
def hard_shrink(x, threshold=0.5):
    """Return x where |x| > threshold, else 0."""
    x, limit, zero = with_numbers(x, threshold, 0)
    return prim.select(prim.gt(prim.abs(x), limit), x, zero)


@public
def soft_shrink(x, threshold=0.5):
    """Return x moved towards 0 by threshold, 0 within it."""
    x, limit, zero = with_numbers(x, threshold, 0)
    outside = prim.sub(prim.abs(x), limit)
    return prim.select(prim.gt(outside, zero), prim.mul(prim.sign(x), outside), zero)


@public
def threshold(x, threshold, default_value):
    """Return x where x > threshold, else default_value."""
    x, limit, default = with_numbers(x, threshold, default_value)
    return prim.select(prim.gt(x, limit), x, default)


@public
def sparsemax(x, axis=-1):
    """Return the point of the probability simplex nearest to x along an axis: most of it is zeros.

    Source: Martins, Astudillo 2016, algorithm 1.
    """
    x = floating(x)
    place = axis_of(axis, rank(x))
    falling = sorted_along(x, place, descending=True)
    count = prim.add(iota(falling.shape, place, dtype_key(x)), tensor(1, dtype_key(x)))
    total = prim.sub(tensor(cumsum(falling, axis=place)), tensor(1, dtype_key(x)))
    is_in = prim.gt(prim.mul(count, falling), total)
    size = tensor(prim.reduce_sum(tensor(is_in, dtype_key(x)), axes=(place,), keepdims=True))
    kept = prim.sub(prim.reduce_sum(prim.select(is_in, falling, tensor(0, dtype_key(x))), axes=(place,), keepdims=True),
                    tensor(1, dtype_key(x)))  # fmt: skip
    return prim.relu(prim.sub(x, prim.div(kept, size)))


@public
def squareplus(x, b=4):
    """Return (x + √(x² + b)) / 2."""
    x, b, half = with_numbers(x, b, 0.5)
    return prim.mul(half, prim.add(x, prim.sqrt(prim.add(prim.square(x), b))))


@public
def sparse_plus(x):
    """Return 0 for x <= -1, x for x >= 1, (x + 1)² / 4 between."""
    x, low, high, quarter, zero = with_numbers(x, -1, 1, 0.25, 0)
    curve = prim.mul(quarter, prim.square(prim.add(x, high)))
    return prim.select(prim.le(x, low), zero, prim.select(prim.ge(x, high), x, curve))


@public
def sparse_sigmoid(x):
    """Return (x + 1) / 2 limited to 0..1."""
    x, low, high, half = with_numbers(x, -1, 1, 0.5)
    return prim.mul(half, prim.add(prim.minimum(prim.maximum(x, low), high), high))


@public
def glu(x, axis=-1):
    """Return a · sigmoid(b) for the two halves of x along an axis."""
    a, b = split(floating(x), 2, axis)
    return prim.mul(tensor(a), prim.sigmoid(tensor(b)))


# softmax ----------------------------------------------------------------------------------------


def _shifted(x, axes):
    return prim.sub(x, prim.stop_gradient(prim.reduce_max(x, axes=axes, keepdims=True)))


@public
def softmax(x, axis=-1):
    """Return eˣ / Σ eˣ along an axis (or several)."""
    x = floating(x)
    axes = axes_of(axis, rank(x))
    top = prim.exp(_shifted(x, axes))
    return prim.div(top, prim.reduce_sum(top, axes=axes, keepdims=True))


@public
def log_softmax(x, axis=-1):
    """Return log(softmax(x)) without underflow."""
    x = floating(x)
    axes = axes_of(axis, rank(x))
    shifted = _shifted(x, axes)
    return prim.sub(shifted, prim.log(prim.reduce_sum(prim.exp(shifted), axes=axes, keepdims=True)))


# normalisation ----------------------------------------------------------------------------------


@public
def batch_normalization(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    """Return (x - mean) / √(variance + epsilon) · scale + offset; vectors run along `axis`.

    Source: Ioffe, Szegedy 2015.
    """
    x = floating(x)
    kind, place = dtype_key(x), axis_of(axis, rank(x))

    spread = tuple(s if i == place else 1 for i, s in enumerate(x.shape))

    def along(vector):
        vector = tensor(vector, kind)
        if tuple(vector.shape) == spread:  # statistics that kept their axes
            return vector
        if tuple(vector.shape) != (x.shape[place],):
            raise ShapeError(
                f"batch_normalization: expected vectors of shape ({x.shape[place]},), received {tuple(vector.shape)}"
            )
        return prim.reshape(vector, shape=spread)

    factor = prim.rsqrt(prim.add(along(variance), tensor(float(epsilon), kind)))
    if scale is not None:
        factor = prim.mul(factor, along(scale))
    result = prim.mul(prim.sub(x, along(mean)), factor)
    return result if offset is None else prim.add(result, along(offset))


@public
def layer_normalization(x, gamma=None, beta=None, axis=-1, epsilon=None, **kwargs):
    """Return x scaled to mean 0 and variance 1 over `axis`, then · gamma + beta. Source: Ba et al. 2016."""
    x = floating(x)
    kind, axes = dtype_key(x), axes_of(axis, rank(x))
    mean, variance = moments_over(x, axes, True)
    epsilon = tensor(float(config.epsilon() if epsilon is None else epsilon), kind)
    result = prim.mul(prim.sub(x, mean), prim.rsqrt(prim.add(variance, epsilon)))
    shape = tuple(s if i in axes else 1 for i, s in enumerate(x.shape))
    if gamma is not None:
        result = prim.mul(result, prim.reshape(tensor(gamma, kind), shape=shape))
    if beta is not None:
        result = prim.add(result, prim.reshape(tensor(beta, kind), shape=shape))
    return result


@public
def rms_normalization(x, scale=None, axis=-1, epsilon=None):
    """Return x / √(mean(x²) + epsilon) · scale. Source: Zhang, Sennrich 2019."""
    x = floating(x)
    kind, axes = dtype_key(x), axes_of(axis, rank(x))
    epsilon = tensor(float(config.epsilon() if epsilon is None else epsilon), kind)
    result = prim.mul(x, prim.rsqrt(prim.add(mean_over(prim.square(x), axes, True), epsilon)))
    return result if scale is None else prim.mul(result, tensor(scale, kind))


@public
def normalize(x, axis=-1, order=2, epsilon=None):
    """Return x divided by its norm along an axis; a norm below epsilon is replaced by it."""
    x = floating(x)
    kind = dtype_key(x)
    epsilon = tensor(float(config.epsilon() if epsilon is None else epsilon), kind)
    if order == 2:
        total = prim.reduce_sum(prim.square(x), axes=axes_of(axis, rank(x)), keepdims=True)
        return prim.mul(x, prim.rsqrt(prim.maximum(total, prim.square(epsilon))))
    return prim.div(x, prim.maximum(tensor(vector_norm(x, order, axis, True)), epsilon))


# cross-entropies --------------------------------------------------------------------------------


def _clipped(x):
    """Limit probabilities to epsilon..1 - epsilon, so that logarithms stay finite."""
    _, low, high = with_numbers(x, config.epsilon(), 1.0 - config.epsilon())
    return prim.minimum(prim.maximum(x, low), high)


def _same_shape(target, output, what: str) -> None:
    if len(target.shape) != len(output.shape):
        raise ShapeError(
            f"{what}: Arguments `target` and `output` must have the same rank. "
            f"Received: target.shape={tuple(target.shape)}, output.shape={tuple(output.shape)}"
        )
    for a, b in zip(target.shape, output.shape):
        if isinstance(a, int) and isinstance(b, int) and a != b:
            raise ShapeError(
                f"{what}: Arguments `target` and `output` must have the same shape. "
                f"Received: target.shape={tuple(target.shape)}, output.shape={tuple(output.shape)}"
            )


@public
def binary_crossentropy(target, output, from_logits=False):
    """Return -(t · log(p) + (1 - t) · log(1 - p)), element by element."""
    target, output = promote(target, output, floating=True)
    _same_shape(target, output, "binary_crossentropy")
    if from_logits:  # softplus(x) - t · x is the same, without overflow
        return prim.sub(prim.softplus(output), prim.mul(target, output))
    output = _clipped(output)
    _, one = with_numbers(output, 1)
    likely = prim.mul(target, prim.log(output))
    return prim.neg(prim.add(likely, prim.mul(prim.sub(one, target), prim.log(prim.sub(one, output)))))


def _log_probabilities(output, axis: int, from_logits: bool):
    if from_logits:
        return tensor(log_softmax(output, axis))
    total = prim.reduce_sum(output, axes=(axis,), keepdims=True)
    return prim.log(_clipped(prim.div(output, total)))


@public
def categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """Return -Σ t · log(p) along an axis; probabilities are first scaled to sum 1."""
    target, output = promote(target, output, floating=True)
    _same_shape(target, output, "categorical_crossentropy")
    if rank(output) < 1:
        raise ShapeError("categorical_crossentropy: Arguments `target` and `output` must be at least rank 1")
    place = axis_of(axis, rank(output))
    likely = prim.mul(target, _log_probabilities(output, place, from_logits))
    return prim.neg(prim.reduce_sum(likely, axes=(place,), keepdims=False))


@public
def sparse_categorical_crossentropy(target, output, from_logits=False, axis=-1):
    """Return -log(p[target]) along an axis, for integer targets of one axis less (or a last axis of 1)."""
    target, output = tensor(target), floating(output)
    if rank(target) == rank(output) and target.shape[-1] == 1:
        target = prim.reshape(target, shape=tuple(target.shape[:-1]))
    if rank(output) < 1:
        raise ShapeError("sparse_categorical_crossentropy: Argument `output` must be at least rank 1")
    place = axis_of(axis, rank(output))
    rest = tuple(s for i, s in enumerate(output.shape) if i != place)
    if len(target.shape) != len(rest) or any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(target.shape, rest)
    ):
        raise ShapeError(
            "sparse_categorical_crossentropy: Arguments `target` and `output` must have the same shape up until "
            f"the last dimension: target.shape={tuple(target.shape)}, output.shape={tuple(output.shape)}"
        )
    labels = tensor(target, "int32")
    labels = prim.reshape(labels, shape=tuple(1 if i == place else s for i, s in enumerate(output.shape)))
    classes = tuple(n if i == place else 1 for i, n in enumerate(output.shape))
    chosen = prim.eq(labels, iota(classes, place, "int32"))
    likely = _log_probabilities(output, place, from_logits)
    zero = tensor(0.0, dtype_key(likely))
    return prim.neg(prim.reduce_sum(prim.select(chosen, likely, zero), axes=(place,), keepdims=False))


# attention --------------------------------------------------------------------------------------


@public
def dot_product_attention(
    query,
    key,
    value,
    bias=None,
    mask=None,
    scale=None,
    is_causal=False,
    flash_attention=None,
    attn_logits_soft_cap=None,
):
    """Return softmax(q · kᵀ · scale) · v for [batch, time, heads, size] tensors. Source: Vaswani et al. 2017."""
    query, key, value = promote(query, key, value, floating=True)
    if attn_logits_soft_cap is not None:
        raise ArgumentError("attn_logits_soft_cap is only supported on TPUs. Set attn_logits_soft_cap=None.")
    if rank(query) != 4:
        raise ArgumentError(f"dot_product_attention expects rank 4 tensors, received shape {tuple(query.shape)}")
    kind = dtype_key(query)
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    logits = prim.mul(tensor(einsum("btnh,bsnh->bnts", query, key)), tensor(float(scale), kind))
    if bias is not None:
        logits = prim.add(logits, tensor(bias, kind))
    very_low = tensor(-0.7 * 3.4e38 if kind != "float16" else -3e4, kind)
    if mask is not None:
        logits = prim.select(tensor(mask, "bool"), logits, very_low)
    if is_causal:
        shape = tuple(logits.shape)
        logits = prim.select(prim.ge(iota(shape, 2, "int32"), iota(shape, 3, "int32")), logits, very_low)
    return einsum("bnts,bsnh->btnh", softmax(logits, -1), value)


@public
def psnr(x1, x2, max_val):
    """Return the peak signal-to-noise ratio in decibels."""
    a, b = promote(x1, x2, floating=True)
    error = prim.square(prim.sub(a, b))
    mse = mean_over(error, tuple(range(rank(error))), False)
    _, top, ten = with_numbers(a, 20 * math.log10(max_val), 10)
    return prim.sub(top, prim.mul(ten, prim.log10(mse)))


def __getattr__(name: str):
    """Keras lists functions of other families here too: conv, one_hot, moments, ..."""
    if name in PUBLIC:
        return PUBLIC[name]
    raise AttributeError(f"keras.ops.nn has no function {name!r} in kcompile")
