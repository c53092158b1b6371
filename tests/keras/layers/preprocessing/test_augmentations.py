"""Image augmentations: what is done, given what was drawn, against real Keras; what is drawn by its range."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras import layers, ops
from kcompile.testing import check_layer

RNG = np.random.default_rng(0)
X = (RNG.random((3, 8, 10, 3)) * 255).astype("f")

DRAWN = [
    ("RandomFlip", {"mode": "horizontal"}),
    ("RandomRotation", {"factor": 0.3}),
    ("RandomTranslation", {"height_factor": 0.3, "width_factor": 0.2}),
    ("RandomZoom", {"height_factor": 0.3, "width_factor": 0.2}),
    ("RandomShear", {"x_factor": 0.3, "y_factor": 0.2}),
    ("RandomPerspective", {"factor": 0.9, "scale": 0.4}),
    ("RandomBrightness", {"factor": 0.3}),
    ("RandomContrast", {"factor": 0.5}),
    ("RandomColorDegeneration", {"factor": 0.9}),
    ("RandomSaturation", {"factor": (0.1, 0.9)}),
    ("RandomHue", {"factor": 0.8}),
    ("RandomGrayscale", {"factor": 0.5}),
    ("RandomInvert", {"factor": 0.6}),
    ("RandomPosterization", {"factor": 5}),
    ("Solarization", {"addition_factor": 0.5, "threshold_factor": 0.7}),
    ("RandomSharpness", {"factor": 0.9}),
    ("RandomGaussianBlur", {"factor": 0.9, "kernel_size": (3, 5), "sigma": (0.5, 1.0)}),
    ("RandomErasing", {"factor": 0.9, "scale": (0.1, 0.5), "fill_value": 7.0}),
    ("AutoContrast", {}),
    ("Equalization", {"bins": 16}),  # Keras counts them one by one
    ("ContrastLimitedAdaptiveHistogramEqualization", {"tile_grid_size": (3, 2)}),
    ("CutMix", {}),
    ("MixUp", {"alpha": 0.7}),
    ("RandAugment", {"num_ops": 2}),
]
CASES = [(name, init, "channels_last") for name, init in DRAWN] + [
    (name, init, "channels_first")
    for name, init in DRAWN
    if name in ("RandomFlip", "RandomShear", "RandomPerspective", "RandomHue", "RandomSharpness", "CutMix")
]


def arrays(transformation):
    if isinstance(transformation, dict):
        return {k: v if k == "input_shape" else arrays(v) for k, v in transformation.items()}
    return transformation if transformation is None else np.asarray(transformation)


@pytest.mark.parametrize("name, init, data_format", CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_same_numbers_same_images(name, init, data_format, real_keras):
    real_keras.utils.set_random_seed(3)
    init = {**init, "data_format": data_format}
    ours, theirs = (getattr(k.layers, name)(**init, name="it") for k in (keras, real_keras))
    x = X if data_format == "channels_last" else np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    transformation = theirs.get_random_transformation(x, training=True)
    expected = np.asarray(theirs.transform_images(ops.convert_to_numpy(x), transformation, training=True))
    drawn = arrays(transformation)
    found = ours.transform_images(x, {} if drawn is None else drawn, training=True)
    assert found.dtype == expected.dtype
    if name == "Equalization":  # XLA rounds some halves the other way
        assert np.abs(found - expected).max() <= 4.1 and np.mean(np.abs(found - expected) > 0.1) < 0.03
    else:
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-2)
    mine = arrays(ours.get_random_transformation(x, training=True))
    if isinstance(drawn, dict):  # the same things are drawn
        assert set(drawn) - {"rotation_matrix", "image_height", "image_width", "batch_size"} <= set(mine)
    config = ours.get_config()
    assert type(ours).from_config(config).get_config() == config
    if name != "RandomShear":  # its own config is refused in Keras 3.15
        type(theirs).from_config(config)
    assert type(ours).from_config(theirs.get_config()).get_config() == config


def test_data_with_labels_and_masks(real_keras):
    data = {"images": X, "labels": np.eye(3, dtype="f"), "segmentation_masks": X[..., :1] // 100, "other": X[:, 0]}
    for name, init in [DRAWN[0], DRAWN[4], ("MixUp", {}), ("CutMix", {})]:
        ours, theirs = (getattr(k.layers, name)(**init) for k in (keras, real_keras))
        transformation = theirs.get_random_transformation(data, training=True)
        for method, key in (("transform_labels", "labels"), ("transform_segmentation_masks", "segmentation_masks")):
            if (name, key) == ("MixUp", "segmentation_masks"):
                continue  # Keras 3.15 takes from the flattened masks
            expected = getattr(theirs, method)(real_keras.ops.array(data[key]), transformation)
            found = getattr(ours, method)(data[key], arrays(transformation))
            np.testing.assert_allclose(found, np.asarray(expected), atol=1e-3)
    found = layers.MixUp(seed=1)(data, training=True)
    assert set(found) == set(data) and np.array_equal(found["other"], data["other"])
    np.testing.assert_allclose(np.sum(found["labels"], axis=-1), 1.0, rtol=1e-5)
    again = layers.MixUp(seed=1)(data, training=False)
    assert all(np.array_equal(again[k], data[k]) for k in data)


BOXES = np.float32([[[1, 2, 5, 6], [3, 0, 9, 4]]] * 3)


def boxed(form="xyxy"):
    labels = np.tile(np.int32([[1, 2]]), (3, 1))
    boxes = keras.utils.bounding_boxes.convert_format(BOXES, "xyxy", form, 8, 10)
    return {"boxes": np.array(boxes), "labels": labels}


@pytest.mark.parametrize("name", ["RandomFlip", "RandomRotation", "RandomTranslation", "RandomZoom", "RandomShear",
                                  "RandomPerspective", "RandomCrop", "CenterCrop", "Resizing"])  # fmt: skip
def test_boxes_follow_the_pixels(name):
    """A white rectangle lies, after any change, where its box says (to a pixel, and up to what was cut off)."""
    init = {
        "RandomFlip": {}, "RandomRotation": {"factor": (0.1, 0.1)}, "RandomZoom": {"height_factor": (0.3, 0.3)},
        "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2}, "RandomShear": {"x_factor": 0.2},
        "RandomPerspective": {"scale": 0.3}, "RandomCrop": {"height": 30, "width": 36},
        "CenterCrop": {"height": 30, "width": 36}, "Resizing": {"height": 60, "width": 30},
    }[name]  # fmt: skip
    if name in ("RandomRotation", "RandomTranslation", "RandomZoom", "RandomShear"):
        init["fill_mode"] = "constant"
    image = np.zeros((6, 40, 50, 1), "f")
    image[:, 10:25, 12:33] = 1.0
    data = {
        "images": image,
        "bounding_boxes": {"boxes": np.float32([[[12, 10, 33, 25]]] * 6), "labels": np.ones((6, 1), "int32")},
    }
    found = getattr(layers, name)(**init, bounding_box_format="xyxy")(data, training=True)
    images, boxes = np.asarray(found["images"])[..., 0], np.asarray(found["bounding_boxes"]["boxes"])[:, 0]
    assert np.all(np.asarray(found["bounding_boxes"]["labels"]) == 1)
    for image, (x1, y1, x2, y2) in zip(images, boxes):
        rows, columns = np.nonzero(image > 0.5)
        seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        np.testing.assert_allclose((x1, y1, x2, y2), seen, atol=2.1)


def test_boxes_in_other_formats_and_their_number():
    for form in keras.utils.bounding_boxes.FORMATS:
        data = {"images": X, "bounding_boxes": boxed(form)}
        found = layers.RandomFlip("horizontal", seed=0, bounding_box_format=form)(data, training=True)
        back = keras.utils.bounding_boxes.convert_format(found["bounding_boxes"]["boxes"], form, "xyxy", 8, 10)
        for one, boxes in zip(np.asarray(back), BOXES):
            mirrored = np.stack([10 - boxes[:, 2], boxes[:, 1], 10 - boxes[:, 0], boxes[:, 3]], -1)
            assert np.allclose(one, boxes, atol=1e-4) or np.allclose(one, mirrored, atol=1e-4)
    data = {"images": X, "bounding_boxes": boxed()}
    for most in (1, 2, 5):
        boxes = layers.MaxNumBoundingBoxes(most, bounding_box_format="xyxy")(data)["bounding_boxes"]
        assert boxes["boxes"].shape == (3, most, 4) and boxes["labels"].shape == (3, most)
        assert np.all(np.asarray(boxes["labels"])[:, 2:] == -1)
    with pytest.raises(ArgumentError, match="bounding_box_format"):
        layers.RandomFlip()(data)
    with pytest.raises(NotSupportedError, match="CutMix"):
        layers.CutMix(bounding_box_format="xyxy")(data)


def test_ranges():
    many = np.full((200, 4, 4, 3), 100.0, "f")
    invert = np.asarray(layers.RandomInvert(0.5, seed=1)(many, training=True))[:, 0, 0, 0]
    assert set(np.unique(invert)) == {100.0, 155.0}
    bits = layers.RandomPosterization((2, 5), seed=1).get_random_transformation(many)["shift_factor"]
    assert set(np.unique(np.asarray(bits)).tolist()) == {4, 5, 6}
    hue = np.asarray(layers.RandomHue((0.2, 0.4), seed=1).get_random_transformation(many)["factor"])
    assert np.all((np.abs(hue) >= 0.1) & (np.abs(hue) <= 0.2)) and hue.min() < 0 < hue.max()
    erased = np.asarray(layers.RandomErasing(scale=0.25, fill_value=0.0, seed=1)(many + 1, training=True))
    assert 0.02 < np.mean(erased == 0) < 0.3
    order = np.asarray(layers.CutMix(seed=1).get_random_transformation(many)["permutation_order"])
    assert sorted(order.tolist()) == list(range(200))


def test_elastic_transform():
    x = np.broadcast_to(np.arange(40, dtype="f")[:, None, None] * 5, (2, 40, 40, 1)).copy()
    found = np.asarray(ops.image.elastic_transform(x, alpha=3.0, sigma=2.0, seed=1))
    moved = np.abs(found - x)
    assert 1.0 < moved.mean() < 20.0 and moved.std() > 0.5
    smooth = np.abs(np.diff((found - x)[:, 5:-5, 5:-5], axis=2)).mean()
    assert smooth < moved.mean()
    np.testing.assert_array_equal(found, ops.image.elastic_transform(x, alpha=3.0, sigma=2.0, seed=1))
    layer = layers.RandomElasticTransform(scale=(0.9, 1.0), seed=2)
    both = layer({"images": x, "segmentation_masks": x}, training=True)
    assert np.abs(np.asarray(both["images"]) - np.asarray(both["segmentation_masks"])).mean() < 5.0  # moved alike
    assert not np.array_equal(both["images"], x)


def test_aug_mix_is_its_mixture():
    layer = layers.AugMix(num_chains=2, chain_depth=2, seed=4)
    drawn = layer.get_random_transformation(X)
    for choices in ([11, 11, 11, 11], [9, 11, 11, 9]):  # nothing; the stretch of contrast in each chain
        mixed = np.asarray(layer.transform_images(X, {**drawn, "choices": np.int32(choices)}))
        one = np.asarray(layers.AutoContrast()(X)) if 9 in choices else X
        w = float(drawn["weight_sample"])
        np.testing.assert_allclose(mixed, w * X + (1 - w) * one, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(np.sum(np.asarray(drawn["chain_mixing_weights"])), 1.0, rtol=1e-5)


COMPILED = [
    *(("RandomPerspective", {"scale": 0.3, "seed": n}) for n in (101, 117)),  # equations that amplify rounding
    ("RandomElasticTransform", {}),
    ("RandomColorJitter", {"brightness_factor": 0.2, "contrast_factor": 0.2, "saturation_factor": 0.4,
                           "hue_factor": 0.2}),
    ("RandomGaussianBlur", {}),
    ("RandomErasing", {}),
    ("Equalization", {}),
    ("ContrastLimitedAdaptiveHistogramEqualization", {"tile_grid_size": (2, 2)}),
    ("CutMix", {}),
]  # fmt: skip


@pytest.mark.parametrize("name, init", COMPILED, ids=[name for name, _ in COMPILED])
def test_promises(name, init):
    """Eager and compiled draw the same; shapes, configs, models with an open batch."""
    check_layer(getattr(layers, name), {**init}, input_data=X, training=True, gradient=False)


FEW = ("random_shear", "auto_contrast", "random_posterization")  # of eleven


@pytest.mark.parametrize("name, some", [("RandAugment", FEW), ("AugMix", FEW)])
def test_policies_compile(name, some, monkeypatch):
    for attribute in ("names", "plain"):
        monkeypatch.setattr(getattr(layers, name), attribute, some, raising=False)
    model = keras.Sequential([keras.Input((8, 10, 3)), getattr(layers, name)(seed=3), layers.Flatten()])
    model.compile("sgd", "mse")
    compiled = [model.train_on_batch(X, np.zeros((3, 240), "f")) for _ in range(3)]
    assert len(set(compiled)) > 1 and np.all(np.isfinite(compiled))
    eager = np.asarray(getattr(layers, name)(seed=3)(X, training=True))
    np.testing.assert_allclose(compiled[0], np.mean(eager**2), rtol=1e-3)
    np.testing.assert_array_equal(model.predict(X, verbose=0).reshape(X.shape), X)


def test_pipeline(real_keras):
    def build(k):
        return k.layers.Pipeline([k.layers.Rescaling(2.0), k.layers.CenterCrop(4, 4), k.layers.Dropout(0.5)])

    ours, theirs = build(keras), build(real_keras)
    np.testing.assert_allclose(ours(X, training=False), np.asarray(theirs(X, training=False)))
    assert np.mean(np.asarray(ours(X, training=True)) == 0) > 0.3
    again = layers.Pipeline.from_config(theirs.get_config())
    assert [type(layer).__name__ for layer in again.layers] == ["Rescaling", "CenterCrop", "Dropout"]
    model = keras.Sequential([keras.Input((8, 10, 3)), build(keras)])
    np.testing.assert_allclose(model.predict(X, verbose=0), np.asarray(theirs(X, training=False)))
