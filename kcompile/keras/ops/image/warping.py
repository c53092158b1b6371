"""keras.ops.image: map_coordinates, and the transforms that look every result up at a place of the input.

A place between elements is the weighted mean of its neighbours on all axes; what lies outside follows `fill_mode`.
"""

from __future__ import annotations

import itertools

from kcompile import ops as prim
from kcompile.errors import ArgumentError, ShapeError
from kcompile.ir import dim
from kcompile.keras.ops.creation import iota
from kcompile.keras.ops.function import broadcast, cast, dtype_key, floating, public, rank, sized, tensor
from kcompile.keras.ops.image.layout import Layout
from kcompile.keras.ops.linalg import solve
from kcompile.keras.ops.shapes import part
from kcompile.keras.tracing.dtypes import is_float

FILL_MODES = ("constant", "nearest", "wrap", "mirror", "reflect")
ORDERS = {"nearest": 0, "bilinear": 1}


def _mirrored(place, last):
    """|((place + last) mod 2·last) - last|: back and forth between 0 and last."""
    period = prim.maximum(prim.mul(last, tensor(2, "int32")), tensor(1, "int32"))
    return prim.abs(prim.sub(prim.mod(prim.add(place, last), period), last))


def _fixed(place, size, mode: str):
    """An int32 place as one inside, by the fill mode."""
    size, one, two = sized(size, "int32"), tensor(1, "int32"), tensor(2, "int32")
    if mode == "wrap":
        return prim.mod(place, size)
    if mode == "mirror":
        return _mirrored(place, prim.sub(size, one))
    if mode == "reflect":
        doubled = _mirrored(prim.add(prim.mul(place, two), one), prim.mul(size, two))
        return prim.floordiv(prim.sub(doubled, one), two)
    return prim.minimum(prim.maximum(place, tensor(0, "int32")), prim.sub(size, one))


def _rounded(x):
    """Half away from zero."""
    return prim.mul(prim.sign(x), prim.floor(prim.add(prim.abs(x), tensor(0.5, dtype_key(x)))))


def _neighbours(at, order: int) -> list[tuple]:
    """(int32 place, weight) of the elements a coordinate is made of."""
    if order == 0:
        return [(cast(_rounded(at), "int32"), None)]
    low = prim.floor(at)
    share, place = prim.sub(at, low), cast(low, "int32")
    one = tensor(1.0, dtype_key(at))
    return [(place, prim.sub(one, share)), (prim.add(place, tensor(1, "int32")), share)]


def sampled(rows, base, sizes, coordinates, order: int, mode: str, fill_value):
    """Return the rows at coordinates [*result] per axis; `base` is where an image's rows begin.

    Shapes:  rows [n, *rest] with n a multiple of the product of `sizes` -> [*result, *rest].
    """
    kind = dtype_key(rows)
    rest = (1,) * (rank(rows) - 1)
    total = None
    outside = tensor(fill_value, kind)
    for choice in itertools.product(*(_neighbours(c, order) for c in coordinates)):
        flat, weight, valid = tensor(0, "int32"), None, None
        for (place, share), size in zip(choice, sizes):
            inside = _fixed(place, size, mode)
            if mode == "constant":
                held = prim.eq(place, inside)
                valid = held if valid is None else prim.logical_and(valid, held)
            flat = prim.add(prim.mul(flat, sized(size, "int32")), inside)
            if share is not None:
                weight = share if weight is None else prim.mul(weight, share)
        term = prim.gather(rows, flat if base is None else prim.add(flat, base), axis=0)
        if valid is not None:
            term = prim.select(prim.reshape(valid, shape=(*valid.shape, *rest)), term, outside)
        if weight is not None:
            term = prim.mul(term, prim.reshape(weight, shape=(*weight.shape, *rest)))
        total = term if total is None else prim.add(total, term)
    return total


def check_modes(mode: str, interpolation: str | None = None) -> None:
    if mode not in FILL_MODES:
        raise ArgumentError(f"Invalid value for argument `fill_mode`. Expected of one {FILL_MODES}. Received: {mode}")
    if interpolation is not None and interpolation not in ORDERS:
        raise ArgumentError(
            f"Invalid value for argument `interpolation`. Expected of one {tuple(ORDERS)}. Received: {interpolation}"
        )


@public
def map_coordinates(inputs, coordinates, order, fill_mode="constant", fill_value=0):
    """Return the inputs at `coordinates` [rank, ...], by the nearest element (order 0) or linearly (order 1)."""
    x, at = tensor(inputs), floating(coordinates)
    if at.shape[0] != rank(x) or rank(at) < 2:
        raise ShapeError(
            "First dim of `coordinates` must be the same as the rank of `inputs`, and its rank at least 2. "
            f"Received inputs with shape: {tuple(x.shape)} and coordinates {tuple(at.shape)}"
        )
    check_modes(fill_mode)
    if order not in (0, 1):
        raise ArgumentError(f"Invalid value for argument `order`. Expected one of [0, 1]. Received: order={order}")
    kind = dtype_key(x)
    rows = prim.reshape(x, shape=(dim.product(x.shape),))
    rows = rows if is_float(kind) or order == 0 else cast(rows, dtype_key(at))
    result = tuple(at.shape[1:])
    along = [prim.reshape(part(at, 0, n, 1), shape=result) for n in range(rank(x))]
    found = sampled(rows, None, tuple(x.shape), along, order, fill_mode, fill_value)
    if dtype_key(found) == kind:
        return found
    return cast(_rounded(found), kind)


def looked_up(layout: Layout, y, x, interpolation: str, mode: str, fill_value):
    """Return the images [batch, height, width, channels] at y and x [batch, height, width]."""
    images = layout.images
    kind = dtype_key(images)
    rows = images if is_float(kind) or interpolation == "nearest" else floating(images)
    batch, height, width, channels = images.shape
    rows = prim.reshape(rows, shape=(batch * height * width, channels))
    number = tensor(iota((batch,), 0, "int32"))
    base = prim.reshape(prim.mul(number, sized(height * width, "int32")), shape=(batch, 1, 1))
    found = sampled(rows, base, (height, width), (y, x), ORDERS[interpolation], mode, fill_value)
    return layout.restored(found if dtype_key(found) == kind else cast(_rounded(found), kind))


def _grid(images, kind: str):
    """Places of the result's pixels, as rows [1, height, 1] and columns [1, 1, width]."""
    height, width = images.shape[1:3]
    y = prim.reshape(tensor(iota((height,), 0, kind)), shape=(1, height, 1))
    return y, prim.reshape(tensor(iota((width,), 0, kind)), shape=(1, 1, width))


def _columns(matrix, count: int) -> list:
    """Columns of [batch, count] as [batch, 1, 1] each."""
    return [prim.reshape(part(matrix, 1, n, 1), shape=(matrix.shape[0], 1, 1)) for n in range(count)]


def _full(v, images):
    return broadcast(v, (images.shape[0], *images.shape[1:3]))


@public
def affine_transform(images, transform, interpolation="bilinear", fill_mode="constant", fill_value=0, data_format=None):
    """Return images whose pixel (x, y) is the input's at (a0·x + a1·y + a2, b0·x + b1·y + b2).

    Args: transform: [a0, a1, a2, b0, b1, b2, c0, c1], one or one per image; c0 and c1 are not used.
    """
    check_modes(fill_mode, interpolation)
    layout, matrix = Layout(images, data_format), floating(transform)
    if rank(matrix) not in (1, 2):
        raise ShapeError(
            "Invalid transform rank: expected rank 1 (single transform) or rank 2 (batch of transforms). "
            f"Received input with shape: transform.shape={tuple(matrix.shape)}"
        )
    matrix = prim.reshape(matrix, shape=(1, 8)) if rank(matrix) == 1 else matrix
    a0, a1, a2, b0, b1, b2 = _columns(matrix, 6)
    y, x = _grid(layout.images, dtype_key(matrix))
    to_x = prim.add(prim.add(prim.mul(a0, x), prim.mul(a1, y)), a2)
    to_y = prim.add(prim.add(prim.mul(b0, x), prim.mul(b1, y)), b2)
    places = (_full(v, layout.images) for v in (to_y, to_x))
    return looked_up(layout, *places, interpolation, fill_mode, fill_value)


@public
def perspective_transform(images, start_points, end_points, interpolation="bilinear", fill_value=0, data_format=None):
    """Return images in which four points [4, 2] (x, y), one set or one per image, have moved from start to end."""
    check_modes("constant", interpolation)
    start, end = tensor(start_points, "float32"), tensor(end_points, "float32")
    for points in (start, end):
        if tuple(points.shape[-2:]) != (4, 2) or rank(points) not in (2, 3):
            raise ShapeError(f"Invalid points shape: expected (4,2) or (N,4,2). Received shape: {tuple(points.shape)}")
    layout = Layout(images, data_format)
    c = _columns(homography(start, end), 8)
    y, x = _grid(layout.images, "float32")

    def plane(a, b, rest):
        return prim.add(prim.add(prim.mul(a, x), prim.mul(b, y)), rest)

    depth = plane(c[6], c[7], tensor(1.0, "float32"))
    places = [prim.div(plane(*c[3:6]), depth), prim.div(plane(*c[:3]), depth)]
    return looked_up(layout, *(_full(v, layout.images) for v in places), interpolation, "constant", fill_value)


def homography(start, end):
    """The eight numbers of the projective map from `end` to `start`: two equations per point.

    They are solved in float64: with coordinates of pixels the equations amplify rounding a thousandfold.
    """
    batch = next((p.shape[0] for p in (start, end) if rank(p) == 3 and p.shape[0] != 1), 1)

    def coordinates(points):
        points = prim.cast(broadcast(points, (batch, 4, 2)), dtype="float64")
        return [prim.reshape(part(points, 2, n, 1), shape=(batch, 4)) for n in range(2)]

    (u, v), (x, y) = coordinates(start), coordinates(end)
    one = broadcast(tensor(1.0, "float64"), (batch, 4))
    zero = broadcast(tensor(0.0, "float64"), (batch, 4))

    def rows(*columns):
        return prim.concat(*(prim.reshape(c, shape=(batch, 4, 1)) for c in columns), axis=2)

    upper = rows(x, y, one, zero, zero, zero, prim.neg(prim.mul(u, x)), prim.neg(prim.mul(u, y)))
    lower = rows(zero, zero, zero, x, y, one, prim.neg(prim.mul(v, x)), prim.neg(prim.mul(v, y)))
    target = prim.concat(u, v, axis=1)
    found = tensor(solve(prim.concat(upper, lower, axis=1), prim.reshape(target, shape=(batch, 8, 1))))
    return prim.cast(prim.reshape(found, shape=(batch, 8)), dtype="float32")
