"""Functions of tf.keras 2's `keras.backend` whose parameters differ from those of `keras.ops`.

`keras.backend` finds these first, then `keras.ops` under the same name.
"""

from __future__ import annotations

from typing import Any

from kcompile import autodiff
from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.ir.graph import Value
from kcompile.keras import config, ops, random
from kcompile.keras.tracing.scope import unwrap
from kcompile.keras.tracing.tensor import KerasTensor

_learning_phase = [0]


def learning_phase() -> int:
    """Return 1 for training, 0 for inference: what `in_train_phase` takes by default."""
    return _learning_phase[0]


def set_learning_phase(value: int) -> None:
    """Set what `learning_phase` returns."""
    if value not in (0, 1):
        raise ArgumentError(f"Expected learning phase to be 0 or 1. Received: {value}")
    _learning_phase[0] = int(value)


def in_train_phase(x: Any, alt: Any, training: Any = None):
    """Return x (or x()) for training, else alt."""
    chosen = x if (learning_phase() if training is None else training) else alt
    return chosen() if callable(chosen) else chosen


def eval(x: Any):
    """Return the numbers of a tensor or variable."""
    return ops.convert_to_numpy(x)


# arithmetic and comparison: the operands are called x and y


def equal(x: Any, y: Any):
    """Return x == y, element by element."""
    return ops.equal(x, y)


def not_equal(x: Any, y: Any):
    """Return x != y, element by element."""
    return ops.not_equal(x, y)


def less(x: Any, y: Any):
    """Return x < y, element by element."""
    return ops.less(x, y)


def less_equal(x: Any, y: Any):
    """Return x <= y, element by element."""
    return ops.less_equal(x, y)


def greater(x: Any, y: Any):
    """Return x > y, element by element."""
    return ops.greater(x, y)


def greater_equal(x: Any, y: Any):
    """Return x >= y, element by element."""
    return ops.greater_equal(x, y)


def maximum(x: Any, y: Any):
    """Return the larger of x and y, element by element."""
    return ops.maximum(x, y)


def minimum(x: Any, y: Any):
    """Return the smaller of x and y, element by element."""
    return ops.minimum(x, y)


def pow(x: Any, a: Any):
    """Return x to the power a."""
    return ops.power(x, a)


def clip(x: Any, min_value: Any, max_value: Any):
    """Limit x to a range."""
    return ops.clip(x, min_value, max_value)


def dot(x: Any, y: Any):
    """Return the product over the last axis of x and the second last of y."""
    return ops.dot(x, y)


def batch_dot(x: Any, y: Any, axes: Any = None):
    """Return the products over one axis of x and one of y (by default the last and the second last), row by row."""
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    if axes is None:
        axes = (len(x.shape) - 1, max(len(y.shape) - 2, 1))
    left, right = (axes, axes) if isinstance(axes, int) else axes
    left, right = left % len(x.shape), right % len(y.shape)
    a = [chr(ord("b") + n) for n in range(len(x.shape))]
    b = [chr(ord("n") + n) for n in range(len(y.shape))]
    a[0] = b[0] = "a"
    b[right] = a[left]
    rest = [c for n, c in enumerate(a) if n != left] + [c for n, c in enumerate(b) if n not in (0, right)]
    found = ops.einsum(f"{''.join(a)},{''.join(b)}->{''.join(rest)}", x, y)
    return ops.expand_dims(found, 1) if len(rest) == 1 else found


def argmax(x: Any, axis: int = -1):
    """Return the index of the largest element."""
    return ops.argmax(x, axis)


def argmin(x: Any, axis: int = -1):
    """Return the index of the smallest element."""
    return ops.argmin(x, axis)


# shapes


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = "int32"):
    """Return start, start + step, ... below stop."""
    return ops.arange(start, stop, step, dtype)


def expand_dims(x: Any, axis: int = -1):
    """Insert an axis of size 1."""
    return ops.expand_dims(x, axis)


def squeeze(x: Any, axis: Any):
    """Remove an axis of size 1."""
    return ops.squeeze(x, axis)


def reshape(x: Any, shape: Any):
    """Give x another shape."""
    return ops.reshape(x, shape)


def permute_dimensions(x: Any, pattern: Any):
    """Permute the axes of x."""
    return ops.transpose(x, pattern)


def concatenate(tensors: Any, axis: int = -1):
    """Join tensors along an axis."""
    return ops.concatenate(tensors, axis)


def tile(x: Any, n: Any):
    """Repeat the whole of x n times along each axis."""
    return ops.tile(x, n)


def repeat(x: Any, n: int):
    """Repeat rows [batch, size] n times: [batch, n, size]."""
    x = ops.convert_to_tensor(x)
    return ops.repeat(ops.expand_dims(x, 1), n, axis=1)


def repeat_elements(x: Any, rep: int, axis: int):
    """Repeat each element `rep` times along an axis."""
    return ops.repeat(x, rep, axis)


def reverse(x: Any, axes: Any):
    """Reverse the order along axes."""
    return ops.flip(x, axes)


def stop_gradient(variables: Any):
    """Return x, or each of a list; gradients do not flow through."""
    if isinstance(variables, (list, tuple)):
        return [ops.stop_gradient(v) for v in variables]
    return ops.stop_gradient(variables)


def gradients(loss: Any, variables: Any):
    """Return d sum(loss) / d variable for each variable or tensor, where a step is traced.

    Raises: NotSupportedError for symbolic tensors of a model graph, and outside a trace.
    """
    value = unwrap(loss)
    if not isinstance(value, Value):
        raise NotSupportedError(
            "keras.backend.gradients: call it where a step is traced - in `call` of a layer or in `train_step` - not "
            f"on symbolic tensors of a model or on numbers. Received: {loss!r}"
        )
    several = isinstance(variables, (list, tuple))
    found = autodiff.grad(ops.sum(loss), [unwrap(v) for v in (variables if several else [variables])])
    return found if several else found[0]


# making tensors


def eye(size: int, dtype: Any = None, name: str | None = None):
    """Return the identity matrix."""
    return ops.eye(size, dtype=dtype)


def ones(shape: Any, dtype: Any = None, name: str | None = None):
    """Return ones."""
    return ops.ones(shape, dtype)


def zeros(shape: Any, dtype: Any = None, name: str | None = None):
    """Return zeros."""
    return ops.zeros(shape, dtype)


def ones_like(x: Any, dtype: Any = None, name: str | None = None):
    """Return ones of the shape of x."""
    return ops.ones_like(x, dtype)


def zeros_like(x: Any, dtype: Any = None, name: str | None = None):
    """Return zeros of the shape of x."""
    return ops.zeros_like(x, dtype)


def one_hot(indices: Any, num_classes: int):
    """Return 1 at the class of each element and 0 elsewhere."""
    return ops.one_hot(indices, num_classes)


def placeholder(
    shape: Any = None,
    ndim: int | None = None,
    dtype: Any = None,
    sparse: bool = False,
    name: str | None = None,
    ragged: bool = False,
):
    """Return a symbolic tensor."""
    if sparse or ragged:
        raise ArgumentError("placeholder: sparse and ragged tensors are not supported")
    return KerasTensor(shape if shape is not None else (None,) * (ndim or 0), dtype or config.floatx(), name=name)


def random_normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: Any = None):
    """Return normal numbers."""
    return random.normal(shape, mean, stddev, dtype, seed)


def random_uniform(shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: Any = None):
    """Return numbers uniform in a range."""
    return random.uniform(shape, minval, maxval, dtype, seed)


def dropout(x: Any, level: float, noise_shape: Any = None, seed: Any = None):
    """Return x with each element zero with probability `level`, the others scaled up."""
    return random.dropout(x, level, noise_shape, seed)


# networks


def relu(x: Any, alpha: float = 0.0, max_value: float | None = None, threshold: float = 0.0):
    """Return x above the threshold (at most max_value), alpha · (x - threshold) below."""
    x = ops.convert_to_tensor(x)
    above = x if max_value is None else ops.minimum(x, max_value)
    return ops.where(ops.greater_equal(x, threshold), above, alpha * (x - threshold))


def l2_normalize(x: Any, axis: Any = None):
    """Return x divided by its length over axes (all by default)."""
    square = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return ops.multiply(x, ops.rsqrt(ops.maximum(square, config.epsilon())))


def bias_add(x: Any, bias: Any, data_format: str | None = None):
    """Add a vector along the channels, or a tensor of the shape of one sample."""
    x, bias = ops.convert_to_tensor(x), ops.convert_to_tensor(bias)
    if config.standardize_data_format(data_format) == "channels_last" or len(bias.shape) == 0:
        return ops.add(x, bias)
    sizes = tuple(bias.shape)  # channels last, as TensorFlow keeps a bias
    moved = ops.reshape(bias, (sizes[-1], *(sizes[:-1] or (1,) * (len(x.shape) - 2))))
    return ops.add(x, moved)


def batch_normalization(x: Any, mean: Any, var: Any, beta: Any, gamma: Any, axis: int = -1, epsilon: float = 1e-3):
    """Return (x - mean) / √(var + epsilon) · gamma + beta."""
    return ops.batch_normalization(x, mean, var, axis, beta, gamma, epsilon)


def conv1d(
    x: Any,
    kernel: Any,
    strides: int = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: int = 1,
):
    """Convolve sequences; padding may be `"causal"`."""
    if padding == "causal":
        before = dilation_rate * (ops.shape(kernel)[0] - 1)
        first = config.standardize_data_format(data_format) == "channels_first"
        x, padding = ops.pad(x, [(0, 0), (0, 0), (before, 0)] if first else [(0, 0), (before, 0), (0, 0)]), "valid"
    return ops.conv(x, kernel, strides, padding, data_format, dilation_rate)


def conv2d(
    x: Any,
    kernel: Any,
    strides: Any = (1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = (1, 1),
):
    """Convolve images."""
    return ops.conv(x, kernel, strides, padding, data_format, dilation_rate)


def pool2d(
    x: Any,
    pool_size: Any,
    strides: Any = (1, 1),
    padding: str = "valid",
    data_format: str | None = None,
    pool_mode: str = "max",
):
    """Pool images by `"max"` or `"avg"`."""
    if pool_mode not in ("max", "avg"):
        raise ArgumentError(f"Invalid pooling mode: {pool_mode}")
    pool = ops.max_pool if pool_mode == "max" else ops.average_pool
    return pool(x, pool_size, strides, padding, data_format)


def sparse_categorical_crossentropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1, ignore_class: int | None = None
):
    """Return the cross-entropy of integer targets; 0 for those of `ignore_class`."""
    if ignore_class is None:
        return ops.sparse_categorical_crossentropy(target, output, from_logits, axis)
    target = ops.cast(target, "int32")
    counted = ops.not_equal(target, ignore_class)
    found = ops.sparse_categorical_crossentropy(ops.where(counted, target, 0), output, from_logits, axis)
    return ops.where(ops.reshape(counted, ops.shape(found)), found, 0.0)


def ctc_batch_cost(y_true: Any, y_pred: Any, input_length: Any, label_length: Any):
    """Return the CTC loss [batch, 1] of probabilities [batch, frames, classes]; the last class is the blank."""
    lengths = [ops.reshape(ops.convert_to_tensor(n), (-1,)) for n in (label_length, input_length)]
    y_pred = ops.convert_to_tensor(y_pred)
    loss = ops.ctc_loss(y_true, ops.log(y_pred + config.epsilon()), *lengths, mask_index=y_pred.shape[-1] - 1)
    return ops.expand_dims(loss, -1)


def ctc_decode(y_pred: Any, input_length: Any, greedy: bool = True, beam_width: int = 100, top_paths: int = 1):
    """Return (one array [batch, frames] per path, scores) of probabilities; the last class is the blank."""
    logits = ops.log(ops.convert_to_tensor(y_pred) + config.epsilon())
    strategy, paths = ("greedy", 1) if greedy else ("beam_search", top_paths)
    found, scores = ops.ctc_decode(logits, input_length, strategy, beam_width, paths, mask_index=None)
    return [found[path] for path in range(paths)], scores
