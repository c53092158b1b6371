"""More functions of tf.keras 2's `keras.backend`: windows, padding, resizing, loops, variables of random numbers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from kcompile.keras import config, legacy_backend, ops, random
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.names import reset_names
from kcompile.keras.tracing.variable import Variable

# phases and switches ------------------------------------------------------------------------------------------


def in_test_phase(x: Any, alt: Any, training: Any = None):
    """Return x (or x()) for inference, else alt."""
    return legacy_backend.in_train_phase(alt, x, training)


@contextmanager
def learning_phase_scope(value: int):
    """Set what `learning_phase` returns within a block."""
    before = legacy_backend.learning_phase()
    legacy_backend.set_learning_phase(value)
    try:
        yield
    finally:
        legacy_backend.set_learning_phase(before)


def reset_uids() -> None:
    """Forget automatic names."""
    reset_names()


def manual_variable_initialization(value: bool) -> None:
    """Accepted: variables have their values from the start."""


def is_sparse(tensor: Any) -> bool:
    """Return False: all tensors are dense."""
    return False


def to_dense(tensor: Any):
    """Return the tensor, which is dense."""
    return tensor


def print_tensor(x: Any, message: str = "", summarize: int = 3):
    """Print a tensor and return it; inside a compiled program what is known of it is printed, once."""
    print(message, x)
    return x


# numbers ------------------------------------------------------------------------------------------------------


def cumsum(x: Any, axis: int = 0):
    """Return the sums so far along an axis."""
    return ops.cumsum(x, axis=axis)


def cumprod(x: Any, axis: int = 0):
    """Return the products so far along an axis."""
    return ops.cumprod(x, axis=axis)


def in_top_k(predictions: Any, targets: Any, k: int):
    """Return whether targets are among the k largest predictions."""
    return ops.in_top_k(targets, predictions, k)


def moving_average_update(x: Variable, value: Any, momentum: float):
    """Move a variable towards a value."""
    return x.assign(x * momentum + value * (1.0 - momentum))


def normalize_batch_in_training(x: Any, gamma: Any, beta: Any, reduction_axes: Any, epsilon: float = 1e-3):
    """Return (x normalised by its own mean and variance over the axes, mean, variance)."""
    axes = list(reduction_axes)
    mean, variance = ops.moments(x, axes=axes)
    kept_mean, kept_variance = ops.moments(x, axes=axes, keepdims=True)
    shape = ops.shape(kept_mean)
    found = (x - kept_mean) / ops.sqrt(kept_variance + epsilon)
    found = found if gamma is None else found * ops.reshape(gamma, shape)
    return found if beta is None else found + ops.reshape(beta, shape), mean, variance


def categorical_focal_crossentropy(
    target: Any, output: Any, alpha: float = 0.25, gamma: float = 2.0, from_logits: bool = False, axis: int = -1
):
    """Return the cross-entropy along an axis, with classes that are nearly right counted less."""
    output = ops.softmax(output, axis=axis) if from_logits else output / ops.sum(output, axis=axis, keepdims=True)
    output = ops.clip(output, config.epsilon(), 1.0 - config.epsilon())
    return ops.sum(-target * ops.log(output) * alpha * ops.power(1.0 - output, gamma), axis=axis)


def binary_focal_crossentropy(
    target: Any,
    output: Any,
    apply_class_balancing: bool = False,
    alpha: float = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
):
    """Return the element-wise cross-entropy, with what is nearly right counted less."""
    chance = ops.sigmoid(output) if from_logits else output
    right = target * chance + (1 - target) * (1 - chance)
    found = ops.power(1.0 - right, gamma) * ops.binary_crossentropy(target, chance)
    return found * (target * alpha + (1 - target) * (1 - alpha)) if apply_class_balancing else found


# random numbers -----------------------------------------------------------------------------------------------


def random_bernoulli(shape: Any, p: float = 0.0, dtype: Any = None, seed: Any = None):
    """Return 1 with probability p, else 0."""
    return random.bernoulli(shape, p, dtype or config.floatx(), seed)


random_binomial = random_bernoulli


def truncated_normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None):
    """Return normal numbers within two standard deviations."""
    return random.truncated_normal(shape, mean, stddev, dtype, seed)


def random_normal_variable(
    shape: Any, mean: float, scale: float, dtype: Any = None, name: str | None = None, seed: Any = None
) -> Variable:
    """Return a variable of normal numbers."""
    return Variable(random.normal(shape, mean, scale, dtype, seed), dtype=dtype, name=name)


def random_uniform_variable(
    shape: Any, low: float, high: float, dtype: Any = None, name: str | None = None, seed: Any = None
) -> Variable:
    """Return a variable of uniform numbers."""
    return Variable(random.uniform(shape, low, high, dtype, seed), dtype=dtype, name=name)


# loops --------------------------------------------------------------------------------------------------------


def map_fn(fn: Callable, elems: Any, name: str | None = None, dtype: Any = None):
    """Apply a function to each row and stack the results."""
    return ops.map(fn, elems)


def foldl(fn: Callable, elems: Any, initializer: Any = None, name: str | None = None, reverse: bool = False):
    """Return what is left of `acc = fn(acc, row)` over all rows; the first row is the start without `initializer`."""
    if initializer is None:
        first, rest = (-1, slice(None, -1)) if reverse else (0, slice(1, None))
        initializer = tree.map_structure(lambda v: v[first], elems)
        elems = tree.map_structure(lambda v: v[rest], elems)
    return ops.scan(lambda acc, row: (fn(acc, row), None), initializer, elems, reverse=reverse)[0]


def foldr(fn: Callable, elems: Any, initializer: Any = None, name: str | None = None):
    """`foldl` from the last row to the first."""
    return foldl(fn, elems, initializer, reverse=True)


# windows and borders ------------------------------------------------------------------------------------------


def conv3d(x, kernel, strides=(1, 1, 1), padding="valid", data_format=None, dilation_rate=(1, 1, 1)):
    """Return the convolution of volumes."""
    return ops.conv(x, kernel, strides, padding, data_format, dilation_rate)


def conv2d_transpose(x, kernel, output_shape, strides=(1, 1), padding="valid", data_format=None, dilation_rate=(1, 1)):
    """Return the transposed convolution of images, of the height and width that `output_shape` has."""
    is_first = (data_format or config.image_data_format()) == "channels_first"
    sizes, before = (s[2:4] if is_first else s[1:3] for s in (tuple(output_shape), ops.shape(x)))
    window = ops.shape(kernel)[:2]
    spans = [(k - 1) * gap + 1 for k, gap in zip(window, dilation_rate)]
    cut = [0 if padding == "valid" else span // 2 for span in spans]
    extra = [size - ((n - 1) * s + span - 2 * c) for size, n, s, span, c in zip(sizes, before, strides, spans, cut)]
    return ops.conv_transpose(x, kernel, strides, padding, tuple(extra), data_format, dilation_rate)


def depthwise_conv2d(x, depthwise_kernel, strides=(1, 1), padding="valid", data_format=None, dilation_rate=(1, 1)):
    """Return the convolution of each channel by itself."""
    return ops.depthwise_conv(x, depthwise_kernel, strides, padding, data_format, dilation_rate)


def separable_conv2d(
    x, depthwise_kernel, pointwise_kernel, strides=(1, 1), padding="valid", data_format=None, dilation_rate=(1, 1)
):
    """Return the convolution of each channel, then of each pixel."""
    return ops.separable_conv(x, depthwise_kernel, pointwise_kernel, strides, padding, data_format, dilation_rate)


def pool3d(x, pool_size, strides=(1, 1, 1), padding="valid", data_format=None, pool_mode="max"):
    """Return the maxima or means of windows of volumes."""
    pool = {"max": ops.max_pool, "avg": ops.average_pool}[pool_mode]
    return pool(x, pool_size, strides, padding, data_format)


def temporal_padding(x, padding=(1, 1)):
    """Add zeros before and after the steps of [batch, steps, features]."""
    return ops.pad(x, [(0, 0), tuple(padding), (0, 0)])


def spatial_2d_padding(x, padding=((1, 1), (1, 1)), data_format=None):
    """Add zeros around images."""
    return ops.pad(x, _borders(padding, data_format))


def spatial_3d_padding(x, padding=((1, 1), (1, 1), (1, 1)), data_format=None):
    """Add zeros around volumes."""
    return ops.pad(x, _borders(padding, data_format))


def _borders(padding, data_format) -> list[tuple[int, int]]:
    inner = [tuple(p) for p in padding]
    is_first = (data_format or config.image_data_format()) == "channels_first"
    return [(0, 0), (0, 0), *inner] if is_first else [(0, 0), *inner, (0, 0)]


def resize_images(x, height_factor, width_factor, data_format, interpolation="nearest"):
    """Return images of so many times the size."""
    height, width = ops.shape(x)[2:4] if data_format == "channels_first" else ops.shape(x)[1:3]
    size = (height * height_factor, width * width_factor)
    return ops.image.resize(x, size, interpolation=interpolation, data_format=data_format)


def resize_volumes(x, depth_factor, height_factor, width_factor, data_format):
    """Return volumes with every element repeated along each axis."""
    first = 2 if data_format == "channels_first" else 1
    for axis, factor in enumerate((depth_factor, height_factor, width_factor), first):
        x = ops.repeat(x, factor, axis=axis)
    return x
