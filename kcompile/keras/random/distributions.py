"""Distributions drawn by rejection, in straight code: a fixed number of candidates per element, the first accepted.

gamma     Marsaglia, Tsang 2000, "A simple method for generating gamma variables": a candidate fails in at most 1 of 20
          draws, so that one in 10**10 elements finds none and takes the mode
beta      the sigmoid of the difference of two gamma variables' logarithms, which do not vanish for small parameters
binomial  means below 10: the distribution function summed up to a uniform number; above: Hörmann 1993, "The generation
          of binomial random variates", algorithm BTRS (a candidate fails in at most 1 of 3 draws)

The numbers drawn have no gradient by the parameters.
"""

from __future__ import annotations

import math

import numpy as np

from kcompile import ops as prim
from kcompile.keras import ops
from kcompile.keras.ops.creation import sizes_of
from kcompile.keras.ops.function import dtype_key, public, tensor
from kcompile.keras.random.draws import normal_quantile, open_fraction
from kcompile.keras.tracing.dtypes import standardize_dtype

GAMMA_ROUNDS = 8
BINOMIAL_ROUNDS = 20
SMALL_MEAN = 10.0
SMALL_MOST = 48  # a mean below 10 gives more in one of 10**15 draws


def _parameter(value, numbers):
    """A parameter in the dtype of the numbers, of the shape of one draw."""
    numbers = tensor(numbers)
    return ops.add(prim.stop_gradient(tensor(value, dtype_key(numbers))), ops.zeros_like(numbers[0]))


def _gamma_parts(alpha, numbers):
    """(g, boost): g · exp(boost) is a gamma variable of shape parameter alpha.

    Args: numbers: 2 · GAMMA_ROUNDS + 1 uniform numbers per element, along the first axis.
    """
    is_small = alpha < 1.0  # gamma(a) is gamma(a + 1) times a uniform number to the power 1 / a
    d = ops.where(is_small, alpha + 1.0, alpha) - 1 / 3
    c = 1.0 / ops.sqrt(9.0 * d)
    found = ops.ones_like(alpha)
    for turn in reversed(range(GAMMA_ROUNDS)):
        x = normal_quantile(numbers[2 * turn])
        root = 1.0 + c * x
        cube = ops.maximum(root * ops.square(root), 1e-30)
        bound = 0.5 * ops.square(x) + d * (1.0 - cube + ops.log(cube))
        accepted = ops.logical_and(root > 0.0, ops.log(numbers[2 * turn + 1]) < bound)
        found = ops.where(accepted, cube, found)
    boost = ops.where(is_small, ops.log(numbers[2 * GAMMA_ROUNDS]) / alpha, 0.0)
    return d * found, boost


@public
def gamma(shape, alpha, dtype=None, seed=None):
    """Return gamma variables of shape parameter `alpha` and scale 1; `alpha` broadcasts to the shape."""
    dtype = standardize_dtype(dtype)
    numbers = _numbers(2 * GAMMA_ROUNDS + 1, shape, seed, dtype)
    found, boost = _gamma_parts(_parameter(alpha, numbers), numbers)
    return tensor(found * ops.exp(boost), dtype)


@public
def beta(shape, alpha, beta, dtype=None, seed=None):
    """Return beta variables of parameters `alpha` and `beta`, which broadcast to the shape."""
    dtype, count = standardize_dtype(dtype), 2 * GAMMA_ROUNDS + 1
    numbers = _numbers(2 * count, shape, seed, dtype)
    first, boost = _gamma_parts(_parameter(alpha, numbers), numbers[:count])
    second, other_boost = _gamma_parts(_parameter(beta, numbers), numbers[count:])
    return tensor(ops.sigmoid(ops.log(first) + boost - ops.log(second) - other_boost), dtype)


@public
def binomial(shape, counts, probabilities, dtype=None, seed=None):
    """Return how many of `counts` trials succeed, each with its probability; both broadcast to the shape."""
    dtype = standardize_dtype(dtype)
    numbers = _numbers(2 * BINOMIAL_ROUNDS, shape, seed, "float64")
    n, p = _parameter(counts, numbers), _parameter(probabilities, numbers)
    is_likely = p > 0.5
    q = ops.where(is_likely, 1.0 - p, p)  # the rarer outcome is counted
    is_small = n * q < SMALL_MEAN
    small = _summed(ops.where(is_small, n, 0.0), q, numbers[0])
    large = _btrs(ops.where(is_small, 1000.0, n), ops.where(is_small, 0.25, q), numbers)
    found = ops.where(is_small, small, large)
    found = ops.where(is_likely, n - found, found)
    valid = ops.logical_and(ops.logical_and(p >= 0.0, p <= 1.0), n >= 0.0)
    return tensor(ops.where(valid, found, float("nan")), dtype)


def _numbers(count: int, shape, seed, dtype: str):
    """Numbers uniform in (0, 1), `count` per element along a new first axis."""
    return ops.convert_to_tensor(open_fraction((count, *sizes_of(shape)), seed, dtype))


def _summed(n, q, u):
    """How many values of the distribution function lie below u."""
    odds = q / (1.0 - q)

    def step(j, state):
        weight, total, found = state
        found = found + ops.cast(u > total, "float64")
        j = ops.cast(j, "float64")
        weight = weight * odds * ops.maximum(n - j, 0.0) / (j + 1.0)
        return weight, total + weight, found

    start = ops.exp(n * ops.log1p(-q))
    return ops.minimum(ops.fori_loop(0, SMALL_MOST, step, (start, start, ops.zeros_like(start)))[2], n)


def _stirling_rest(k):
    """log k! less its approximation (k + 1/2) log(k + 1) - k - 1 + log(2 pi)/2: a table up to 9, then its series."""
    exact = [math.lgamma(i + 1) - (i + 0.5) * math.log(i + 1) + i + 1 - 0.5 * math.log(2 * math.pi) for i in range(10)]
    near = ops.take(np.asarray(exact), ops.cast(ops.minimum(k, 9.0), "int32"))
    x = 1.0 / (ops.maximum(k, 9.0) + 1.0)
    far = (1 / 12 - (1 / 360 - ops.square(x) / 1260) * ops.square(x)) * x
    return ops.where(k <= 9.0, near, far)


def _btrs(n, q, numbers):
    """Candidates made of pairs of uniform numbers; the first that lies below the probability is taken."""
    spread = ops.sqrt(n * q * (1.0 - q))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * q
    middle, edge, height = n * q + 0.5, 0.92 - 4.2 / b, (2.83 + 5.1 / b) * spread
    odds, mode = q / (1.0 - q), ops.floor((n + 1.0) * q)
    top = (mode + 0.5) * ops.log((mode + 1.0) / (odds * (n - mode + 1.0)))
    top = top + _stirling_rest(mode) + _stirling_rest(n - mode)

    def step(turn, state):
        is_done, found = state
        u = ops.take(numbers, 2 * turn, axis=0) - 0.5
        v = ops.take(numbers, 2 * turn + 1, axis=0)
        inside = 0.5 - ops.abs(u)
        k = ops.floor((2.0 * a / inside + b) * u + middle)
        is_possible = ops.logical_and(k >= 0.0, k <= n)
        k = ops.minimum(ops.maximum(k, 0.0), n)
        bound = top + (n + 1.0) * ops.log((n - mode + 1.0) / (n - k + 1.0))
        bound = bound + (k + 0.5) * ops.log(odds * (n - k + 1.0) / (k + 1.0))
        bound = bound - _stirling_rest(k) - _stirling_rest(n - k)
        at_once = ops.logical_and(inside >= 0.07, v <= edge)
        is_below = ops.log(v * height / (a / ops.square(inside) + b)) <= bound
        accepted = ops.logical_and(is_possible, ops.logical_or(at_once, is_below))
        found = ops.where(ops.logical_and(accepted, ops.logical_not(is_done)), k, found)
        return ops.logical_or(is_done, accepted), found

    return ops.fori_loop(0, BINOMIAL_ROUNDS, step, (n < 0.0, mode))[1]
