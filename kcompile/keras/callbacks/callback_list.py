"""CallbackList: calls the hooks of several callbacks in order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras.callbacks.callback import Callback, is_overridden
from kcompile.keras.callbacks.history import History
from kcompile.keras.callbacks.progbar import ProgbarLogger

# what the loop must call for a callback to see every batch of a mode
_BATCH_HOOKS = {
    "train": ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end"),
    "test": ("on_test_batch_begin", "on_test_batch_end"),
    "predict": ("on_predict_batch_begin", "on_predict_batch_end"),
}


class CallbackList(Callback):
    """The callbacks of one run.

    Args:
        callbacks: a callback, a list of them, or None.
        add_history: append a `History` if there is none.
        add_progbar: append a `ProgbarLogger` if there is none.
        model: the model they watch.
        params: what they get as `params`: `verbose`, `epochs`, `steps`.
    """

    def __init__(
        self,
        callbacks: Callback | Iterable[Callback] | None = None,
        add_history: bool = False,
        add_progbar: bool = False,
        model: Any = None,
        **params,
    ):
        super().__init__()
        self.callbacks = _flatten(callbacks)
        self._history = next((c for c in self.callbacks if isinstance(c, History)), None)
        if add_progbar and not any(isinstance(c, ProgbarLogger) for c in self.callbacks):
            self.callbacks.append(ProgbarLogger())
        if add_history and self._history is None:
            self._history = History()
            self.callbacks.append(self._history)
        self.params = params
        if model is not None:
            self.set_model(model)
        self.set_params(params)

    @property
    def history(self) -> History | None:
        return self._history

    def append(self, callback: Callback):
        """Add one more callback."""
        self.callbacks.append(callback)

    def set_params(self, params: dict[str, Any]):
        self.params = params
        for callback in self.callbacks:
            callback.set_params(params)

    def set_model(self, model):
        super().set_model(model)
        if self._history is not None:
            model.history = self._history
        for callback in self.callbacks:
            callback.set_model(model)

    def wants_every_batch(self, mode: str) -> bool:
        """True if a callback overrides a batch hook of `mode` ("train", "test", "predict")."""
        return any(
            not getattr(c, "sparse_batches", False) and any(is_overridden(c, h) for h in _own_hooks(c, mode))
            for c in self.callbacks
        )

    def wants_some_batches(self, mode: str) -> bool:
        """True if a callback would like a batch hook of `mode` now and then."""
        return any(any(is_overridden(c, h) for h in _own_hooks(c, mode)) for c in self.callbacks)


def _own_hooks(callback: Callback, mode: str) -> tuple[str, ...]:
    shown = getattr(callback, "shows_batches", None)
    return _BATCH_HOOKS[mode] if shown is None or shown() else ()


def _forward(hook: str):
    def call(self, *args, **kwargs):
        for callback in self.callbacks:
            getattr(callback, hook)(*args, **kwargs)

    call.__name__ = hook
    call.__doc__ = f"Call `{hook}` of every callback, in order."
    return call


for _hook in [name for name in vars(Callback) if name.startswith("on_")]:
    setattr(CallbackList, _hook, _forward(_hook))


def _flatten(callbacks: Any) -> list[Callback]:
    if callbacks is None:
        return []
    if isinstance(callbacks, (list, tuple)):
        return [found for item in callbacks for found in _flatten(item)]
    if isinstance(callbacks, type):
        raise ArgumentError(f"`callbacks` expects objects, received the class {callbacks.__name__}: call it first.")
    if not hasattr(callbacks, "set_model"):
        raise ArgumentError(
            f"`callbacks` expects Callback objects, received {callbacks!r} of type {type(callbacks).__name__}."
        )
    return [callbacks]
