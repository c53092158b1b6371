"""Layers that change the colours of images, each image by its own random number. They act in training only."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras import config, ops, random
from kcompile.keras.layers.preprocessing.image_layer import ColourLayer, RandomImageLayer, bounds, per_pixel
from kcompile.keras.registry import register


@register
class RandomBrightness(ColourLayer):
    """A number added to each image: a random part, within `factor`, of the range of values."""

    def __init__(self, factor, value_range=(0, 255), seed=None, **kwargs):
        super().__init__(value_range, seed, **kwargs)
        self.factor = bounds(factor)

    def drawn(self, images, seed):
        share = self.uniform(images, self.factor, seed, (1, 1, 1), self.compute_dtype)
        return {"rgb_delta": share * (self.value_range[1] - self.value_range[0])}

    def changed(self, images, transformation):
        return self.limited(images + ops.cast(transformation["rgb_delta"], images.dtype))


@register
class RandomContrast(ColourLayer):
    """Each image moved away from its channels' means, or towards them, by a factor in 1 - lower .. 1 + upper.

    A single `factor` only moves away: lower is 0, as in Keras 3.
    """

    def __init__(self, factor, value_range=(0, 255), seed=None, **kwargs):
        super().__init__(value_range, seed, **kwargs)
        self.factor = bounds(factor, low=0.0)

    def drawn(self, images, seed):
        limits = 1.0 - self.factor[0], 1.0 + self.factor[1]
        return {"contrast_factor": self.uniform(images, limits, seed, (1, 1, 1), self.compute_dtype)}

    def changed(self, images, transformation):
        mean = ops.mean(images, axis=self.axes, keepdims=True)
        return self.limited((images - mean) * ops.cast(transformation["contrast_factor"], images.dtype) + mean)


@register
class RandomColorDegeneration(ColourLayer):
    """Each image moved towards its grey one by a random share within `factor`."""

    def __init__(self, factor, value_range=(0, 255), data_format=None, seed=None, **kwargs):
        super().__init__(value_range, seed, data_format, **kwargs)
        self.factor = bounds(factor)

    def drawn(self, images, seed):
        return {"factor": self.uniform(images, self.factor, seed, (1, 1, 1))}

    def changed(self, images, transformation):
        grey = ops.image.rgb_to_grayscale(images, data_format=self.data_format)
        return self.limited(images + ops.cast(transformation["factor"], images.dtype) * (grey - images))


class _HSVLayer(ColourLayer):
    """Base of layers that change one of hue (0), saturation (1) and value (2)."""

    def with_plane(self, images, number: int, change):
        """Return images with one plane of their HSV form changed."""
        axis = self.channel_axis
        planes = ops.split(ops.image.rgb_to_hsv(images, data_format=self.data_format), 3, axis=axis)
        planes[number] = change(planes[number])
        return ops.image.hsv_to_rgb(ops.concatenate(planes, axis=axis), data_format=self.data_format)


@register
class RandomSaturation(_HSVLayer):
    """The saturation of each image times f / (1 - f), f random within `factor`: ½ changes nothing, 0 makes it grey."""

    def __init__(self, factor, value_range=(0, 255), data_format=None, seed=None, **kwargs):
        super().__init__(value_range, seed, data_format, **kwargs)
        self.factor = bounds(factor)

    def drawn(self, images, seed):
        share = self.uniform(images, self.factor, seed)
        return {"factor": share / (1 - share + config.epsilon())}

    def changed(self, images, transformation):
        factor = per_pixel(ops.cast(transformation["factor"], images.dtype))
        return self.with_plane(images, 1, lambda plane: self.limited(plane * factor))


@register
class RandomHue(_HSVLayer):
    """The hue of each image turned, either way, by half a random share, within `factor`, of the circle."""

    def __init__(self, factor, value_range=(0, 255), data_format=None, seed=None, **kwargs):
        super().__init__(value_range, seed, data_format, **kwargs)
        self.factor = bounds(factor, low=0.0)

    def drawn(self, images, seed):
        sign = ops.where(self.uniform(images, (0.0, 1.0), seed) > 0.5, -1.0, 1.0)
        return {"factor": sign * self.uniform(images, self.factor, seed) * 0.5}

    def changed(self, images, transformation):
        turn = per_pixel(ops.cast(transformation["factor"], images.dtype))

        def turned(plane):
            plane = plane + turn
            plane = ops.where(plane > 1.0, plane - 1.0, plane)
            return ops.where(plane < 0.0, plane + 1.0, plane)

        images = self.with_plane(self.rescaled(images, self.value_range, (0, 1)), 0, turned)
        return self.rescaled(ops.clip(images, 0, 1), (0, 1), self.value_range)


@register
class RandomColorJitter(ColourLayer):
    """Random brightness, contrast, saturation and hue, in this order; a factor of None leaves one out."""

    def __init__(
        self,
        value_range=(0, 255),
        brightness_factor=None,
        contrast_factor=None,
        saturation_factor=None,
        hue_factor=None,
        seed=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(value_range, seed, data_format, **kwargs)
        self.brightness_factor, self.contrast_factor = brightness_factor, contrast_factor
        self.saturation_factor, self.hue_factor = saturation_factor, hue_factor
        steps = (
            (RandomBrightness, brightness_factor),
            (RandomContrast, contrast_factor),
            (RandomSaturation, saturation_factor),
            (RandomHue, hue_factor),
        )
        common = {"value_range": value_range, "seed": seed, "data_format": data_format, "dtype": self.dtype_policy}
        self._steps = [layer(factor, **common) for layer, factor in steps if factor is not None]

    def drawn(self, images, seed):
        return [step.drawn(images, seed) for step in self._steps]

    def changed(self, images, transformation):
        for step, drawn in zip(self._steps, transformation):
            images = step.changed(images, drawn)
        return images


@register
class RandomGrayscale(RandomImageLayer):
    """Each image grey, with three equal channels, with probability `factor`."""

    def __init__(self, factor=0.5, data_format=None, seed=None, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        if not 0 <= factor <= 1:
            raise ArgumentError(f"`factor` should be between 0 and 1. Received: factor={factor}")
        self.factor = factor

    def drawn(self, images, seed):
        return self.uniform(images, (0.0, 1.0), seed, (1, 1, 1)) < self.factor

    def changed(self, images, transformation):
        return ops.where(transformation, ops.image.rgb_to_grayscale(images, data_format=self.data_format), images)


@register
class RandomInvert(ColourLayer):
    """Each image replaced by the upper end of the range less itself, with a probability within `factor`."""

    def __init__(self, factor=1.0, value_range=(0, 255), seed=None, data_format=None, **kwargs):
        super().__init__(value_range, seed, data_format, **kwargs)
        self.factor = bounds(factor, low=0.0)

    def drawn(self, images, seed):
        return {"apply_inversion": self.chosen(images, self.factor, seed)}

    def changed(self, images, transformation):
        return ops.where(per_pixel(transformation["apply_inversion"]), self.value_range[1] - images, images)


@register
class RandomPosterization(ColourLayer):
    """The upper bits of the values of each image kept, as many as drawn within `factor` (1 to 8, without the last)."""

    def __init__(self, factor, value_range=(0, 255), data_format=None, seed=None, **kwargs):
        super().__init__(value_range, seed, data_format, **kwargs)
        pair = isinstance(factor, (tuple, list))
        self.factor = bounds(factor, low=1, high=8, start=None if pair else 1)

    def drawn(self, images, seed):
        low, high = self.factor
        count = self.count(images)
        bits = random.randint((count,), low, high, seed=seed) if low != high else ops.full((count,), low, "int32")
        return {"shift_factor": 8 - bits}

    def changed(self, images, transformation):
        shift = per_pixel(ops.cast(transformation["shift_factor"], "int32"))
        values = ops.cast(self.rescaled(images, self.value_range, (0, 255)), "int32")
        values = ops.bitwise_left_shift(ops.bitwise_right_shift(values, shift), shift)
        return self.rescaled(ops.cast(values, images.dtype), (0, 255), self.value_range)


@register
class Solarization(ColourLayer):
    """A random number added to each image, then all values not below a random threshold inverted.

    Args: addition_factor, threshold_factor: limits, 0 to 1; the upper ones are shares of 255.
    """

    def __init__(self, addition_factor=0.0, threshold_factor=0.0, value_range=(0, 255), seed=None, **kwargs):
        super().__init__(value_range, seed, **kwargs)
        self.addition_factor = bounds(addition_factor, "addition_factor", low=0.0)
        self.threshold_factor = bounds(threshold_factor, "threshold_factor", low=0.0)

    def drawn(self, images, seed):
        def numbers(limits):
            return self.uniform(images, (limits[0], limits[1] * 255), seed, (1, 1, 1), self.compute_dtype)

        return {"additions": numbers(self.addition_factor), "thresholds": numbers(self.threshold_factor)}

    def changed(self, images, transformation):
        additions, thresholds = (ops.cast(transformation[k], images.dtype) for k in ("additions", "thresholds"))
        values = ops.clip(self.rescaled(images, self.value_range, (0, 255)) + additions, 0, 255)
        values = ops.where(values < thresholds, values, 255 - values)
        return self.rescaled(values, (0, 255), self.value_range)


@register
class RandomSharpness(ColourLayer):
    """Each image moved towards its smoothed one, or away from it (above ½), by a random number within `factor`."""

    def __init__(self, factor, value_range=(0, 255), data_format=None, seed=None, **kwargs):
        super().__init__(value_range, seed, data_format, **kwargs)
        self.factor = bounds(factor, low=0.0)

    def drawn(self, images, seed):
        return {"factor": self.uniform(images, self.factor, seed)}

    def changed(self, images, transformation):
        strength = per_pixel(ops.cast(transformation["factor"], images.dtype) * 2)
        channels = images.shape[self.channel_axis]
        weights = [[1 / 13, 1 / 13, 1 / 13], [1 / 13, 5 / 13, 1 / 13], [1 / 13, 1 / 13, 1 / 13]]
        kernel = ops.ones((3, 3, channels, 1), images.dtype) * ops.reshape(
            ops.cast(weights, images.dtype), (3, 3, 1, 1)
        )
        smooth = ops.depthwise_conv(images, kernel, padding="same", data_format=self.data_format)
        return self.limited(images + (1.0 - strength) * (smooth - images))


@register
class RandomGaussianBlur(ColourLayer):
    """Some images blurred with one Gaussian kernel of random widths.

    Args:
        factor: the probability, or its limits.
        kernel_size: odd; a number or (along the width, along the height).
        sigma: limits of the kernel's widths, 0 to 1.
    """

    def __init__(
        self, factor=1.0, kernel_size=3, sigma=1.0, value_range=(0, 255), data_format=None, seed=None, **kwargs
    ):
        super().__init__(value_range, seed, data_format, **kwargs)
        self.factor, self.sigma = bounds(factor, low=0.0), bounds(sigma, "sigma", low=0.0)
        self.kernel_size = tuple(kernel_size) if isinstance(kernel_size, (tuple, list)) else (kernel_size,) * 2
        if len(self.kernel_size) != 2 or any(size % 2 == 0 for size in self.kernel_size):
            raise ArgumentError(f"kernel_size must be an odd number, or two. Received: kernel_size={kernel_size}")

    def drawn(self, images, seed):
        chosen = self.chosen(images, self.factor, seed)
        widths = random.uniform((2,), *self.sigma, self.compute_dtype, seed) + 1e-6
        return {"should_apply_blur": chosen, "blur_factor": widths}

    def changed(self, images, transformation):
        widths = ops.cast(transformation["blur_factor"], images.dtype)
        blurred = ops.image.gaussian_blur(images, self.kernel_size, widths, self.data_format)
        return self.limited(ops.where(per_pixel(transformation["should_apply_blur"]), blurred, images))
