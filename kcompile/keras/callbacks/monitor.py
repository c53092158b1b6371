"""What "better" means for a watched value: shared by the callbacks that follow one."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# a value whose name ends so is better when larger
_LARGER_IS_BETTER = ("acc", "accuracy", "auc", "precision", "recall", "f1_score", "fmeasure", "iou", "r2_score")


@dataclass(frozen=True)
class Direction:
    """`is_better(new, old)` and the value every other one beats."""

    is_better: Callable[[float, float], bool]
    worst: float

    @property
    def sign(self) -> int:
        return 1 if self.worst < 0 else -1


MIN = Direction(operator.lt, math.inf)
MAX = Direction(operator.gt, -math.inf)


def direction(mode: str, monitor: str, who: str) -> Direction:
    """Return MIN or MAX for `mode` "min", "max" or "auto" (then by the name of the value)."""
    if mode not in ("auto", "min", "max"):
        warnings.warn(f"{who} mode {mode!r} is unknown, fallback to auto mode.", stacklevel=3)
        mode = "auto"
    if mode == "auto":
        mode = "max" if monitor.endswith(_LARGER_IS_BETTER) or "_accuracy" in monitor else "min"
    return MAX if mode == "max" else MIN


def watched(logs: dict[str, Any] | None, monitor: str, who: str, what: str) -> float | None:
    """Return the watched value; warn once per epoch and return None if it is not there."""
    logs = logs or {}
    if monitor in logs:
        return float(logs[monitor])
    available = ",".join(logs)
    warnings.warn(
        f"{who}: {what} conditioned on metric `{monitor}` which is not available. Available metrics are: {available}",
        stacklevel=3,
    )
    return None
