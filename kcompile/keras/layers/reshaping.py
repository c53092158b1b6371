"""Layers that rearrange, repeat, pad or crop."""

from __future__ import annotations

import math

from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir import dim
from kcompile.keras import config, ops
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.layer import Layer
from kcompile.keras.registry import register


@register
class Flatten(Layer):
    """[batch, ...] -> [batch, n]."""

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(min_ndim=1)

    def call(self, inputs):
        shape = ops.shape(inputs)
        if self.data_format == "channels_first" and len(shape) > 1:
            inputs = ops.transpose(inputs, (0, *range(2, len(shape)), 1))
        return ops.reshape(inputs, (shape[0], dim.product(shape[1:])))


@register
class Reshape(Layer):
    """[batch, ...] -> [batch, *target_shape]; one size may be -1."""

    def __init__(self, target_shape, **kwargs):
        super().__init__(**kwargs)
        self.target_shape = (target_shape,) if isinstance(target_shape, int) else tuple(target_shape)
        if sum(s in (-1, None) for s in self.target_shape) > 1:
            raise ArgumentError(
                f"The `target_shape` argument must not contain more than one -1. Received: {self.target_shape}"
            )

    def call(self, inputs):
        shape = ops.shape(inputs)
        have = dim.product(shape[1:])
        known = math.prod(s for s in self.target_shape if s not in (-1, None))
        open_size = any(s in (-1, None) for s in self.target_shape)
        fits = have % known == 0 if open_size and known else have == known
        if isinstance(have, int) and not fits:
            raise ShapeError(
                "The total size of the tensor must be unchanged. Received: "
                f"input_shape={tuple(shape[1:])}, target_shape={self.target_shape}"
            )
        rest = dim.floordiv(have, known) if known else 0
        return ops.reshape(inputs, (shape[0], *(rest if s in (-1, None) else s for s in self.target_shape)))


@register
class Permute(Layer):
    """Axes in the order `dims`, counted from 1; the batch stays first."""

    def __init__(self, dims, **kwargs):
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ArgumentError(
                "Invalid permutation argument `dims` for Permute Layer. The set of indices in `dims` must be "
                f"consecutive and start from 1. Received dims={dims}"
            )
        self.input_spec = InputSpec(ndim=len(self.dims) + 1)

    def call(self, inputs):
        return ops.transpose(inputs, (0, *self.dims))


@register
class RepeatVector(Layer):
    """[batch, features] -> [batch, n, features]."""

    def __init__(self, n, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(n, int):
            raise ArgumentError(f"Expected an integer value for `n`, got {type(n)}.")
        self.n = n
        self.input_spec = InputSpec(ndim=2)

    def call(self, inputs):
        batch, features = ops.shape(inputs)
        return ops.broadcast_to(ops.expand_dims(inputs, 1), (batch, self.n, features))


def _pairs(value, count: int, name: str) -> tuple[tuple[int, int], ...]:
    """Return (before, after) per axis from an int, one number per axis, or one pair per axis."""
    if isinstance(value, int):
        return ((value, value),) * count
    value = tuple(value)
    if count == 1 and len(value) == 2 and all(isinstance(v, int) for v in value):
        return (value,)
    if len(value) != count:
        raise ArgumentError(f"`{name}` should have {count} elements. Received: {name}={value}.")
    pairs = tuple((v, v) if isinstance(v, int) else tuple(v) for v in value)
    if any(len(p) != 2 or any(not isinstance(n, int) or n < 0 for n in p) for p in pairs):
        raise ArgumentError(f"`{name}` must hold non-negative integers or pairs of them. Received: {name}={value}.")
    return pairs


class _Spatial(Layer):
    """Base of layers over `rank` spatial axes with channels first or last."""

    rank: int

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    @property
    def first_axis(self) -> int:
        return 2 if self.data_format == "channels_first" else 1


class _ZeroPadding(_Spatial):
    def __init__(self, padding=1, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        self.padding = _pairs(padding, self.rank, "padding")
        self.padding = self.padding[0] if self.rank == 1 else self.padding

    def call(self, inputs):
        pairs = (self.padding,) if self.rank == 1 else self.padding
        return ops.pad(inputs, _all_axes(pairs, self.first_axis))


class _Cropping(_Spatial):
    def __init__(self, cropping=1, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        self.cropping = _pairs(cropping, self.rank, "cropping")
        self.cropping = self.cropping[0] if self.rank == 1 else self.cropping

    def call(self, inputs):
        pairs = (self.cropping,) if self.rank == 1 else self.cropping
        shape = ops.shape(inputs)
        for (low, high), size in zip(pairs, shape[self.first_axis :]):
            if isinstance(size, int) and low + high >= size:
                raise ShapeError(
                    "Values in `cropping` argument should be smaller than the corresponding spatial dimension of the "
                    f"input. Received: input shape {tuple(shape)}, cropping={self.cropping}"
                )
        cuts = _all_axes(pairs, self.first_axis)
        sizes = [s - low - high for s, (low, high) in zip(shape, cuts)]
        return ops.slice(inputs, [low for low, _ in cuts], sizes)


def _all_axes(pairs, first_axis: int) -> list[tuple[int, int]]:
    """Return one pair per axis of the inputs: (0, 0) for the batch and the channels."""
    after = [] if first_axis == 2 else [(0, 0)]
    return [(0, 0)] * first_axis + [tuple(p) for p in pairs] + after


@register
class ZeroPadding1D(_ZeroPadding):
    """Zeros at the ends of the time axis."""

    rank = 1


@register
class ZeroPadding2D(_ZeroPadding):
    """Zeros around images: an int, (rows, columns), or ((top, bottom), (left, right))."""

    rank = 2

    def __init__(self, padding=(1, 1), data_format=None, **kwargs):
        super().__init__(padding, data_format, **kwargs)


@register
class ZeroPadding3D(_ZeroPadding):
    """Zeros around volumes."""

    rank = 3

    def __init__(self, padding=((1, 1), (1, 1), (1, 1)), data_format=None, **kwargs):
        super().__init__(padding, data_format, **kwargs)


@register
class Cropping1D(_Cropping):
    """Cut the ends of the time axis."""

    rank = 1

    def __init__(self, cropping=(1, 1), **kwargs):
        super().__init__(cropping, kwargs.pop("data_format", "channels_last"), **kwargs)

    def get_config(self):
        config = super().get_config()
        config.pop("data_format", None)
        return config


@register
class Cropping2D(_Cropping):
    """Cut the edges of images."""

    rank = 2

    def __init__(self, cropping=((0, 0), (0, 0)), data_format=None, **kwargs):
        super().__init__(cropping, data_format, **kwargs)


@register
class Cropping3D(_Cropping):
    """Cut the edges of volumes."""

    rank = 3

    def __init__(self, cropping=((1, 1), (1, 1), (1, 1)), data_format=None, **kwargs):
        super().__init__(cropping, data_format, **kwargs)


class _UpSampling(_Spatial):
    def __init__(self, size=2, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        self.size = (size,) * self.rank if isinstance(size, int) else tuple(size)
        if len(self.size) != self.rank:
            raise ArgumentError(f"The `size` argument must have {self.rank} elements. Received: size={size}")

    def call(self, inputs):
        x = inputs
        for offset, times in enumerate(self.size):
            x = ops.repeat(x, times, axis=self.first_axis + offset) if times > 1 else x
        return x


@register
class UpSampling1D(_UpSampling):
    """Repeat each timestep `size` times."""

    rank = 1

    def __init__(self, size=2, **kwargs):
        super().__init__(size, "channels_last", **kwargs)
        self.size = self.size[0]

    def call(self, inputs):
        return ops.repeat(inputs, self.size, axis=1)

    def get_config(self):
        config = super().get_config()
        config.pop("data_format", None)
        return config


@register
class UpSampling3D(_UpSampling):
    """Repeat each voxel."""

    rank = 3

    def __init__(self, size=(2, 2, 2), data_format=None, **kwargs):
        super().__init__(size, data_format, **kwargs)


@register
class UpSampling2D(_UpSampling):
    """Repeat each pixel, or interpolate linearly between them."""

    rank = 2

    def __init__(self, size=(2, 2), data_format=None, interpolation="nearest", **kwargs):
        super().__init__(size, data_format, **kwargs)
        known = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
        if interpolation not in known:
            raise ArgumentError(f"`interpolation` argument should be one of {known}. Received: {interpolation!r}")
        self.interpolation = interpolation

    def call(self, inputs):
        if self.interpolation == "nearest":
            return super().call(inputs)
        if self.interpolation != "bilinear":
            sizes = [n * t for n, t in zip(ops.shape(inputs)[self.first_axis :], self.size)]
            return ops.image.resize(inputs, sizes, self.interpolation, data_format=self.data_format)
        x = inputs
        for offset, times in enumerate(self.size):
            x = _linear(x, self.first_axis + offset, times) if times > 1 else x
        return x


def _linear(x, axis: int, times: int):
    """Sample an axis `times` as densely, between the centres of its elements; edges are held.

    New element n·times + p lies at n + (p + 0.5) / times - 0.5: between n and a neighbour.
    """
    size = ops.shape(x)[axis]
    before = ops.concatenate([_part(x, axis, 0, 1), _part(x, axis, 0, size - 1)], axis=axis)
    after = ops.concatenate([_part(x, axis, 1, size - 1), _part(x, axis, size - 1, 1)], axis=axis)
    phases = []
    for p in range(times):
        place = (p + 0.5) / times - 0.5
        other, share = (after, place) if place >= 0 else (before, -place)
        phases.append(x * (1 - share) + other * share)
    joined = ops.stack(phases, axis=axis + 1)
    shape = ops.shape(x)
    return ops.reshape(joined, (*shape[:axis], size * times, *shape[axis + 1 :]))


def _part(x, axis: int, start, length):
    shape = ops.shape(x)
    starts = [start if i == axis else 0 for i in range(len(shape))]
    return ops.slice(x, starts, [length if i == axis else s for i, s in enumerate(shape)])
