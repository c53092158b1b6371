"""Images as arrays: resizing in NumPy; Pillow where it is installed, a clear message where not."""

import importlib
import sys

import numpy as np
import pytest

from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras import utils
from kcompile.keras.utils import images

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [(6, 9), (3, 4), (5, 7), (10, 21)])
def test_resize_against_keras(interpolation, size, real_keras):
    x = RNG.normal(size=(2, 5, 7, 3)).astype("float32")
    expected = np.asarray(real_keras.ops.image.resize(x, size, interpolation=interpolation, antialias=False))
    np.testing.assert_allclose(images.resize(x, size, interpolation), expected, atol=1e-5)


def test_smart_resize_keeps_proportions():
    x = np.zeros((4, 8, 1), "float32")
    x[:, 2:6] = 1
    np.testing.assert_array_equal(images.smart_resize(x, (2, 2)), np.ones((2, 2, 1)))
    assert images.smart_resize(x.transpose(2, 0, 1), (2, 2), data_format="channels_first").shape == (1, 2, 2)
    with pytest.raises(NotSupportedError, match="lanczos"):
        images.resize(x, (2, 2), "lanczos5")


def test_img_to_array():
    assert utils.img_to_array(np.zeros((2, 3), "uint8")).shape == (2, 3, 1)
    found = utils.img_to_array(np.zeros((2, 3, 4), "uint8"), data_format="channels_first")
    assert found.shape == (4, 2, 3) and found.dtype == np.float32
    with pytest.raises(ArgumentError, match="Unsupported image shape"):
        utils.img_to_array(np.zeros(3))


def test_without_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(NotSupportedError, match="pip install pillow"):
        utils.array_to_img(np.zeros((2, 2, 3)))
    with pytest.raises(NotSupportedError, match="load_img needs Pillow"):
        utils.load_img("x.png")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_files(tmp_path, channels):
    importlib.import_module("PIL")
    x = RNG.integers(0, 256, (4, 6, channels)).astype("float32")
    path = tmp_path / "x.png"
    utils.save_img(path, x, scale=False)
    mode = {1: "grayscale", 3: "rgb", 4: "rgba"}[channels]
    np.testing.assert_array_equal(utils.img_to_array(utils.load_img(path, mode)), x)
    assert utils.load_img(path, target_size=(2, 3), interpolation="bilinear").size == (3, 2)
    assert utils.load_img(path, target_size=(3, 3), keep_aspect_ratio=True).size == (3, 3)
    with pytest.raises(ArgumentError, match="rank 3"):
        utils.array_to_img(x[0])
    scaled = utils.img_to_array(utils.array_to_img(x / 1000))
    assert scaled.min() == 0 and scaled.max() == 255
