"""`keras.visualization`: boxes and masks drawn on images, as arrays."""

from __future__ import annotations

import numpy as np

from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.keras import config, ops
from kcompile.keras.absent import missing
from kcompile.keras.utils import bounding_boxes as boxes_of

__all__ = ["draw_bounding_boxes", "draw_segmentation_masks"]


def _batch(images) -> np.ndarray:
    array = ops.convert_to_numpy(images)
    if array.ndim != 4:
        raise ShapeError(f"`images` must be batched 4D tensor. Received: images.shape={array.shape}")
    return array


def draw_bounding_boxes(
    images,
    bounding_boxes,
    bounding_box_format,
    class_mapping=None,
    color=(128, 128, 128),
    line_thickness=2,
    text_thickness=1,
    font_scale=1.0,
    data_format=None,
):
    """Return images (uint8, channels last) with the outlines of boxes; boxes of the class -1 are left out.

    With `class_mapping` (class -> name) each box has its name, and its confidence if there are "confidences".

    Raises: NotSupportedError for names without Pillow.
    """
    array = _batch(images)
    boxes_of.check(bounding_boxes)
    if (data_format or config.image_data_format()) == "channels_first":
        array = array.transpose(0, 2, 3, 1)
    if array.dtype.kind == "f" and array.size:
        array = np.clip(array, 0, 1) * 255 if array.max() <= 1.0 else np.clip(array, 0, 255)
    array = np.array(array.astype("uint8"))
    sizes = array.shape[1:3]
    boxes = ops.convert_to_numpy(boxes_of.convert_format(bounding_boxes["boxes"], bounding_box_format, "xyxy", *sizes))
    labels = ops.convert_to_numpy(bounding_boxes["labels"])
    sure = bounding_boxes.get("confidences")
    sure = None if sure is None else ops.convert_to_numpy(sure)
    for n, (image, found, classes) in enumerate(zip(array, boxes, labels)):
        for k, (box, number) in enumerate(zip(found.astype(int), classes.astype(int))):
            if number == -1:
                continue
            _outline(image, box, color, line_thickness)
            if class_mapping and int(number) in class_mapping:
                text = class_mapping[int(number)] + ("" if sure is None else f" | {sure[n][k]:.2f}")
                _write(image, box, text, color, font_scale)
    return array


def _outline(image: np.ndarray, box, color, thickness: int) -> None:
    """Paint a frame `thickness` wide around the edge of a box, within the image."""
    half = thickness // 2
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (int(v) for v in box)
    paint = np.asarray(color, image.dtype)[: image.shape[-1]]

    def fill(top, bottom, left, right):
        image[max(top, 0) : max(min(bottom, height), 0), max(left, 0) : max(min(right, width), 0)] = paint

    for y in (y1, y2):
        fill(y - half, y - half + thickness, x1 - half, x2 - half + thickness)
    for x in (x1, x2):
        fill(y1 - half, y2 - half + thickness, x - half, x - half + thickness)


def _write(image: np.ndarray, box, text: str, color, scale: float) -> None:
    try:
        from PIL import Image, ImageDraw, ImageFont  # optional: only names of boxes need it
    except ImportError:
        raise NotSupportedError("draw_bounding_boxes: `class_mapping` needs the package Pillow for text") from None
    canvas = Image.fromarray(image)
    size = max(int(12 * scale), 1)
    place = int(box[0]), int(box[1]) - size - 8 if box[1] - size - 8 > 0 else int(box[1]) + 4
    try:
        font = ImageFont.load_default(size)
    except TypeError:  # older Pillow knows one size
        font = ImageFont.load_default()
    ImageDraw.Draw(canvas).text(place, text, fill=tuple(int(c) for c in color), font=font)
    image[:] = np.asarray(canvas)


def draw_segmentation_masks(
    images,
    segmentation_masks,
    num_classes=None,
    color_mapping=None,
    alpha=0.8,
    blend=True,
    ignore_index=-1,
    data_format=None,
):
    """Return images with each pixel's class [batch, height, width, 1] as a colour, mixed in with weight `alpha`.

    Args: color_mapping: class -> (red, green, blue); classes from `num_classes` on and `ignore_index` stay.
    """
    array = _batch(images).astype("float32")
    masks = ops.convert_to_numpy(segmentation_masks)
    if masks.dtype.kind not in "iu":
        raise ArgumentError(f"`segmentation_masks` must be in integer dtype. Received: {masks.dtype}")
    if (data_format or config.image_data_format()) == "channels_first":
        array, masks = array.transpose(0, 2, 3, 1), masks.transpose(0, 2, 3, 1)
    masks = masks[..., 0]
    count = int(masks.max()) if num_classes is None else num_classes  # as in Keras: the last class is not drawn
    painted = array.copy()
    for number in range(count):
        steps = np.array([2**25 - 1, 2**15 - 1, 2**21 - 1])
        painted[masks == number] = number * steps % 255 if color_mapping is None else color_mapping[number]
    if not blend:
        return painted
    mixed = array * (1 - alpha) + painted * alpha
    return np.where((masks != ignore_index)[..., None], mixed, array).astype("uint8")


def __getattr__(name: str):
    if name.startswith("__"):
        raise AttributeError(name)
    raise missing("visualization", name)
