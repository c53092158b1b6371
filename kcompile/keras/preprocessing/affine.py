"""Moving the pixels of one image: rotation, shift, shear, zoom as one affine map; and changes of colour. NumPy only."""

from __future__ import annotations

import math

import numpy as np

from kcompile.errors import ArgumentError, NotSupportedError

FILL_MODES = ("nearest", "constant", "reflect", "wrap")


def apply_affine_transform(
    x: np.ndarray,
    theta: float = 0,
    tx: float = 0,
    ty: float = 0,
    shear: float = 0,
    zx: float = 1,
    zy: float = 1,
    row_axis: int = 1,
    col_axis: int = 2,
    channel_axis: int = 0,
    fill_mode: str = "nearest",
    cval: float = 0.0,
    order: int = 1,
) -> np.ndarray:
    """Return an image rotated, moved, sheared and zoomed about its centre.

    Args:
        theta, shear: angles in degrees.   tx, ty: shift in rows and columns.   zx, zy: zoom; below 1 enlarges.
        fill_mode: where points outside come from: "nearest", "constant" (`cval`), "reflect" or "wrap".
        order: of the interpolation, 0 (nearest) or 1 (linear).

    Raises: ArgumentError for an unknown fill mode or equal axes; NotSupportedError for a higher order.
    """
    if fill_mode not in FILL_MODES:
        raise ArgumentError(f"`fill_mode` must be one of {FILL_MODES}. Received: fill_mode={fill_mode!r}")
    if order not in (0, 1):
        raise NotSupportedError(f"interpolation of order {order} is missing; use 0 (nearest) or 1 (linear)")
    if len({a % 3 for a in (row_axis, col_axis, channel_axis)}) != 3:
        raise ArgumentError(f"Row, column and channel axes must differ. Received: {(row_axis, col_axis, channel_axis)}")
    matrix = _matrix(math.radians(theta), tx, ty, math.radians(shear), zx, zy)
    if np.array_equal(matrix, np.eye(3)):
        return x
    image = np.moveaxis(x, (row_axis, col_axis, channel_axis), (0, 1, 2))
    height, width, _ = image.shape
    centre = np.array([height / 2 - 0.5, width / 2 - 0.5])
    rows, columns = np.meshgrid(np.arange(height) - centre[0], np.arange(width) - centre[1], indexing="ij")
    at = [matrix[i, 0] * rows + matrix[i, 1] * columns + matrix[i, 2] + centre[i] for i in (0, 1)]
    moved = _sampled(image, at[0], at[1], fill_mode, cval, order)
    return np.moveaxis(moved, (0, 1, 2), (row_axis, col_axis, channel_axis)).astype(x.dtype, copy=False)


def _matrix(theta: float, tx: float, ty: float, shear: float, zx: float, zy: float) -> np.ndarray:
    """Return the map from places in the result to places in the image, both about the centre."""
    sin, cos = math.sin(theta), math.cos(theta)
    rotate = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) if theta else np.eye(3)
    shift = np.array([[1, 0, tx], [0, 1, ty], [0, 0, 1]])
    slant = np.array([[1, -math.sin(shear), 0], [0, math.cos(shear), 0], [0, 0, 1]]) if shear else np.eye(3)
    return rotate @ shift @ slant @ np.diag([zx, zy, 1])


def _folded(at: np.ndarray, length: int, fill_mode: str) -> np.ndarray:
    """Return indices inside 0..length-1 for indices anywhere."""
    if fill_mode == "wrap":
        return at % length
    if fill_mode == "reflect":  # d c b a | a b c d | d c b a
        at = at % (2 * length)
        return np.minimum(at, 2 * length - 1 - at)
    return np.clip(at, 0, length - 1)


def _sampled(
    image: np.ndarray, rows: np.ndarray, columns: np.ndarray, fill_mode: str, cval: float, order: int
) -> np.ndarray:
    """Return the values of an image [height, width, channels] at places given in pixels."""
    height, width, _ = image.shape

    def pixels(r, c):
        return image[_folded(r, height, fill_mode), _folded(c, width, fill_mode)]

    if order == 0:
        found = pixels(np.floor(rows + 0.5).astype(int), np.floor(columns + 0.5).astype(int)).astype(np.float64)
    else:
        top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
        down, right = (rows - top)[..., None], (columns - left)[..., None]
        upper = pixels(top, left) * (1 - right) + pixels(top, left + 1) * right
        lower = pixels(top + 1, left) * (1 - right) + pixels(top + 1, left + 1) * right
        found = upper * (1 - down) + lower * down
    if fill_mode == "constant":
        slack = 1e-9  # rounding of the map must not blacken the edge
        inside = (rows >= -slack) & (rows <= height - 1 + slack) & (columns >= -slack) & (columns <= width - 1 + slack)
        found = np.where(inside[..., None], found, cval)
    return found


def apply_channel_shift(x: np.ndarray, intensity: float, channel_axis: int = 0) -> np.ndarray:
    """Return an image with `intensity` added, kept between its least and its greatest value."""
    return np.clip(x + intensity, np.min(x), np.max(x)).astype(x.dtype, copy=False)


def apply_brightness_shift(x: np.ndarray, brightness: float, scale: bool = True) -> np.ndarray:
    """Return an image of 0..255 (stretched to that range if `scale`) times `brightness`, kept in that range."""
    if scale:
        x = x - np.min(x)
        peak = np.max(x)
        x = x / peak * 255 if peak else x
    return np.clip(x * brightness, 0, 255)


def random_rotation(
    x, rg, row_axis=1, col_axis=2, channel_axis=0, fill_mode="nearest", cval=0.0, interpolation_order=1
):
    """Return an image rotated by up to `rg` degrees either way."""
    theta = np.random.uniform(-rg, rg)
    axes = (row_axis, col_axis, channel_axis)
    return apply_affine_transform(x, theta, 0, 0, 0, 1, 1, *axes, fill_mode, cval, interpolation_order)


def random_shift(
    x, wrg, hrg, row_axis=1, col_axis=2, channel_axis=0, fill_mode="nearest", cval=0.0, interpolation_order=1
):
    """Return an image moved by up to the share `wrg` of its width and `hrg` of its height."""
    tx = np.random.uniform(-hrg, hrg) * x.shape[row_axis]
    ty = np.random.uniform(-wrg, wrg) * x.shape[col_axis]
    axes = (row_axis, col_axis, channel_axis)
    return apply_affine_transform(x, 0, tx, ty, 0, 1, 1, *axes, fill_mode, cval, interpolation_order)


def random_shear(
    x, intensity, row_axis=1, col_axis=2, channel_axis=0, fill_mode="nearest", cval=0.0, interpolation_order=1
):
    """Return an image sheared by up to `intensity` degrees."""
    shear = np.random.uniform(-intensity, intensity)
    axes = (row_axis, col_axis, channel_axis)
    return apply_affine_transform(x, 0, 0, 0, shear, 1, 1, *axes, fill_mode, cval, interpolation_order)


def random_zoom(
    x, zoom_range, row_axis=1, col_axis=2, channel_axis=0, fill_mode="nearest", cval=0.0, interpolation_order=1
):
    """Return an image zoomed by factors from `zoom_range`, height and width each by its own."""
    zx, zy = np.random.uniform(*zoom_range, 2)
    axes = (row_axis, col_axis, channel_axis)
    return apply_affine_transform(x, 0, 0, 0, 0, zx, zy, *axes, fill_mode, cval, interpolation_order)


def random_channel_shift(x, intensity_range, channel_axis=0):
    """Return an image with up to `intensity_range` added or taken away."""
    return apply_channel_shift(x, np.random.uniform(-intensity_range, intensity_range), channel_axis)


def random_brightness(x, brightness_range, scale=True):
    """Return an image made brighter or darker by a factor from `brightness_range`."""
    return apply_brightness_shift(x, np.random.uniform(*brightness_range), scale)
