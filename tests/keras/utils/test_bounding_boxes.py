"""keras.utils.bounding_boxes against real Keras; boxes and masks drawn on images."""

import itertools

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, MissingNameError
from kcompile.keras.utils import bounding_boxes as ours

RNG = np.random.default_rng(0)
CORNERS = RNG.uniform(0, 20, (2, 3, 2)).astype("f")
BOXES = np.concatenate([CORNERS, CORNERS + RNG.uniform(2, 9, (2, 3, 2)).astype("f")], -1)
OTHERS = BOXES[:, ::-1] + RNG.uniform(-2, 2, (2, 3, 4)).astype("f")
SIZES = (30, 40)


@pytest.fixture(scope="module")
def theirs(real_keras):
    return real_keras.utils.bounding_boxes


def same(found, expected, **close):
    np.testing.assert_allclose(found, np.asarray(expected), **{"rtol": 1e-5, "atol": 1e-5, **close})


def test_formats(theirs):
    for source, target in itertools.product(ours.FORMATS, ours.FORMATS):
        boxes = BOXES / 40 if source.startswith("rel") else BOXES
        same(ours.convert_format(boxes, source, target, *SIZES), theirs.convert_format(boxes, source, target, *SIZES))
    with pytest.raises(ArgumentError, match="height"):
        ours.convert_format(BOXES, "xyxy", "rel_xyxy")


def test_cut_moved_and_turned(theirs):
    labels = np.int32([[1, 2, 3], [4, 5, 6]])
    for form, scale in (("xyxy", 1), ("rel_xyxy", 25)):
        data = {"boxes": BOXES / scale, "labels": labels}
        found = ours.clip_to_image_size(data, 12, 18, form)
        expected = theirs.clip_to_image_size(dict(data), 12, 18, form)
        same(found["boxes"], expected["boxes"])
        same(found["labels"], expected["labels"])
    same(ours.crop(BOXES, 3, 4, 10, 12), theirs.crop(BOXES, 3, 4, 10, 12))
    same(ours.pad(BOXES, 3, 4), theirs.pad(BOXES, 3, 4))
    numbers = [np.float32(v) for v in ([20, -50], [0.1, 0.0], [0.0, -0.2], [1.0, 0.7], [5, 0], [0, 12])]
    same(ours.affine_transform(BOXES, *numbers, *SIZES), theirs.affine_transform(BOXES, *numbers, *SIZES), atol=1e-3)


def test_overlaps_and_offsets(theirs):
    for masking in (False, True):
        same(ours.compute_iou(BOXES, OTHERS, "xyxy", masking), theirs.compute_iou(BOXES, OTHERS, "xyxy", masking))
        one = ours.compute_iou(BOXES[0], OTHERS[1][:2], "center_xywh", masking)
        same(one, theirs.compute_iou(BOXES[0], OTHERS[1][:2], "center_xywh", masking))
    same(ours.compute_ciou(BOXES, OTHERS, "xyxy"), theirs.compute_ciou(BOXES, OTHERS, "xyxy"), rtol=1e-4)
    variance = [0.1, 0.1, 0.2, 0.2]
    deltas = ours.encode_box_to_deltas(BOXES, OTHERS, "xyxy", "xyxy", variance=variance)
    same(deltas, theirs.encode_box_to_deltas(BOXES, OTHERS, "xyxy", "xyxy", variance=variance), rtol=1e-4)
    same(ours.decode_deltas_to_boxes(BOXES, deltas, "xyxy", "xyxy", variance=variance), OTHERS, rtol=1e-4)


def test_drawing(real_keras):
    images = RNG.integers(0, 255, (2, 30, 40, 3)).astype("uint8")
    boxes = {"boxes": np.float32([[[5, 6, 20, 15]]] * 2), "labels": np.int32([[1], [-1]])}
    found = keras.visualization.draw_bounding_boxes(images, boxes, "xyxy", color=(255, 0, 0))
    np.testing.assert_array_equal(found[1], images[1])
    assert np.all(found[0, 6, 5:20] == [255, 0, 0]) and np.all(found[0, 6:15, 20] == [255, 0, 0])
    np.testing.assert_array_equal(found[0, 9:12, 9:16], images[0, 9:12, 9:16])
    masks = RNG.integers(-1, 3, (2, 30, 40, 1)).astype("int32")
    expected = real_keras.visualization.draw_segmentation_masks(images, masks, num_classes=3)
    drawn = keras.visualization.draw_segmentation_masks(images, masks, num_classes=3)
    assert np.abs(drawn.astype(int) - np.asarray(expected)).max() <= 1
    with pytest.raises(MissingNameError, match="plotting library"):
        keras.visualization.plot_image_gallery  # noqa: B018


def test_config_and_ordinals(real_keras):
    settings, theirs = keras.utils.Config(rate=0.1), real_keras.utils.Config(rate=0.1)
    for one in (settings, theirs):
        one.steps = 5
        one["name"] = "x"
        one.update({"more": 1})
        one.freeze()
    assert settings.as_dict() == theirs.as_dict() and list(settings) == list(theirs)
    assert settings.to_json() == theirs.to_json() and settings.frozen and "rate" in settings
    with pytest.raises(ValueError, match="frozen"):
        settings.rate = 1
    with pytest.raises(AttributeError, match="ratio"):
        settings.ratio  # noqa: B018
    np.testing.assert_array_equal(keras.utils.to_ordinal([0, 3, 1], 4), [[0, 0, 0], [1, 1, 1], [1, 0, 0]])
