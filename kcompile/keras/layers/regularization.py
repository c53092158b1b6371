"""Noise that acts in training only, and penalties on activations."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras import config, ops, random, regularizers
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.layer import Layer
from kcompile.keras.registry import register


class _Noise(Layer):
    """Base: a seed generator and a rate in 0..1."""

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True

    def set_rate(self, rate) -> None:
        if not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
            raise ArgumentError(
                "Invalid value received for argument `rate`. Expected a float value between 0 and 1. "
                f"Received: rate={rate}"
            )
        self.rate = rate


@register
class Dropout(_Noise):
    """Zero each element with probability `rate` and scale the others by 1 / (1 - rate); training only.

    Source: Srivastava et al. 2014.
    """

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.set_rate(rate)
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)

    def call(self, inputs, training=False):
        if training and self.rate > 0:
            return random.dropout(inputs, self.rate, noise_shape=self.noise_shape, seed=self.seed_generator)
        return inputs


class _SpatialDropout(Dropout):
    """Drop whole feature maps."""

    rank: int

    def __init__(self, rate, data_format=None, seed=None, name=None, dtype=None, **kwargs):
        super().__init__(rate, seed=seed, name=name, dtype=dtype, **kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def call(self, inputs, training=False):
        ones = (1,) * self.rank
        first = self.data_format == "channels_first"
        self.noise_shape = (None, None, *ones) if first else (None, *ones, None)
        return super().call(inputs, training=training)

    def get_config(self):
        found = super().get_config()
        unknown = ("noise_shape", "trainable", *(("data_format",) if self.rank == 1 else ()))  # to Keras's constructor
        return {k: v for k, v in found.items() if k not in unknown}


@register
class SpatialDropout1D(_SpatialDropout):
    """Drop whole features of a sequence."""

    rank = 1


@register
class SpatialDropout2D(_SpatialDropout):
    """Drop whole feature maps of an image."""

    rank = 2


@register
class SpatialDropout3D(_SpatialDropout):
    """Drop whole feature maps of a volume."""

    rank = 3


@register
class GaussianNoise(_Noise):
    """Add normal noise of mean 0; training only."""

    def __init__(self, stddev, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        if not 0 <= stddev <= 1:
            raise ArgumentError(f"Invalid value received for argument `stddev`, expected 0..1. Received: {stddev}")
        self.stddev = stddev

    def call(self, inputs, training=False):
        if training and self.stddev > 0:
            noise = random.normal(ops.shape(inputs), 0.0, self.stddev, ops.dtype(inputs), self.seed_generator)
            return inputs + noise
        return inputs


@register
class GaussianDropout(_Noise):
    """Multiply by normal noise of mean 1 and deviation √(rate / (1 - rate)); training only."""

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.set_rate(rate)

    def call(self, inputs, training=False):
        if training and self.rate > 0:
            stddev = (self.rate / (1.0 - self.rate)) ** 0.5
            return inputs * random.normal(ops.shape(inputs), 1.0, stddev, ops.dtype(inputs), self.seed_generator)
        return inputs


@register
class AlphaDropout(_Noise):
    """Dropout that keeps mean and variance of selu activations; training only. Source: Klambauer et al. 2017."""

    def __init__(self, rate, noise_shape=None, seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.set_rate(rate)
        self.noise_shape = noise_shape

    def call(self, inputs, training=False):
        if not training or self.rate <= 0:
            return inputs
        low = -1.6732632423543772 * 1.0507009873554805  # selu's limit at -infinity
        shape = ops.shape(inputs)
        noise = shape if self.noise_shape is None else [s if n is None else n for n, s in zip(self.noise_shape, shape)]
        kept = ops.cast(
            ops.greater_equal(random.uniform(noise, seed=self.seed_generator), self.rate), ops.dtype(inputs)
        )
        a = ((1 - self.rate) * (1 + self.rate * low**2)) ** -0.5
        b = -a * low * self.rate
        return a * (inputs * kept + low * (1 - kept)) + b


@register
class ActivityRegularization(Layer):
    """The inputs, with an L1 and L2 penalty on them added to the loss."""

    def __init__(self, l1=0.0, l2=0.0, **kwargs):
        super().__init__(activity_regularizer=regularizers.L1L2(l1, l2), **kwargs)
        self.l1, self.l2 = l1, l2
        self.supports_masking = True

    def call(self, inputs):
        return inputs

    def get_config(self):
        found = super().get_config()
        found.pop("activity_regularizer", None)
        return found
