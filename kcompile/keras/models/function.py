"""tf.keras 2's `K.function`: part of a model, called on arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kcompile.errors import NotSupportedError
from kcompile.keras.models.model import Model


def function(inputs: Any, outputs: Any, updates: Any = None, name: str | None = None) -> Callable[[Any], Any]:
    """Return a function of a list of arrays that gives the outputs of part of a model, as NumPy arrays.

    >>> features = K.function([model.input], [model.layers[1].output])
    >>> features([images])[0]
    """
    if updates:
        raise NotSupportedError("K.function(updates=...): variables are updated by a model's training step")
    model = Model(inputs, outputs, name=name)
    alone = _holds_one(outputs)  # a model of a list of one output gives that output

    def call(values: Any) -> Any:
        found = model.predict_on_batch(values[0] if _holds_one(values) else values)
        return [found] if alone else found

    return call


def _holds_one(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and len(values) == 1
