"""What layers on images share: images alone or with labels, masks and boxes; what is drawn apart from what is done.

    get_random_transformation(data)   draws: a dict of tensors, None where nothing is to be done
    transform_images(images, that)    does it; likewise transform_labels, transform_segmentation_masks and
                                      transform_bounding_boxes, which leave their data alone unless overridden

A subclass gives `drawn(images, seed)` and `changed(images, transformation)` for a batch of images.
"""

from __future__ import annotations

from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.keras import config, ops, random
from kcompile.keras.layers.layer import Layer
from kcompile.keras.tracing import tree
from kcompile.keras.utils import bounding_boxes as boxes_of

_MOVED = ("images", "labels", "segmentation_masks", "bounding_boxes")


class ImageLayer(Layer):
    """Base of layers on images [batch, height, width, channels] (or channels first), or one image without the batch.

    Called on a dict, it changes images, labels, segmentation_masks and bounding_boxes alike and leaves other entries.
    """

    def __init__(self, data_format=None, bounding_box_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = config.standardize_data_format(data_format)
        self.bounding_box_format = bounding_box_format

    @property
    def axes(self) -> tuple[int, int]:
        """The axes of height and width, counted from the end."""
        return (-2, -1) if self.data_format == "channels_first" else (-3, -2)

    @property
    def channel_axis(self) -> int:
        """The axis of channels, counted from the end."""
        return -3 if self.data_format == "channels_first" else -1

    def sizes(self, images) -> tuple:
        """Return height and width."""
        return self.sizes_in(ops.shape(images))

    def sizes_in(self, shape) -> tuple:
        """Return height and width of images of this shape."""
        return shape[self.axes[0]], shape[self.axes[1]]

    def call(self, data, training=True):
        given = data if isinstance(data, dict) else {"images": data}
        rank = len(given["images"].shape)
        if rank not in (3, 4):
            raise ShapeError(
                "Expected image tensor to have rank 3 (single image) or 4 (batch of images). "
                f"Received: data.shape={tuple(given['images'].shape)}"
            )
        found = {k: v for k, v in given.items() if k in _MOVED}
        if rank == 3:
            found = tree.map_structure(lambda v: ops.expand_dims(v, 0), found)
        found = self._transformed(found, training)
        if rank == 3:
            found = tree.map_structure(lambda v: ops.squeeze(v, 0), found)
        return {**given, **found} if isinstance(data, dict) else found["images"]

    def _transformed(self, data: dict, training: bool) -> dict:
        transformation = self.get_random_transformation(data, training=training)
        found = {"images": self.transform_images(data["images"], transformation, training=training)}
        if "bounding_boxes" in data:
            boxes_of.check(data["bounding_boxes"])
            if not self.bounding_box_format:
                raise ArgumentError(
                    f"{type(self).__name__}: the data have 'bounding_boxes', so the layer needs to know their format, "
                    "such as `bounding_box_format='xyxy'`."
                )
            found["bounding_boxes"] = self.transform_bounding_boxes(
                data["bounding_boxes"], transformation, training=training
            )
        if "labels" in data:
            found["labels"] = self.transform_labels(data["labels"], transformation, training=training)
        if "segmentation_masks" in data:
            found["segmentation_masks"] = self.transform_segmentation_masks(
                data["segmentation_masks"], transformation, training=training
            )
        return found

    # what is drawn, what is done -----------------------------------------------------------------------

    def get_random_transformation(self, data, training=True, seed=None):
        """Return what `transform_images` and its like need; None if there is nothing to draw."""
        return None

    def transform_images(self, images, transformation=None, training=True):
        """Return what becomes of a batch of images."""
        return self.changed(ops.cast(images, self.compute_dtype), transformation)

    def changed(self, images, transformation):
        """Return what becomes of images in the compute dtype."""
        raise NotImplementedError(f"{type(self).__name__} must override changed()")

    def transform_labels(self, labels, transformation=None, training=True):
        """Return what becomes of labels."""
        return labels

    def transform_segmentation_masks(self, segmentation_masks, transformation=None, training=True):
        """Return what becomes of masks."""
        return segmentation_masks

    def transform_bounding_boxes(self, bounding_boxes, transformation=None, training=True):
        """Return what becomes of {"boxes": [batch, boxes, 4], "labels": [batch, boxes]}."""
        return bounding_boxes

    def moved_boxes(self, bounding_boxes, before, after, move):
        """Return boxes after `move(x1, y1, x2, y2)` (in pixels, [batch, boxes, 1] each), cut to the image.

        Args:    before, after: height and width of the images.
        """
        boxes = boxes_of.convert_format(bounding_boxes["boxes"], self.bounding_box_format, "xyxy", *before)
        moved = {**bounding_boxes, "boxes": ops.concatenate(move(*ops.split(boxes, 4, axis=-1)), axis=-1)}
        moved = boxes_of.clip_to_image_size(moved, *after)
        boxes = boxes_of.convert_format(moved["boxes"], "xyxy", self.bounding_box_format, *after)
        return {**moved, "boxes": boxes}

    def boxes_cannot_follow(self):
        """Refuse bounding boxes."""
        raise NotSupportedError(f"{type(self).__name__} does not say what becomes of bounding boxes")

    # helpers ---------------------------------------------------------------------------------------------

    def window(self, images, starts, sizes):
        """Return the part that begins at `starts` (height, width; numbers or values of a program)."""
        for axis, start, size in zip(self.axes, starts, sizes):
            images = ops.take(images, ops.arange(size) + start, axis=axis)
        return images

    def known_sizes(self, shape) -> tuple[int, int]:
        """Return height and width of images of this shape.

        Raises: ShapeError if they are open.
        """
        rows, columns = self.sizes_in(shape)
        if not isinstance(rows, int) or not isinstance(columns, int):
            raise ShapeError(
                f"{type(self).__name__} needs images of known height and width. Received: images.shape={tuple(shape)}"
            )
        return rows, columns

    def middle_part(self, shape, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return where the largest part of the shape height : width in the middle begins, and its size."""
        rows, columns = self.known_sizes(shape)
        part = max(min(rows, int(columns * height / width)), 1), max(min(columns, int(rows * width / height)), 1)
        return (int((rows - part[0]) / 2), int((columns - part[1]) / 2)), part

    def middle(self, images, height: int, width: int):
        """Return that part, resized."""
        start, part = self.middle_part(ops.shape(images), height, width)
        images = self.window(images, start, part)
        if part != (height, width):
            images = ops.image.resize(images, (height, width), data_format=self.data_format)
        return ops.cast(images, self.compute_dtype)

    def get_config(self):
        found = {**super().get_config(), "data_format": self.data_format}
        if found.get("bounding_box_format") is None:
            found.pop("bounding_box_format", None)
        return found


class RandomImageLayer(ImageLayer):
    """Base of layers that draw numbers for each image, and act in training only."""

    def __init__(self, seed=None, data_format=None, **kwargs):
        super().__init__(data_format=data_format, **kwargs)
        self.seed = seed
        self.generator = random.SeedGenerator(seed)

    def get_random_transformation(self, data, training=True, seed=None):
        if not training:
            return None
        images = data["images"] if isinstance(data, dict) else data
        return self.drawn(images, self.generator if seed is None else seed)

    def drawn(self, images, seed):
        """Return what is drawn for images (one or a batch)."""
        raise NotImplementedError(f"{type(self).__name__} must override drawn()")

    def transform_images(self, images, transformation=None, training=True):
        images = ops.cast(images, self.compute_dtype)
        return self.changed(images, transformation) if training and transformation is not None else images

    def count(self, images):
        """Return how many images there are."""
        return ops.shape(images)[0] if len(images.shape) == 4 else 1

    def uniform(self, images, limits, seed, shape=(), dtype="float32"):
        """Return a number per image, [images, *shape]."""
        return random.uniform((self.count(images), *shape), *limits, dtype, seed)

    def chosen(self, images, limits, seed):
        """Return for each image whether it is changed: with a probability drawn within the limits."""
        return self.uniform(images, (0.0, 1.0), seed) < self.uniform(images, limits, seed)


class ColourLayer(RandomImageLayer):
    """Base of layers that change the values of pixels within `value_range`; masks and boxes stay."""

    def __init__(self, value_range=(0, 255), seed=None, data_format=None, **kwargs):
        super().__init__(seed, data_format, **kwargs)
        if not isinstance(value_range, (tuple, list)) or len(value_range) != 2:
            raise ArgumentError(
                f"The `value_range` argument should be a list of two numbers. Received: value_range={value_range}"
            )
        self.value_range = sorted(value_range)

    def rescaled(self, images, before, after):
        """Return values of the range `before` in the range `after`."""
        if tuple(before) == tuple(after):
            return images
        return (images - before[0]) / (before[1] - before[0]) * (after[1] - after[0]) + after[0]

    def limited(self, images):
        """Return images with values cut to the range."""
        return ops.clip(images, *self.value_range)


def per_pixel(values):
    """A number per image, [images], with axes to be broadcast."""
    return ops.reshape(values, (-1, 1, 1, 1))


def bounds(factor, name: str = "factor", low: float = -1.0, high: float = 1.0, start=None) -> tuple[float, float]:
    """Return (lower, upper) of a number or a pair; a number alone is the upper one, `start` or minus it the lower.

    Raises: ArgumentError outside low..high.
    """
    is_pair = isinstance(factor, (tuple, list)) and len(factor) == 2
    if not is_pair and (isinstance(factor, bool) or not isinstance(factor, (int, float))):
        raise ArgumentError(f"The `{name}` argument should be a number or a pair of numbers. Received: {factor}")
    if is_pair:
        given = sorted(factor)
    else:
        given = [max(-abs(factor), low) if start is None else start, abs(factor)]
    if given[0] < low or given[1] > high:
        raise ArgumentError(f"The `{name}` argument should be in the range [{low}, {high}]. Received: {factor}")
    return given[0], given[1]
