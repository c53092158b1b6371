"""Activation functions as layers, with their settings as arguments."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras import activations, constraints, initializers, ops, regularizers
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.layer import Layer
from kcompile.keras.registry import register


class _Elementwise(Layer):
    """Base: any shape -> the same; masks pass through."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True


@register
class ReLU(_Elementwise):
    """max(x, 0); optionally cut at max_value, with a slope below `threshold`."""

    def __init__(self, max_value=None, negative_slope=0.0, threshold=0.0, **kwargs):
        super().__init__(**kwargs)
        numbers = {"max_value": max_value or 0, "negative_slope": negative_slope, "threshold": threshold}
        for name, value in numbers.items():
            if value is None or value < 0:
                raise ArgumentError(f"{name} of a ReLU layer cannot be a negative value. Received: {name}={value}")
        self.max_value, self.negative_slope, self.threshold = max_value, negative_slope, threshold

    def call(self, inputs):
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


@register
class LeakyReLU(_Elementwise):
    """x for x >= 0 and negative_slope · x below; `alpha` is the older name of the slope."""

    def __init__(self, negative_slope=0.3, **kwargs):
        if "alpha" in kwargs:
            negative_slope = kwargs.pop("alpha")
        super().__init__(**kwargs)
        if negative_slope is None or negative_slope < 0:
            raise ArgumentError(
                "The negative_slope value of a Leaky ReLU layer cannot be None or negative value. "
                f"Expected a float. Received: negative_slope={negative_slope}"
            )
        self.negative_slope = negative_slope

    def call(self, inputs):
        return activations.leaky_relu(inputs, negative_slope=self.negative_slope)


@register
class ELU(_Elementwise):
    """x for x >= 0 and alpha · (eˣ - 1) below."""

    def __init__(self, alpha=1.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs):
        return activations.elu(inputs, alpha=self.alpha)


@register
class ThresholdedReLU(_Elementwise):
    """x where x > theta, else 0."""

    def __init__(self, theta=1.0, **kwargs):
        super().__init__(**kwargs)
        if theta is None or theta < 0:
            raise ArgumentError(f"Theta of a Thresholded ReLU layer cannot be None or negative. Received: {theta}")
        self.theta = float(theta)

    def call(self, inputs):
        return ops.threshold(inputs, self.theta, 0.0)


@register
class Softmax(_Elementwise):
    """eˣ / Σ eˣ along an axis (or several); elements whose mask is false get no share."""

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs, mask=None):
        if mask is None:
            return ops.softmax(inputs, axis=self.axis)
        if ops.dtype(mask) != "bool":
            mask = ops.greater(mask, 0.5)
        inputs = ops.where(mask, inputs, -3e4 if ops.dtype(inputs) == "float16" else -1e9)
        return ops.where(mask, ops.softmax(inputs, axis=self.axis), 0.0)  # zeros where a whole row is masked


@register
class PReLU(_Elementwise):
    """x for x >= 0 and alpha · x below, with a learned slope per feature. Source: He et al. 2015.

    Weights: alpha, of the input's shape without the batch, 1 along `shared_axes`.
    """

    def __init__(
        self, alpha_initializer="Zeros", alpha_regularizer=None, alpha_constraint=None, shared_axes=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.alpha_initializer = initializers.get(alpha_initializer)
        self.alpha_regularizer = regularizers.get(alpha_regularizer)
        self.alpha_constraint = constraints.get(alpha_constraint)
        self.shared_axes = None
        if shared_axes is not None:
            self.shared_axes = list(shared_axes) if isinstance(shared_axes, (list, tuple)) else [shared_axes]

    def build(self, input_shape):
        shape = list(input_shape[1:])
        for axis in self.shared_axes or ():
            shape[axis - 1] = 1
        self.alpha = self.add_weight(
            name="alpha",
            shape=shape,
            initializer=self.alpha_initializer,
            regularizer=self.alpha_regularizer,
            constraint=self.alpha_constraint,
        )
        fixed = {i: n for i, n in enumerate(input_shape) if i and i not in (self.shared_axes or ())}
        self.input_spec = InputSpec(ndim=len(input_shape), axes=fixed)

    def call(self, inputs):
        above = ops.relu(inputs)
        return above - self.alpha * ops.relu(-inputs)
