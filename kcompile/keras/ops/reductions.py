"""keras.ops functions that reduce axes: sum, mean, var, max, argmax, logsumexp, ..."""

from __future__ import annotations

from kcompile import ops as prim
from kcompile.errors import ShapeError
from kcompile.ir import dim
from kcompile.keras.ops.function import (
    axes_of,
    axis_of,
    cast,
    dtype_key,
    floating,
    promote,
    public,
    rank,
    sized,
    tensor,
)
from kcompile.keras.tracing.dtypes import is_float

_SMALL_INTEGERS = {"bool": "int32", "int8": "int32", "int16": "int32", "uint8": "uint32", "uint16": "uint32"}


def summable(x):
    """Return an operand whose small integers are wide enough to be summed, as Keras widens them."""
    x = tensor(x)
    return cast(x, _SMALL_INTEGERS.get(dtype_key(x), dtype_key(x)))


def count_of(x, axes: tuple[int, ...]):
    """Return how many elements of x meet in one result, as a scalar of x's dtype."""
    return sized(dim.product(x.shape[a] for a in axes), dtype_key(x))


@public
def sum(x, axis=None, keepdims=False):
    """Return the sum over axes (all by default)."""
    x = summable(x)
    return prim.reduce_sum(x, axes=axes_of(axis, rank(x)), keepdims=bool(keepdims))


@public
def prod(x, axis=None, keepdims=False, dtype=None):
    """Return the product over axes (all by default)."""
    x = summable(x) if dtype is None else tensor(x, dtype)
    return prim.reduce_prod(x, axes=axes_of(axis, rank(x)), keepdims=bool(keepdims))


@public
def mean(x, axis=None, keepdims=False):
    """Return the arithmetic mean over axes (all by default)."""
    x = floating(x)
    return mean_over(x, axes_of(axis, rank(x)), bool(keepdims))


def mean_over(x, axes: tuple[int, ...], keepdims: bool):
    """Return the mean of a float operand over axes counted from the front."""
    return prim.div(prim.reduce_sum(x, axes=axes, keepdims=keepdims), count_of(x, axes))


@public
def var(x, axis=None, keepdims=False):
    """Return the variance over axes: the mean of squared distances from the mean."""
    x = floating(x)
    axes = axes_of(axis, rank(x))
    centred = prim.sub(x, mean_over(x, axes, True))
    return mean_over(prim.square(centred), axes, bool(keepdims))


@public
def std(x, axis=None, keepdims=False):
    """Return the standard deviation over axes."""
    return prim.sqrt(tensor(var(x, axis, keepdims)))


def _not_empty(name: str, x, axis, initial=None) -> tuple[int, ...]:
    """The axes to reduce, which must hold an element: no number is the largest of none."""
    axes = axes_of(axis, rank(x))
    if initial is None and 0 in [x.shape[a] for a in axes]:
        raise ShapeError(f"{name} over no elements: x has shape {tuple(x.shape)}, axis is {axis}; `initial` is missing")
    return axes


@public
def max(x, axis=None, keepdims=False, initial=None):
    """Return the largest element over axes (all by default)."""
    x = tensor(x)
    axes = _not_empty("max", x, axis, initial)
    found = prim.reduce_max(x, axes=axes, keepdims=bool(keepdims))
    return found if initial is None else prim.maximum(*promote(found, initial, dtype=dtype_key(x)))


@public
def min(x, axis=None, keepdims=False, initial=None):
    """Return the smallest element over axes (all by default)."""
    x = tensor(x)
    axes = _not_empty("min", x, axis, initial)
    found = prim.reduce_min(x, axes=axes, keepdims=bool(keepdims))
    return found if initial is None else prim.minimum(*promote(found, initial, dtype=dtype_key(x)))


@public
def amax(x, axis=None, keepdims=False):
    """Return the largest element over axes (all by default)."""
    return max(x, axis, keepdims)


@public
def amin(x, axis=None, keepdims=False):
    """Return the smallest element over axes (all by default)."""
    return min(x, axis, keepdims)


@public
def any(x, axis=None, keepdims=False):
    """Return whether any element is true (non-zero)."""
    x = tensor(x, "bool")
    return prim.reduce_any(x, axes=axes_of(axis, rank(x)), keepdims=bool(keepdims))


@public
def all(x, axis=None, keepdims=False):
    """Return whether all elements are true (non-zero)."""
    x = tensor(x, "bool")
    return prim.reduce_all(x, axes=axes_of(axis, rank(x)), keepdims=bool(keepdims))


@public
def count_nonzero(x, axis=None):
    """Return how many elements are not zero, as int32."""
    x = tensor(tensor(x, "bool"), "int32")
    return prim.reduce_sum(x, axes=axes_of(axis, rank(x)), keepdims=False)


@public
def argmax(x, axis=None, keepdims=False):
    """Return the index of the largest element (the first of equals), as int32."""
    return _arg(prim.argmax, x, axis, keepdims)


@public
def argmin(x, axis=None, keepdims=False):
    """Return the index of the smallest element (the first of equals), as int32."""
    return _arg(prim.argmin, x, axis, keepdims)


def _arg(primitive, x, axis, keepdims):
    x = tensor(x)
    x = cast(x, "int32") if dtype_key(x) == "bool" else x
    sizes = tuple(x.shape)
    if axis is None:
        found = primitive(prim.reshape(x, shape=(dim.product(sizes),)), axis=0)
        return prim.reshape(found, shape=(1,) * len(sizes)) if keepdims else found
    place = axis_of(axis, len(sizes))
    found = primitive(x, axis=place)
    kept = tuple(1 if i == place else s for i, s in enumerate(sizes))
    return prim.reshape(found, shape=kept) if keepdims else found


@public
def average(x, axis=None, weights=None):
    """Return the weighted mean over axes."""
    if weights is None:
        return mean(x, axis)
    x, w = promote(x, weights, floating=True)
    if tuple(w.shape) != tuple(x.shape) and axis is not None and rank(w) == 1:
        place = axis_of(axis, rank(x))
        w = prim.reshape(w, shape=tuple(s if i == place else 1 for i, s in enumerate(x.shape)))
    w = prim.broadcast_to(w, shape=tuple(x.shape))
    axes = axes_of(axis, rank(x))
    total = prim.reduce_sum(prim.mul(x, w), axes=axes, keepdims=False)
    return prim.div(total, prim.reduce_sum(w, axes=axes, keepdims=False))


@public
def logsumexp(x, axis=None, keepdims=False):
    """Return log(Σ exp(x)) over axes, without overflow."""
    x = floating(x)
    axes = axes_of(axis, rank(x))
    top = prim.stop_gradient(prim.reduce_max(x, axes=axes, keepdims=True))
    zero = tensor(0.0, dtype_key(x))
    top = prim.select(prim.isfinite(top), top, zero)  # -inf - -inf would be NaN
    total = prim.reduce_sum(prim.exp(prim.sub(x, top)), axes=axes, keepdims=True)
    found = prim.add(prim.log(total), top)
    if keepdims:
        return found
    return prim.reshape(found, shape=tuple(s for i, s in enumerate(x.shape) if i not in axes))


def vector_norm(x, ord=None, axis=None, keepdims=False):
    """Return a vector norm over axes: ord 0 (how many are not zero), 1, 2 (default), any p, or ±inf."""
    x = floating(x)
    axes = axes_of(axis, rank(x))
    if ord in (None, 2, "fro", "euclidean"):
        return prim.sqrt(prim.reduce_sum(prim.square(x), axes=axes, keepdims=bool(keepdims)))
    size = prim.abs(x)
    if ord == float("inf"):
        return prim.reduce_max(size, axes=axes, keepdims=bool(keepdims))
    if ord == float("-inf"):
        return prim.reduce_min(size, axes=axes, keepdims=bool(keepdims))
    if ord in (0, 1):
        size = size if ord else cast(prim.ne(size, tensor(0.0, dtype_key(x))), dtype_key(x))
        return prim.reduce_sum(size, axes=axes, keepdims=bool(keepdims))
    power, root = promote(float(ord), 1.0 / float(ord), dtype=dtype_key(x))
    return prim.pow(prim.reduce_sum(prim.pow(size, power), axes=axes, keepdims=bool(keepdims)), root)


def moments_over(x, axes: tuple[int, ...], keepdims: bool):
    """Return mean and variance of a float operand over axes counted from the front.

    Columns, and rows of known length, take one pass. Its sums are shifted by the mean of a few first elements, so
    that they cancel little (Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance", section 3):
    the mean of k among n elements is at most sqrt(n / k) standard deviations off, so rounding grows by n / k at most.
    Other rows, which are in a core's cache when they are read again, are centred. Where rows and columns are summed -
    a group of channels at all places - the columns' moments come first, from whole lines, and those of a group follow
    from them.
    """
    last_kept = next((a for a in reversed(range(len(x.shape))) if a not in axes), -1)
    columns, inside = (tuple(a for a in axes if (a < last_kept) == before) for before in (True, False))
    if columns and inside and 0 not in [x.shape[a] for a in axes]:
        centre, spread = _shifted_moments(x, *_few_of_columns(x, columns))
        mean = mean_over(centre, inside, True)
        variance = mean_over(prim.add(spread, prim.square(prim.sub(centre, mean))), inside, True)
    elif 0 in axes and len(axes) < len(x.shape) and 0 not in [x.shape[a] for a in axes]:
        mean, variance = _shifted_moments(x, *_few_of_columns(x, axes))
    elif (few := _few_of_rows(x, axes)) is not None:
        mean, variance = _shifted_moments(x, tuple(sorted(axes)), few)
    else:
        mean = mean_over(x, axes, True)
        variance = mean_over(prim.square(prim.sub(x, mean)), axes, True)
    if keepdims:
        return mean, variance
    kept = tuple(s for i, s in enumerate(x.shape) if i not in axes)
    return prim.reshape(mean, shape=kept), prim.reshape(variance, shape=kept)


FEW, MOST_GROWTH = 16, 64  # elements of a row that shift its sums; how much rounding may grow by it


def _few_of_rows(x, axes: tuple[int, ...]) -> tuple | None:
    """The shape of the first few elements of each row; None if rows are short, of unknown length, or no rows."""
    rank, axes = len(x.shape), tuple(sorted(axes))
    first = rank - len(axes)
    if not 0 < first < rank or axes != tuple(range(first, rank)):
        return None
    lengths = x.shape[first:]
    if not dim.is_static(dim.product(lengths)):
        return None
    count = -(-dim.product(lengths) // MOST_GROWTH)
    count = FEW if count < FEW else count
    return None if lengths[-1] < 4 * count else (*x.shape[:first], *(1 for _ in lengths[1:]), count)


def _few_of_columns(x, axes: tuple[int, ...]) -> tuple[tuple[int, ...], tuple]:
    """The axes in order, and the shape of the first few elements of each column."""
    axes = tuple(sorted(axes))
    single = axes[:-1] or axes
    return axes, tuple(1 if n in single else size for n, size in enumerate(x.shape))


def _shifted_moments(x, axes: tuple[int, ...], few: tuple):
    """Moments by one pass over x; the mean of the first elements, an array of shape `few`, shifts its sums."""
    rank = len(x.shape)
    first = prim.slice(x, starts=(0,) * rank, sizes=few, strides=(1,) * rank)
    shift = prim.stop_gradient(mean_over(first, axes, True))
    shifted = prim.sub(x, shift)
    off = mean_over(shifted, axes, True)
    spread = prim.sub(mean_over(prim.square(shifted), axes, True), prim.square(off))
    return prim.add(shift, off), prim.maximum(spread, 0.0)  # rounding may leave a constant column below zero


@public
def moments(x, axes, keepdims=False, synchronized=False):
    """Return (mean, variance) over axes."""
    x = floating(x)
    return moments_over(x, axes_of(axes, rank(x)), bool(keepdims))


def _running(primitive, x, axis, dtype):
    """Running sums and products keep the dtype of integers, which sums over an axis widen."""
    x = tensor(x, dtype)
    x = cast(x, "int32") if dtype is None and dtype_key(x) == "bool" else x
    if axis is None:
        x, axis = prim.reshape(x, shape=(dim.product(x.shape),)), 0
    return primitive(x, axis=axis_of(axis, rank(x)))


@public
def cumsum(x, axis=None, dtype=None):
    """Return running sums along an axis (of the flattened x by default)."""
    return _running(prim.cumsum, x, axis, dtype)


@public
def cumprod(x, axis=None, dtype=None):
    """Return running products along an axis (of the flattened x by default)."""
    return _running(prim.cumprod, x, axis, dtype)


@public
def ptp(x, axis=None, keepdims=False):
    """Return the distance between the largest and the smallest element over axes."""
    return prim.sub(tensor(max(x, axis, keepdims)), tensor(min(x, axis, keepdims)))


# numbers only: NaN left out ---------------------------------------------------------------------------


def _without_nan(x, instead: float):
    """Return x with NaN replaced, and 1 where there is a number (both None for integers)."""
    x = tensor(x)
    if not is_float(dtype_key(x)):
        return x, None
    missing = prim.isnan(x)
    return prim.select(missing, tensor(instead, dtype_key(x)), x), cast(prim.logical_not(missing), dtype_key(x))


def _extreme(reduce, x, axis, keepdims, instead: float):
    kept, present = _without_nan(x, instead)
    found = tensor(reduce(kept, axis, keepdims))
    if present is None:
        return found
    some = prim.gt(tensor(max(present, axis, keepdims)), tensor(0.0, dtype_key(present)))
    return prim.select(some, found, tensor(float("nan"), dtype_key(found)))


@public
def nanmax(x, axis=None, keepdims=False):
    """Return the largest number over axes; NaN if there is none."""
    return _extreme(max, x, axis, keepdims, float("-inf"))


@public
def nanmin(x, axis=None, keepdims=False):
    """Return the smallest number over axes; NaN if there is none."""
    return _extreme(min, x, axis, keepdims, float("inf"))


@public
def nansum(x, axis=None, keepdims=False):
    """Return the sum of the numbers over axes."""
    return sum(_without_nan(x, 0.0)[0], axis, keepdims)


@public
def nanprod(x, axis=None, keepdims=False):
    """Return the product of the numbers over axes."""
    return prod(_without_nan(x, 1.0)[0], axis, keepdims)


@public
def nancumsum(x, axis=None, dtype=None):
    """Return running sums, NaN counting as 0."""
    return cumsum(_without_nan(x, 0.0)[0], axis, dtype)


@public
def nancumprod(x, axis=None, dtype=None):
    """Return running products, NaN counting as 1."""
    return cumprod(_without_nan(x, 1.0)[0], axis, dtype)


@public
def nanmean(x, axis=None, keepdims=False):
    """Return the mean of the numbers over axes; NaN if there is none."""
    kept, present = _without_nan(floating(x), 0.0)
    return prim.div(tensor(sum(kept, axis, keepdims)), tensor(sum(present, axis, keepdims)))


@public
def nanvar(x, axis=None, keepdims=False):
    """Return the variance of the numbers over axes; NaN if there is none."""
    x = floating(x)
    kept, present = _without_nan(x, 0.0)
    centred = prim.mul(prim.sub(kept, tensor(nanmean(x, axis, True))), present)
    return prim.div(tensor(sum(prim.square(centred), axis, keepdims)), tensor(sum(present, axis, keepdims)))


@public
def nanstd(x, axis=None, keepdims=False):
    """Return the standard deviation of the numbers over axes; NaN if there is none."""
    return prim.sqrt(tensor(nanvar(x, axis, keepdims)))


def _nan_arg(pick, x, axis, keepdims, instead: float):
    kept, present = _without_nan(x, instead)
    found = tensor(pick(kept, axis, keepdims))
    if present is None:
        return found
    some = prim.gt(tensor(max(present, axis, keepdims)), tensor(0.0, dtype_key(present)))
    return prim.select(some, found, tensor(-1, "int32"))


@public
def nanargmax(x, axis=None, keepdims=False):
    """Return the index of the largest number; -1 if there is none."""
    return _nan_arg(argmax, x, axis, keepdims, float("-inf"))


@public
def nanargmin(x, axis=None, keepdims=False):
    """Return the index of the smallest number; -1 if there is none."""
    return _nan_arg(argmin, x, axis, keepdims, float("inf"))
