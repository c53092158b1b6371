"""keras.ops.image: against real Keras, compiled, and by finite differences."""

import numpy as np
import pytest

from kcompile.errors import KcompileError
from kcompile.keras import ops
from kcompile.keras.tracing import trace
from kcompile.runtime.interpreted import InterpretedProgram
from tests.keras.ops.checking import check, check_compiled, check_gradient, compare, find, ids

RNG = np.random.default_rng(0)


def f(*shape):
    return RNG.standard_normal(shape).astype("float32")


def u(*shape):
    return RNG.uniform(0, 1, shape).astype("float32")


IMAGES, SINGLE, BYTES = f(2, 6, 5, 3), f(7, 6, 1), RNG.integers(0, 255, (2, 5, 4, 3)).astype("uint8")
# no result stands on a pixel or in the middle of two: there the nearest jumps and slopes have kinks
TURN = np.float32(
    [[0.913, 0.217, -0.437, -0.319, 1.127, 0.731, 0, 0], [1.013, 0.007, 1.541, 0.003, 0.987, -0.523, 0, 0]]
)
COORDINATES = RNG.uniform(-3, 8, (2, 4, 3)).astype("float32")
CORNERS = np.float32([[0, 0], [4, 0], [0, 5], [4, 5]])
MOVED = CORNERS + RNG.uniform(-0.7, 0.7, (2, 4, 2)).astype("float32")
METHODS = ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")
MODES = ("constant", "nearest", "wrap", "mirror", "reflect")

RESIZE = [
    *(("image.resize", (IMAGES, (9, 4)), {"interpolation": m}) for m in METHODS),
    *(("image.resize", (IMAGES, (3, 11)), {"interpolation": m, "antialias": True}) for m in METHODS),
    ("image.resize", (SINGLE, (4, 9)), {}),
    ("image.resize", (f(2, 3, 6, 5), (4, 8)), {"data_format": "channels_first"}),
    ("image.resize", (IMAGES, (6, 2)), {"crop_to_aspect_ratio": True}),
    ("image.resize", (IMAGES, (8, 3)), {"pad_to_aspect_ratio": True, "fill_value": 0.5}),
    ("image.resize", (IMAGES, (3, 8)), {"pad_to_aspect_ratio": True}),
    ("image.resize", (BYTES, (8, 3)), {"interpolation": "nearest"}),
]
WARP = [
    *(("image.affine_transform", (IMAGES, TURN), {"fill_mode": m}) for m in MODES),
    ("image.affine_transform", (SINGLE, TURN[0]), {"interpolation": "nearest"}),
    ("image.affine_transform", (f(2, 3, 6, 5), TURN), {"data_format": "channels_first", "fill_value": 2.0}),
    *(("image.map_coordinates", (f(4, 5), COORDINATES, 1), {"fill_mode": m}) for m in MODES),
    ("image.map_coordinates", (f(4, 5), COORDINATES, 0), {"fill_value": 1.5}),
    ("image.map_coordinates", (f(3, 4, 2), RNG.uniform(0, 2, (3, 6)).astype("float32"), 1), {}),
    ("image.perspective_transform", (IMAGES, MOVED, MOVED[::-1].copy()), {}),
    ("image.scale_and_translate", (f(2, 5, 4, 1), (2, 8, 7, 1), [1.4, 1.7], [0.3, -0.2], (1, 2), "linear"), {}),
]
OTHERS = [
    ("image.rgb_to_grayscale", (u(2, 4, 5, 3),), {}),
    ("image.rgb_to_grayscale", (u(3, 4, 5),), {"data_format": "channels_first"}),
    ("image.rgb_to_hsv", (u(2, 4, 5, 3),), {}),
    ("image.hsv_to_rgb", (u(2, 4, 5, 3),), {}),
    ("image.gaussian_blur", (IMAGES,), {"kernel_size": (3, 5), "sigma": (0.8, 1.3), "data_format": "channels_last"}),
    ("image.gaussian_blur", (SINGLE,), {"data_format": "channels_last"}),
    ("image.sobel_edges", (IMAGES,), {}),
    ("image.ssim", (u(2, 12, 13, 3), u(2, 12, 13, 3)), {}),
    ("image.extract_patches", (IMAGES, (2, 3)), {}),
    ("image.extract_patches", (IMAGES, 2), {"strides": 1, "padding": "same"}),
    ("image.extract_patches", (SINGLE, 2), {"dilation_rate": 2, "strides": 1}),
    ("image.extract_patches_3d", (f(1, 4, 5, 4, 2), 2), {}),
    ("image.pad_images", (IMAGES, 1, 2), {"target_height": 9, "target_width": 8}),
    ("image.crop_images", (IMAGES, 1, 2, 1, 0), {}),
    ("image.crop_images", (SINGLE, 1, 2), {"target_height": 4, "target_width": 3}),
]
CASES = [*RESIZE, *WARP, *OTHERS]


@pytest.mark.parametrize("name, args, kwargs", CASES, ids=ids(CASES))
def test_function(name, args, kwargs, real_keras):
    alone = name in ("image.resize", "image.rgb_to_hsv", "image.gaussian_blur", "image.extract_patches")
    check(real_keras, name, args, kwargs, open_batch=alone and args[0].ndim == 4, rtol=1e-4, atol=5e-5)


def test_compiled(real_keras):
    check_compiled(real_keras, CASES, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize(
    "name, args, kwargs",
    [
        ("image.resize", (f(1, 4, 3, 1), (3, 5)), {}),
        ("image.resize", (f(1, 4, 3, 1), (7, 2)), {"interpolation": "bicubic", "antialias": True}),
        ("image.affine_transform", (f(1, 4, 3, 1), TURN[:1]), {"fill_mode": "reflect"}),
        ("image.map_coordinates", (f(4, 5), COORDINATES[:, :2], 1), {}),
        ("image.rgb_to_hsv", (u(2, 2, 3),), {}),
        ("image.hsv_to_rgb", (u(2, 2, 3),), {}),
        ("image.gaussian_blur", (f(1, 3, 3, 1),), {"data_format": "channels_last"}),
        ("image.extract_patches", (f(1, 3, 4, 1), 2), {}),
    ],
)
def test_gradient(name, args, kwargs):
    check_gradient(name, args, kwargs)


@pytest.mark.parametrize("method", METHODS)
def test_open_sizes_resize(method, real_keras):
    program = trace(
        lambda v: ops.image.resize(v["x"], (4, 9), interpolation=method), {"x": ((None, None, None, 3), "float32")}
    )
    found = InterpretedProgram(program.graph).run({"x": IMAGES}, {})["y0"]
    compare(method, found, real_keras.ops.image.resize(IMAGES, (4, 9), interpolation=method), 1e-4, 5e-5)


def test_bytes_are_interpolated_and_rounded():
    found = np.asarray(ops.image.resize(BYTES, (10, 8)))
    assert found.dtype == np.uint8 and abs(found.mean() - BYTES.mean()) < 3


def test_wrong_arguments_say_so():
    for call in (
        lambda: ops.image.resize(IMAGES, (3, 3), interpolation="round"),
        lambda: ops.image.resize(IMAGES[0, 0], (3, 3)),
        lambda: ops.image.affine_transform(IMAGES, TURN, fill_mode="black"),
        lambda: ops.image.crop_images(IMAGES, 1),
        lambda: find(ops, "image.resise"),
    ):
        with pytest.raises((KcompileError, AttributeError)):
            call()
