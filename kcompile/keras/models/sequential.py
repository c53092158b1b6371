"""Sequential: a stack of layers, each with one input and one output."""

from __future__ import annotations

from typing import Any

from kcompile.errors import ArgumentError, KcompileError
from kcompile.keras.layers.core import InputLayer
from kcompile.keras.layers.layer import Layer
from kcompile.keras.models.graph import ModelGraph
from kcompile.keras.models.model import Model
from kcompile.keras.registry import register
from kcompile.keras.serialization import custom_object_scope, deserialize_keras_object, serialize_keras_object
from kcompile.keras.tracing.dtypes import is_float, standardize_dtype
from kcompile.keras.tracing.tensor import KerasTensor


@register
class Sequential(Model):
    """A linear stack of layers, from a list or by `add`.

    Without an input shape the model is built when it first sees data.

    >>> from kcompile.keras import Sequential, layers
    >>> Sequential([layers.Dense(3, input_shape=(4,)), layers.Dense(1)]).output_shape
    (None, 1)
    """

    untracked = Model.untracked | {"_tensors"}
    keras_module = "keras"

    def __init__(self, layers=None, trainable=True, name=None, **kwargs):
        super().__init__(trainable=trainable, name=name, **kwargs)
        self.autocast = False
        self.supports_masking = True
        self._stack: list[Layer] = []
        self._tensors: list[KerasTensor] = []  # output of each layer of the stack, once the input is known
        for layer in layers if isinstance(layers, (list, tuple)) else [layers] if layers is not None else []:
            self.add(layer)

    # changing the stack ---------------------------------------------------------------------------

    def add(self, layer, rebuild: bool = True) -> None:
        """Put a layer on top of the stack.

        Raises: ArgumentError if it is no layer, or its name is taken.
        """
        layer = self._as_layer(layer)
        if any(layer.name == other.name for other in self._stack):
            raise ArgumentError(
                f"All layers added to a Sequential model should have unique names. Name '{layer.name}' is already the "
                f"name of a layer in this model. Update the `name` argument to pass a unique name."
            )
        if isinstance(layer, InputLayer):
            if self._stack and isinstance(self._stack[0], InputLayer):
                raise ArgumentError(
                    f"Sequential model '{self.name}' has already been configured to use input shape "
                    f"{self._stack[0].batch_shape}. You cannot add a different Input layer to it."
                )
            self._stack.insert(0, layer)
            self._connect()
            return
        if not self._stack:
            entry = _implicit_input(layer)
            if entry is not None:
                self._stack.append(entry)
                self._tensors = [entry.output]
        self._stack.append(layer)
        if self._tensors:
            try:
                self._tensors.append(_one_output(layer, layer(self._tensors[-1])))
            except Exception:
                self._stack.pop()
                raise
            self._wire()

    def pop(self, rebuild: bool = True):
        """Remove the top layer and return it."""
        if not self.layers:
            raise KcompileError("There are no layers in the model.")
        layer = self._stack.pop()
        if self._tensors:
            self._tensors = self._tensors[: len(self._stack)]
            self._wire()
        return layer

    def _as_layer(self, layer: Any) -> Layer:
        if isinstance(layer, KerasTensor) and layer.history and isinstance(layer.history.operation, InputLayer):
            return layer.history.operation
        if not isinstance(layer, Layer):
            raise ArgumentError(
                "Only instances of `keras.Layer` can be added to a Sequential model. "
                f"Received: {layer} (of type {type(layer)})"
            )
        return layer

    def _connect(self) -> None:
        """Call the layers one after the other, from the input layer at the bottom."""
        self._tensors = [self._stack[0].output]
        for layer in self._stack[1:]:
            self._tensors.append(_one_output(layer, layer(self._tensors[-1])))
        self._wire()

    def _wire(self) -> None:
        self.built = len(self._tensors) > 1
        self._graph = ModelGraph(self._tensors[0], self._tensors[-1]) if self._tensors else None

    # building and calling -------------------------------------------------------------------------

    def build(self, input_shape=None):
        """Make all weights, for inputs of this shape (with the batch axis)."""
        if self._tensors or input_shape is None:
            return
        if not self._stack:
            raise KcompileError(
                f"Sequential model {self.name} cannot be built because it has no layers. Call `model.add(layer)`."
            )
        if isinstance(input_shape, dict) or (input_shape and isinstance(input_shape[0], (list, tuple))):
            raise ArgumentError(f"A Sequential model has one input; received shapes {input_shape}")
        self._start(KerasTensor(tuple(input_shape), self._stack[0].compute_dtype))

    def build_on(self, *args, **kwargs):
        if not self._tensors and args and isinstance(args[0], KerasTensor):
            self._start(args[0])
        return super().build_on(*args, **kwargs)

    def _start(self, like: KerasTensor) -> None:
        dtype = like.dtype if not is_float(like.dtype) else self._stack[0].compute_dtype
        entry = InputLayer(
            batch_shape=(None, *like.shape[1:]), dtype=dtype, name=f"{self._stack[0].name}_input"
        )  # fmt: skip
        self._stack.insert(0, entry)
        try:
            self._connect()
        except Exception:
            self._stack.pop(0)
            self._tensors = []
            raise

    def _build_for(self, args, kwargs) -> None:
        if not self._tensors:
            x = args[0] if args else next(iter(kwargs.values()))
            if not self._stack:
                raise KcompileError(
                    f"Sequential model {self.name} cannot be called because it has no layers. Call `model.add(layer)`."
                )
            shape = tuple(s if isinstance(s, int) else None for s in x.shape)
            self._start(KerasTensor(shape, standardize_dtype(x.dtype)))
        self.built = True
        self._set_initial_weights()

    def call(self, inputs, training=None, mask=None):
        if self._graph is None:
            raise KcompileError(f"Sequential model {self.name} has no layers yet.")
        return self._graph.run(inputs, self.name)

    def compute_mask(self, inputs, previous_mask):
        return None  # the layers inside have set it

    # looking --------------------------------------------------------------------------------------

    @property
    def _layers(self) -> list:
        return list(self._stack)

    @property
    def layers(self) -> list[Layer]:
        """The stack without the input layer."""
        return [layer for layer in self._stack if not isinstance(layer, InputLayer)]

    def get_config(self) -> dict[str, Any]:
        """Return the layers' configs, bottom to top."""
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": serialize_keras_object(self.dtype_policy),
            "layers": [serialize_keras_object(layer) for layer in self._stack],
        }
        if self._tensors:
            config["build_input_shape"] = self._tensors[0].shape
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects=None):
        """Return a new model with fresh weights; reads the layouts of Keras 2 and 3."""
        if isinstance(config, list):  # Keras 2.2 wrote the bare list
            config = {"layers": config}
        with custom_object_scope(custom_objects or {}):
            stack = [deserialize_keras_object(entry, group="layers") for entry in config["layers"]]
        model = cls(stack, name=config.get("name"), trainable=config.get("trainable", True))
        shape = config.get("build_input_shape") or config.get("batch_input_shape")
        if shape and not model._tensors:
            model.build(tuple(shape))
        return model

    def get_build_config(self):
        return None


def _implicit_input(layer: Layer) -> InputLayer | None:
    """Return the input layer that the first layer's arguments ask for, or None."""
    if isinstance(layer, Model) and layer._graph is not None:
        tensor = layer.inputs[0]
        return InputLayer(batch_shape=tensor.shape, dtype=tensor.dtype, name=f"{layer.name}_input")
    shape, dtype = layer._batch_input_shape, layer._input_dtype
    implied = getattr(layer, "_implied_input_shape", None)
    if implied is not None and shape is None:
        shape, dtype = implied, dtype or "int32"
    if shape is None:
        return None
    return InputLayer(batch_shape=shape, dtype=dtype or layer.compute_dtype, name=f"{layer.name}_input")


def _one_output(layer: Layer, output: Any) -> KerasTensor:
    if not isinstance(output, KerasTensor):
        raise ArgumentError(
            "All layers in a Sequential model should have a single output tensor. "
            f"Layer '{layer.name}' returned {output}. For several outputs, use the functional API."
        )
    return output
