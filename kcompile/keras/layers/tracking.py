"""What a layer owns: variables, sub-layers, seed generators, metrics; found by walking its attributes.

Lists, tuples and dicts in attributes count, also when they are filled after they were assigned. The
order is that of the attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kcompile.keras.random.seeds import SeedGenerator
from kcompile.keras.tracing.variable import Variable

_OPAQUE = (str, bytes, int, float, complex, np.ndarray, np.generic, type(None))


def attribute_values(owner: Any, skip: frozenset[str]) -> Iterator[Any]:
    """Return the objects in the attributes of `owner`, containers opened."""
    for name, value in list(vars(owner).items()):
        if name not in skip:
            yield from _opened(value)


def _opened(value: Any) -> Iterator[Any]:
    if isinstance(value, _OPAQUE):
        return
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        if len(value) and isinstance(value[0], _OPAQUE) and isinstance(value[-1], _OPAQUE):
            return  # plain data, maybe much of it
        for part in value:
            yield from _opened(part)
        return
    yield value


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
    return unique((v for one in layer._flatten_layers() for v in attribute_values(one, one.untracked)), is_metric)


def is_metric(value: Any) -> bool:
    return getattr(type(value), "plugin_group", None) == "metrics"
