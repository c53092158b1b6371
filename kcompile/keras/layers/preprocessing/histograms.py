"""Layers that spread the values of images over their range: AutoContrast, Equalization, and the latter by tiles."""

from __future__ import annotations

from kcompile.errors import ShapeError
from kcompile.keras import ops
from kcompile.keras.layers.preprocessing.image_layer import ColourLayer
from kcompile.keras.registry import register

LEVELS = 256


class _Fixed(ColourLayer):
    """Base of those without random numbers."""

    def __init__(self, value_range=(0, 255), data_format=None, **kwargs):
        super().__init__(value_range, None, data_format, **kwargs)

    def drawn(self, images, seed):
        return {}

    def transform_images(self, images, transformation=None, training=True):
        images = ops.cast(images, self.compute_dtype)
        return self.changed(images, transformation) if training else images

    def get_config(self):
        found = super().get_config()
        found.pop("seed", None)
        return found


@register
class AutoContrast(_Fixed):
    """Each channel of each image stretched to the whole range, in prediction too."""

    def transform_images(self, images, transformation=None, training=True):
        return self.changed(ops.cast(images, self.compute_dtype), transformation)

    def changed(self, images, transformation):
        values = self.rescaled(images, self.value_range, (0, LEVELS - 1))
        low, high = (f(values, axis=self.axes, keepdims=True) for f in (ops.min, ops.max))
        scale = (LEVELS - 1.0) / (high - low)
        values = ops.clip(values * scale - low * scale, 0.0, LEVELS - 1.0)
        found = self.rescaled(values, (0, LEVELS - 1), self.value_range)
        return ops.where(ops.isnan(found), images, found)  # one value only


@register
class Equalization(_Fixed):
    """Each channel mapped so that its values are spread evenly; one map for all images of the batch, as in Keras.

    Args: bins: how many values are told apart.
    """

    def __init__(self, value_range=(0, 255), bins=256, data_format=None, **kwargs):
        super().__init__(value_range, data_format, **kwargs)
        self.bins = bins

    def changed(self, images, transformation):
        axis = self.channel_axis
        values = ops.moveaxis(self.rescaled(images, self.value_range, (0, LEVELS - 1)), axis, 0)
        found = ops.stack([self._equalized(values[n]) for n in range(images.shape[axis])], axis=axis)
        return self.rescaled(ops.cast(found, images.dtype), (0, LEVELS - 1), self.value_range)

    def _equalized(self, channel):
        bins = ops.cast(ops.clip(channel * (self.bins - 1) / (LEVELS - 1), 0, self.bins - 1), "int32")
        flat = ops.reshape(bins, (-1,))
        counts = ops.segment_sum(ops.ones_like(flat), flat, num_segments=self.bins)
        total = ops.cumsum(counts)
        first = ops.min(ops.where(total > 0, total, ops.max(total)))
        spread = ops.maximum(total[-1] - first, 1)
        share = ops.cast(total - first, "float64") * (LEVELS - 1) / ops.cast(spread, "float64")
        levels = ops.cast(ops.clip(ops.round(ops.cast(share, "float32")), 0, LEVELS - 1), channel.dtype)
        is_flat = ops.sum(ops.cast(counts > 0, "int32")) <= 1
        return ops.where(is_flat, channel, ops.take(levels, bins))


@register
class ContrastLimitedAdaptiveHistogramEqualization(_Fixed):
    """Each tile of each image equalized by counts cut at a limit; pixels between the middles of tiles are blended.

    Args:
        clip_limit: the most of a count, in mean counts; the rest is spread over all. 0: no limit.
        tile_grid_size: rows and columns of tiles.

    Source: Zuiderveld 1994, "Contrast limited adaptive histogram equalization".
    """

    def __init__(self, value_range=(0, 255), clip_limit=4.0, tile_grid_size=(8, 8), data_format=None, **kwargs):
        super().__init__(value_range, data_format, **kwargs)
        self.clip_limit, self.tile_grid_size = clip_limit, tuple(tile_grid_size)

    def transform_images(self, images, transformation=None, training=True):
        return self.changed(ops.cast(images, self.compute_dtype), transformation)

    def changed(self, images, transformation):
        is_first = self.data_format == "channels_first"
        x = ops.transpose(images, (0, 2, 3, 1)) if is_first else images
        x = self.rescaled(ops.cast(x, "float32"), self.value_range, (0, LEVELS - 1))
        x = self.rescaled(self._equalized(x), (0, LEVELS - 1), self.value_range)
        return ops.cast(ops.transpose(x, (0, 3, 1, 2)) if is_first else x, images.dtype)

    def _equalized(self, x):
        height, width, channels = x.shape[1:]
        if not all(isinstance(n, int) for n in (height, width, channels)):
            raise ShapeError(f"{type(self).__name__} needs images of known size. Received: {tuple(x.shape)}")
        (down, across), batch = self.tile_grid_size, ops.shape(x)[0]
        tall, wide = -(-height // down), -(-width // across)
        border = [[0, 0], [0, tall * down - height], [0, wide * across - width], [0, 0]]
        levels = ops.cast(ops.clip(ops.pad(x, border, mode="symmetric"), 0, LEVELS - 1), "int32")
        tiles = ops.reshape(levels, (batch, down, tall, across, wide, channels))
        tiles = ops.reshape(ops.transpose(tiles, (0, 1, 3, 5, 2, 4)), (batch, down, across, channels, tall * wide))
        maps = ops.reshape(self._maps(tiles, tall * wide), (batch * down * across * channels * LEVELS,))
        # the map of a pixel's tile: number of the tile, channel, level
        image = ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1, 1, 1)) * down
        channel = ops.reshape(ops.arange(channels, dtype="int32"), (1, 1, 1, -1))

        def looked_up(row, column):
            tile = (image + ops.reshape(row, (1, -1, 1, 1))) * across + ops.reshape(column, (1, 1, -1, 1))
            return ops.take(maps, (tile * channels + channel) * LEVELS + levels)

        (top, bottom, low), (left, right, far) = _between(down, tall), _between(across, wide)
        low, far = ops.reshape(low, (1, -1, 1, 1)), ops.reshape(far, (1, 1, -1, 1))
        upper, lower = (looked_up(r, left) * (1.0 - far) + looked_up(r, right) * far for r in (top, bottom))
        return (upper * (1.0 - low) + lower * low)[:, :height, :width]

    def _maps(self, tiles, count: int):
        """The value of each level, [..., LEVELS], for tiles [..., count]."""
        counts = ops.sum(ops.one_hot(tiles, LEVELS, dtype="float32"), axis=-2)
        if self.clip_limit > 0:
            kept = ops.minimum(counts, self.clip_limit * count / LEVELS)
            counts = kept + ops.sum(counts - kept, axis=-1, keepdims=True) / LEVELS
        total = ops.cumsum(counts, axis=-1)
        first = total[..., :1]
        spread = count - first
        spread = ops.where(spread == 0, ops.ones_like(spread), spread)
        return ops.clip((total - first) * (LEVELS - 1) / spread, 0, LEVELS - 1)


def _between(tiles: int, size: int):
    """For each pixel along an axis: the tiles whose middles lie before and behind it, and how far it is on the way."""
    at = (ops.arange(tiles * size, dtype="float32") - size / 2) / size
    before = ops.floor(at)
    first, second = (ops.cast(ops.clip(before + n, 0, tiles - 1), "int32") for n in (0.0, 1.0))
    return first, second, at - before
