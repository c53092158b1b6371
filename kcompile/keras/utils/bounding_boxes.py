"""keras.utils.bounding_boxes: boxes [..., 4] in other formats, cut, moved, compared, as offsets from anchors.

Formats: xyxy, yxyx (two corners); xywh (corner and size); center_xywh, center_yxhw (middle and size); each of them
may begin with rel_: in shares of the image's width and height. Every conversion goes through xyxy.
"""

from __future__ import annotations

import math
from typing import Any

from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.keras import config, ops

FORMATS = ("xyxy", "yxyx", "xywh", "center_xywh", "center_yxhw", "rel_xyxy", "rel_yxyx", "rel_xywh", "rel_center_xywh")


def check(bounding_boxes: Any) -> None:
    """Raises: ArgumentError unless it is a dict of boxes and labels."""
    if not isinstance(bounding_boxes, dict) or not {"boxes", "labels"} <= set(bounding_boxes):
        raise ArgumentError(
            "Expected `bounding_boxes` to be a dict with keys 'boxes' and 'labels'. Received: "
            f"bounding_boxes={bounding_boxes}"
        )


def _columns(boxes):
    return ops.split(boxes, 4, axis=-1)


def _joined(*columns):
    return ops.concatenate(columns, axis=-1)


def _corners(boxes, form: str):
    a, b, c, d = _columns(boxes)
    if form == "yxyx":
        return b, a, d, c
    if form == "xywh":
        return a, b, a + c, b + d
    if form == "center_xywh":
        return a - c / 2, b - d / 2, a + c / 2, b + d / 2
    if form == "center_yxhw":
        return b - d / 2, a - c / 2, b + d / 2, a + c / 2
    return a, b, c, d


def _in_format(x1, y1, x2, y2, form: str):
    w, h = x2 - x1, y2 - y1
    if form == "yxyx":
        return _joined(y1, x1, y2, x2)
    if form == "xywh":
        return _joined(x1, y1, w, h)
    if form == "center_xywh":
        return _joined((x1 + x2) / 2, (y1 + y2) / 2, w, h)
    if form == "center_yxhw":
        return _joined((y1 + y2) / 2, (x1 + x2) / 2, h, w)
    return _joined(x1, y1, x2, y2)


def convert_format(boxes, source, target, height=None, width=None, dtype="float32"):
    """Return boxes (or a dict with "boxes") in another format; `height` and `width` of the image for relative ones."""
    if isinstance(boxes, dict):
        return {**boxes, "boxes": convert_format(boxes["boxes"], source, target, height, width, dtype)}
    if ops.shape(boxes)[-1] != 4:
        raise ShapeError(
            f"`boxes` must be a tensor with the last dimension of 4. Received: boxes.shape={ops.shape(boxes)}"
        )
    source, target = source.lower(), target.lower()
    if source not in FORMATS or target not in FORMATS:
        raise ArgumentError(f"Invalid source or target format. Supported formats: {FORMATS}")
    relative = source.startswith("rel_"), target.startswith("rel_")
    if any(relative) and (height is None or width is None):
        raise ArgumentError(
            "convert_format() must receive `height` and `width` for relative formats. Received: "
            f"source={source}, target={target}, height={height}, width={width}"
        )
    boxes = ops.cast(boxes, dtype)
    if source == target:
        return boxes
    corners = _corners(boxes, source.removeprefix("rel_"))
    if relative[0] != relative[1]:
        w, h = ops.cast(width, dtype), ops.cast(height, dtype)
        corners = [v * size if relative[0] else v / size for v, size in zip(corners, (w, h, w, h))]
    return _in_format(*corners, target.removeprefix("rel_"))


def clip_to_image_size(bounding_boxes, height=None, width=None, bounding_box_format="xyxy"):
    """Return {"boxes", "labels"} cut to the image; a box of which nothing is left gets the label -1."""
    if bounding_box_format not in ("xyxy", "rel_xyxy"):
        raise NotSupportedError(f"clip_to_image_size: format {bounding_box_format!r}; only xyxy and rel_xyxy")
    if bounding_box_format == "rel_xyxy":
        height = width = 1.0
    elif height is None or width is None:
        raise ArgumentError("`height` and `width` must be set if `format='xyxy'`.")
    boxes = bounding_boxes["boxes"]
    found = {**bounding_boxes, "boxes": _cut(*_columns(boxes), height, width)}
    if found.get("labels") is not None:
        x1, y1, x2, y2 = _columns(found["boxes"])
        area = ops.squeeze((x2 - x1) * (y2 - y1), axis=-1)
        labels = ops.convert_to_tensor(found["labels"])
        found["labels"] = ops.where(area > 0, labels, ops.cast(-1, ops.dtype(labels)))
    return found


def _cut(x1, y1, x2, y2, height, width):
    kind = ops.dtype(x1)
    w, h = ops.cast(width, kind), ops.cast(height, kind)
    return _joined(*(ops.minimum(ops.maximum(v, 0), size) for v, size in ((x1, w), (y1, h), (x2, w), (y2, h))))


def _needs_corners(bounding_box_format: str, name: str) -> None:
    if bounding_box_format != "xyxy":
        raise NotSupportedError(f"{name}: format {bounding_box_format!r}; convert boxes to 'xyxy' first")


def crop(boxes, top, left, height, width, bounding_box_format="xyxy"):
    """Return boxes of the part of the image that begins at (top, left)."""
    _needs_corners(bounding_box_format, "crop")
    x1, y1, x2, y2 = _columns(boxes)
    return _cut(x1 - left, y1 - top, x2 - left, y2 - top, height, width)


def pad(boxes, top, left, height=None, width=None, bounding_box_format="xyxy"):
    """Return boxes of the image with `top` rows and `left` columns more in front."""
    _needs_corners(bounding_box_format, "pad")
    x1, y1, x2, y2 = _columns(boxes)
    return _joined(x1 + left, y1 + top, x2 + left, y2 + top)


def affine_transform(
    boxes,
    angle,
    translate_x,
    translate_y,
    scale,
    shear_x,
    shear_y,
    height,
    width,
    center_x=None,
    center_y=None,
    bounding_box_format="xyxy",
):
    """Return the boxes around boxes [batch, boxes, 4] turned (angles in degrees), moved by shares of the image, scaled.

    A corner p becomes c + scale · (R S)^-1 (p - c + t): R turns by -angle, S shears, c is the centre.
    """
    _needs_corners(bounding_box_format, "affine_transform")

    def number(v, unit=1.0):  # one per image, for [batch, boxes]
        return ops.reshape(ops.cast(v, "float32"), (-1, 1)) * unit

    degree = -math.pi / 180
    turn, sx, sy = number(angle, degree), number(shear_x, degree), number(shear_y, degree)
    cos, sin = ops.cos(turn - sy) / ops.cos(sy), ops.sin(turn - sy) / ops.cos(sy)
    rows = (ops.cos(turn) + sin * ops.tan(sx), -cos * ops.tan(sx) - ops.sin(turn)), (sin, cos)
    last_x, last_y = ops.cast(width, "float32") - 1, ops.cast(height, "float32") - 1
    cx = (0.5 if center_x is None else center_x) * last_x
    cy = (0.5 if center_y is None else center_y) * last_y
    x1, y1, x2, y2 = (ops.squeeze(v, -1) for v in _columns(ops.cast(boxes, "float32")))
    moved = []
    for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2)):
        dx, dy = x - cx + number(translate_x) * last_x, y - cy + number(translate_y) * last_y
        moved.append([c + (a * dx + b * dy) * number(scale) for c, (a, b) in zip((cx, cy), rows)])
    xs, ys = (ops.stack(v, axis=-1) for v in zip(*moved))
    return ops.stack([ops.min(xs, -1), ops.min(ys, -1), ops.max(xs, -1), ops.max(ys, -1)], axis=-1)


# comparing ------------------------------------------------------------------------------------------------


def _image_sizes(image_shape, bounding_box_format: str = "xyxy") -> tuple:
    if "rel" in bounding_box_format and image_shape is None:
        raise ArgumentError(
            "When using relative bounding box formats (e.g. `rel_yxyx`) the `image_shape` argument must be provided. "
            f"Received `image_shape`: {image_shape}"
        )
    return (None, None) if image_shape is None else tuple(image_shape[:2])


def compute_iou(boxes1, boxes2, bounding_box_format, use_masking=False, mask_val=-1, image_shape=None):
    """Return intersection over union of each of boxes1 [(batch,) n, 4] with each of boxes2 [(batch,) m, 4]."""
    for boxes in (boxes1, boxes2):
        if len(ops.shape(boxes)) not in (2, 3):
            raise ShapeError(
                "compute_iou() expects boxes to be batched, or to be unbatched. Received "
                f"len(boxes1.shape)={len(ops.shape(boxes1))}, len(boxes2.shape)={len(ops.shape(boxes2))}."
            )
    sizes = _image_sizes(image_shape, bounding_box_format)
    first, second = (convert_format(b, bounding_box_format, "xyxy", *sizes) for b in (boxes1, boxes2))
    a, b = ops.expand_dims(first, -2), ops.expand_dims(second, -3)
    shared = _shared_area(a, b)
    found = shared / (_area(a) + _area(b) - shared + config.epsilon())
    found = ops.squeeze(found, -1)
    if not use_masking:
        return found
    empty = ops.logical_or(ops.max(a, axis=-1) < 0, ops.max(b, axis=-1) < 0)
    return ops.where(empty, ops.cast(mask_val, ops.dtype(found)), found)


def _area(boxes):
    x1, y1, x2, y2 = _columns(boxes)
    return (x2 - x1) * (y2 - y1)


def _shared_area(a, b):
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _columns(a), _columns(b)
    wide = ops.maximum(ops.minimum(ax2, bx2) - ops.maximum(ax1, bx1), 0)
    return wide * ops.maximum(ops.minimum(ay2, by2) - ops.maximum(ay1, by1), 0)


def compute_ciou(boxes1, boxes2, bounding_box_format, image_shape=None):
    """Return the complete intersection over union of pairs of boxes. Source: Zheng et al. 2020, equation 10."""
    tiny = config.epsilon()
    sizes = _image_sizes(image_shape, bounding_box_format)
    a, b = (convert_format(v, bounding_box_format, "xyxy", *sizes) for v in (boxes1, boxes2))
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _columns(a), _columns(b)
    aw, ah, bw, bh = ax2 - ax1, ay2 - ay1 + tiny, bx2 - bx1, by2 - by1 + tiny
    shared = _shared_area(a, b)
    iou = shared / (aw * ah + bw * bh - shared + 2 * tiny)
    around_x = ops.maximum(ax2, bx2) - ops.minimum(ax1, bx1)
    around_y = ops.maximum(ay2, by2) - ops.minimum(ay1, by1)
    diagonal = ops.square(around_x) + ops.square(around_y) + tiny
    apart = (ops.square(ax1 + ax2 - bx1 - bx2) + ops.square(ay1 + ay2 - by1 - by2)) / 4
    shape = 4 / math.pi**2 * ops.square(ops.arctan(bw / bh) - ops.arctan(aw / ah))
    return ops.squeeze(iou - apart / diagonal - shape * shape / (shape - iou + 1 + tiny), -1)


# offsets from anchors -----------------------------------------------------------------------------------------


def _variance(variance):
    if variance is None:
        return None
    found = ops.convert_to_tensor(variance, "float32")
    if ops.shape(found)[-1] != 4:
        raise ArgumentError(f"`variance` must be length 4, got {variance}")
    return found


def _middle_format(form: str, name: str) -> str:
    if form not in ("center_xywh", "center_yxhw"):
        raise ArgumentError(f"`{name}` should be one of 'center_xywh' or 'center_yxhw', got {form}")
    return form


def encode_box_to_deltas(
    anchors, boxes, anchor_format, box_format, encoding_format="center_yxhw", variance=None, image_shape=None
):
    """Return boxes as offsets of the middle in sizes of the anchor, and logarithms of ratios of sizes."""
    variance, form = _variance(variance), _middle_format(encoding_format, "encoding_format")
    sizes = _image_sizes(image_shape)
    anchors = convert_format(anchors, anchor_format, form, *sizes)
    boxes = convert_format(boxes, box_format, form, *sizes)
    unit, size = (ops.maximum(v[..., 2:], config.epsilon()) for v in (anchors, boxes))
    deltas = ops.concatenate([(boxes[..., :2] - anchors[..., :2]) / unit, ops.log(size / unit)], axis=-1)
    return deltas if variance is None else deltas / variance


def decode_deltas_to_boxes(
    anchors, boxes_delta, anchor_format, box_format, encoded_format="center_yxhw", variance=None, image_shape=None
):
    """Return the boxes of which `encode_box_to_deltas` made these; both may be dicts by level."""
    if isinstance(anchors, dict) and isinstance(boxes_delta, dict):
        rest = anchor_format, box_format, encoded_format, variance, image_shape
        return {level: decode_deltas_to_boxes(a, boxes_delta[level], *rest) for level, a in anchors.items()}
    variance, form = _variance(variance), _middle_format(encoded_format, "encoded_format")
    sizes = _image_sizes(image_shape)
    anchors = convert_format(anchors, anchor_format, form, *sizes)
    deltas = ops.convert_to_tensor(boxes_delta) if variance is None else boxes_delta * variance
    unit = anchors[..., 2:]
    middle, size = deltas[..., :2] * unit + anchors[..., :2], ops.exp(deltas[..., 2:]) * unit
    return convert_format(ops.concatenate([middle, size], axis=-1), form, box_format, *sizes)


__all__ = [
    "affine_transform",
    "clip_to_image_size",
    "compute_ciou",
    "compute_iou",
    "convert_format",
    "crop",
    "decode_deltas_to_boxes",
    "encode_box_to_deltas",
    "pad",
]
