"""Learning rates that follow the number of updates.

A schedule is a function of the step made of keras.ops, so it becomes part of the training program.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

from kcompile.errors import ArgumentError, NotSupportedError, UnknownNameError, suggestion
from kcompile.keras import config, ops


class LearningRateSchedule:
    """Base class: write `__call__(step)` with keras.ops; the config follows from the constructor's arguments."""

    keras_module = "keras.optimizers.schedules"

    def __call__(self, step):
        raise NotSupportedError(f"{type(self).__name__} must implement `__call__(step)`.")

    def get_config(self) -> dict[str, Any]:
        names = [n for n in inspect.signature(type(self).__init__).parameters if n != "self"]
        return {n: getattr(self, n) for n in names if hasattr(self, n)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRateSchedule:
        return cls(**config)


def _number(value):
    return ops.cast(ops.convert_to_tensor(value), config.floatx())


class ExponentialDecay(LearningRateSchedule):
    """initial · decay_rate^(step / decay_steps); with `staircase` the exponent is a whole number."""

    def __init__(self, initial_learning_rate, decay_steps, decay_rate, staircase=False, name="ExponentialDecay"):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name
        if decay_steps <= 0:
            raise ArgumentError(f"Argument `decay_steps` must be > 0. Received: decay_steps={decay_steps}")

    def __call__(self, step):
        exponent = _number(step) / self.decay_steps
        if self.staircase:
            exponent = ops.floor(exponent)
        return self.initial_learning_rate * ops.power(_number(self.decay_rate), exponent)


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[i] up to and including boundaries[i], then the next one."""

    def __init__(self, boundaries, values, name="PiecewiseConstant"):
        if len(boundaries) != len(values) - 1:
            raise ArgumentError(
                "The length of boundaries should be 1 less than the length of values. Received: "
                f"boundaries={boundaries} of length {len(boundaries)}, and values={values} of length {len(values)}."
            )
        self.boundaries = boundaries
        self.values = values
        self.name = name

    def __call__(self, step):
        step = _number(step)
        rate = _number(self.values[-1])
        for boundary, value in reversed(list(zip(self.boundaries, self.values))):
            rate = ops.where(step <= boundary, value, rate)
        return rate


class PolynomialDecay(LearningRateSchedule):
    """From the initial to the end rate along (1 - step / decay_steps)^power; `cycle` starts over, stretched."""

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        end_learning_rate=0.0001,
        power=1.0,
        cycle=False,
        name="PolynomialDecay",
    ):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.name = name

    def __call__(self, step):
        step = _number(step)
        total = _number(self.decay_steps)
        if self.cycle:
            total = total * ops.maximum(ops.ceil(step / total), 1.0)
        else:
            step = ops.minimum(step, total)
        span = self.initial_learning_rate - self.end_learning_rate
        return span * ops.power(1.0 - step / total, self.power) + self.end_learning_rate


class InverseTimeDecay(LearningRateSchedule):
    """initial / (1 + decay_rate · step / decay_steps)."""

    def __init__(self, initial_learning_rate, decay_steps, decay_rate, staircase=False, name="InverseTimeDecay"):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name

    def __call__(self, step):
        periods = _number(step) / self.decay_steps
        if self.staircase:
            periods = ops.floor(periods)
        return self.initial_learning_rate / (1.0 + self.decay_rate * periods)


class CosineDecay(LearningRateSchedule):
    """Half a cosine from the initial rate down to alpha times it, after an optional linear warm-up.

    Source: Loshchilov, Hutter 2016, "SGDR".
    """

    def __init__(
        self,
        initial_learning_rate,
        decay_steps,
        alpha=0.0,
        name="CosineDecay",
        warmup_target=None,
        warmup_steps=0,
    ):
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.alpha = alpha
        self.name = name
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        step = _number(step)
        if self.warmup_target is None:
            return self._decayed(step, self.initial_learning_rate)
        rising = (self.warmup_target - self.initial_learning_rate) * (step / self.warmup_steps)
        falling = self._decayed(step - self.warmup_steps, self.warmup_target)
        return ops.where(step < self.warmup_steps, rising + self.initial_learning_rate, falling)

    def _decayed(self, step, start):
        done = ops.minimum(step, self.decay_steps) / self.decay_steps
        return start * ((1.0 - self.alpha) * 0.5 * (1.0 + ops.cos(math.pi * done)) + self.alpha)


class CosineDecayRestarts(LearningRateSchedule):
    """Cosine decays one after another, each t_mul times as long and starting at m_mul times the rate.

    Source: Loshchilov, Hutter 2016, "SGDR", equation 5.
    """

    def __init__(self, initial_learning_rate, first_decay_steps, t_mul=2.0, m_mul=1.0, alpha=0.0, name="SGDRDecay"):
        self.initial_learning_rate = initial_learning_rate
        self.first_decay_steps = first_decay_steps
        self.t_mul = t_mul
        self.m_mul = m_mul
        self.alpha = alpha
        self.name = name
        if first_decay_steps <= 0:
            raise ArgumentError(
                f"Argument `first_decay_steps` must be > 0. Received: first_decay_steps={first_decay_steps}"
            )

    def __call__(self, step):
        periods = _number(step) / self.first_decay_steps  # in units of the first one
        if self.t_mul == 1.0:
            restarts = ops.floor(periods)
            done = periods - restarts
        else:
            # n periods take (t_mul^n - 1) / (t_mul - 1)
            restarts = ops.floor(ops.log(1.0 - periods * (1.0 - self.t_mul)) / math.log(self.t_mul))
            length = ops.power(_number(self.t_mul), restarts)
            done = (periods - (1.0 - length) / (1.0 - self.t_mul)) / length
        height = ops.power(_number(self.m_mul), restarts)
        decayed = 0.5 * height * (1.0 + ops.cos(math.pi * done))
        return self.initial_learning_rate * ((1.0 - self.alpha) * decayed + self.alpha)


CLASSES = {
    c.__name__: c
    for c in (
        ExponentialDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
        InverseTimeDecay,
        CosineDecay,
        CosineDecayRestarts,
    )
}


def serialize(learning_rate_schedule: LearningRateSchedule) -> dict[str, Any]:
    """Return a schedule's class name and config."""
    return {"class_name": type(learning_rate_schedule).__name__, "config": learning_rate_schedule.get_config()}


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> LearningRateSchedule:
    """Return a schedule from `serialize`'s dict."""
    known = {**CLASSES, **(custom_objects or {})}
    name = config.get("class_name")
    if name not in known:
        raise UnknownNameError(f"Unknown learning rate schedule: {name!r}.{suggestion(name, known)}")
    return known[name].from_config(dict(config.get("config") or {}))
