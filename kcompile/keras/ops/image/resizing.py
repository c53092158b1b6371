"""keras.ops.image: resize, scale_and_translate, crop_images, pad_images.

An axis is resized by a lookup of a fixed number of neighbours per result and their weighted sum, one axis after
the other. A result at i stands at (i + ½) / scale - ½ of the input; the weights are a kernel of the distance,
scaled to sum 1 over the neighbours inside, so edges are not darkened. With `antialias` a smaller result uses a
kernel as much wider. Kernels: Keys 1981, "Cubic convolution interpolation" (a = -½); Duchon 1979 (Lanczos).
"""

from __future__ import annotations

import math

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.ir.dim import Dim, DimLike
from kcompile.ir.graph import Value
from kcompile.keras import config
from kcompile.keras.ops.creation import iota
from kcompile.keras.ops.function import axis_of, cast, dtype_key, floating, public, rank, sized, tensor
from kcompile.keras.ops.image.layout import Layout
from kcompile.keras.ops.shapes import pad_constant, part
from kcompile.keras.tracing.dtypes import is_float

_METHODS = {"nearest": 0, "bilinear": 1, "bicubic": 2, "lanczos3": 3, "lanczos5": 5}  # radius of the kernel
_ALIASES = {"linear": "bilinear", "trilinear": "bilinear", "cubic": "bicubic", "tricubic": "bicubic"}


def _kernel(method: str, distance):
    """The weight at a distance >= 0 of the centre; 0 from the radius on."""
    x, kind = distance, dtype_key(distance)

    def number(value: float):
        return tensor(float(value), kind)

    zero, one = number(0), number(1)
    if method == "bilinear":
        return prim.maximum(zero, prim.sub(one, x))
    if method == "bicubic":
        near = ((number(1.5) * x - number(2.5)) * x) * x + one
        far = ((number(-0.5) * x + number(2.5)) * x - number(4)) * x + number(2)
        return prim.select(prim.ge(x, number(2)), zero, prim.select(prim.ge(x, one), far, near))
    radius = number(_METHODS[method])
    tiny = prim.le(x, number(1e-3))
    angle = prim.mul(number(math.pi), prim.select(tiny, one, x))
    value = radius * prim.sin(angle) * prim.sin(prim.div(angle, radius)) / prim.square(angle)
    return prim.select(prim.gt(x, radius), zero, prim.select(tiny, one, value))


def _axis_resized(x, axis: int, size: int, method: str, scale, shift, antialias: bool):
    """Resize one axis of a float operand; `scale` and `shift` map places of the input to places of the result."""
    kind, before = dtype_key(x), x.shape[axis]
    half, one = tensor(0.5, kind), tensor(1.0, kind)
    shrink = prim.reciprocal(scale)
    at = prim.add(tensor(iota((size,), 0, kind)), half)
    centre = prim.sub(prim.sub(prim.mul(at, shrink), prim.mul(shift, shrink)), half)
    wide = prim.maximum(shrink, one) if antialias else one
    if isinstance(wide, Value):
        raise NotSupportedError(
            "resizing with antialias=True needs sizes and scales known when the program is compiled"
        )
    radius = math.ceil(_METHODS[method] * float(wide))
    offsets = tensor(np.arange(1 - radius, radius + 1), kind)
    places = prim.add(prim.reshape(prim.floor(centre), shape=(size, 1)), offsets)  # [size, neighbours]
    distance = prim.abs(prim.sub(prim.reshape(centre, shape=(size, 1)), places))
    last = prim.sub(sized(before, kind), one)
    inside = prim.logical_and(prim.ge(places, tensor(0.0, kind)), prim.le(places, last))
    weights = prim.select(inside, _kernel(method, prim.div(distance, tensor(wide, kind))), tensor(0.0, kind))
    total = prim.reduce_sum(weights, axes=(1,), keepdims=True)
    empty = prim.le(prim.abs(total), tensor(1000 * float(np.finfo("float32").eps), kind))
    weights = prim.div(weights, prim.select(empty, one, total))
    seen = prim.logical_and(prim.ge(centre, prim.neg(half)), prim.le(centre, prim.add(last, half)))
    weights = prim.select(prim.reshape(seen, shape=(size, 1)), weights, tensor(0.0, kind))
    found = prim.gather(x, cast(places, "int32"), axis=axis)
    count = 2 * radius
    weights = prim.reshape(weights, shape=(1,) * axis + (size, count) + (1,) * (rank(x) - axis - 1))
    return prim.reduce_sum(prim.mul(found, weights), axes=(axis + 1,), keepdims=False)


def _axis_nearest(x, axis: int, size: int):
    """The element whose cell holds the centre of each result."""
    before = x.shape[axis]
    at = prim.add(tensor(iota((size,), 0, "float32")), tensor(0.5, "float32"))
    place = prim.floor(prim.div(prim.mul(at, sized(before, "float32")), tensor(float(size), "float32")))
    return prim.gather(x, cast(place, "int32"), axis=axis)


def resized(x, axes, sizes, method: str, antialias: bool = False):
    """Resize axes of an operand; integers are rounded back to their dtype."""
    kind = dtype_key(x)
    for axis, size in zip(axes, sizes):
        if x.shape[axis] == size:
            continue
        if method == "nearest":
            x = _axis_nearest(x, axis, size)
            continue
        x = floating(x)
        scale = prim.div(tensor(float(size), dtype_key(x)), sized(x.shape[axis], dtype_key(x)))
        x = _axis_resized(x, axis, size, method, scale, tensor(0.0, dtype_key(x)), antialias)
    return x if dtype_key(x) == kind else _rounded(x, kind)


def _rounded(x, kind: str):
    limits = np.iinfo(kind)
    low, high = (tensor(float(v), dtype_key(x)) for v in (limits.min, limits.max))
    return cast(prim.minimum(prim.maximum(prim.round(x), low), high), kind)


@public
def resize(
    images,
    size,
    interpolation="bilinear",
    antialias=False,
    crop_to_aspect_ratio=False,
    pad_to_aspect_ratio=False,
    fill_mode="constant",
    fill_value=0.0,
    data_format=None,
):
    """Resize images to `size` (height, width).

    Args:
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"`, `"lanczos3"` or `"lanczos5"`.
        crop_to_aspect_ratio, pad_to_aspect_ratio: first cut or pad the middle to the target's shape.
    """
    if interpolation not in _METHODS:
        raise ArgumentError(
            f"Invalid value for argument `interpolation`. Expected of one {tuple(_METHODS)}. "
            f"Received: interpolation={interpolation}"
        )
    if fill_mode != "constant":
        raise ArgumentError(
            f"Invalid value for argument `fill_mode`. Only `'constant'` is supported. Received: fill_mode={fill_mode}"
        )
    if pad_to_aspect_ratio and crop_to_aspect_ratio:
        raise ArgumentError("Only one of `pad_to_aspect_ratio` & `crop_to_aspect_ratio` can be `True`.")
    if len(size) != 2:
        raise ArgumentError(f"Argument `size` must be a tuple of two elements (height, width). Received: size={size}")
    layout, target = Layout(images, data_format), tuple(int(s) for s in size)
    x = layout.images
    if crop_to_aspect_ratio:
        for axis, (start, length) in zip((1, 2), _box(x, target, min)):
            x = part(x, axis, start, max(length, 1))
    if pad_to_aspect_ratio:
        for axis, (before, _) in zip((1, 2), _box(x, target, max)):
            if before < 0:  # as Keras: equal borders, so a row of an odd rest is left out
                x = _bordered(x, axis, -before, fill_value)
    return layout.restored(resized(x, (1, 2), target, interpolation, antialias))


def _box(x, target, choose) -> list[tuple[int, int]]:
    """(start, length) per axis of the centred box of the target's proportions; a negative start adds a border."""
    height, width = x.shape[1:3]
    if not isinstance(height, int) or not isinstance(width, int):
        raise NotSupportedError("resize to an aspect ratio needs the size of the images when the program is compiled")
    rows = choose(height, int(float(width * target[0]) / target[1]))
    columns = choose(width, int(float(height * target[1]) / target[0]))
    return [(int((height - rows) / 2), rows), (int((width - columns) / 2), columns)]


def _bordered(x, axis: int, width: int, value):
    edges = [(width, width) if n == axis else (0, 0) for n in range(rank(x))]
    return pad_constant(x, edges, value if is_float(dtype_key(x)) else int(value))


@public
def scale_and_translate(images, output_shape, scale, translation, spatial_dims, method, antialias=True):
    """Resize the axes `spatial_dims` to `output_shape` by a scale and a shift of their own."""
    method = _ALIASES.get(method, method)
    if method not in _METHODS or method == "nearest":
        raise ArgumentError(f"Invalid value for argument `method`. Received: method={method}")
    x = floating(images)
    if len(output_shape) != rank(x):
        raise ShapeError(f"output_shape {tuple(output_shape)} must have one size per axis of {tuple(x.shape)}")
    scale, translation = tensor(scale, dtype_key(x)), tensor(translation, dtype_key(x))
    for n, axis in enumerate(spatial_dims):
        by, shift = (prim.reshape(part(v, 0, n, 1), shape=()) for v in (scale, translation))
        axis = axis_of(axis, rank(x))
        x = _axis_resized(x, axis, int(output_shape[axis]), method, by, shift, antialias)
    return x


# borders --------------------------------------------------------------------------------------------


def _edges(what: str, size: DimLike, before, after, target) -> tuple[DimLike, DimLike]:
    """What is cut (size >= target) or added (size <= target) at both ends, from any two of three numbers."""
    change = None if target is None else (target - size if what == "padding" else size - target)
    given = (before, after, target)
    if sum(v is None for v in given) != 1:
        raise ArgumentError(f"Must specify exactly two of the two {what}s and the target size. Received: {given}")
    before = change - after if before is None else before
    after = change - before if after is None else after
    for value in (before, after):
        if not isinstance(value, Dim) and value < 0:
            raise ArgumentError(f"{what}s must not be negative. Received: {(before, after)}")
    return before, after


def _image_axes(x, data_format: str | None) -> tuple[int, int]:
    if rank(x) not in (3, 4):
        raise ShapeError(f"Invalid shape for argument `images`: it must have rank 3 or 4. Received: {tuple(x.shape)}")
    first = config.standardize_data_format(data_format) == "channels_first"
    return (rank(x) - 2, rank(x) - 1) if first else (rank(x) - 3, rank(x) - 2)


@public
def pad_images(
    images,
    top_padding=None,
    left_padding=None,
    bottom_padding=None,
    right_padding=None,
    target_height=None,
    target_width=None,
    data_format=None,
):
    """Add zeros around images; per axis two of both paddings and the target size are given."""
    x = tensor(images)
    widths: list = [(0, 0)] * rank(x)
    rows, columns = _image_axes(x, data_format)
    widths[rows] = _edges("padding", x.shape[rows], top_padding, bottom_padding, target_height)
    widths[columns] = _edges("padding", x.shape[columns], left_padding, right_padding, target_width)
    return pad_constant(x, widths, 0)


@public
def crop_images(
    images,
    top_cropping=None,
    left_cropping=None,
    bottom_cropping=None,
    right_cropping=None,
    target_height=None,
    target_width=None,
    data_format=None,
):
    """Cut the borders of images off; per axis two of both croppings and the target size are given."""
    x = tensor(images)
    rows, columns = _image_axes(x, data_format)
    top, bottom = _edges("cropping", x.shape[rows], top_cropping, bottom_cropping, target_height)
    left, right = _edges("cropping", x.shape[columns], left_cropping, right_cropping, target_width)
    x = part(x, rows, top, x.shape[rows] - top - bottom)
    return part(x, columns, left, x.shape[columns] - left - right)
