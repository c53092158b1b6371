"""The classic Keras progress bar.

`Progbar` keeps running averages of what it is given and draws one line, rewritten in place on a
terminal and repeated on new lines elsewhere. The text is made by pure functions (`bar_text`,
`time_text`, `values_text`), so that tests read it without a terminal or a clock.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence

WIDTH = 30  # cells between the brackets
SMALL = 1e-3  # values at or below this are printed with an exponent


class Progbar:
    """Display progress towards `target` steps.

    Args:
        target: number of steps, or None if it is not known.
        width: cells of the bar.
        verbose: 0 silent, 1 a bar, 2 one line when finished.
        interval: least time between two redraws, in seconds.
        stateful_metrics: names shown as given; every other value is averaged over the steps.
        unit_name: what a step is called in `ms/step`.
    """

    def __init__(
        self,
        target: int | None,
        width: int = WIDTH,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
    ):
        self.target = target
        self.width = width
        self.verbose = verbose
        self.interval = interval
        self.unit_name = unit_name
        self.stateful_metrics = set(stateful_metrics or ())
        self.finalized = False
        self._values: dict[str, float | list[float]] = {}  # name -> value, or [sum, steps] when averaged
        self._seen_so_far = 0
        self._started_s = time.time()
        self._first_step_s: float | None = None
        self._drawn_s = 0.0
        self._drawn_width = 0

    def update(self, current: int, values: Sequence[tuple[str, float]] | None = None, finalize: bool | None = None):
        """Show that `current` steps are done, with `values` as (name, value) pairs.

        finalize: whether this is the last call; by default when `current` reaches the target.
        """
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        self._average(current, values or ())
        now = time.time()
        if self._first_step_s is None and current:
            self._first_step_s = now
        if self.verbose == 1 and (finalize or now - self._drawn_s >= self.interval):
            self._draw(current, now, finalize)
            self._drawn_s = now
        elif self.verbose == 2 and finalize:
            count = count_text(current, self.target if self.target is not None else current)
            _write(f"{count} - {now - self._started_s:.0f}s{self._values_text()}\n")
        self.finalized = finalize

    def add(self, n: int, values: Sequence[tuple[str, float]] | None = None):
        """Show that `n` more steps are done."""
        self.update(self._seen_so_far + n, values)

    def _average(self, current: int, values: Sequence[tuple[str, float]]):
        steps = max(current - self._seen_so_far, 0) or 1
        for name, value in values:
            if name in self.stateful_metrics:
                self._values[name] = float(value)
                continue
            total = self._values.setdefault(name, [0.0, 0])
            total[0] += float(value) * steps
            total[1] += steps
        self._seen_so_far = current

    def _draw(self, current: int, now: float, finalize: bool):
        line = bar_text(current, self.target, self.width)
        per_step = self._seconds_per_step(current, now)
        if self.target is None or finalize:
            line += f" - {now - self._started_s:.0f}s {time_text(per_step, self.unit_name)}"
        else:
            line += f" - ETA: {eta_text(per_step * (self.target - current))}"
        line += self._values_text()
        before = ("\b" * self._drawn_width + "\r") if _rewrites_lines() else "\n"
        padding = " " * (self._drawn_width - len(line))
        self._drawn_width = len(line)
        _write(before + line + padding + ("\n" if finalize else ""))

    def _seconds_per_step(self, current: int, now: float) -> float:
        """The first step also compiles, so it is left out once there are others."""
        if current > 1 and self._first_step_s is not None and self._first_step_s < now:
            return (now - self._first_step_s) / (current - 1)
        return (now - self._started_s) / current if current else now - self._started_s

    def _values_text(self) -> str:
        shown = ((n, v if isinstance(v, float) else v[0] / max(1, v[1])) for n, v in self._values.items())
        return values_text(shown)


def count_text(current: int, target: int) -> str:
    """`  20/1500`: the count padded to the width of the target."""
    return f"{current:{len(str(target))}d}/{target}"


def bar_text(current: int, target: int | None, width: int = WIDTH) -> str:
    """`3/8 [==========>...................]`; an unknown target shows the count only."""
    if target is None:
        return f"{current:7d}/Unknown"
    filled = int(width * current / target) if target else width
    cells = ""
    if filled > 0:
        cells = "=" * (filled - 1) + (">" if current < target else "=")
    return f"{count_text(current, target)} [{cells}{'.' * (width - filled)}]"


def eta_text(seconds: float) -> str:
    """`7s`, `M:SS` above a minute, `H:MM:SS` above an hour."""
    if seconds > 3600:
        return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d}:{int(seconds % 60):02d}"
    if seconds > 60:
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
    return f"{int(seconds)}s"


def time_text(seconds: float, unit_name: str = "step") -> str:
    """`2s/step`, `13ms/step` or `477us/step`."""
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.0f}s/{unit_name}"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.0f}ms/{unit_name}"
    return f"{seconds * 1e6:.0f}us/{unit_name}"


def values_text(values: Iterable[tuple[str, float]]) -> str:
    """` - loss: 0.4729 - accuracy: 0.8462`; tiny values with an exponent."""
    return "".join(f" - {name}: {v:.4f}" if abs(v) > SMALL else f" - {name}: {v:.4e}" for name, v in values)


def _rewrites_lines() -> bool:
    """True where a line can be redrawn in place: terminals and notebooks."""
    isatty = getattr(sys.stdout, "isatty", None)
    return bool(isatty and isatty()) or "ipykernel" in sys.modules or "PYCHARM_HOSTED" in os.environ


def _write(text: str):
    sys.stdout.write(text)
    sys.stdout.flush()
