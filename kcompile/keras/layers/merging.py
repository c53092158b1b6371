"""Layers (and functions) of several inputs: sum, product, mean, extremes, concatenation, dot product."""

from __future__ import annotations

from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import ops
from kcompile.keras.layers.input_spec import shown_shape
from kcompile.keras.layers.layer import Layer
from kcompile.keras.registry import register


class _Merge(Layer):
    """Base: a list of at least two tensors (one for some), broadcast against each other."""

    at_least = 1

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape):
        if not isinstance(input_shape, list) or (input_shape and not isinstance(input_shape[0], (list, tuple))):
            raise ArgumentError(
                f"A merge layer should be called on a list of inputs. Received: input_shape={input_shape} (not a list)"
            )
        if len(input_shape) < self.at_least:
            raise ArgumentError(
                f"A merge layer should be called on a list of at least {self.at_least} input. "
                f"Received {len(input_shape)} inputs."
            )

    def call(self, inputs):
        if not isinstance(inputs, (list, tuple)):
            raise ArgumentError(f"A merge layer should be called on a list of inputs. Received: {inputs!r}")
        try:
            return self.merge([*inputs])
        except ValueError:  # ShapeError while tracing, NumPy's own when eager
            shapes = [shown_shape(x) for x in inputs]
            raise ShapeError(f"Inputs have incompatible shapes. Received shapes {shapes}") from None

    def merge(self, inputs):
        """Combine the list into one tensor."""
        raise NotImplementedError

    def compute_mask(self, inputs, previous_mask=None):
        masks = [m for m in previous_mask or [] if m is not None]
        if len(masks) < len(inputs):
            return None
        found = masks[0]
        for mask in masks[1:]:
            found = ops.logical_or(found, mask)
        return found


def _folded(function, inputs):
    result = inputs[0]
    for x in inputs[1:]:
        result = function(result, x)
    return result


@register
class Add(_Merge):
    """The sum of the inputs."""

    def merge(self, inputs):
        return _folded(ops.add, inputs)


@register
class Subtract(_Merge):
    """The first input minus the second."""

    at_least = 2

    def build(self, input_shape):
        super().build(input_shape)
        if len(input_shape) != 2:
            raise ArgumentError(
                f"A `Subtract` layer should be called on exactly 2 inputs. Received: input_shape={input_shape}"
            )

    def merge(self, inputs):
        if len(inputs) != 2:
            raise ArgumentError(f"A `Subtract` layer should be called on exactly 2 inputs. Received: {len(inputs)}")
        return ops.subtract(*inputs)


@register
class Multiply(_Merge):
    """The product of the inputs."""

    def merge(self, inputs):
        return _folded(ops.multiply, inputs)


@register
class Average(_Merge):
    """The mean of the inputs."""

    def merge(self, inputs):
        return ops.divide(_folded(ops.add, inputs), len(inputs))


@register
class Maximum(_Merge):
    """The largest of the inputs, element by element."""

    def merge(self, inputs):
        return _folded(ops.maximum, inputs)


@register
class Minimum(_Merge):
    """The smallest of the inputs, element by element."""

    def merge(self, inputs):
        return _folded(ops.minimum, inputs)


@register
class Concatenate(_Merge):
    """The inputs joined along `axis`."""

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def build(self, input_shape):
        super().build(input_shape)
        first = input_shape[0]
        for shape in input_shape[1:]:
            place = self.axis % len(first) if first else 0
            fits = len(shape) == len(first) and all(
                a is None or b is None or a == b or i == place for i, (a, b) in enumerate(zip(first, shape))
            )
            if not fits:
                raise ShapeError(
                    "A `Concatenate` layer requires inputs with matching shapes except for the concatenation axis. "
                    f"Received: input_shape={[tuple(s) for s in input_shape]}"
                )

    def merge(self, inputs):
        return ops.concatenate(inputs, axis=self.axis)

    def compute_mask(self, inputs, previous_mask=None):
        masks = previous_mask or []
        if all(m is None for m in masks):
            return None
        full = []
        for x, mask in zip(inputs, masks):
            if mask is None:
                full.append(ops.ones_like(x, dtype="bool"))
            elif len(mask.shape) < len(x.shape):
                full.append(ops.broadcast_to(ops.expand_dims(mask, -1), ops.shape(x)))
            else:
                full.append(mask)
        return ops.all(ops.concatenate(full, axis=self.axis), axis=-1)


@register
class Dot(_Merge):
    """Sum products over one axis of each of two inputs; `normalize` makes it the cosine."""

    at_least = 2

    def __init__(self, axes, normalize=False, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(axes, int) and (
            not isinstance(axes, (list, tuple)) or len(axes) != 2 or not all(isinstance(a, int) for a in axes)
        ):
            raise ArgumentError(f"Invalid format for Dot `axes`: an int or two ints. Received: axes={axes}")
        self.axes, self.normalize = axes, normalize

    def merge(self, inputs):
        if len(inputs) != 2:
            raise ArgumentError(f"A `Dot` layer should be called on exactly 2 inputs. Received: {len(inputs)}")
        a, b = inputs
        axes = (self.axes, self.axes) if isinstance(self.axes, int) else self.axes
        i, j = axes[0] % len(a.shape), axes[1] % len(b.shape)
        if self.normalize:
            a, b = ops.normalize(a, axis=i), ops.normalize(b, axis=j)
        letters = iter("abcdefghijklmnopqrstuvw")
        left = "".join("z" if n == i else "y" if n == 0 else next(letters) for n in range(len(a.shape)))
        right = "".join("z" if n == j else "y" if n == 0 else next(letters) for n in range(len(b.shape)))
        output = "y" + "".join(c for c in left + right if c not in "yz")
        result = ops.einsum(f"{left},{right}->{output}", a, b)
        return ops.expand_dims(result, -1) if len(output) == 1 else result

    def compute_mask(self, inputs, previous_mask=None):
        return None


def add(inputs, **kwargs):
    """Return the sum of a list of tensors."""
    return Add(**kwargs)(inputs)


def subtract(inputs, **kwargs):
    """Return the first tensor minus the second."""
    return Subtract(**kwargs)(inputs)


def multiply(inputs, **kwargs):
    """Return the product of a list of tensors."""
    return Multiply(**kwargs)(inputs)


def average(inputs, **kwargs):
    """Return the mean of a list of tensors."""
    return Average(**kwargs)(inputs)


def maximum(inputs, **kwargs):
    """Return the largest of a list of tensors, element by element."""
    return Maximum(**kwargs)(inputs)


def minimum(inputs, **kwargs):
    """Return the smallest of a list of tensors, element by element."""
    return Minimum(**kwargs)(inputs)


def concatenate(inputs, axis=-1, **kwargs):
    """Return a list of tensors joined along an axis."""
    return Concatenate(axis=axis, **kwargs)(inputs)


def dot(inputs, axes=-1, **kwargs):
    """Return the dot product of two tensors."""
    return Dot(axes=axes, **kwargs)(inputs)
