"""keras.ops functions that order elements: sort, top_k, quantiles, searches in sorted numbers, unique.

All rest on one primitive, argsort; sorted values are a lookup, so gradients flow to where a value came from.
Searches halve the range bit by bit, so they need no loop: every step is one lookup per value.
"""

from __future__ import annotations

import builtins

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.ir import dim
from kcompile.ir.graph import Value
from kcompile.keras.ops.function import (
    axes_of,
    axis_of,
    broadcast,
    cast,
    dtype_key,
    floating,
    promote,
    public,
    rank,
    sized,
    tensor,
)
from kcompile.keras.ops.indexing import take_along_axis
from kcompile.keras.ops.shapes import part
from kcompile.keras.tracing.dtypes import is_float

_LARGEST_SEARCH = 31  # bits of an int32 position


def _line(x, axis: int | None):
    """Return x and an axis counted from the front; with axis=None x is flattened."""
    x = tensor(x)
    if axis is None:
        x, axis = prim.reshape(x, shape=(dim.product(x.shape),)), 0
    return x, axis_of(axis, rank(x))


def order(x, axis: int, descending: bool = False):
    """Return the places of the elements along an axis in sorted order, as int32."""
    keys = cast(x, "int32") if dtype_key(x) == "bool" else x
    return prim.argsort(keys, axis=axis, descending=descending)


def sorted_along(x, axis: int, descending: bool = False):
    """Return the elements along an axis in sorted order."""
    return tensor(take_along_axis(x, order(x, axis, descending), axis))


@public
def argsort(x, axis=-1):
    """Return the indices that sort x along an axis (the flattened x for None); equal elements keep their order."""
    x, axis = _line(x, axis)
    return order(x, axis)


@public
def sort(x, axis=-1):
    """Return x sorted along an axis (the flattened x for None); NaN comes last."""
    x, axis = _line(x, axis)
    return sorted_along(x, axis)


@public
def argpartition(x, kth, axis=-1):
    """Return indices that bring the kth element of the sorted x to its place, smaller ones before it."""
    x, axis = _line(x, axis)
    return order(x, axis)


@public
def top_k(x, k, sorted=True):
    """Return (values, indices) of the k largest elements of the last axis, the largest first."""
    x = tensor(x)
    places = part(order(x, rank(x) - 1, descending=True), rank(x) - 1, 0, int(k))
    return tensor(take_along_axis(x, places, -1)), places


@public
def in_top_k(targets, predictions, k):
    """Return whether fewer than k predictions [n, classes] are above that of the target class [n]."""
    targets, scores = tensor(targets, "int32"), tensor(predictions)
    own = tensor(take_along_axis(scores, prim.reshape(targets, shape=(*targets.shape, 1)), -1))
    if is_float(dtype_key(scores)):
        own = prim.select(prim.isnan(own), tensor(float("-inf"), dtype_key(scores)), own)
    above = prim.reduce_sum(tensor(prim.gt(scores, own), "int32"), axes=(rank(scores) - 1,), keepdims=False)
    return prim.lt(above, tensor(int(k), "int32"))


# searching ----------------------------------------------------------------------------------------


@public
def searchsorted(sorted_sequence, values, side="left"):
    """Return where each value would be inserted into a sorted vector: before (left) or after its equals."""
    line, values = promote(sorted_sequence, values)
    if rank(line) != 1:
        raise ShapeError(
            f"searchsorted only supports 1-D sorted sequences. You can use `keras.ops.vectorized_map` to extend it "
            f"to N-D sequences. Received: sorted_sequence.shape={tuple(line.shape)}"
        )
    if side not in ("left", "right"):
        raise ArgumentError(f"searchsorted: side must be 'left' or 'right', received {side!r}")
    return search(line, values, side)


def search(line, values, side: str):
    """Return the number of elements of a sorted vector below (left) or not above (right) each value, as int32."""
    size = line.shape[0]
    found = broadcast(tensor(0, "int32"), tuple(values.shape))
    if size == 0:
        return found
    count, one = sized(size, "int32"), tensor(1, "int32")
    bits = size.bit_length() if isinstance(size, int) else _LARGEST_SEARCH
    goes_before = prim.lt if side == "left" else prim.le
    for bit in reversed(range(bits)):
        further = prim.add(found, tensor(1 << bit, "int32"))
        # beyond the end, and wrapped around past the largest int32
        inside = prim.logical_and(prim.le(further, count), prim.gt(further, found))
        passed = goes_before(prim.gather(line, prim.sub(further, one), axis=0), values)
        found = prim.select(prim.logical_and(inside, passed), further, found)
    return found


@public
def digitize(x, bins):
    """Return the number of the bin each element falls into, for ascending edges `bins`."""
    x, bins = promote(x, bins)
    return search(bins, x, "right")


@public
def isin(x1, x2, assume_unique=False, invert=False):
    """Return which elements of x1 occur in x2."""
    a, b = promote(x1, x2)
    b = prim.reshape(b, shape=(dim.product(b.shape),))
    hits = prim.eq(prim.reshape(a, shape=(*a.shape, 1)), b)
    found = prim.reduce_any(hits, axes=(rank(a),), keepdims=False)
    return prim.logical_not(found) if invert else found


# quantiles ----------------------------------------------------------------------------------------


def _over(x, axis):
    """Return x with the axes to reduce joined in front, and the shape of a result that keeps them."""
    axes = axes_of(axis, rank(x))
    rest = [n for n in range(rank(x)) if n not in axes]
    kept = tuple(1 if n in axes else s for n, s in enumerate(x.shape))
    moved = prim.transpose(x, perm=(*axes, *rest))
    return prim.reshape(moved, shape=(dim.product(x.shape[a] for a in axes), *(x.shape[n] for n in rest))), kept


def _quantile(x, q, axis, method: str, keepdims: bool, ignore_nan: bool):
    x = floating(x)
    kind = dtype_key(x)
    q = tensor(q, kind)
    if rank(q) > 1:
        raise ShapeError(f"quantile: q must be a number or a vector, received shape {tuple(q.shape)}")
    x, kept = _over(x, axis)
    if x.shape[0] == 0:
        raise ShapeError(f"a quantile or median of no elements: axis is {axis}")
    rest = tuple(x.shape[1:])
    line = sorted_along(x, 0)
    count = sized(x.shape[0], kind)
    missing = prim.reduce_sum(cast(prim.isnan(x), kind), axes=(0,), keepdims=False)
    q = prim.reshape(q, shape=(*q.shape, *(1 for _ in rest)))
    one, zero = tensor(1.0, kind), tensor(0.0, kind)
    last = prim.sub(prim.sub(count, missing) if ignore_nan else count, one)
    position = prim.mul(q, prim.maximum(last, zero))
    low, high = prim.floor(position), prim.ceil(position)
    if method == "nearest":
        low = high = prim.round(position)
    elif method in ("lower", "higher"):
        low = high = low if method == "lower" else high
    a, b = (_picked(line, place) for place in (low, high))
    if method == "linear":
        share = prim.sub(position, low)
    elif method == "midpoint":
        share = tensor(0.5, kind)
    elif method in ("nearest", "lower", "higher"):
        share = zero
    else:
        raise ArgumentError(f"unknown quantile method {method!r}; expected linear, lower, higher, midpoint or nearest")
    # the shares are multiplied apart: an infinite neighbour of share 0 must not make a NaN
    found = prim.add(prim.mul(a, prim.sub(one, share)), prim.select(prim.eq(share, zero), zero, prim.mul(b, share)))
    bad = prim.eq(missing, count) if ignore_nan else prim.gt(missing, zero)
    found = prim.select(bad, tensor(float("nan"), kind), found)
    if not keepdims:
        return found
    return prim.reshape(found, shape=(*found.shape[: rank(found) - len(rest)], *kept))


def _picked(line, place):
    """Look up line[place] along axis 0; `place` broadcasts against the other axes."""
    rest = tuple(line.shape[1:])
    extra = rank(place) - len(rest)
    shape = (*place.shape[:extra], *rest)
    place = broadcast(cast(place, "int32"), shape)
    if extra == 0:
        place = prim.reshape(place, shape=(1, *shape))
    found = tensor(take_along_axis(line, place, 0))
    return prim.reshape(found, shape=shape) if extra == 0 else found


@public
def quantile(x, q, axis=None, method="linear", keepdims=False):
    """Return the value below which a share q of the elements lies, over axes (all by default)."""
    return _quantile(x, q, axis, method, bool(keepdims), ignore_nan=False)


@public
def percentile(x, q, axis=None, method="linear", keepdims=False):
    """Return quantiles, q in percent."""
    return _quantile(x, prim.div(floating(q), tensor(100.0, dtype_key(floating(q)))), axis, method, keepdims, False)


@public
def median(x, axis=None, keepdims=False):
    """Return the middle of the sorted elements over axes (all by default)."""
    return _quantile(x, 0.5, axis, "linear", bool(keepdims), ignore_nan=False)


@public
def nanquantile(x, q, axis=None, method="linear", keepdims=False):
    """Return quantiles of the elements that are not NaN."""
    return _quantile(x, q, axis, method, bool(keepdims), ignore_nan=True)


@public
def nanpercentile(x, q, axis=None, method="linear", keepdims=False):
    """Return quantiles of the elements that are not NaN, q in percent."""
    return _quantile(x, prim.div(floating(q), tensor(100.0, dtype_key(floating(q)))), axis, method, keepdims, True)


@public
def nanmedian(x, axis=None, keepdims=False):
    """Return the median of the elements that are not NaN."""
    return _quantile(x, 0.5, axis, "linear", bool(keepdims), ignore_nan=True)


# counting -----------------------------------------------------------------------------------------


@public
def bincount(x, weights=None, minlength=0, sparse=False):
    """Return how often each number occurs along the last axis, or the sum of its weights.

    While tracing the result has `minlength` entries and larger numbers are not counted.
    """
    if sparse:
        raise NotSupportedError("bincount(sparse=True): sparse tensors are not supported")
    x = tensor(x, "int32")
    if isinstance(x, Value):
        if not minlength:
            raise ArgumentError("bincount needs minlength= while tracing")
        length = int(minlength)
    else:
        length = builtins.max(int(minlength), int(x.max()) + 1 if x.size else 0)
    w = tensor(1, "int32") if weights is None else tensor(weights)
    w = broadcast(w, tuple(x.shape))
    if rank(x) == 1:
        w = prim.select(prim.lt(x, tensor(length, "int32")), w, tensor(0, dtype_key(w)))
        return prim.scatter_add(broadcast(tensor(0, dtype_key(w)), (length,)), x, w)
    numbers = tensor(np.arange(length, dtype="int32"))
    hits = prim.eq(prim.reshape(x, shape=(*x.shape, 1)), numbers)
    counted = prim.select(hits, prim.reshape(w, shape=(*w.shape, 1)), tensor(0, dtype_key(w)))
    return prim.reduce_sum(counted, axes=(rank(x) - 1,), keepdims=False)


@public
def histogram(x, bins=10, range=None):
    """Return (counts, edges) of equally wide bins between the extremes of x, or over `range`."""
    if not isinstance(bins, int) or bins <= 0:
        raise ArgumentError(f"Argument `bins` should be a positive integer. Received: bins={bins}")
    x = floating(x)
    x = prim.reshape(x, shape=(dim.product(x.shape),))
    kind = dtype_key(x)
    if range is None:
        low, high = (f(x, axes=(0,), keepdims=False) for f in (prim.reduce_min, prim.reduce_max))
    else:
        if not range[0] <= range[1]:
            raise ArgumentError(f"histogram: range[1] must be at least range[0]. Received: range={range}")
        low, high = (tensor(float(v), kind) for v in range)
    half = tensor(0.5, kind)
    flat = prim.eq(low, high)  # one value: a bin's width around it
    low, high = prim.select(flat, prim.sub(low, half), low), prim.select(flat, prim.add(high, half), high)
    steps = tensor(np.linspace(0, 1, bins + 1), kind)
    edges = prim.add(prim.mul(low, prim.sub(tensor(1.0, kind), steps)), prim.mul(high, steps))
    one = tensor(1, "int32")
    place = prim.minimum(prim.sub(search(edges, x, "right"), one), tensor(bins - 1, "int32"))  # the last edge belongs
    inside = prim.logical_and(prim.ge(x, low), prim.le(x, high))
    zeros = broadcast(tensor(0.0, kind), (bins,))
    return prim.scatter_add(zeros, place, cast(inside, kind)), edges


@public
def unique(
    x, sorted=True, return_index=False, return_inverse=False, return_counts=False, axis=None, size=None, fill_value=None
):
    """Return the distinct elements of x (or slices along `axis`), sorted; only for numbers, not while tracing.

    Args: size: cut or fill (with `fill_value`, by default the smallest) the result to so many.
    """
    x = tensor(x)
    if isinstance(x, Value):
        raise NotSupportedError("unique: the size of the result is only known when the program runs")
    found, *rest = np.unique(np.asarray(x), return_index=True, return_inverse=True, return_counts=True, axis=axis)
    index, inverse, counts = (r.astype("int32") for r in rest)
    inverse = inverse.reshape(x.shape) if axis is None else inverse.reshape(-1)
    place = 0 if axis is None else axis_of(axis, rank(x))
    if size is not None:
        found = _fitted(found, size, place, found.min() if fill_value is None else fill_value)
        index, counts = _fitted(index, size, 0, 0), _fitted(counts, size, 0, 0)
    found = cast(found, dtype_key(x))  # of a bfloat16, NumPy saw float32
    wanted = [r for r, asked in ((index, return_index), (inverse, return_inverse), (counts, return_counts)) if asked]
    return (found, *wanted) if wanted else found


def _fitted(x: np.ndarray, size: int, axis: int, fill) -> np.ndarray:
    x = np.take(x, np.arange(builtins.min(size, x.shape[axis])), axis)
    widths = [(0, size - x.shape[n] if n == axis else 0) for n in range(x.ndim)]
    return np.pad(x, widths, constant_values=fill)
