"""Random distributions from 32 random bits per element.

uniform           the upper 24 bits as a fraction: every value is exact in float32, and 1.0 never occurs
normal            √2 · erfinv of a uniform number in (-1, 1)
truncated_normal  the same between the two cut quantiles
"""

from __future__ import annotations

import math

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError
from kcompile.ir.dim import Dim
from kcompile.keras.ops.function import axis_of, dtype_key, floating, promote, public, rank, tensor
from kcompile.keras.ops.sizes import sizes_of
from kcompile.keras.random.seeds import draw_seed
from kcompile.keras.tracing.dtypes import standardize_dtype
from kcompile.keras.tracing.scope import current_graph

_BITS = 24  # significand of float32


def _bits(shape, seed):
    shape, seed = sizes_of(shape), tensor(draw_seed(seed))
    if isinstance(seed, np.ndarray) and any(isinstance(s, Dim) for s in shape):  # a number as seed, an open size
        seed = current_graph().constant(seed)
    return prim.random_bits(seed, shape=shape)


def _fraction(shape, seed, dtype: str):
    """Uniform in [0, 1): multiples of 2**-24."""
    kept = prim.shift_right(_bits(shape, seed), tensor(32 - _BITS, "uint32"))
    wide = "float64" if dtype == "float64" else "float32"
    number = tensor(tensor(kept, "int32"), wide)  # 24 bits fit int32, which converts faster than uint32
    return prim.mul(number, tensor(2.0**-_BITS, wide))


def open_fraction(shape, seed, dtype: str):
    """Uniform in (0, 1): the midpoints, so that no quantile is infinite."""
    found = _fraction(shape, seed, dtype)
    return prim.add(found, tensor(2.0 ** -(_BITS + 1), dtype_key(found)))


@public
def uniform(shape, minval=0.0, maxval=1.0, dtype=None, seed=None):
    """Return numbers uniform in minval..maxval (maxval excluded)."""
    dtype = standardize_dtype(dtype)
    found = _fraction(shape, seed, dtype)
    low, high = promote(minval, maxval, dtype=dtype_key(found))
    return tensor(prim.add(prim.mul(found, prim.sub(high, low)), low), dtype)


@public
def normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Return normal numbers."""
    dtype = standardize_dtype(dtype)
    return tensor(_scaled(_standard_normal(shape, seed, dtype, -1.0, 1.0), mean, stddev), dtype)


@public
def truncated_normal(shape, mean=0.0, stddev=1.0, dtype=None, seed=None):
    """Return normal numbers within two standard deviations."""
    dtype = standardize_dtype(dtype)
    edge = math.erf(2 / math.sqrt(2))
    found = _standard_normal(shape, seed, dtype, -edge, edge)
    low, high = promote(-2.0, 2.0, dtype=dtype_key(found))
    return tensor(_scaled(prim.minimum(prim.maximum(found, low), high), mean, stddev), dtype)


def _standard_normal(shape, seed, dtype: str, low: float, high: float):
    """Quantiles of a number uniform in (low, high), both in the range of erf."""
    return normal_quantile(open_fraction(shape, seed, dtype), low, high)


def normal_quantile(found, low: float = -1.0, high: float = 1.0):
    """The standard normal numbers of numbers uniform in (0, 1); `low` and `high` cut the distribution."""
    found = tensor(found)
    width, start, root = promote(high - low, low, math.sqrt(2.0), dtype=dtype_key(found))
    return prim.mul(prim.erfinv(prim.add(prim.mul(found, width), start)), root)


def _scaled(found, mean, stddev):
    mean, stddev = promote(mean, stddev, dtype=dtype_key(found))
    return prim.add(prim.mul(found, stddev), mean)


@public
def bernoulli(shape, p=0.5, dtype="float32", seed=None):
    """Return 1 with probability p, else 0."""
    found = _fraction(shape, seed, "float32")
    return tensor(prim.lt(found, tensor(p, "float32")), dtype)


@public
def randint(shape, minval, maxval, dtype="int32", seed=None):
    """Return integers uniform in minval..maxval-1."""
    dtype = standardize_dtype(dtype)
    if not dtype.startswith(("int", "uint")):
        raise ArgumentError(f"`keras.random.randint` requires an integer `dtype`. Received: dtype={dtype}")
    low, high = tensor(minval, "uint32"), tensor(maxval, "uint32")  # two's complement: differences are right
    found = prim.mulhi(_bits(shape, seed), prim.sub(high, low))  # scales 32 bits to the range
    return tensor(tensor(prim.add(found, low), "int32"), dtype)


@public
def dropout(inputs, rate, noise_shape=None, seed=None):
    """Return inputs with each element zero with probability `rate`, the others scaled by 1 / (1 - rate)."""
    x = floating(inputs)
    shape = tuple(x.shape) if noise_shape is None else noise_of(noise_shape, x.shape)
    keep = 1.0 - rate
    limit = np.uint32(min(round(keep * 2.0**32), 2**32 - 1))  # the bits compared as they are: no conversion
    kept = prim.lt(_bits(shape, seed), tensor(limit))
    scale, zero = promote(1.0 / keep if keep > 0 else 0.0, 0.0, dtype=dtype_key(x))
    return prim.select(kept, prim.mul(x, scale), zero)


def noise_of(noise_shape, shape) -> tuple:
    """Return `noise_shape` with None replaced by the size of x."""
    if len(noise_shape) != len(shape):
        raise ArgumentError(f"noise_shape {tuple(noise_shape)} must have one size per axis of {tuple(shape)}")
    return tuple(s if n is None else n for n, s in zip(noise_shape, shape))


@public
def gumbel(shape, dtype=None, seed=None):
    """Return standard Gumbel numbers, -log(-log(uniform))."""
    dtype = standardize_dtype(dtype)
    return tensor(prim.neg(prim.log(prim.neg(prim.log(open_fraction(shape, seed, dtype))))), dtype)


@public
def categorical(logits, num_samples, dtype="int32", seed=None):
    """Return `num_samples` class indices per row of logits [batch, classes], by the Gumbel-max trick."""
    logits = floating(logits)
    if rank(logits) != 2:
        raise ArgumentError(f"categorical expects logits of shape [batch, classes], received {tuple(logits.shape)}")
    rows, classes = logits.shape
    noise = tensor(gumbel((rows, num_samples, classes), dtype_key(logits), seed))
    scores = prim.add(prim.reshape(logits, shape=(rows, 1, classes)), noise)
    return tensor(prim.argmax(scores, axis=2), dtype)


@public
def shuffle(x, axis=0, seed=None):
    """Return x with its slices along an axis in random order."""
    x = tensor(x)
    place = axis_of(axis, rank(x))
    return prim.gather(x, prim.argsort(_bits((x.shape[place],), seed), axis=0), axis=place)
