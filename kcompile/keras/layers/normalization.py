"""Normalisation: statistics over the batch, or over the features of each example."""

from __future__ import annotations

from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.keras import constraints, initializers, ops, regularizers
from kcompile.keras.layers import renormalization
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.layer import Layer
from kcompile.keras.registry import register

_INSTEAD = {
    "virtual_batch_size": "train with smaller batches, or use GroupNormalization",
    "adjustment": "scale and shift the result in a layer of your own",
}


@register
class BatchNormalization(Layer):
    """Scale each feature to mean beta and deviation gamma: by the batch in training, else by moving averages.

    Shapes:  any -> same; features along `axis`.
    Weights: gamma, beta (trainable), moving_mean, moving_variance.
    Source:  Ioffe, Szegedy 2015.
    """

    def __init__(
        self,
        axis=-1,
        momentum=0.99,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        moving_mean_initializer="zeros",
        moving_variance_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        synchronized=False,
        renorm=False,
        renorm_clipping=None,
        renorm_momentum=0.99,
        **kwargs,
    ):
        kwargs.pop("fused", None)  # how, not what
        for missing in ("virtual_batch_size", "adjustment"):
            if kwargs.pop(missing, None) is not None:
                raise NotSupportedError(
                    f"BatchNormalization({missing}=...) of layer {kwargs.get('name')!r} is missing from kcompile, as "
                    "from Keras 3; " + _INSTEAD[missing]
                )
        super().__init__(**kwargs)
        self.axis = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
        if not isinstance(self.axis, int):
            raise ArgumentError(f"BatchNormalization expects an integer `axis`. Received: axis={axis}")
        self.momentum, self.epsilon = float(momentum), float(epsilon)
        self.center, self.scale, self.synchronized = center, scale, synchronized  # one process: always synchronized
        self.renorm, self.renorm_momentum = bool(renorm), renorm_momentum
        self.renorm_clipping = renormalization.checked_bounds(renorm_clipping) if renorm else renorm_clipping
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.supports_masking = True
        self.gamma = self.beta = None

    def build(self, input_shape):
        if not -len(input_shape) <= self.axis < len(input_shape):
            raise ShapeError(
                f"BatchNormalization layer {self.name!r}: axis={self.axis} is none of an input of shape "
                f"{tuple(input_shape)}"
            )
        shape = (input_shape[self.axis],)
        if shape[0] is None:
            raise ArgumentError(
                f"BatchNormalization needs a known size along axis {self.axis}, received shape {tuple(input_shape)}"
            )
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: shape[0]})
        if self.scale:
            self.gamma = self.add_weight(
                shape=shape,
                name="gamma",
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
            )
        if self.center:
            self.beta = self.add_weight(
                shape=shape,
                name="beta",
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
            )
        self.moving_mean = self.add_weight(
            shape=shape, name="moving_mean", initializer=self.moving_mean_initializer, trainable=False
        )
        self.moving_variance = self.add_weight(
            shape=shape, name="moving_variance", initializer=self.moving_variance_initializer, trainable=False
        )
        if self.renorm:
            renormalization.add_averages(self, shape)

    def call(self, inputs, training=None, mask=None):
        place = self.axis % len(inputs.shape)
        if training and self.trainable:
            mean, variance = self._statistics(inputs, [a for a in range(len(inputs.shape)) if a != place], mask)
            if self.renorm:
                return self._renormalized(inputs, mean, variance, place)
            self.move(self.moving_mean, mean)
            self.move(self.moving_variance, variance)
        else:
            mean, variance = self.moving_mean, self.moving_variance
        return ops.batch_normalization(
            inputs, mean, variance, axis=place, offset=self.beta, scale=self.gamma, epsilon=self.epsilon
        )

    def _renormalized(self, inputs, mean, variance, place):
        r, d = renormalization.corrections(self, mean, variance)
        renormalization.update(self, mean, variance)
        flat = ops.batch_normalization(inputs, mean, variance, axis=place, epsilon=self.epsilon) * r + d
        for weight, apply in ((self.gamma, ops.multiply), (self.beta, ops.add)):
            flat = flat if weight is None else apply(flat, ops.reshape(weight, mean.shape))
        return ops.cast(flat, self.compute_dtype)

    def move(self, average, value, momentum=None):
        """Move a running average a little towards `value`; returns where it is then."""
        momentum = self.momentum if momentum is None else momentum
        moved = average * momentum + ops.reshape(value, average.shape) * (1.0 - momentum)
        average.assign(moved)
        return moved

    def _statistics(self, inputs, axes, mask):
        """Return mean and variance over `axes`, which are kept as size 1."""
        if mask is None:
            return ops.moments(inputs, axes, keepdims=True)
        weights = ops.cast(mask, ops.dtype(inputs))
        weights = ops.reshape(weights, (*ops.shape(weights), *(1,) * (len(inputs.shape) - len(mask.shape))))
        weights = ops.broadcast_to(weights, (*ops.shape(inputs)[:-1], 1))
        count = ops.sum(weights, axis=axes, keepdims=True) + 1e-7
        mean = ops.sum(weights * inputs, axis=axes, keepdims=True) / count
        variance = ops.sum(weights * ops.square(inputs - mean), axis=axes, keepdims=True) / count
        return mean, variance


@register
class LayerNormalization(Layer):
    """Scale the features of each example to mean beta and deviation gamma.

    Shapes:  any -> same; features along `axis` (one or several).
    Weights: gamma, beta, of the sizes along `axis`.
    Source:  Ba, Kiros, Hinton 2016.
    """

    def __init__(
        self,
        axis=-1,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        rms_scaling=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.rms_scaling = bool(rms_scaling)  # as Keras has it: divides by the deviation, subtracts no mean
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else axis
        self.epsilon, self.center, self.scale = epsilon, center, scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.supports_masking = True
        self.gamma = self.beta = None

    def build(self, input_shape):
        axes = self.axis if isinstance(self.axis, list) else [self.axis]
        places = sorted(a % len(input_shape) for a in axes)
        shape = tuple(input_shape[a] for a in places)
        if None in shape:
            raise ArgumentError(
                f"LayerNormalization needs known sizes along axis {self.axis}, received shape {tuple(input_shape)}"
            )
        self.input_spec = InputSpec(ndim=len(input_shape), axes=dict(zip(places, shape)))
        if self.scale or self.rms_scaling:
            self.gamma = self.add_weight(
                name="gamma",
                shape=shape,
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
            )
        if self.center and not self.rms_scaling:
            self.beta = self.add_weight(
                name="beta",
                shape=shape,
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
            )

    def call(self, inputs):
        if self.rms_scaling:
            return self._scaled(inputs)
        return ops.layer_normalization(inputs, self.gamma, self.beta, axis=self.axis, epsilon=self.epsilon)

    def _scaled(self, inputs):
        axes = self.axis if isinstance(self.axis, list) else [self.axis]
        places = {a % len(inputs.shape) for a in axes}
        spread = tuple(s if a in places else 1 for a, s in enumerate(inputs.shape))
        x = ops.cast(inputs, ops.result_type(inputs.dtype, "float32"))
        x = x * ops.rsqrt(ops.var(x, axis=sorted(places), keepdims=True) + self.epsilon)
        return ops.cast(x * ops.cast(ops.reshape(self.gamma, spread), x.dtype), self.compute_dtype)


@register
class UnitNormalization(Layer):
    """Scale vectors along `axis` to length 1."""

    def __init__(self, axis=-1, **kwargs):
        super().__init__(**kwargs)
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else axis
        self.supports_masking = True

    def call(self, inputs):
        return ops.normalize(inputs, axis=self.axis, order=2, epsilon=1e-12)


@register
class GroupNormalization(Layer):
    """Scale groups of channels of each example to mean beta and deviation gamma.

    Args:    groups: how many; -1 makes each channel a group (instance normalisation).
    Shapes:  any -> same; channels along `axis`.
    Weights: gamma, beta, one number per channel.
    Source:  Wu, He 2018.
    """

    def __init__(
        self,
        groups=32,
        axis=-1,
        epsilon=1e-3,
        center=True,
        scale=True,
        beta_initializer="zeros",
        gamma_initializer="ones",
        beta_regularizer=None,
        gamma_regularizer=None,
        beta_constraint=None,
        gamma_constraint=None,
        **kwargs,
    ):
        if not isinstance(groups, int) or (groups <= 0 and groups != -1):
            raise ArgumentError(
                "Received an invalid value for argument `groups`, expected a positive integer (or `-1` for instance "
                f"normalization). Received: groups={groups}"
            )
        super().__init__(**kwargs)
        self.groups, self.axis, self.epsilon = groups, axis, epsilon
        self.center, self.scale = center, scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.supports_masking = True
        self.autocast = False  # statistics are float32 at least
        self.gamma = self.beta = None

    def build(self, input_shape):
        channels = input_shape[self.axis]
        if channels is None:
            raise ArgumentError(
                f"Axis {self.axis} of input tensor should have a defined dimension but the layer received an input "
                f"with shape {tuple(input_shape)}."
            )
        if self.groups == -1:
            self.groups = channels
        if channels % self.groups:
            raise ArgumentError(
                f"The number of channels ({channels}) must be a multiple of the number of groups ({self.groups})."
            )
        self.input_spec = InputSpec(ndim=len(input_shape), axes={self.axis: channels})
        if self.scale:
            self.gamma = self.add_weight(
                name="gamma",
                shape=(channels,),
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
                autocast=False,
            )
        if self.center:
            self.beta = self.add_weight(
                name="beta",
                shape=(channels,),
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
                autocast=False,
            )

    def call(self, inputs):
        shape, place = ops.shape(inputs), self.axis % len(inputs.shape)
        size = shape[place] // self.groups
        x = ops.cast(inputs, ops.result_type(inputs.dtype, "float32"))
        x = ops.reshape(x, (*shape[:place], self.groups, size, *shape[place + 1 :]))
        axes = [a for a in range(1, len(shape) + 1) if a != place]
        spread = tuple(s if a in (place, place + 1) else 1 for a, s in enumerate(x.shape))
        mean, variance = ops.moments(x, axes, keepdims=True)
        x = (x - mean) * ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            x = x * ops.cast(ops.reshape(self.gamma, spread), ops.dtype(x))
        if self.beta is not None:
            x = x + ops.cast(ops.reshape(self.beta, spread), ops.dtype(x))
        return ops.cast(ops.reshape(x, shape), self.compute_dtype)

    def get_config(self):
        config = super().get_config()
        config.pop("autocast", None)
        return config


@register
class RMSNormalization(Layer):
    """Divide by the root of the mean square along `axis`, then scale.

    Weights: scale, of the sizes along `axis`.
    Source:  Zhang, Sennrich 2019.
    """

    def __init__(self, axis=-1, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.axis = list(axis) if isinstance(axis, (list, tuple)) else axis
        self.epsilon = epsilon

    def build(self, input_shape):
        self.axis = sorted(self.axis) if isinstance(self.axis, list) else [self.axis]
        self.scale = self.add_weight(name="scale", shape=[input_shape[a] for a in self.axis], initializer="ones")

    def call(self, x):
        places = {a % len(x.shape) for a in self.axis}
        spread = tuple(s if a in places else 1 for a, s in enumerate(x.shape))
        scale = ops.reshape(self.scale, spread)
        return ops.rms_normalization(x, scale=scale, axis=self.axis, epsilon=self.epsilon)
