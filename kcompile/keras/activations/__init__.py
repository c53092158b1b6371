"""Activation functions, by name, by function, as a layer argument or in an `Activation` layer."""

from __future__ import annotations

from typing import Any

from kcompile import plugins
from kcompile.errors import ArgumentError
from kcompile.keras.activations.functions import (
    celu,
    elu,
    exponential,
    gelu,
    glu,
    hard_shrink,
    hard_sigmoid,
    hard_silu,
    hard_tanh,
    leaky_relu,
    linear,
    log_sigmoid,
    log_softmax,
    mish,
    relu,
    relu6,
    selu,
    sigmoid,
    silu,
    soft_shrink,
    softmax,
    softplus,
    softsign,
    sparse_plus,
    sparse_sigmoid,
    sparsemax,
    squareplus,
    tanh,
    tanh_shrink,
    threshold,
)
from kcompile.keras.serialization import deserialize_keras_object, get_registered_object, serialize_keras_object

swish, hard_swish = silu, hard_silu

__all__ = [
    "celu",
    "deserialize",
    "elu",
    "exponential",
    "gelu",
    "get",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "relu",
    "relu6",
    "selu",
    "serialize",
    "sigmoid",
    "silu",
    "soft_shrink",
    "softmax",
    "softplus",
    "softsign",
    "sparse_plus",
    "sparse_sigmoid",
    "sparsemax",
    "squareplus",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
]


def get(identifier: Any):
    """Return the activation function of a name, config or callable; None means linear.

    Raises: UnknownNameError with a suggestion.
    """
    if identifier is None:
        return linear
    if isinstance(identifier, str):
        found = get_registered_object(identifier) or plugins.get("activations", identifier)
        return found() if isinstance(found, type) else found
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if callable(identifier):
        return identifier
    raise ArgumentError(f"Could not interpret activation function identifier: {identifier!r}")


def serialize(activation: Any):
    """Return the name (or config) of an activation function."""
    return serialize_keras_object(activation)


def deserialize(config: Any, custom_objects=None):
    """Return the activation function of a name or config."""
    found = deserialize_keras_object(config, custom_objects, group="activations")
    return found() if isinstance(found, type) else found
