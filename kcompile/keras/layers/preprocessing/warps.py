"""Layers that bend images: every pixel of the result is looked up at a place of the image.

An affine map is (a0, a1, a2, b0, b1, b2, 0, 0): the result at (x, y) is the image at (a0 x + a1 y + a2, b0 x + b1 y +
b2). Corners of boxes go the other way, through its inverse.
"""

from __future__ import annotations

import math

from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras import ops, random
from kcompile.keras.layers.preprocessing.image_layer import RandomImageLayer, bounds, per_pixel
from kcompile.keras.ops.function import tensor
from kcompile.keras.ops.image.elastic import elastic
from kcompile.keras.ops.image.warping import homography
from kcompile.keras.registry import register

_FILL = ("reflect", "wrap", "constant", "nearest")
_INTERPOLATION = ("nearest", "bilinear")


class _Warp(RandomImageLayer):
    """Base: subclasses give `warped(images, transformation, interpolation)`."""

    fills: tuple[str, ...] = _FILL

    def __init__(self, fill_mode, interpolation, seed, fill_value, data_format, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        if fill_mode not in self.fills:
            raise NotSupportedError(f"Unknown `fill_mode` {fill_mode}. Expected of one {self.fills}.")
        if interpolation not in _INTERPOLATION:
            raise NotSupportedError(f"Unknown `interpolation` {interpolation}. Expected of one {_INTERPOLATION}.")
        self.fill_mode, self.interpolation, self.fill_value = fill_mode, interpolation, fill_value

    def float_sizes(self, images) -> list:
        """Return height and width as numbers to compute with."""
        return [float(n) if isinstance(n, int) else ops.cast(n, "float32") for n in self.sizes(images)]

    def changed(self, images, transformation):
        return ops.cast(self.warped(images, transformation, self.interpolation), self.compute_dtype)

    def warped(self, images, transformation, interpolation):
        """Return the images looked up elsewhere."""
        raise NotImplementedError(f"{type(self).__name__} must override warped()")

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        if not training or transformation is None:
            return segmentation_masks
        masks = ops.cast(segmentation_masks, self.compute_dtype)
        return ops.cast(self.warped(masks, transformation, "nearest"), self.compute_dtype)


class _Affine(_Warp):
    """Base: subclasses give `maps(transformation, height, width)`, the six numbers, each [images] or a number."""

    def warped(self, images, transformation, interpolation):
        maps = self.maps(transformation, *self.float_sizes(images))
        count = ops.shape(images)[0]
        filled = [ops.full((count,), p, "float32") if isinstance(p, float) else p for p in (*maps, 0.0, 0.0)]
        return ops.image.affine_transform(
            images,
            ops.stack(filled, axis=1),
            interpolation=interpolation,
            fill_mode=self.fill_mode,
            fill_value=self.fill_value,
            data_format=self.data_format,
        )

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        if not training or transformation is None:
            return bounding_boxes
        sizes = self.sizes_in(transformation["input_shape"])
        maps = self.maps(transformation, *(ops.cast(n, "float32") for n in sizes))
        a0, a1, a2, b0, b1, b2 = (p if isinstance(p, float) else ops.reshape(p, (-1, 1, 1)) for p in maps)
        area = a0 * b1 - a1 * b0

        def move(x1, y1, x2, y2):
            corners = [(x - a2, y - b2) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
            xs = ops.concatenate([(b1 * x - a1 * y) / area for x, y in corners], axis=-1)
            ys = ops.concatenate([(a0 * y - b0 * x) / area for x, y in corners], axis=-1)
            return [f(v, axis=-1, keepdims=True) for f in (ops.min, ops.max) for v in (xs, ys)]

        return self.moved_boxes(bounding_boxes, sizes, sizes, move)


@register
class RandomRotation(_Affine):
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

    def drawn(self, images, seed):
        angle = self.uniform(images, [f * 360.0 for f in self.factor], seed)
        return {"angle": angle, "input_shape": ops.shape(images)}

    def maps(self, transformation, height, width):
        angle = transformation["angle"] * (math.pi / 180)
        cos, sin = ops.cos(angle), ops.sin(angle)
        x, y = (width - 1) / 2, (height - 1) / 2
        return cos, -sin, x - x * cos + y * sin, sin, cos, y - x * sin - y * cos


@register
class RandomTranslation(_Affine):
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

    def drawn(self, images, seed):
        height, width = self.float_sizes(images)
        down = self.uniform(images, self._height, seed, (1,)) * height
        right = self.uniform(images, self._width, seed, (1,)) * width
        return {"translations": ops.concatenate([right, down], axis=1), "input_shape": ops.shape(images)}

    def maps(self, transformation, height, width):
        moved = transformation["translations"]
        return 1.0, 0.0, -moved[:, 0], 0.0, 1.0, -moved[:, 1]


@register
class RandomZoom(_Affine):
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

    def drawn(self, images, seed):
        tall = self.uniform(images, [1.0 + f for f in self._height], seed, (1,))
        wide = tall if self._width is None else self.uniform(images, [1.0 + f for f in self._width], seed, (1,))
        return {"height_zoom": tall, "width_zoom": wide, "input_shape": ops.shape(images)}

    def maps(self, transformation, height, width):
        tall, wide = transformation["height_zoom"][:, 0], transformation["width_zoom"][:, 0]
        return wide, 0.0, (width - 1) / 2 * (1 - wide), 0.0, tall, (height - 1) / 2 * (1 - tall)


@register
class RandomShear(_Affine):
    """Slant each image: rows move along x by random multiples of y, and columns along y by multiples of x."""

    def __init__(
        self,
        x_factor=0.0,
        y_factor=0.0,
        interpolation="bilinear",
        fill_mode="reflect",
        fill_value=0.0,
        data_format=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.x_factor = _shear_limits(x_factor, "x_factor")
        self.y_factor = _shear_limits(y_factor, "y_factor")

    def drawn(self, images, seed):
        sign = ops.where(self.uniform(images, (0.0, 1.0), seed, (1,)) > 0.5, -1.0, 1.0)
        both = [self.uniform(images, limits, seed, (1,)) for limits in (self.x_factor, self.y_factor)]
        return {"shear_factor": ops.concatenate(both, axis=1) * sign, "input_shape": ops.shape(images)}

    def maps(self, transformation, height, width):
        shear = ops.cast(transformation["shear_factor"], "float32")
        return 1.0, shear[:, 0], 0.0, shear[:, 1], 1.0, 0.0


def _shear_limits(factor, name: str) -> tuple[float, float]:
    """A pair within 0..1, or both signs of a number; a pair of a config may begin below 0."""
    if isinstance(factor, (tuple, list)) and len(factor) == 2 and factor[0] == -factor[1]:
        factor = factor[1]
    low, high = bounds(factor, name, low=0.0)
    return (low, high) if isinstance(factor, (tuple, list)) else (-high, high)


@register
class RandomPerspective(_Warp):
    """Move the corners of some images by random shares of their places, as if seen from another side.

    Args:
        factor: the probability, or its limits.
        scale: how far corners move, 0 to 1.
    """

    def __init__(
        self,
        factor=1.0,
        scale=1.0,
        interpolation="bilinear",
        fill_value=0.0,
        seed=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__("constant", interpolation, seed, fill_value, data_format, **kwargs)
        if not 0.0 <= scale <= 1.0:
            raise ArgumentError(f"The `scale` argument should be a number in the range [0,1]. Received: scale={scale}")
        self.factor, self.scale = bounds(factor, low=0.0), scale

    def drawn(self, images, seed):
        height, width = self.float_sizes(images)
        chosen = self.chosen(images, self.factor, seed)
        shares = self.uniform(images, (-0.5 * self.scale, 0.5 * self.scale), seed, (4, 2))
        right, down = (ops.cast(n - 1, "float32") for n in (width, height))
        corners = ops.stack([ops.stack([x * right, y * down]) for x, y in ((0, 0), (1, 0), (0, 1), (1, 1))])
        start = ops.zeros_like(shares) + corners
        return {
            "apply_perspective": chosen,
            "start_points": start,
            "end_points": start + start * shares,
            "input_shape": ops.shape(images),
        }

    def warped(self, images, transformation, interpolation):
        found = ops.image.perspective_transform(
            images,
            transformation["start_points"],
            transformation["end_points"],
            interpolation=interpolation,
            fill_value=self.fill_value,
            data_format=self.data_format,
        )
        return ops.where(per_pixel(transformation["apply_perspective"]), found, images)

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        if not training or transformation is None:
            return bounding_boxes
        sizes = self.sizes_in(transformation["input_shape"])
        # places of the result from places of the image: the map between the same points, the other way
        points = (ops.cast(transformation[f"{name}_points"], "float32") for name in ("end", "start"))
        numbers = ops.convert_to_tensor(homography(*map(tensor, points)))
        c = [ops.reshape(numbers[:, n], (-1, 1, 1)) for n in range(8)]
        chosen = ops.reshape(transformation["apply_perspective"], (-1, 1, 1))

        def move(x1, y1, x2, y2):
            corners = [
                (c[0] * x + c[1] * y + c[2], c[3] * x + c[4] * y + c[5], c[6] * x + c[7] * y + 1.0)
                for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
            ]
            xs, ys = (ops.concatenate([v[n] / v[2] for v in corners], axis=-1) for n in range(2))
            moved = [f(v, axis=-1, keepdims=True) for f in (ops.min, ops.max) for v in (xs, ys)]
            return [ops.where(chosen, after, before) for after, before in zip(moved, (x1, y1, x2, y2))]

        return self.moved_boxes(bounding_boxes, sizes, sizes, move)

    def get_config(self):
        found = super().get_config()
        found.pop("fill_mode")
        return found


@register
class RandomElasticTransform(_Warp):
    """Move the pixels of some images a little, neighbours alike; see `keras.ops.image.elastic_transform`.

    Args:
        factor: the probability, or its limits.
        scale: strength, 0 to 1, or its limits: pixels move by a tenth of the larger size at most, smoothed over a
            twentieth of the smaller one.
    """

    fills = ("constant", "nearest", "wrap", "mirror", "reflect")

    def __init__(
        self,
        factor=1.0,
        scale=1.0,
        interpolation="bilinear",
        fill_mode="reflect",
        fill_value=0.0,
        value_range=(0, 255),
        seed=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(fill_mode, interpolation, seed, fill_value, data_format, **kwargs)
        self.factor, self.scale = bounds(factor, low=0.0), bounds(scale, "scale", low=0.0)
        self.value_range = value_range

    def drawn(self, images, seed):
        if self.scale[1] == 0 or self.factor[1] == 0:
            return None
        return {
            "apply_transform": self.chosen(images, self.factor, seed),
            "distortion_factor": random.uniform((), *self.scale, "float32", seed),
            "seed": random.draw_seed(seed),  # images and masks move alike
        }

    def warped(self, images, transformation, interpolation):
        height, width = self.known_sizes(ops.shape(images))
        strength = transformation["distortion_factor"]
        alpha, sigma = max(height, width) * 0.1, min(height, width) * 0.05
        most, rest = sigma * self.scale[1], (self.fill_mode, self.fill_value, transformation["seed"], self.data_format)
        found = ops.convert_to_tensor(elastic(images, alpha * strength, sigma * strength, most, interpolation, *rest))
        found = ops.where(per_pixel(transformation["apply_transform"]), found, images)
        return ops.clip(found, *self.value_range)

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        return self.boxes_cannot_follow()
