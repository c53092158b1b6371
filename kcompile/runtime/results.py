"""Arrays for results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def maker(shape: tuple[int, ...], dtype: Any) -> tuple[Callable[..., np.ndarray], tuple[Any, ...]]:
    """Return (function, arguments): each call makes an array of this shape for one result."""
    return np.empty, (shape, np.dtype(dtype))
