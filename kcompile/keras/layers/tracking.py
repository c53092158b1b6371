"""What a layer owns: variables, sub-layers, seed generators, metrics; found by walking its attributes.

Lists, tuples and dicts in attributes count, also when they are filled after they were assigned. The
order is that of the attributes. What was found is kept until an attribute is set (`_version` counts that) or
a list or dict that was looked into holds other objects.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kcompile.keras.random.seeds import SeedGenerator
from kcompile.keras.tracing.variable import Variable

changes = [0]  # how often an attribute of any layer was set

_OPAQUE = (str, bytes, int, float, complex, np.ndarray, np.generic, type(None))


class Attributes:
    """The objects in the attributes of a layer at one time, and how to tell that they still are."""

    __slots__ = ("_containers", "_found", "_state", "_version", "values")

    def __init__(self, state: dict[str, Any], skip: frozenset[str]):
        self._state, self._version = state, state["_version"]
        self._containers: list[tuple[Any, list[Any] | None]] = []  # with what they held; None: plain data
        self._found: dict[Any, list[Any]] = {}
        self.values = [part for name, value in list(state.items()) if name not in skip for part in self._opened(value)]

    def _opened(self, value: Any) -> Iterator[Any]:
        if isinstance(value, _OPAQUE):
            return
        if not isinstance(value, (dict, list, tuple)):
            yield value
            return
        parts = list(value.values()) if isinstance(value, dict) else value
        is_plain = _is_plain(parts)  # and maybe much of it
        if not isinstance(value, tuple):
            self._containers.append((value, None if is_plain else list(parts)))
        for part in () if is_plain else parts:
            yield from self._opened(part)

    @property
    def are_current(self) -> bool:
        """False once an attribute was set, or a container filled or emptied."""
        return self._version == self._state["_version"] and all(_holds(c, parts) for c, parts in self._containers)

    def all(self, wanted: Callable[[Any], bool]) -> list[Any]:
        """The wanted objects, each once, in order; not to be changed."""
        found = self._found.get(wanted)
        if found is None:
            found = self._found[wanted] = unique(self.values, wanted)
        return found


def _is_plain(parts: Any) -> bool:
    return bool(parts) and isinstance(parts[0], _OPAQUE) and isinstance(parts[-1], _OPAQUE)


def _holds(container: Any, parts: list[Any] | None) -> bool:
    now = container.values() if isinstance(container, dict) else container
    if parts is None:
        return _is_plain(now if now is container else list(now))
    return len(now) == len(parts) and all(map(operator.is_, now, parts))


def attributes(owner: Any) -> Attributes:
    """Return what the attributes of a layer hold, containers opened."""
    state = vars(owner)
    known = state.get("_attributes")
    if known is None or not known.are_current:
        known = state["_attributes"] = Attributes(state, owner.untracked)
    return known


def unique(objects: Iterator[Any] | list[Any], wanted: Callable[[Any], bool]) -> list[Any]:
    """Return the wanted objects, each once, in order."""
    found: dict[int, Any] = {}
    for one in objects:
        if wanted(one):
            found.setdefault(id(one), one)
    return list(found.values())


def is_variable(value: Any) -> bool:
    return isinstance(value, Variable)


def is_seed_generator(value: Any) -> bool:
    return isinstance(value, SeedGenerator)


def is_layer(value: Any) -> bool:
    return getattr(type(value), "plugin_group", None) == "layers"


def metrics_of(layer: Any) -> list[Any]:
    """Return the metrics that a layer and those inside it hold."""
    return unique((v for one in layer._flatten_layers() for v in attributes(one).all(is_metric)), is_metric)


def is_metric(value: Any) -> bool:
    return getattr(type(value), "plugin_group", None) == "metrics"
