"""A call of a layer as a pure function: the values of its variables come in, those that changed go out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras.tracing.loops import BodyScope
from kcompile.keras.tracing.scope import current_scope, enter, unwrap


def stateless_call(
    layer: Any, call: Callable[[], Any], trainable: Sequence, fixed: Sequence, return_losses: bool
) -> tuple:
    """Return (outputs, non-trainable values after the call[, losses]); the layer's variables stay as they are.

    Args:
        call: runs the layer.
        trainable, fixed: a value for each of its trainable and non-trainable variables.
    """
    if not layer.built:
        raise ArgumentError(f"To call stateless_call, {type(layer).__name__} {layer.name!r} must be built.")
    trained, kept = layer.trainable_variables, layer.non_trainable_variables
    for name, variables, values in (("trainable", trained, trainable), ("non_trainable", kept, fixed)):
        if len(variables) != len(values):
            raise ArgumentError(
                f"Argument `{name}_variables` must be a list of one value for each of {layer.name!r}'s "
                f"{name}_variables. Received {len(values)}, expected {len(variables)}."
            )
    given = list(zip([*trained, *kept], [unwrap(v) for v in (*trainable, *fixed)], strict=True))
    run = _eagerly if current_scope() is None else _traced
    return run(layer, call, given, kept)[: 3 if return_losses else 2]


def _eagerly(layer: Any, call: Callable[[], Any], given: list, kept: Sequence) -> tuple:
    before = [(v, v.numpy().copy()) for v, _ in given]
    try:
        for variable, value in given:
            variable.assign(value)
        outputs = call()
        return outputs, [v.numpy().copy() for v in kept], layer.losses
    finally:
        for variable, value in before:
            variable.assign(value)


def _traced(layer: Any, call: Callable[[], Any], given: list, kept: Sequence) -> tuple:
    around = current_scope()
    inside = BodyScope(around.graph, around, {id(v): value for v, value in given})
    with enter(inside):
        outputs = call()
        after = [unwrap(v) for v in kept]
        penalties = [loss for _, loss in inside.losses] + layer.lasting_losses()
    return outputs, after, penalties
