"""Where random numbers come from: seed generators, the global seed, and the initializers' streams."""

from __future__ import annotations

import random as python_random
from typing import Any

import numpy as np

from kcompile import forks
from kcompile.errors import ArgumentError
from kcompile.ir.graph import Value
from kcompile.keras.tracing import operators
from kcompile.keras.tracing.scope import unwrap
from kcompile.keras.tracing.variable import Variable

_lock = forks.lock()
_global: dict[str, Any] = {"seed": None, "stream": None, "generator": None}


def set_random_seed(seed: int) -> None:
    """Seed Python's, NumPy's and kcompile's random numbers, so that a script repeats its results."""
    if not isinstance(seed, (int, np.integer)):
        raise ArgumentError(f"Expected `seed` argument to be an integer. Received: seed={seed} (of type {type(seed)})")
    python_random.seed(int(seed))
    np.random.seed(int(seed) % 2**32)
    with _lock:
        _global.update(seed=int(seed), stream=np.random.default_rng(int(seed)), generator=None)


def _stream() -> np.random.Generator:
    with _lock:
        if _global["stream"] is None:
            _global["stream"] = np.random.default_rng(_global["seed"])
        return _global["stream"]


def draw_seed_number() -> int:
    """Return a fresh seed below 2**31 from the global stream."""
    return int(_stream().integers(2**31))


def initializer_generator(seed: Any) -> np.random.Generator:
    """Return the NumPy stream of an initializer: fixed by an int, advancing for a SeedGenerator, global for None."""
    if seed is None:
        return np.random.default_rng(_stream().integers(2**63))
    if isinstance(seed, SeedGenerator):
        return np.random.default_rng(np.asarray(seed.next()).astype(np.uint64))
    return np.random.default_rng(int(seed) % 2**64)


class SeedGenerator:
    """A counter-based source of seeds: `next()` returns u32[2] and advances the state.

    The state is a variable, so that compiled programs draw new numbers in every step.
    """

    keras_module = "keras.random"

    def __init__(self, seed: int | None = None, name: str | None = None, **kwargs):
        if seed is not None and not isinstance(seed, (int, np.integer)):
            raise ArgumentError(f"Argument `seed` must be an integer. Received: seed={seed}")
        if seed is not None and seed < 0:
            raise ArgumentError(f"Argument `seed` must be non-negative. Received: seed={seed}")
        self._initial_seed = self.seed = draw_seed_number() if seed is None else int(seed)
        self.name = name or "seed_generator"
        start = np.array([self.seed % 2**32, self.seed // 2**32 % 2**32], np.uint32)
        self.state = Variable(start, dtype="uint32", trainable=False, name="seed_generator_state")

    def next(self, ordered: bool = True) -> np.ndarray | Value:
        """Return the current seed, u32[2], and advance the state by one draw."""
        current = self.state.value
        one = np.array([0, 1], np.uint32)
        if isinstance(current, Value):
            self.state.assign(operators.function("add")(current, one))
        else:
            with np.errstate(over="ignore"):
                self.state.assign(np.asarray(current) + one)
        return current

    def get_config(self) -> dict[str, Any]:
        return {"seed": self._initial_seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SeedGenerator:
        return cls(**config)


def global_generator() -> SeedGenerator:
    """Return the SeedGenerator of calls without a seed."""
    if _global["generator"] is None:
        _global["generator"] = SeedGenerator(draw_seed_number())
    return _global["generator"]


def draw_seed(seed: Any) -> np.ndarray | Value:
    """Return u32[2] for an int (always the same), a SeedGenerator (advances) or None (global)."""
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if seed is None:
        return global_generator().next()
    if isinstance(seed, (int, np.integer)):
        return np.array([int(seed) % 2**32, int(seed) // 2**32 % 2**32], np.uint32)
    found = unwrap(seed)
    if isinstance(found, (np.ndarray, Value)):
        return found
    raise ArgumentError(f"Argument `seed` must be an integer, a SeedGenerator or None. Received: seed={seed}")
