"""Random rotation, translation and zoom: one affine map per image, from places of the result to places of the image.

A map is (a0, a1, a2, b0, b1, b2, 0, 0): the result at (x, y) is the image at (a0 x + a1 y + a2, b0 x + b1 y + b2).
"""

from __future__ import annotations

import math

from kcompile.errors import NotSupportedError
from kcompile.keras import ops, random
from kcompile.keras.layers.preprocessing.images import RandomImageLayer, bounds
from kcompile.keras.registry import register

_FILL = ("reflect", "wrap", "constant", "nearest")
_INTERPOLATION = ("nearest", "bilinear")


class _Warp(RandomImageLayer):
    """Base: subclasses give the six numbers of the maps, each [images] or a number."""

    def __init__(self, fill_mode, interpolation, seed, fill_value, data_format, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        if fill_mode not in _FILL:
            raise NotSupportedError(f"Unknown `fill_mode` {fill_mode}. Expected of one {_FILL}.")
        if interpolation not in _INTERPOLATION:
            raise NotSupportedError(f"Unknown `interpolation` {interpolation}. Expected of one {_INTERPOLATION}.")
        self.fill_mode, self.interpolation, self.fill_value = fill_mode, interpolation, fill_value

    def numbers(self, count, low: float, high: float):
        """Return one random number per image."""
        return random.uniform((count,), low, high, "float32", self.generator)

    def randomly_changed(self, images):
        is_one = len(images.shape) == 3
        x = ops.expand_dims(images, 0) if is_one else images
        count = ops.shape(x)[0]
        height, width = (float(n) if isinstance(n, int) else ops.cast(n, "float32") for n in self.sizes(x))
        parts = [*self.maps(count, height, width), 0.0, 0.0]
        filled = [ops.full((count,), p, "float32") if isinstance(p, float) else p for p in parts]
        x = ops.image.affine_transform(
            x,
            ops.stack(filled, axis=1),
            interpolation=self.interpolation,
            fill_mode=self.fill_mode,
            fill_value=self.fill_value,
            data_format=self.data_format,
        )
        x = ops.cast(x, self.compute_dtype)
        return ops.squeeze(x, 0) if is_one else x


@register
class RandomRotation(_Warp):
    """Turn each image about its middle by a random share, within `factor`, of a whole turn."""

    def __init__(
        self,
        factor,
        fill_mode="reflect",
        interpolation="bilinear",
        seed=None,
        fill_value=0.0,
        data_format=None,
        **kwargs,
    ):
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.factor = bounds(factor)

    def maps(self, count, height, width):
        angle = self.numbers(count, *self.factor) * (2 * math.pi)
        cos, sin = ops.cos(angle), ops.sin(angle)
        x, y = (width - 1) / 2, (height - 1) / 2
        return cos, -sin, x - x * cos + y * sin, sin, cos, y - x * sin - y * cos


@register
class RandomTranslation(_Warp):
    """Move each image by random shares of its height and width."""

    def __init__(
        self,
        height_factor,
        width_factor,
        fill_mode="reflect",
        interpolation="bilinear",
        seed=None,
        fill_value=0.0,
        data_format=None,
        **kwargs,
    ):
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor, self.width_factor = height_factor, width_factor
        self._height = bounds(height_factor, "height_factor")
        self._width = bounds(width_factor, "width_factor")

    def maps(self, count, height, width):
        down = self.numbers(count, *self._height) * height
        right = self.numbers(count, *self._width) * width
        return 1.0, 0.0, -right, 0.0, 1.0, -down


@register
class RandomZoom(_Warp):
    """Zoom each image out (factors above 0) or in, about its middle; one factor for both axes unless two are given."""

    def __init__(
        self,
        height_factor,
        width_factor=None,
        fill_mode="reflect",
        interpolation="bilinear",
        seed=None,
        fill_value=0.0,
        data_format=None,
        **kwargs,
    ):
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.height_factor, self.width_factor = height_factor, width_factor
        self._height = bounds(height_factor, "height_factor")
        self._width = None if width_factor is None else bounds(width_factor, "width_factor")

    def maps(self, count, height, width):
        tall = self.numbers(count, 1.0 + self._height[0], 1.0 + self._height[1])
        wide = tall if self._width is None else self.numbers(count, 1.0 + self._width[0], 1.0 + self._width[1])
        return wide, 0.0, (width - 1) / 2 * (1 - wide), 0.0, tall, (height - 1) / 2 * (1 - tall)
