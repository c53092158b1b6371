"""keras.random: draws composed from counter-based bits; the same numbers eager and compiled."""

from kcompile.keras.random.distributions import beta, binomial, gamma
from kcompile.keras.random.draws import (
    bernoulli,
    categorical,
    dropout,
    gumbel,
    normal,
    randint,
    shuffle,
    truncated_normal,
    uniform,
)
from kcompile.keras.random.seeds import SeedGenerator, draw_seed, set_random_seed

__all__ = [
    "SeedGenerator",
    "bernoulli",
    "beta",
    "binomial",
    "categorical",
    "draw_seed",
    "dropout",
    "gamma",
    "gumbel",
    "normal",
    "randint",
    "set_random_seed",
    "shuffle",
    "truncated_normal",
    "uniform",
]
