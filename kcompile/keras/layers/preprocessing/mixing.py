"""Layers that mix the images of a batch, or put something else into a part of them."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras import ops, random
from kcompile.keras.layers.preprocessing.image_layer import ColourLayer, RandomImageLayer, bounds, per_pixel
from kcompile.keras.registry import register


def _mixed(values, transformation):
    """w · v + (1 - w) · the values of another image, w per image."""
    values = ops.convert_to_tensor(values)
    weight = ops.reshape(transformation["mix_weight"], (-1, *(1,) * (len(values.shape) - 1)))
    other = ops.take(values, transformation["permutation_order"], axis=0)
    return weight * values + (1.0 - weight) * other


def _order(images, seed):
    """The images' numbers in random order."""
    return random.shuffle(ops.arange(ops.shape(images)[0], dtype="int32"), seed=seed)


@register
class MixUp(RandomImageLayer):
    """Each image and its label mixed with those of another one, by a weight from a beta distribution.

    Source: Zhang, Cisse, Dauphin, Lopez-Paz 2018.
    """

    def __init__(self, alpha=0.2, data_format=None, seed=None, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        self.alpha = alpha

    def drawn(self, images, seed):
        count = self.count(images)
        order = _order(images, seed) if len(images.shape) == 4 else ops.zeros((1,), "int32")
        weight = random.beta((count,), self.alpha, self.alpha, dtype="float32", seed=seed)
        return {"mix_weight": weight, "permutation_order": order}

    def changed(self, images, transformation):
        return ops.cast(_mixed(images, transformation), self.compute_dtype)

    def transform_labels(self, labels, transformation=None, training=True):
        return _mixed(labels, transformation) if training and transformation is not None else labels

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return self.transform_labels(segmentation_masks, transformation, training)

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        """The boxes of both images."""
        if not training or transformation is None:
            return bounding_boxes
        order = transformation["permutation_order"]
        both = {k: (v, ops.take(v, order, axis=0)) for k, v in bounding_boxes.items() if k in ("boxes", "labels")}
        return {**bounding_boxes, **{k: ops.concatenate(pair, axis=1) for k, pair in both.items()}}


class _Patches(RandomImageLayer):
    """Base of layers that change a rectangle of each image."""

    def rectangles(self, images, shares, seed):
        """Return where rectangles are, [images, height, width, 1] or channels first, and what shares they cover.

        Args: shares: of width and height, each [images].
        """
        inside, covered = None, 1.0
        width_first = tuple(reversed(tuple(zip(self.axes, self.sizes(images)))))
        for (axis, size), share in zip(width_first, shares):
            length = share * ops.cast(size, share.dtype)
            start = self.uniform(images, (0.0, 1.0), seed, dtype=share.dtype) * (ops.cast(size, share.dtype) - length)
            shape = [1, 1, 1, 1]
            shape[axis] = -1
            at = ops.reshape(ops.arange(size, dtype="float32"), shape)
            here = ops.logical_and(at >= per_pixel(start), at < per_pixel(start + length))
            inside = here if inside is None else ops.logical_and(inside, here)
            covered = covered * length / ops.cast(size, share.dtype)
        return inside, covered


@register
class CutMix(_Patches):
    """A rectangle of each image, and its share of the label, taken from another image.

    Args: factor: limits of the beta distribution's parameter.

    Source: Yun et al. 2019.
    """

    def __init__(self, factor=1.0, seed=None, data_format=None, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        self.factor = bounds(factor, low=0.0)

    def drawn(self, images, seed):
        if len(images.shape) == 3:
            return None
        alpha = random.uniform((), *self.factor, "float32", seed) + 1e-6
        weight = random.beta((self.count(images),), alpha, alpha, dtype="float32", seed=seed)
        inside, covered = self.rectangles(images, [ops.sqrt(1.0 - weight)] * 2, seed)
        return {"permutation_order": _order(images, seed), "batch_masks": inside, "mix_weight": 1.0 - covered}

    def changed(self, images, transformation):
        other = ops.take(images, transformation["permutation_order"], axis=0)
        return ops.where(transformation["batch_masks"], other, images)

    def transform_labels(self, labels, transformation=None, training=True):
        return _mixed(labels, transformation) if training and transformation is not None else labels

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return self.transform_images(segmentation_masks, transformation, training)

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        return self.boxes_cannot_follow()


@register
class RandomErasing(_Patches, ColourLayer):
    """A rectangle of some images filled.

    Args:
        factor: the probability, or its limits.
        scale: limits of the area of a rectangle with equal shares of both sides.
        fill_value: a number, one per channel, or None: normal numbers times the upper end of the range.

    Source: Zhong et al. 2020.
    """

    def __init__(
        self,
        factor=1.0,
        scale=(0.02, 0.33),
        fill_value=None,
        value_range=(0, 255),
        seed=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(value_range, seed, data_format, **kwargs)
        self.factor, self.scale = bounds(factor, low=0.0), bounds(scale, "scale", low=0.0)
        is_list = isinstance(fill_value, (tuple, list))
        if (is_list and len(fill_value) != 3) or not (is_list or isinstance(fill_value, (int, float, type(None)))):
            raise ArgumentError("The `fill_value` argument should be a number (or a list of three numbers)")
        self.fill_value = fill_value

    def drawn(self, images, seed):
        shares = ops.sqrt(self.uniform(images, self.scale, seed, (2,)))
        inside, _ = self.rectangles(images, [shares[:, 0], shares[:, 1]], seed)
        return {
            "apply_erasing": self.chosen(images, self.factor, seed),
            "batch_masks": inside,
            "fill_value": self.limited(self._fill(images, seed)),
        }

    def _fill(self, images, seed):
        if self.fill_value is None:
            noise = random.normal(ops.shape(images), dtype=self.compute_dtype, seed=seed)
            return noise * self.value_range[1]
        values = ops.cast(self.fill_value, self.compute_dtype)
        return ops.reshape(values, (-1, 1, 1)) if self.data_format == "channels_first" else values

    def changed(self, images, transformation):
        erased = per_pixel(transformation["apply_erasing"])
        inside = ops.logical_and(erased, transformation["batch_masks"])
        return ops.where(inside, ops.cast(transformation["fill_value"], images.dtype), images)


@register
class MaxNumBoundingBoxes(RandomImageLayer):
    """Bounding boxes cut or filled up to `max_number`; images stay."""

    def __init__(self, max_number, fill_value=-1, **kwargs):
        super().__init__(None, **kwargs)
        self.max_number, self.fill_value = int(max_number), int(fill_value)

    def drawn(self, images, seed):
        return None

    def transform_images(self, images, transformation=None, training=True):
        return images

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        def fitted(values):
            values = ops.convert_to_tensor(values)[:, : self.max_number]
            rest = [[0, 0]] * (len(values.shape) - 2)
            missing = self.max_number - values.shape[1]
            return ops.pad(values, [[0, 0], [0, missing], *rest], constant_values=self.fill_value)

        return {**bounding_boxes, "boxes": fitted(bounding_boxes["boxes"]), "labels": fitted(bounding_boxes["labels"])}

    def get_config(self):
        found = super().get_config()
        found.pop("seed", None)
        return found
