"""Layers on images: resize, crop, flip, brightness, contrast. The random ones act in training only.

Images are [batch, height, width, channels] (or channels first), or one image without the batch axis.
"""

from __future__ import annotations

from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.keras import config, ops, random
from kcompile.keras.layers.layer import Layer
from kcompile.keras.registry import register


class ImageLayer(Layer):
    """Base: subclasses give `changed(images, training)` for images in the compute dtype."""

    def __init__(self, data_format=None, **kwargs):
        if kwargs.pop("bounding_box_format", None) is not None:
            raise NotSupportedError(f"{type(self).__name__}: bounding boxes are not supported, only images")
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)

    @property
    def axes(self) -> tuple[int, int]:
        """The axes of height and width, counted from the end."""
        return (-2, -1) if self.data_format == "channels_first" else (-3, -2)

    def sizes(self, images) -> tuple:
        """Return height and width."""
        shape = ops.shape(images)
        return shape[self.axes[0]], shape[self.axes[1]]

    def call(self, images, training=True):
        if isinstance(images, dict):
            raise NotSupportedError(
                f"{type(self).__name__}: a dict of images, labels, masks and boxes is not supported, only images"
            )
        if len(images.shape) not in (3, 4):
            raise ShapeError(
                "Expected image tensor to have rank 3 (single image) or 4 (batch of images). "
                f"Received: data.shape={tuple(images.shape)}"
            )
        return self.changed(ops.cast(images, self.compute_dtype), training)

    def changed(self, images, training):
        """Return what becomes of images."""
        raise NotImplementedError(f"{type(self).__name__} must override changed()")

    def window(self, images, starts, sizes):
        """Return the part that begins at `starts` (height, width; numbers or values of a program)."""
        for axis, start, size in zip(self.axes, starts, sizes):
            images = ops.take(images, ops.arange(size) + start, axis=axis)
        return images

    def middle(self, images, height: int, width: int):
        """Return the largest part in the middle of the shape height : width, resized to it."""
        rows, columns = self.sizes(images)
        if not isinstance(rows, int) or not isinstance(columns, int):
            raise ShapeError(f"{type(self).__name__} needs images of known height and width")
        part = max(min(rows, int(columns * height / width)), 1), max(min(columns, int(rows * width / height)), 1)
        images = self.window(images, (int((rows - part[0]) / 2), int((columns - part[1]) / 2)), part)
        if part != (height, width):
            images = ops.image.resize(images, (height, width), data_format=self.data_format)
        return ops.cast(images, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}


class RandomImageLayer(ImageLayer):
    """Base of layers that draw numbers for each image."""

    def __init__(self, seed=None, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        self.seed = seed
        self.generator = random.SeedGenerator(seed)

    def changed(self, images, training):
        return self.randomly_changed(images) if training else images

    def drawn(self, images, low: float, high: float):
        """Return a number per image, with axes to be broadcast."""
        batch = ops.shape(images)[0] if len(images.shape) == 4 else 1
        shape = (batch, 1, 1, 1) if len(images.shape) == 4 else (1, 1, 1)
        return random.uniform(shape, low, high, self.compute_dtype, self.generator)


def bounds(factor, name: str = "factor", low: float = -1.0, high: float = 1.0) -> tuple[float, float]:
    """Return (lower, upper) of a number (both sides) or a pair.

    Raises: ArgumentError outside low..high.
    """
    is_pair = isinstance(factor, (tuple, list)) and len(factor) == 2
    if not is_pair and (isinstance(factor, bool) or not isinstance(factor, (int, float))):
        raise ArgumentError(f"The `{name}` argument should be a number or a pair of numbers. Received: {factor}")
    given = sorted(factor) if is_pair else [max(-abs(factor), low), abs(factor)]
    if given[0] < low or given[1] > high:
        raise ArgumentError(f"The `{name}` argument should be in the range [{low}, {high}]. Received: {factor}")
    return given[0], given[1]


@register
class Resizing(ImageLayer):
    """Images of another size; see `keras.ops.image.resize` for the arguments."""

    def __init__(
        self,
        height,
        width,
        interpolation="bilinear",
        crop_to_aspect_ratio=False,
        pad_to_aspect_ratio=False,
        fill_mode="constant",
        fill_value=0.0,
        antialias=False,
        data_format=None,
        **kwargs,
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.height, self.width, self.interpolation = height, width, interpolation
        self.crop_to_aspect_ratio, self.pad_to_aspect_ratio = crop_to_aspect_ratio, pad_to_aspect_ratio
        self.fill_mode, self.fill_value, self.antialias = fill_mode, fill_value, bool(antialias)

    def changed(self, images, training):
        found = ops.image.resize(
            images,
            (self.height, self.width),
            interpolation=self.interpolation,
            antialias=self.antialias,
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
            pad_to_aspect_ratio=self.pad_to_aspect_ratio,
            fill_mode=self.fill_mode,
            fill_value=self.fill_value,
            data_format=self.data_format,
        )
        return ops.cast(found, self.compute_dtype)


@register
class CenterCrop(ImageLayer):
    """The middle of images; of smaller ones the largest part of that shape, resized."""

    def __init__(self, height, width, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        self.height, self.width = height, width

    def changed(self, images, training):
        rows, columns = self.sizes(images)
        if any(isinstance(n, int) and n < size for n, size in ((rows, self.height), (columns, self.width))):
            return self.middle(images, self.height, self.width)
        starts = (rows - self.height) // 2, (columns - self.width) // 2
        return self.window(images, starts, (self.height, self.width))


@register
class RandomCrop(RandomImageLayer):
    """A random part of the images, the same for the whole batch; in prediction, and of smaller images, the middle."""

    def __init__(self, height, width, seed=None, data_format=None, name=None, **kwargs):
        super().__init__(seed, data_format, name=name, **kwargs)
        self.height, self.width = height, width

    def changed(self, images, training):
        rows, columns = self.sizes(images)
        if not isinstance(rows, int) or not isinstance(columns, int):
            raise ShapeError(
                "RandomCrop requires the input to have a fully defined height and width. Received: "
                f"images.shape={tuple(images.shape)}"
            )
        if not training:
            return (
                images if (rows, columns) == (self.height, self.width) else self.middle(images, self.height, self.width)
            )
        if rows <= self.height or columns <= self.width:
            return self.middle(images, self.height, self.width)
        starts = [
            random.randint((), 0, size - wanted + 1, seed=self.generator)
            for size, wanted in ((rows, self.height), (columns, self.width))
        ]
        return self.window(images, starts, (self.height, self.width))


@register
class RandomFlip(RandomImageLayer):
    """Each image mirrored with probability ½: left to right, top to bottom, or both ways."""

    def __init__(self, mode="horizontal_and_vertical", seed=None, data_format=None, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        if mode not in ("horizontal", "vertical", "horizontal_and_vertical"):
            raise ArgumentError(f"RandomFlip: unknown mode {mode!r}")
        self.mode = mode

    def randomly_changed(self, images):
        flipped = self.drawn(images, 0.0, 1.0) <= 0.5
        for way, axis in (("horizontal", self.axes[1]), ("vertical", self.axes[0])):
            if way in self.mode:
                images = ops.where(flipped, ops.flip(images, axis=axis), images)
        return images


@register
class RandomBrightness(RandomImageLayer):
    """A number added to each image: a random part, within `factor`, of the range of values."""

    def __init__(self, factor, value_range=(0, 255), seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.factor = bounds(factor)
        self.value_range = _range(value_range)

    def randomly_changed(self, images):
        low, high = self.value_range
        return ops.clip(images + self.drawn(images, *self.factor) * (high - low), low, high)


@register
class RandomContrast(RandomImageLayer):
    """Each image moved away from its channels' means, or towards them, by a factor in 1 - lower .. 1 + upper.

    A single `factor` only moves away: lower is 0, as in Keras 3.
    """

    def __init__(self, factor, value_range=(0, 255), seed=None, **kwargs):
        super().__init__(seed, **kwargs)
        self.factor = bounds(factor, low=0.0)
        self.value_range = _range(value_range)

    def randomly_changed(self, images):
        factor = self.drawn(images, 1.0 - self.factor[0], 1.0 + self.factor[1])
        mean = ops.mean(images, axis=self.axes, keepdims=True)
        return ops.clip((images - mean) * factor + mean, *self.value_range)


def _range(value_range) -> list[float]:
    if not isinstance(value_range, (tuple, list)) or len(value_range) != 2:
        raise ArgumentError(
            f"The `value_range` argument should be a list of two numbers. Received: value_range={value_range}"
        )
    return sorted(value_range)
