"""Automatic names: `dense`, `dense_1`, ... in the order of creation, as Keras counts them."""

from __future__ import annotations

import re
import threading
from collections import defaultdict

_local = threading.local()


def _counters() -> dict[str, int]:
    if not hasattr(_local, "counters"):
        _local.counters = defaultdict(int)
    return _local.counters


def snake_case(name: str) -> str:
    """Return `MaxPooling2D` as `max_pooling2d`, `SimpleRNN` as `simple_rnn`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def auto_name(prefix: str) -> str:
    """Return the next free name with this prefix: `dense`, then `dense_1`, ..."""
    prefix = snake_case(prefix)
    counters = _counters()
    count = counters[prefix]
    counters[prefix] += 1
    return f"{prefix}_{count}" if count else prefix


def uniquify(name: str, taken) -> str:
    """Return `name`, or `name_1`, `name_2`, ... if it is in `taken`."""
    if name not in taken:
        return name
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def reset_names() -> None:
    """Start counting anew (`clear_session`)."""
    _counters().clear()
