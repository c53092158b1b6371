"""Repeating and timing inside a peer's process."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.peers import Run

MOST_STEPS = 20000
PROBE_S = 0.05


def repeated(step: Callable[[], object]) -> Run:
    """Run a step over and over."""

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - start) / steps

    return run


def steps_for(seconds: float, each: float) -> int:
    """How many steps of `each` seconds make about `seconds`."""
    return max(1, min(MOST_STEPS, int(seconds / max(each, 1e-7))))


def calibrated(run: Run) -> float:
    """Warm up, then seconds per step, roughly."""
    run(1)
    return run(steps_for(PROBE_S, run(1)))


def fastest(ways: dict[str, Run]) -> tuple[str, float]:
    """The name of the fastest way and its seconds per step. Each is asked twice: a stall must not decide."""
    found = {
        name: min(calibrated(run), calibrated(run)) if len(ways) > 1 else calibrated(run) for name, run in ways.items()
    }
    name = min(found, key=found.__getitem__)
    return name, found[name]
