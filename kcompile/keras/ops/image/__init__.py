"""keras.ops.image: resizing, warping, colour, filters of images [..., height, width, channels].

layout.py    rank and data format
resizing.py  resize, scale_and_translate, crop_images, pad_images
warping.py   map_coordinates, affine_transform, perspective_transform
elastic.py   elastic_transform
colour.py    rgb_to_grayscale, rgb_to_hsv, hsv_to_rgb
filters.py   gaussian_blur, sobel_edges, ssim, extract_patches
"""

from kcompile.errors import MissingNameError, suggestion
from kcompile.keras.ops.function import PUBLIC
from kcompile.keras.ops.image import (  # noqa: F401  (fill PUBLIC)
    colour,
    elastic,
    filters,
    layout,
    resizing,
    warping,
)

_OWN = {name: function for name, function in PUBLIC.items() if function.__module__.startswith(__name__ + ".")}
globals().update(_OWN)

__all__ = sorted(_OWN)


def __getattr__(name: str):
    raise MissingNameError(f"keras.ops.image.{name} is not available in kcompile.{suggestion(name, __all__)}")
