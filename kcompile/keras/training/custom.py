"""Steps that a Model subclass writes itself: `train_step`, `test_step`, `predict_step`, `compute_metrics`.

They are traced like the built-in ones, so all of a step - several optimizers, gradients of gradients - is one
program. What a step returns as logs is assigned to Variables in the program, and read from there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras import ops
from kcompile.keras.metrics.metric import Metric
from kcompile.keras.tracing.trace import infer


class StepLog(Metric):
    """A number that a step returned last."""

    def __init__(self, name: str):
        super().__init__(name=name)
        self.value = self.add_weight(name="value")

    def update_state(self, value, sample_weight=None):
        del sample_weight
        value = ops.convert_to_tensor(value)
        if len(value.shape):
            raise ArgumentError(f"log {self.name!r} of a step must be one number. Received shape {tuple(value.shape)}")
        self.value.assign(ops.cast(value, self.value.dtype))

    def result(self):
        return self.value

    def reset_state(self):
        """It stays until the next step."""


def own_method(model: Any, base: type, name: str) -> Callable[..., Any] | None:
    """Return the model's own method `name`, None if it is that of `base`.

    Raises: NotSupportedError for a step with a state, which Keras has on JAX.
    """
    if getattr(type(model), name) is getattr(base, name) and name not in vars(model):
        return None
    method = getattr(model, name)
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(method).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind in plain]
    if name.endswith("_step") and len(needed) > 1:
        raise NotSupportedError(
            f"{type(model).__name__}.{name} takes {needed}. Write it as `{name}(self, data)`, with "
            "keras.GradientTape for gradients: the state of JAX's form lives in the model's variables here."
        )
    return method


def record_logs(logs: Any, kept: dict[str, StepLog], what: str) -> None:
    """Assign the logs of a step to `kept`, which gets an entry for each name."""
    if not isinstance(logs, Mapping):
        raise ArgumentError(f"{what} must return a dict of logs, such as metrics' results. Received: {logs!r}")
    flat = {str(k): v for k, v in _flattened(logs)}
    for name in [n for n in kept if n not in flat]:
        del kept[name]
    for name, value in flat.items():
        kept.setdefault(name, StepLog(name)).update_state(value)


def _flattened(logs: Mapping[str, Any]):
    for name, value in logs.items():
        if isinstance(value, Mapping):
            yield from _flattened(value)
        else:
            yield name, value


def build_compiled(model: Any, calls: Any, symbolic: Any) -> None:
    """Resolve the losses and metrics of `compile`, for steps that walk over `model.metrics`.

    calls: of layers on strings, made before; or None.
    symbolic: (x, y) of a batch as KerasTensors. Without y there is nothing to resolve them by: a step that makes its
        targets itself calls losses and metrics itself.
    """
    if symbolic[1] is None:
        return
    compiled = model._training
    open_losses = compiled.losses is not None and compiled.losses.parts is None
    open_metrics = compiled.metrics is not None and compiled.metrics.entries is None
    if not (open_losses or open_metrics) or not model.implements_call:
        return

    def resolve(x, y):
        y_pred = model(x if calls is None else calls.restore(x), training=False)
        if open_losses:
            compiled.losses.output_names = getattr(model, "output_names", None)
            compiled.losses.build(y, y_pred)
        if open_metrics:
            compiled.metrics.output_names = getattr(model, "output_names", None)
            compiled.metrics.build(y, y_pred, compiled.losses.has_loss if compiled.losses is not None else ())

    infer(resolve, symbolic)
