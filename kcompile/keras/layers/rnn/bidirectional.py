"""Bidirectional: a recurrent layer, and one that reads the sequence backwards."""

from __future__ import annotations

from typing import Any

from kcompile.errors import ArgumentError
from kcompile.keras import ops
from kcompile.keras.layers import calling
from kcompile.keras.layers.layer import Layer
from kcompile.keras.registry import register
from kcompile.keras.serialization import deserialize_keras_object, serialize_keras_object
from kcompile.keras.tracing import tree

_MERGES = {
    "concat": lambda y, back: ops.concatenate([y, back], axis=-1),
    "sum": lambda y, back: y + back,
    "ave": lambda y, back: (y + back) / 2,
    "mul": lambda y, back: y * back,
    None: lambda y, back: (y, back),
}


@register
class Bidirectional(Layer):
    """Two copies of a recurrent layer, one forwards and one backwards in time; their outputs merged.

    Args:
        layer: copied; its name is prefixed.
        merge_mode: "concat", "sum", "mul", "ave", or None for a pair.
        weights: of both copies, the forward one's first.
        backward_layer: used for the way back in place of a copy; its `go_backwards` must differ.
    """

    def __init__(self, layer, merge_mode="concat", weights=None, backward_layer=None, **kwargs):
        for given, what in ((layer, "layer"), (backward_layer, "backward_layer")):
            if not isinstance(given, Layer) and (given is not None or what == "layer"):
                raise ArgumentError(f"Please initialize `Bidirectional` with a Layer as `{what}`. Received: {given}")
        if merge_mode not in _MERGES:
            raise ArgumentError(
                f"Invalid merge mode. Received: {merge_mode}. Merge mode should be one of {list(_MERGES)}"
            )
        super().__init__(**kwargs)
        self.forward_layer = _copied(layer, "forward_")
        self.backward_layer = backward_layer or _copied(layer, "backward_", go_backwards=True)
        self._check_layers()
        for one in (self.forward_layer, self.backward_layer):
            if hasattr(one, "zero_output_for_mask"):
                one.zero_output_for_mask = one.return_sequences
        if weights:
            half = len(weights) // 2
            self.forward_layer._initial_weights = weights[:half]
            self.backward_layer._initial_weights = weights[half:]
        self.merge_mode = merge_mode
        self.stateful, self.return_sequences = layer.stateful, layer.return_sequences
        self.return_state = layer.return_state
        self.supports_masking = True
        self.input_spec = layer.input_spec
        if self._batch_input_shape is None:
            self._batch_input_shape = layer._batch_input_shape

    def _check_layers(self) -> None:
        forward, backward = self.forward_layer, self.backward_layer
        if forward.go_backwards == backward.go_backwards:
            raise ArgumentError(
                "Forward layer and backward layer should have different `go_backwards` value. Received: "
                f"forward_layer.go_backwards {forward.go_backwards}, backward_layer.go_backwards="
                f"{backward.go_backwards}"
            )
        for name in ("stateful", "return_sequences", "return_state"):
            one, other = getattr(forward, name), getattr(backward, name)
            if one != other:
                raise ArgumentError(
                    "Forward layer and backward layer are expected to have the same value for attribute "
                    f'"{name}", got "{one}" for forward layer and "{other}" for backward layer'
                )

    def build(self, sequences_shape, initial_state_shape=None):
        for one in (self.forward_layer, self.backward_layer):
            if not one.built:
                one.build(sequences_shape)
                one.built = True
            one._set_initial_weights()

    def call(self, sequences, initial_state=None, mask=None, training=None):
        count = len(initial_state) // 2 if initial_state is not None else 0
        halves = (initial_state[:count], initial_state[count:]) if count else (None, None)
        ys, states = [], []
        for layer, state in zip((self.forward_layer, self.backward_layer), halves):
            signature = calling.signature_of(type(layer).call)
            given: dict[str, Any] = {"training": training} if signature.has_training else {}
            given |= {"mask": mask} if signature.has_mask and mask is not None else {}
            given |= {"initial_state": state} if state is not None else {}
            y = layer(sequences, **given)
            y, *own = y if self.return_state else (y,)
            ys.append(ops.cast(y, self.compute_dtype))
            states += own
        y, back = ys
        if self.return_sequences:
            back = ops.flip(back, axis=1)
        merged = _MERGES[self.merge_mode](y, back)
        if not self.return_state:
            return merged
        return (*(merged if self.merge_mode is None else (merged,)), *states)

    def compute_mask(self, inputs, previous_mask):
        mask = tree.flatten(previous_mask)[0] if self.return_sequences else None
        masks = [mask, mask] if self.merge_mode is None else [mask]
        if self.return_state:
            masks += [None] * len(self.forward_layer.state_size) * 2
        return masks if len(masks) > 1 else mask

    def reset_states(self) -> None:
        """Set the states of stateful layers to zero."""
        self.reset_state()

    def reset_state(self) -> None:
        """Set the states of stateful layers to zero."""
        if not self.stateful:
            raise AttributeError("Layer must be stateful.")
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    @property
    def states(self) -> tuple | None:
        """The states of both layers, the forward one's first."""
        if self.forward_layer.states and self.backward_layer.states:
            return (*self.forward_layer.states, *self.backward_layer.states)
        return None

    def get_config(self):
        config = super().get_config()
        config.pop("weights", None)
        config["layer"] = serialize_keras_object(self.forward_layer)
        config["backward_layer"] = serialize_keras_object(self.backward_layer)
        return config


def _copied(layer: Layer, prefix: str, **changes: Any) -> Layer:
    """A new layer with the config of another, its name prefixed once."""
    described = serialize_keras_object(layer)
    described["config"] |= {**changes, "name": prefix + layer.name.removeprefix(prefix)}
    return deserialize_keras_object(described, {type(layer).__name__: type(layer)})
