"""Layers on images: fixed factors against real Keras, random ones by what they must not change."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.keras import layers, ops
from kcompile.testing import check_layer

X = (np.random.default_rng(0).random((3, 6, 8, 2)) * 255).astype("f")

FIXED = [
    ("CenterCrop", {"height": 4, "width": 5}),
    ("RandomBrightness", {"factor": (0.2, 0.2)}),
    ("RandomContrast", {"factor": (0.0, 0.0)}),
    ("CenterCrop", {"height": 10, "width": 5}),
    ("Resizing", {"height": 4, "width": 9}),
    ("Resizing", {"height": 9, "width": 5, "interpolation": "bicubic"}),
    ("Resizing", {"height": 3, "width": 3, "interpolation": "nearest"}),
    ("Resizing", {"height": 4, "width": 4, "crop_to_aspect_ratio": True}),
    ("Resizing", {"height": 4, "width": 4, "pad_to_aspect_ratio": True}),
    ("RandomRotation", {"factor": (0.1, 0.1)}),
    ("RandomRotation", {"factor": (0.2, 0.2), "fill_mode": "constant", "fill_value": 3.0}),
    ("RandomTranslation", {"height_factor": (0.2, 0.2), "width_factor": (-0.3, -0.3)}),
    ("RandomTranslation", {"height_factor": (0.25, 0.25), "width_factor": (0.1, 0.1),
                                       "fill_mode": "wrap", "interpolation": "nearest"}),
    ("RandomZoom", {"height_factor": (0.3, 0.3)}),
    ("RandomZoom", {"height_factor": (-0.3, -0.3), "width_factor": (0.2, 0.2), "fill_mode": "nearest"}),
]  # fmt: skip


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("name, init", FIXED)
def test_against_keras(name, init, data_format, real_keras):
    x = X if data_format == "channels_last" else np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    init = {**init, "data_format": data_format}
    ours, theirs = (getattr(k.layers, name)(**init, name="it") for k in (keras, real_keras))
    for data in (x, x[0]):
        found, expected = ours(data, training=True), np.asarray(theirs(data, training=True))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-2)
    found, expected = ours(x, training=False), np.asarray(theirs(x, training=False))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-2)
    again = type(theirs).from_config(ours.get_config())
    assert again.data_format == data_format
    assert type(ours).from_config(theirs.get_config()).get_config() == ours.get_config()


@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos3", "lanczos5"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_upsampling(interpolation, data_format, real_keras):
    ours, theirs = (k.layers.UpSampling2D((2, 3), data_format, interpolation) for k in (keras, real_keras))
    np.testing.assert_allclose(ours(X), np.asarray(theirs(X)), rtol=1e-4, atol=2e-2)


PROMISES = [
    ("CenterCrop", {"height": 3, "width": 4}),
    ("RandomCrop", {"height": 3, "width": 4}),
    ("RandomFlip", {}),
    ("RandomBrightness", {"factor": 0.3}),
    ("RandomContrast", {"factor": 0.3}),
    ("Resizing", {"height": 4, "width": 9}),
    ("RandomRotation", {"factor": 0.2}),
    ("RandomTranslation", {"height_factor": 0.2, "width_factor": 0.3}),
    ("RandomZoom", {"height_factor": 0.2}),
]


@pytest.mark.parametrize("name, init", PROMISES)
def test_promises(name, init):
    """Eager and compiled draw the same; shapes, configs, models with an open batch."""
    check_layer(getattr(layers, name), {**init}, input_data=X / 255, training=True, gradient=False)


def test_flips():
    found = np.asarray(layers.RandomFlip(seed=3)(np.concatenate([X] * 8), training=True))
    ways = [X, X[:, ::-1], X[:, :, ::-1], X[:, ::-1, ::-1]]
    seen = set()
    for image, n in zip(found, [0, 1, 2] * 8):
        match = [w for w, way in enumerate(ways) if np.array_equal(image, way[n])]
        assert len(match) == 1
        seen.update(match)
    assert seen == {0, 3}  # one draw decides on both ways, as in Keras
    only = np.asarray(layers.RandomFlip("horizontal", seed=3)(X, training=True))
    assert all(np.array_equal(a, b) or np.array_equal(a, b[:, ::-1]) for a, b in zip(only, X))


def test_crops_are_parts():
    crop = layers.RandomCrop(3, 4, seed=1)
    windows = {(h, w): X[:, h : h + 3, w : w + 4] for h in range(4) for w in range(5)}
    seen = set()
    for _ in range(30):
        found = np.asarray(crop(X, training=True))
        seen.update(k for k, part in windows.items() if np.array_equal(part, found))
    assert len(seen) > 5


def test_crops_of_small_images_are_resized():
    """As Keras documents it: the largest part of the wanted shape, in prediction too (Keras 3.15 returns the input)."""
    crop = layers.RandomCrop(12, 4)
    part = ops.image.resize(X[:, :, 3:5], (12, 4))
    for training in (True, False):
        np.testing.assert_allclose(crop(X, training=training), part, rtol=1e-5)


def test_factors_differ_between_images():
    flat = np.full((50, 2, 2, 1), 100.0, "f")
    values = np.asarray(layers.RandomBrightness(0.2)(flat, training=True))[:, 0, 0, 0]
    assert len(np.unique(values)) > 20 and values.min() >= 100 - 51 and values.max() <= 100 + 51
    assert np.array_equal(layers.RandomBrightness(0.2)(flat, training=False), flat)


def test_a_model_draws_in_training_only():
    inputs = keras.Input((6, 8, 2))
    x = layers.RandomBrightness(0.5, seed=1)(layers.RandomFlip(seed=2)(layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(x)))
    model.compile("sgd", "mse")
    before = model.predict(X, verbose=0)
    np.testing.assert_array_equal(before, model.predict(X, verbose=0))
    model.fit(X, np.zeros((3, 1), "f"), epochs=2, verbose=0)


def test_what_is_wrong_is_said():
    with pytest.raises(ArgumentError, match="factor"):
        layers.RandomBrightness(1.5)
    with pytest.raises(ArgumentError, match="factor"):
        layers.RandomContrast((-0.5, 0.5))
    with pytest.raises(ShapeError, match="rank 3"):
        layers.RandomFlip()(np.zeros((2, 3), "f"))
    with pytest.raises(NotSupportedError, match="fill_mode"):
        layers.RandomRotation(0.1, fill_mode="mirror")
