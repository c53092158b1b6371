"""ImageDataGenerator: moves checked by hand and against SciPy, statistics, fit."""

import importlib

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError
from kcompile.keras.preprocessing import image

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (8, 6, 7, 3)).astype("float32")


@pytest.mark.parametrize("fill_mode", ["nearest", "constant", "reflect"])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(
    "move",
    [
        {"theta": 30},
        {"tx": 1.25, "ty": -2.4},
        {"shear": 20},
        {"zx": 0.7, "zy": 1.4},
        {"theta": -50, "tx": 1.3, "ty": 0.6, "shear": 10, "zx": 1.1, "zy": 0.8},
    ],
)
def test_moves_against_scipy(move, order, fill_mode):
    ndimage = importlib.import_module("scipy.ndimage")
    given = {"theta": 0, "tx": 0, "ty": 0, "shear": 0, "zx": 1, "zy": 1} | move
    t, s = np.deg2rad(given["theta"]), np.deg2rad(given["shear"])
    matrix = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    offset = matrix @ [given["tx"], given["ty"]]
    matrix = matrix @ [[1, -np.sin(s)], [0, np.cos(s)]] @ np.diag([given["zx"], given["zy"]])
    centre = np.array([6 - 1, 7 - 1]) / 2
    expected = np.stack(
        [
            ndimage.affine_transform(
                channel, matrix, centre + offset - matrix @ centre, order=order, mode=fill_mode, cval=3.0
            )
            for channel in np.moveaxis(IMAGES[0], 2, 0)
        ],
        axis=2,
    )
    arguments = {"row_axis": 0, "col_axis": 1, "channel_axis": 2, "fill_mode": fill_mode, "cval": 3.0, "order": order}
    np.testing.assert_allclose(image.apply_affine_transform(IMAGES[0], **move, **arguments), expected, atol=1e-2)


def test_moves_by_whole_pixels():
    x = np.arange(4.0).reshape(1, 1, 4)
    rows = {"nearest": [1, 2, 3, 3], "constant": [1, 2, 3, 9], "reflect": [1, 2, 3, 3], "wrap": [1, 2, 3, 0]}
    for fill_mode, expected in rows.items():
        assert image.apply_affine_transform(x, ty=1, fill_mode=fill_mode, cval=9)[0, 0].tolist() == expected
    turned = image.apply_affine_transform(np.arange(4.0).reshape(1, 2, 2), theta=90)
    np.testing.assert_allclose(turned[0], np.rot90([[0, 1], [2, 3]], -1), atol=1e-9)


def test_apply_transform():
    generator = image.ImageDataGenerator()
    x = IMAGES[0]
    np.testing.assert_array_equal(generator.apply_transform(x, {"flip_horizontal": True}), x[:, ::-1])
    np.testing.assert_array_equal(generator.apply_transform(x, {"flip_vertical": True}), x[::-1])
    np.testing.assert_array_equal(generator.apply_transform(x, {"brightness": 0.5}), x / 2)
    shifted = generator.apply_transform(x, {"channel_shift_intensity": 20.0})
    np.testing.assert_array_equal(shifted, np.minimum(x + 20, x.max()))
    np.testing.assert_array_equal(generator.apply_transform(x, {}), x)


def test_drawn_transforms_stay_in_range():
    generator = image.ImageDataGenerator(
        rotation_range=20, width_shift_range=0.5, height_shift_range=2, zoom_range=0.2, brightness_range=(0.5, 2)
    )
    drawn = [generator.get_random_transform((10, 20, 3), seed=i) for i in range(40)]
    assert all(abs(d["theta"]) <= 20 and abs(d["ty"]) <= 10 and d["tx"] in (-2, -1, 0, 1) for d in drawn)
    assert all(0.8 <= d["zx"] <= 1.2 and 0.5 <= d["brightness"] <= 2 for d in drawn)
    assert len({d["theta"] for d in drawn}) == 40
    assert generator.get_random_transform((10, 20, 3), seed=1) == drawn[1]


def test_statistics():
    generator = image.ImageDataGenerator(featurewise_center=True, featurewise_std_normalization=True)
    with pytest.raises(ArgumentError, match="fit"):
        generator.standardize(IMAGES[0])
    generator.fit(IMAGES)
    x = generator.flow(IMAGES, batch_size=8, shuffle=False)[0]
    np.testing.assert_allclose(x.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(x.std(axis=(0, 1, 2)), 1, atol=1e-4)
    whitened = image.ImageDataGenerator(zca_whitening=True)
    small = RNG.normal(size=(200, 2, 2, 1)) @ np.array([[3.0]])
    whitened.fit(small)
    flat = np.stack([whitened.standardize(i) for i in small]).reshape(200, -1)
    np.testing.assert_allclose(flat.T @ flat / 200, np.eye(4), atol=1e-3)
    samplewise = image.ImageDataGenerator(samplewise_std_normalization=True).standardize(IMAGES[0])
    assert abs(samplewise.mean()) < 1e-5 and abs(samplewise.std() - 1) < 1e-4


def test_flow():
    generator = image.ImageDataGenerator(rescale=1 / 255, validation_split=0.25)
    batches = generator.flow(IMAGES, np.arange(8), batch_size=3, shuffle=False, ignore_class_split=True)
    assert len(batches) == 3
    x, y = batches[2]
    np.testing.assert_allclose(x, IMAGES[6:] / 255, rtol=1e-6)
    assert y.tolist() == [6, 7]
    assert [len(next(batches)[1]) for _ in range(5)] == [3, 3, 2, 3, 3]
    parts = {s: generator.flow(IMAGES, subset=s, batch_size=8) for s in ("training", "validation")}
    assert {s: p.n for s, p in parts.items()} == {"training": 6, "validation": 2}
    with pytest.raises(ArgumentError, match="different classes"):
        generator.flow(IMAGES, np.arange(8), subset="training")
    weighted = generator.flow(IMAGES, np.arange(8), sample_weight=np.ones(8), batch_size=8)[0]
    assert len(weighted) == 3
    with pytest.raises(ArgumentError, match="rank 4"):
        generator.flow(IMAGES[0])
    with pytest.raises(ArgumentError, match="fill_mode"):
        image.ImageDataGenerator(fill_mode="mirror")


def test_flow_in_fit():
    generator = image.ImageDataGenerator(
        rotation_range=15, width_shift_range=0.2, zoom_range=0.1, horizontal_flip=True, rescale=1 / 255
    )
    model = keras.Sequential([keras.Input((6, 7, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    history = model.fit(generator.flow(IMAGES, np.zeros((8, 1)), batch_size=4, seed=0), epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
