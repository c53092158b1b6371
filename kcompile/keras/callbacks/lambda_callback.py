"""LambdaCallback: hooks given as functions."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras.callbacks.callback import Callback


class LambdaCallback(Callback):
    """A callback made of functions: `(epoch, logs)`, `(batch, logs)` or `(logs)` by the hook's name.

    >>> LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch, logs))  # doctest: +ELLIPSIS
    <...LambdaCallback object at ...>
    """

    def __init__(
        self,
        on_epoch_begin=None,
        on_epoch_end=None,
        on_batch_begin=None,
        on_batch_end=None,
        on_train_begin=None,
        on_train_end=None,
        on_train_batch_begin=None,
        on_train_batch_end=None,
        **kwargs,
    ):
        super().__init__()
        hooks = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_batch_begin": on_batch_begin,
            "on_batch_end": on_batch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        for name, function in {**hooks, **kwargs}.items():
            if name in kwargs and not (name.startswith("on_") and hasattr(Callback, name)):
                raise ArgumentError(f"LambdaCallback: unknown hook {name!r}.")
            if function is not None:
                setattr(self, name, _Hook(function) if name in _WITH_KEYWORD else function)


_WITH_KEYWORD = ("on_batch_begin", "on_batch_end")  # called through their newer names, with logs=...


class _Hook:
    """A function of (batch, logs) that may be called with `logs` by keyword, whatever it calls it."""

    def __init__(self, function):
        self.function = function

    def __call__(self, batch, logs=None):
        return self.function(batch, logs)
