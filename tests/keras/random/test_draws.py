"""Distributions, seeds, and equal numbers eager and traced."""

import math

import numpy as np
import pytest

from kcompile.keras import random
from kcompile.keras.tracing import trace
from kcompile.runtime.interpreted import InterpretedProgram

N = 40_000
FEW = 10_000  # where a number takes many


def seeded():
    return random.SeedGenerator(12345)


@pytest.mark.parametrize(
    "draw, mean, std",
    [
        (lambda s: random.uniform((N,), -1.0, 3.0, seed=s), 1.0, 4 / 12**0.5),
        (lambda s: random.normal((N,), 2.0, 0.5, seed=s), 2.0, 0.5),
        (lambda s: random.truncated_normal((N,), seed=s), 0.0, 0.8796),
        (lambda s: random.bernoulli((N,), 0.3, seed=s), 0.3, 0.21**0.5),
        (lambda s: random.randint((N,), -3, 5, seed=s), 0.5, (63 / 12) ** 0.5),
        (lambda s: random.gumbel((N,), seed=s), 0.5772, np.pi / 6**0.5),
        (lambda s: random.gamma((FEW,), 0.3, seed=s), 0.3, 0.3**0.5),
        (lambda s: random.gamma((FEW,), 7.0, seed=s), 7.0, 7.0**0.5),
        (lambda s: random.beta((FEW,), 0.5, 2.0, seed=s), 0.2, (0.16 / 3.5) ** 0.5),
        (lambda s: random.binomial((FEW,), 12, 0.7, seed=s), 8.4, 2.52**0.5),
        (lambda s: random.binomial((FEW,), 200.0, 0.25, seed=s), 50.0, 37.5**0.5),
        (lambda s: random.dropout(np.ones(N, "f"), 0.25, seed=s), 1.0, (0.25 / 0.75) ** 0.5),
    ],
    ids=[
        "uniform",
        "normal",
        "truncated_normal",
        "bernoulli",
        "randint",
        "gumbel",
        "gamma_boosted",
        "gamma",
        "beta",
        "binomial_summed",
        "binomial",
        "dropout",
    ],
)
def test_moments_and_traced_numbers(draw, mean, std):
    eager = np.asarray(draw(seeded()), np.float64)
    np.testing.assert_allclose(eager.mean(), mean, atol=4 * std / eager.size**0.5)
    np.testing.assert_allclose(eager.std(), std, rtol=0.03 * (N / eager.size) ** 0.5)
    generator = seeded()
    traced = trace(lambda v: [draw(generator), draw(generator)], {})
    found = InterpretedProgram(traced.graph).run({}, traced.arrays())
    np.testing.assert_array_equal(found["y0"], np.asarray(draw(seeded())))
    assert not np.array_equal(found["y0"], found["y1"])
    assert generator.state.numpy()[1] == 2  # the program advanced the state by its two draws


def test_ranges():
    u = random.uniform((N,), seed=1)
    assert u.min() >= 0 and u.max() < 1
    assert set(np.unique(np.asarray(random.randint((N,), -3, 5, seed=1))).tolist()) == set(range(-3, 5))
    assert np.abs(random.truncated_normal((N,), seed=1)).max() <= 2


def test_seeds():
    np.testing.assert_array_equal(random.normal((5,), seed=3), random.normal((5,), seed=3))
    assert not np.array_equal(random.normal((5,)), random.normal((5,)))
    generator = random.SeedGenerator(3)
    assert not np.array_equal(random.normal((5,), seed=generator), random.normal((5,), seed=generator))
    assert random.SeedGenerator.from_config(generator.get_config()).seed == 3
    with pytest.raises(ValueError, match="non-negative"):
        random.SeedGenerator(-1)
    draws = []
    for _ in range(2):
        random.set_random_seed(5)
        draws.append(np.asarray(random.uniform((3,))))
    np.testing.assert_array_equal(*draws)


def test_categorical_follows_the_logits():
    logits = np.log(np.array([[0.1, 0.2, 0.7]], "f"))
    found = np.asarray(random.categorical(logits, N, seed=1))[0]
    np.testing.assert_allclose(np.bincount(found) / N, [0.1, 0.2, 0.7], atol=0.01)


def test_shuffle_keeps_the_rows():
    x = np.arange(20).reshape(10, 2)
    y = np.asarray(random.shuffle(x, seed=1))
    assert not np.array_equal(x, y)
    np.testing.assert_array_equal(y[np.argsort(y[:, 0])], x)


def test_shuffle_in_a_trace_gives_the_eager_order():
    x = np.arange(20, dtype="float32").reshape(10, 2)
    program = trace(lambda v: random.shuffle(v["x"], seed=1), {"x": ((None, 2), "float32")})
    found = InterpretedProgram(program.graph).run({"x": x}, program.arrays())["y0"]
    np.testing.assert_array_equal(found, random.shuffle(x, seed=1))


def test_whole_distributions():
    """Counts in bins of equal probability; binomial counts against their probabilities."""
    for alpha, points in ((1.0, -np.log(1 - np.arange(1, 8) / 8)), (0.5, None)):
        g = np.asarray(random.gamma((FEW,), alpha, seed=2))
        if points is None:  # half of a squared normal number
            points = np.square([0.157311, 0.318639, 0.488776, 0.67449, 0.887147, 1.150349, 1.534121]) / 2
        counts = np.histogram(g, [0, *points, np.inf])[0]
        assert np.sum((counts - FEW / 8) ** 2) / (FEW / 8) < 24.3  # chi squared of 7 degrees, 1 in 1000
    b = np.asarray(random.beta((FEW,), 1.0, 1.0, seed=2))
    assert np.sum((np.histogram(b, np.linspace(0, 1, 9))[0] - FEW / 8) ** 2) / (FEW / 8) < 24.3
    for n, p in ((4, 0.3), (60, 0.4)):
        k = np.arange(n + 1)
        chances = np.exp([math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in k])
        expected = FEW * chances * p**k * (1 - p) ** (n - k)
        counts = np.bincount(np.asarray(random.binomial((FEW,), n, p, seed=2)).astype(int), minlength=n + 1)
        often = expected > 20
        assert np.sum((counts - expected)[often] ** 2 / expected[often]) < often.sum() + 3.5 * (2 * often.sum()) ** 0.5


def test_parameters_broadcast_and_edges():
    found = np.asarray(random.binomial((2, 3), [4.0, 0.0, 10.0], [[0.0], [1.0]], seed=1))
    np.testing.assert_array_equal(found, [[0, 0, 0], [4, 0, 10]])
    assert np.isnan(random.binomial((1,), 3, 1.5, seed=1)).all()
    assert random.gamma((2, 3), np.float32([1, 2, 3]), dtype="float64", seed=1).dtype == "float64"
    tiny = np.asarray(random.beta((100,), 1e-6, 1e-6, seed=1))
    assert set(np.unique(tiny)) == {0.0, 1.0}
