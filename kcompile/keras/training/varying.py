"""Which sizes vary from batch to batch, for models that do not declare it: subclassed ones.

Their programs are traced for the sizes of the first batches. Where one kind of batch (the same mode, nesting, dtypes
and ranks) comes with more than `LEAST` combinations of sizes, the axes that were seen to differ become symbols, and one
program serves all sizes of them; otherwise a model that reads sequences as long as they happen to be would be
compiled for each length. Axes as long as one before them in a batch share its symbol. What cannot be traced so is
traced for the sizes of each batch as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

LEAST = 3

Axes = dict[str, tuple[int, ...]]
Alike = dict[tuple[str, int], tuple[str, int]]


class Varying:
    """What was met of each kind of batch."""

    def __init__(self):
        self._met: dict[Any, list[Mapping[str, tuple[int, ...]]]] = {}
        self._refused: set[Any] = set()

    def meet(self, kind: Any, arrays: Mapping[str, np.ndarray]) -> None:
        """Count a batch that there is no program for."""
        met = self._met.setdefault(kind, [])
        if len(met) < LEAST:
            met.append({name: a.shape for name, a in arrays.items()})

    def axes(self, kind: Any, arrays: Mapping[str, np.ndarray]) -> Axes:
        """The axes, besides the batch, that are to be symbols, by input name; empty if that is not known yet."""
        met = self._met.get(kind, ())
        if len(met) < LEAST or kind in self._refused:
            return {}
        shapes = [*met, {name: a.shape for name, a in arrays.items()}]
        found = {n: tuple(i for i in range(1, a.ndim) if len({s[n][i] for s in shapes}) > 1) for n, a in arrays.items()}
        return {name: axes for name, axes in found.items() if axes}

    def refuse(self, kind: Any) -> None:
        """Such batches cannot be traced with symbols."""
        self._refused.add(kind)


def kind_of(mode: str, compiled: bool, paths: Iterable[Any], arrays: Mapping[str, np.ndarray]) -> Any:
    """What batches must have in common so that their sizes are compared."""
    return (mode, compiled, tuple(paths), tuple((name, a.dtype.char, a.ndim) for name, a in arrays.items()))


def alike(axes: Axes, arrays: Mapping[str, np.ndarray]) -> Alike:
    """Of these axes, those that are as long as one before them: axis -> that one."""
    first: dict[int, tuple[str, int]] = {}
    found: Alike = {}
    for name, numbers in axes.items():
        for axis in numbers:
            before = first.setdefault(arrays[name].shape[axis], (name, axis))
            if before != (name, axis):
                found[name, axis] = before
    return found
