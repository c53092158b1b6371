"""Random initializers. A given seed fixes the numbers of every call; without one each call draws anew."""

from __future__ import annotations

import math

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras.initializers.initializer import Initializer
from kcompile.keras.random.seeds import initializer_generator
from kcompile.keras.registry import register

TRUNCATED_STDDEV = 0.87962566103423978  # standard deviation of a unit normal cut at ±2


class RandomInitializer(Initializer):
    """Base of initializers with a `seed`: an int, a SeedGenerator, or None."""

    def __init__(self, seed=None):
        self.seed = seed

    def generator(self) -> np.random.Generator:
        """Return the stream this call draws from."""
        return initializer_generator(self.seed)


def _truncated(rng: np.random.Generator, shape) -> np.ndarray:
    """Unit normal numbers within ±2: those outside are drawn again."""
    found = rng.standard_normal(shape)
    outside = np.abs(found) > 2
    while outside.any():
        found[outside] = rng.standard_normal(int(outside.sum()))
        outside = np.abs(found) > 2
    return found


@register(aliases=("normal",))
class RandomNormal(RandomInitializer):
    """Normal numbers."""

    def __init__(self, mean=0.0, stddev=0.05, seed=None):
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def values(self, shape):
        return self.mean + self.stddev * self.generator().standard_normal(shape)


@register
class TruncatedNormal(RandomInitializer):
    """Normal numbers, those more than two standard deviations away drawn again."""

    def __init__(self, mean=0.0, stddev=0.05, seed=None):
        super().__init__(seed)
        self.mean, self.stddev = mean, stddev

    def values(self, shape):
        return self.mean + self.stddev * _truncated(self.generator(), shape)


@register(aliases=("uniform",))
class RandomUniform(RandomInitializer):
    """Uniform numbers between minval and maxval."""

    def __init__(self, minval=-0.05, maxval=0.05, seed=None):
        super().__init__(seed)
        self.minval, self.maxval = minval, maxval

    def values(self, shape):
        return self.generator().uniform(self.minval, self.maxval, shape)


def fans(shape: tuple[int, ...], input_axes=None, output_axes=None) -> tuple[float, float]:
    """Return (fan in, fan out) of a kernel [*window, in, out], or the products of the given axes."""
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[a] for a in input_axes), math.prod(shape[a] for a in output_axes)
    if len(shape) < 1:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    window = math.prod(shape[:-2])
    return shape[-2] * window, shape[-1] * window


@register
class VarianceScaling(RandomInitializer):
    """Random numbers of variance scale / n, with n the fan in, the fan out or their mean.

    Source: Glorot, Bengio 2010; He et al. 2015.
    """

    def __init__(
        self,
        scale=1.0,
        mode="fan_in",
        distribution="truncated_normal",
        seed=None,
        input_axes=None,
        output_axes=None,
    ):
        super().__init__(seed)
        self.input_axes, self.output_axes = input_axes, output_axes
        if scale <= 0.0:
            raise ArgumentError(f"Argument `scale` must be positive float. Received: scale={scale}")
        modes = ("fan_in", "fan_out", "fan_avg")
        if mode not in modes:
            raise ArgumentError(f"Invalid `mode` argument: {mode}. Please use one of {modes}")
        kinds = ("uniform", "truncated_normal", "untruncated_normal")
        distribution = "truncated_normal" if str(distribution).lower() == "normal" else str(distribution).lower()
        if distribution not in kinds:
            raise ArgumentError(f"Invalid `distribution` argument: {distribution}. Please use one of {kinds}")
        self.scale, self.mode, self.distribution = scale, mode, distribution

    def values(self, shape):
        fan_in, fan_out = fans(shape, self.input_axes, self.output_axes)
        count = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, count)
        rng = self.generator()
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return rng.uniform(-limit, limit, shape)
        if self.distribution == "truncated_normal":
            return math.sqrt(variance) / TRUNCATED_STDDEV * _truncated(rng, shape)
        return math.sqrt(variance) * rng.standard_normal(shape)

    def get_config(self):
        config = super().get_config()
        unused = ("input_axes", "output_axes")  # written only if given: older Keras does not know them
        return {k: v for k, v in config.items() if k not in unused or v is not None}


class _Scaled(VarianceScaling):
    """A VarianceScaling with fixed settings."""

    settings: tuple[float, str, str]

    def __init__(self, seed=None, input_axes=None, output_axes=None):
        super().__init__(*self.settings, seed=seed, input_axes=input_axes, output_axes=output_axes)


@register
class GlorotUniform(_Scaled):
    """Uniform within ±√(6 / (fan in + fan out)). Source: Glorot, Bengio 2010."""

    settings = (1.0, "fan_avg", "uniform")


@register
class GlorotNormal(_Scaled):
    """Truncated normal of variance 2 / (fan in + fan out). Source: Glorot, Bengio 2010."""

    settings = (1.0, "fan_avg", "truncated_normal")


@register
class HeUniform(_Scaled):
    """Uniform within ±√(6 / fan in). Source: He et al. 2015."""

    settings = (2.0, "fan_in", "uniform")


@register
class HeNormal(_Scaled):
    """Truncated normal of variance 2 / fan in. Source: He et al. 2015."""

    settings = (2.0, "fan_in", "truncated_normal")


@register
class LecunUniform(_Scaled):
    """Uniform within ±√(3 / fan in). Source: LeCun et al. 1998."""

    settings = (1.0, "fan_in", "uniform")


@register
class LecunNormal(_Scaled):
    """Truncated normal of variance 1 / fan in. Source: Klambauer et al. 2017."""

    settings = (1.0, "fan_in", "truncated_normal")


@register(aliases=("OrthogonalInitializer",))
class Orthogonal(RandomInitializer):
    """A random orthogonal matrix times `gain` (leading axes flattened). Source: Saxe et al. 2014."""

    def __init__(self, gain=1.0, seed=None):
        super().__init__(seed)
        self.gain = gain

    def values(self, shape):
        if len(shape) < 2:
            raise ArgumentError(
                "The tensor to initialize must be at least two-dimensional. "
                f"Received: shape={shape} of rank {len(shape)}."
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(self.generator().standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))  # makes the factorisation, and so the distribution, unique
        return self.gain * (q if rows >= columns else q.T).reshape(shape)
