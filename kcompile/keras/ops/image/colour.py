"""keras.ops.image: colour spaces. Sources: ITU-R BT.601 (luma); Smith 1978, "Color gamut transform pairs" (HSV)."""

from __future__ import annotations

from kcompile import ops as prim
from kcompile.errors import DTypeError, ShapeError
from kcompile.keras.config import standardize_data_format
from kcompile.keras.ops.function import cast, dtype_key, floating, public, rank, tensor
from kcompile.keras.ops.shapes import part
from kcompile.keras.tracing.dtypes import is_float, limits


def _planes(images, data_format, sizes=(3,)):
    x = tensor(images)
    if rank(x) not in (3, 4):
        raise ShapeError(
            "Invalid images rank: expected rank 3 (single image) or rank 4 (batch of images). "
            f"Received input with shape: images.shape={tuple(x.shape)}"
        )
    axis = rank(x) - (1 if standardize_data_format(data_format) == "channels_last" else 3)
    if x.shape[axis] not in sizes:
        raise ShapeError(f"Invalid channel size: expected {sizes}. Received input with shape: {tuple(x.shape)}")
    return x, axis, [part(x, axis, n, 1) for n in range(x.shape[axis])]


def _needs_float(x) -> None:
    if not is_float(dtype_key(x)):
        raise DTypeError(f"Invalid images dtype: expected float dtype. Received: images.dtype={dtype_key(x)}")


@public
def rgb_to_grayscale(images, data_format=None):
    """Return the weighted mean of red, green and blue, as one channel."""
    x, axis, planes = _planes(images, data_format, (1, 3))
    if len(planes) == 1:
        return x
    kind = dtype_key(x)
    total = None
    for plane, weight in zip(planes, (0.2989, 0.5870, 0.1140)):
        plane = floating(plane)
        term = prim.mul(plane, tensor(weight, dtype_key(plane)))
        total = term if total is None else prim.add(total, term)
    return cast(total, kind)


@public
def rgb_to_hsv(images, data_format=None):
    """Return hue, saturation and value, each in 0..1."""
    x, axis, planes = _planes(images, data_format)
    _needs_float(x)
    kind = dtype_key(x)
    zero, one, six = (tensor(v, kind) for v in (0.0, 1.0, 6.0))
    tiny = tensor(limits(kind).eps, kind)
    r, g, b = (prim.select(prim.lt(prim.abs(p), tiny), zero, p) for p in planes)
    value = prim.maximum(prim.maximum(r, g), b)
    spread = prim.sub(value, prim.minimum(prim.minimum(r, g), b))
    coloured = prim.gt(spread, zero)
    bright = prim.gt(value, zero)
    saturation = prim.select(bright, prim.div(spread, prim.select(bright, value, one)), zero)
    unit = prim.reciprocal(prim.mul(six, prim.select(coloured, spread, one)))

    def sector(a, b, start: float):
        return prim.add(prim.mul(unit, prim.sub(a, b)), tensor(start, kind))

    hue = prim.select(prim.eq(value, g), sector(b, r, 2 / 6), sector(r, g, 4 / 6))
    hue = prim.select(prim.eq(value, r), sector(g, b, 0.0), hue)
    turn = cast(prim.lt(hue, zero), kind)
    return prim.concat(prim.add(prim.select(coloured, hue, zero), turn), saturation, value, axis=axis)


@public
def hsv_to_rgb(images, data_format=None):
    """Return red, green and blue of hue, saturation and value."""
    x, axis, (hue, saturation, value) = _planes(images, data_format)
    _needs_float(x)
    kind = dtype_key(x)
    zero, one, two, three, four, six = (tensor(float(v), kind) for v in (0, 1, 2, 3, 4, 6))
    angle = prim.mul(prim.mod(hue, one), six)

    def limited(v):
        return prim.minimum(prim.maximum(v, zero), one)

    shares = (
        limited(prim.sub(prim.abs(prim.sub(angle, three)), one)),
        limited(prim.sub(two, prim.abs(prim.sub(angle, two)))),
        limited(prim.sub(two, prim.abs(prim.sub(angle, four)))),
    )
    grey = prim.sub(one, saturation)
    return prim.concat(*(prim.mul(value, prim.add(grey, prim.mul(saturation, s))) for s in shares), axis=axis)
