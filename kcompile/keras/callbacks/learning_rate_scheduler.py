"""LearningRateScheduler: the rate as a function of the epoch."""

from __future__ import annotations

import inspect

from kcompile.errors import ArgumentError
from kcompile.keras.callbacks.callback import Callback


class LearningRateScheduler(Callback):
    """Set the optimizer's learning rate before each epoch.

    Args:
        schedule: `(epoch, lr) -> lr` or `(epoch) -> lr`, epochs counted from 0.
        verbose: 1 announces each new rate.
    """

    def __init__(self, schedule, verbose=0):
        super().__init__()
        self.schedule = schedule
        self.verbose = verbose

    def on_epoch_begin(self, epoch, logs=None):
        rate = float(self.model.optimizer.learning_rate)
        rate = self.schedule(epoch, rate) if _takes_rate(self.schedule) else self.schedule(epoch)
        try:
            rate = float(rate)
        except (TypeError, ValueError):
            raise ArgumentError(f"The output of the `schedule` function should be a float. Got: {rate!r}") from None
        self.model.optimizer.learning_rate = rate
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.")

    def on_epoch_end(self, epoch, logs=None):
        if isinstance(logs, dict):
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


def _takes_rate(schedule) -> bool:
    try:
        inspect.signature(schedule).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True
