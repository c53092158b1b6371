"""Layers that resize, crop and flip images. The random ones act in training only; image_layer.py says how."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras import ops, random
from kcompile.keras.layers.preprocessing.image_layer import ImageLayer, RandomImageLayer
from kcompile.keras.registry import register


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

    def get_random_transformation(self, data, training=True, seed=None):
        return self.sizes(data["images"] if isinstance(data, dict) else data)

    def changed(self, images, transformation):
        return self._resized(images, self.interpolation)

    def _resized(self, images, interpolation):
        found = ops.image.resize(
            images,
            (self.height, self.width),
            interpolation=interpolation,
            antialias=self.antialias,
            crop_to_aspect_ratio=self.crop_to_aspect_ratio,
            pad_to_aspect_ratio=self.pad_to_aspect_ratio,
            fill_mode=self.fill_mode,
            fill_value=self.fill_value,
            data_format=self.data_format,
        )
        return ops.cast(found, self.compute_dtype)

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return self._resized(segmentation_masks, "nearest")

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        before = [ops.cast(n, "float32") for n in transformation]
        after = self.height, self.width
        scales = [wanted / n for wanted, n in zip(after, before)]
        offsets = [0.0, 0.0]
        if self.pad_to_aspect_ratio or self.crop_to_aspect_ratio:
            pick = ops.minimum if self.pad_to_aspect_ratio else ops.maximum
            scales = [pick(*scales)] * 2
            offsets = [ops.floor((wanted - n * scales[0]) / 2) for wanted, n in zip(after, before)]
        (sy, sx), (dy, dx) = scales, offsets
        boxes = bounding_boxes["boxes"]
        is_none = ops.logical_or(ops.all(boxes == -1, axis=-1), ops.all(boxes == 0, axis=-1))  # filled up with
        found = self.moved_boxes(
            bounding_boxes,
            transformation,
            after,
            lambda x1, y1, x2, y2: (x1 * sx + dx, y1 * sy + dy, x2 * sx + dx, y2 * sy + dy),
        )
        return {**found, "boxes": ops.where(ops.expand_dims(is_none, -1), 0.0, found["boxes"])}


@register
class CenterCrop(ImageLayer):
    """The middle of images; of smaller ones the largest part of that shape, resized."""

    def __init__(self, height, width, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        self.height, self.width = height, width

    def get_random_transformation(self, data, training=True, seed=None):
        return {"input_shape": ops.shape(data["images"] if isinstance(data, dict) else data)}

    def _is_smaller(self, rows, columns) -> bool:
        return any(isinstance(n, int) and n < size for n, size in ((rows, self.height), (columns, self.width)))

    def changed(self, images, transformation):
        rows, columns = self.sizes(images)
        if self._is_smaller(rows, columns):
            return self.middle(images, self.height, self.width)
        starts = (rows - self.height) // 2, (columns - self.width) // 2
        return self.window(images, starts, (self.height, self.width))

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return self.transform_images(segmentation_masks)

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        return cropped_boxes(self, bounding_boxes, transformation["input_shape"])


def cropped_boxes(layer, bounding_boxes, shape, starts=None):
    """Return boxes of the part of images of this shape that CenterCrop or RandomCrop (from `starts` on) takes."""
    before, after = layer.sizes_in(shape), (layer.height, layer.width)
    scales = 1.0, 1.0
    if starts is None:
        if all(isinstance(n, int) and n >= wanted for n, wanted in zip(before, after)):
            starts = [(n - wanted) // 2 for n, wanted in zip(before, after)]
        else:
            starts, part = layer.middle_part(shape, *after)
            scales = [wanted / n for wanted, n in zip(after, part)]
    (top, left), (sy, sx) = (ops.cast(s, "float32") for s in starts), scales
    return layer.moved_boxes(
        bounding_boxes,
        before,
        after,
        lambda x1, y1, x2, y2: ((x1 - left) * sx, (y1 - top) * sy, (x2 - left) * sx, (y2 - top) * sy),
    )


@register
class RandomCrop(RandomImageLayer):
    """A random part of the images, the same for the whole batch; in prediction, and of smaller images, the middle."""

    def __init__(self, height, width, seed=None, data_format=None, name=None, **kwargs):
        super().__init__(seed, data_format, name=name, **kwargs)
        self.height, self.width = height, width

    def get_random_transformation(self, data, training=True, seed=None):
        shape = ops.shape(data["images"] if isinstance(data, dict) else data)
        spare = [n - wanted for n, wanted in zip(self.known_sizes(shape), (self.height, self.width))]
        starts = None
        if training and min(spare) > 0:
            seed = self.generator if seed is None else seed
            starts = tuple(random.randint((), 0, n + 1, seed=seed) for n in spare)
        return {"starts": starts, "input_shape": shape}

    def transform_images(self, images, transformation=None, training=True):
        images = ops.cast(images, self.compute_dtype)
        starts = None if transformation is None else transformation["starts"]
        if training and starts is not None:
            return self.window(images, starts, (self.height, self.width))
        if not training and self.known_sizes(ops.shape(images)) == (self.height, self.width):
            return images
        return self.middle(images, self.height, self.width)

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return self.transform_images(segmentation_masks, transformation, training)

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        return cropped_boxes(self, bounding_boxes, transformation["input_shape"], transformation["starts"])


@register
class RandomFlip(RandomImageLayer):
    """Each image mirrored with probability ½: left to right, top to bottom, or both ways."""

    def __init__(self, mode="horizontal_and_vertical", seed=None, data_format=None, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        if mode not in ("horizontal", "vertical", "horizontal_and_vertical"):
            raise ArgumentError(f"RandomFlip: unknown mode {mode!r}")
        self.mode = mode

    def drawn(self, images, seed):
        flips = self.uniform(images, (0.0, 1.0), seed, shape=(1, 1, 1), dtype=self.compute_dtype) <= 0.5
        return {"flips": flips, "input_shape": ops.shape(images)}

    def changed(self, images, transformation):
        for way, axis in (("horizontal", self.axes[1]), ("vertical", self.axes[0])):
            if way in self.mode:
                images = ops.where(transformation["flips"], ops.flip(images, axis=axis), images)
        return images

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        return self.transform_images(segmentation_masks, transformation, training)

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        if not training or transformation is None:
            return bounding_boxes
        sizes = self.sizes_in(transformation["input_shape"])
        height, width = (ops.cast(n, "float32") for n in sizes)
        flips = ops.squeeze(transformation["flips"], -1)

        def move(x1, y1, x2, y2):
            if "horizontal" in self.mode:
                x1, x2 = ops.where(flips, width - x2, x1), ops.where(flips, width - x1, x2)
            if "vertical" in self.mode:
                y1, y2 = ops.where(flips, height - y2, y1), ops.where(flips, height - y1, y2)
            return x1, y1, x2, y2

        return self.moved_boxes(bounding_boxes, sizes, sizes, move)
