"""Images as arrays: to and from Pillow, files, resizing.

Pillow is needed only where a file is read or written or a Pillow image is made; it is an optional package.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras import config
from kcompile.keras.tracing.tensor import Tensor

_MODES = {"grayscale": ("L", "I;16", "I"), "rgb": ("RGB",), "rgba": ("RGBA",)}  # color_mode -> Pillow's modes kept
_FILTERS = ("nearest", "bilinear", "bicubic", "hamming", "box", "lanczos")


def pillow(what: str) -> Any:
    """Return the module PIL.Image.

    Raises: NotSupportedError saying what needs it and how to get it.
    """
    try:
        from PIL import Image  # optional
    except ImportError:
        raise NotSupportedError(f"{what} needs Pillow, which is not installed: pip install pillow") from None
    return Image


def array_to_img(x: Any, data_format: str | None = None, scale: bool = True, dtype: str | None = None) -> Any:
    """Return an array [height, width, 1, 3 or 4] (or channels first) as a Pillow image.

    Args:   scale: stretch the values to 0..255.

    Raises: ArgumentError for another shape; NotSupportedError without Pillow.
    """
    image = pillow("array_to_img")
    x = np.asarray(x.numpy() if isinstance(x, Tensor) else x, dtype=dtype or config.floatx())
    if x.ndim != 3:
        raise ArgumentError(f"Expected image array to have rank 3 (single image). Got array with shape: {x.shape}")
    if config.standardize_data_format(data_format) == "channels_first":
        x = x.transpose(1, 2, 0)
    if scale:
        x = x - np.min(x)
        peak = np.max(x)
        x = x / peak * 255 if peak else x
    channels = x.shape[2]
    if channels in (3, 4):
        return image.fromarray(x.astype("uint8"))
    if channels == 1:
        deep = np.max(x) > 255  # more than 8 bits: Pillow's 32-bit integers
        return image.fromarray(x[:, :, 0].astype("int32" if deep else "uint8"))
    raise ArgumentError(f"Unsupported channel number: {channels}")


def img_to_array(img: Any, data_format: str | None = None, dtype: str | None = None) -> np.ndarray:
    """Return a Pillow image (or an array) as an array [height, width, channels], or channels first.

    Raises: ArgumentError if it has neither 2 nor 3 axes.
    """
    x = np.array(img, dtype=dtype or config.floatx())
    first = config.standardize_data_format(data_format) == "channels_first"
    if x.ndim == 3:
        return x.transpose(2, 0, 1) if first else x
    if x.ndim == 2:
        return x[None] if first else x[..., None]
    raise ArgumentError(f"Unsupported image shape: {x.shape}")


def load_img(
    path: Any,
    color_mode: str = "rgb",
    target_size: tuple[int, int] | None = None,
    interpolation: str = "nearest",
    keep_aspect_ratio: bool = False,
) -> Any:
    """Return the image in a file (a path or an open file) as a Pillow image.

    Args:
        color_mode: "grayscale", "rgb" or "rgba".
        target_size: (height, width) to resize to.   interpolation: how, by Pillow's names.
        keep_aspect_ratio: cut the middle out first, in the proportions of `target_size`.
    """
    image = pillow("load_img")
    if color_mode not in _MODES:
        raise ArgumentError(f"`color_mode` must be 'grayscale', 'rgb' or 'rgba'. Received: color_mode={color_mode!r}")
    with image.open(path) as opened:
        img = opened if opened.mode in _MODES[color_mode] else opened.convert(_MODES[color_mode][0])
        img.load()
    if target_size is None:
        return img
    if interpolation not in _FILTERS:
        raise ArgumentError(f"`interpolation` must be one of {_FILTERS}. Received: {interpolation!r}")
    height, width = target_size
    if img.size == (width, height):
        return img
    box = None
    if keep_aspect_ratio:
        top, left, rows, columns = middle(img.height, img.width, height, width)
        box = (left, top, left + columns, top + rows)
    return img.resize((width, height), getattr(image.Resampling, interpolation.upper()), box=box)


def save_img(
    path: Any,
    x: Any,
    data_format: str | None = None,
    file_format: str | None = None,
    scale: bool = True,
    **kwargs: Any,
) -> None:
    """Write an array as an image file; the format follows the name unless `file_format` is given."""
    img = array_to_img(x, data_format=data_format, scale=scale)
    jpeg = str(file_format or os.path.splitext(str(path))[1]).lstrip(".").lower() in ("jpg", "jpeg")
    if img.mode == "RGBA" and jpeg:
        warnings.warn("The JPG format does not support RGBA images, converting to RGB.", stacklevel=2)
        img = img.convert("RGB")
    kind = "jpeg" if str(file_format).lower() == "jpg" else file_format
    img.save(path, format=kind, **kwargs)


def middle(height: int, width: int, new_height: int, new_width: int) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of the largest middle piece with the proportions of the new size."""
    rows = min(height, int(width * new_height / new_width))
    columns = min(width, int(height * new_width / new_height))
    return int((height - rows) / 2), int((width - columns) / 2), rows, columns


def smart_resize(
    x: Any,
    size: tuple[int, int],
    interpolation: str = "bilinear",
    data_format: str = "channels_last",
    **kwargs: Any,
) -> np.ndarray:
    """Return images [..., height, width, channels] of another size, undistorted: the middle is cut out first."""
    if len(size) != 2:
        raise ArgumentError(f"Expected `size` to be a tuple of 2 integers, but got: {size}.")
    x = np.asarray(x.numpy() if isinstance(x, Tensor) else x)
    if x.ndim not in (3, 4):
        raise ArgumentError(f"Expected an image or a batch of images. Received an array of shape {x.shape}")
    if data_format == "channels_first":
        x = np.moveaxis(x, -3, -1)
    top, left, rows, columns = middle(x.shape[-3], x.shape[-2], *size)
    x = resize(x[..., top : top + rows, left : left + columns, :], size, interpolation)
    return np.moveaxis(x, -1, -3) if data_format == "channels_first" else x


def resize(x: np.ndarray, size: tuple[int, int], interpolation: str = "bilinear") -> np.ndarray:
    """Return images [..., height, width, channels] of another size; pixels are squares, sampled at their centres.

    Raises: NotSupportedError for methods other than nearest and bilinear.
    """
    if interpolation not in ("nearest", "bilinear"):
        raise NotSupportedError(f"resizing arrays by {interpolation!r} is missing; use 'nearest' or 'bilinear'")
    kind = x.dtype if interpolation == "nearest" else np.result_type(x.dtype, np.float32)
    for axis, count in ((-3, size[0]), (-2, size[1])):
        length = x.shape[axis]
        at = (np.arange(count) + 0.5) * (length / count)
        if interpolation == "nearest":
            x = np.take(x, np.minimum(at.astype(int), length - 1), axis=axis)
            continue
        at = np.clip(at - 0.5, 0, length - 1)
        low = at.astype(int)
        weight = (at - low).astype(kind).reshape(-1, *(1,) * (-axis - 1))
        high = np.take(x, np.minimum(low + 1, length - 1), axis=axis)
        x = np.take(x, low, axis=axis) * (1 - weight) + high * weight
    return x.astype(kind)
