"""Model: a layer that can be trained, saved and shown.

`Model(inputs, outputs)` is a functional model; a subclass defines layers in its constructor and computes
in `call`. Training comes from the Trainer mixin, files and reports from Shortcuts.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from kcompile.errors import ArgumentError, KcompileError, NotSupportedError
from kcompile.keras.layers.layer import Layer, _symbolic_inputs
from kcompile.keras.layers.weights import LayerWeights
from kcompile.keras.models.graph import ModelGraph
from kcompile.keras.models.shortcuts import Shortcuts
from kcompile.keras.registry import register
from kcompile.keras.serialization import custom_object_scope
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.scope import is_tracing
from kcompile.keras.tracing.tensor import KerasTensor, is_tensor
from kcompile.keras.tracing.trace import infer
from kcompile.keras.training.legacy import LegacyMethods
from kcompile.keras.training.trainer import Trainer

_READ_BY_CALLS = ("_graph", "autocast", "built", "call", "dtype_policy", "input_spec", "supports_masking", "_trainable")


def is_functional_call(cls: type, args: tuple, kwargs: dict) -> bool:
    """True for `Model(inputs, outputs)`, by position or by name."""
    return len(args) >= 2 or (len(args) == 1 and "outputs" in kwargs) or ("inputs" in kwargs and "outputs" in kwargs)


@register
class Model(Shortcuts, Trainer, LegacyMethods, Layer):
    """A model: functional (`Model(inputs, outputs)`) or subclassed (override `call`).

    >>> from kcompile.keras import Input, Model, layers
    >>> x = Input((4,)); Model(x, layers.Dense(2)(x)).count_params()
    10
    """

    untracked = LayerWeights.untracked | {"_graph", "inputs", "outputs"}

    def __new__(cls, *args, **kwargs):
        if cls is Model and is_functional_call(cls, args, kwargs):
            return super().__new__(_functional().Functional, *args, **kwargs)
        made = super().__new__(cls, *args, **kwargs)
        vars(made)["_graph"] = None
        return made

    def __init__(self, *args, inputs=None, outputs=None, **kwargs):
        if args:
            inputs, outputs = (*args, outputs)[:2]
        super().__init__(**kwargs)
        if inputs is not None and outputs is not None:  # a subclass that wires itself
            self._graph = ModelGraph(inputs, outputs)
            self.autocast = False
            self.built = True

    calls_until_compiled = 3

    @property
    def is_interpreted(self) -> bool:
        return not self._training.jit

    @property
    def threads_of_calls(self) -> int | None:
        return self._training.num_threads

    def read_by_calls(self, outermost: bool) -> dict[str, Any] | None:
        """As for layers: a call of a wired model reads its graph and little more."""
        if self._graph is None or self._graph.reads_host or not self._graph.is_ours or self.is_interpreted:
            return None
        if super().read_by_calls(outermost) is None:
            return None
        return {name: vars(self).get(name) for name in _READ_BY_CALLS}

    # structure ------------------------------------------------------------------------------------

    @property
    def _layers(self) -> list:
        own = super()._layers
        if self._graph is None:
            return own
        wired = self._graph.layers
        return [*wired, *(o for o in own if not any(o is w for w in wired))]

    @property
    def layers(self) -> list[Layer]:
        """The layers of the model, in order; not those inside them."""
        return self._layers

    @layers.setter
    def layers(self, _):
        raise AttributeError("`Model.layers` attribute is reserved and should not be used. Please use another name.")

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return a layer by name or by position.

        Raises: ArgumentError that lists the names there are.
        """
        if index is not None and name is not None:
            raise ArgumentError(f"Provide only a layer name or a layer index. Received: index={index}, name={name}.")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ArgumentError(
                    f"Was asked to retrieve layer at index {index} but model only has {len(self.layers)} layers."
                )
            return self.layers[index]
        if name is None:
            raise ArgumentError("Provide either a layer name or layer index at `get_layer`.")
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ArgumentError(f"No such layer: {name}. Existing layers are: {[layer.name for layer in self.layers]}.")

    @property
    def inputs(self) -> list[KerasTensor]:
        return self._wired("inputs").input_tensors

    @property
    def outputs(self) -> list[KerasTensor]:
        return self._wired("outputs").output_tensors

    @property
    def program_inputs(self) -> list[KerasTensor] | None:
        """What compiled programs read: the inputs, or what layers on strings make of them. None if not wired."""
        if self.host_calls is not None:
            return None  # the calls are inside `call`: sizes are those of the data
        return None if self._graph is None else self._graph.program_tensors

    @property
    def input(self):
        return self._wired("input").inputs

    @property
    def output(self):
        return self._wired("output").outputs

    @property
    def input_shape(self):
        return _shape_of(self._wired("input_shape").inputs)

    @property
    def output_shape(self):
        return _shape_of(self._wired("output_shape").outputs)

    @property
    def input_names(self) -> list[str]:
        return self._wired("input_names").input_names

    @property
    def output_names(self) -> list[str]:
        """The names of the layers that make the outputs, each once."""
        found: list[str] = []
        for tensor in self._wired("output_names").output_tensors:
            name, number = tensor.history.operation.name, 0
            unique = name
            while unique in found:
                number += 1
                unique = f"{name}_{number}"
            found.append(unique)
        return found

    @property
    def operations(self) -> list:
        """The calls of layers and keras.ops functions in the model, each operation once."""
        return self._wired("operations").operations

    def _wired(self, what: str) -> ModelGraph:
        if self._graph is None:
            raise AttributeError(
                f"The model '{self.name}' has no `{what}`: it is a subclassed model, or it has not been built yet. "
                "Build it with `build(input_shape)` or by calling it on data."
            )
        return self._graph

    # computing ------------------------------------------------------------------------------------

    @property
    def implements_call(self) -> bool:
        """False for a subclass that only holds other models, such as a GAN with a `train_step` of its own."""
        return self._graph is not None or type(self).call is not Model.call

    def call(self, inputs, training=None, mask=None):
        """Run the wired layers; subclasses override this."""
        if self._graph is None:
            raise NotImplementedError(
                f"Model {type(self).__name__} does not have a `call()` method implemented: override "
                "`call(self, inputs)`, or pass `inputs` and `outputs` to the constructor."
            )
        return self._graph.run(inputs, self.name)

    def build(self, input_shape):
        """Make all weights, for inputs of this shape (with the batch axis; nested for several inputs).

        Raises: KcompileError if `call` cannot run on symbolic inputs of that shape.
        """
        if self._graph is None:
            self.build_on(_symbolic_inputs(input_shape, self.compute_dtype))

    def build_from_config(self, config):
        """Build with what `get_build_config` gave: shapes, and dtypes where they are not those of the weights."""
        if self._graph is not None or "input_dtype" not in (config or {}):
            return super().build_from_config(config)
        self._build_shapes = config
        self.build_on(self.declared_inputs())

    def declared_inputs(self) -> Any:
        """KerasTensors like the inputs that the model was built for; None if that is not known."""
        if self._graph is not None:
            return self._graph.inputs
        config = self.get_build_config() or {}
        shapes = config.get("input_shape")
        return None if shapes is None else _declared(shapes, config.get("input_dtype", self.compute_dtype), "x0")

    def build_on(self, *args, **kwargs) -> Any:
        """Make all weights by running `call` on KerasTensors; returns KerasTensors like the outputs.

        Training does this before it traces, so that every weight exists.
        """
        outputs = infer(self._compute, args, kwargs)
        self.built = True
        if self._build_shapes is None and len(args) == 1:  # saved files and export start from it
            self._build_shapes = {"input_shape": tree.map_structure(lambda t: list(t.shape), args[0])}
            if any(t.dtype != self.compute_dtype for t in tree.flatten(args[0])):
                self._build_shapes["input_dtype"] = tree.map_structure(lambda t: t.dtype, args[0])
        self._set_initial_weights()
        return outputs

    def _build_for(self, args, kwargs) -> None:
        if type(self).build is not Model.build:
            return super()._build_for(args, kwargs)
        shapes = [a for a in tree.flatten([list(args), kwargs]) if is_tensor(a)]
        if is_tracing() and not any(isinstance(a, KerasTensor) for a in shapes):
            self.built = True  # inside a larger call: the layers build as they are reached
            return None
        symbolic = [tree.map_structure(_like, list(args)), tree.map_structure(_like, dict(kwargs))]
        self.build_on(*symbolic[0], **symbolic[1])
        return None

    def add_loss(self, loss) -> None:
        """Add scalars to what training minimises; call it inside `call`."""
        if any(isinstance(one, KerasTensor) for one in tree.flatten(loss)):
            raise NotSupportedError(
                "Model.add_loss on symbolic tensors: call `self.add_loss(...)` in the `call` of a layer instead"
            )
        super().add_loss(loss)

    # configs ------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments; subclasses with arguments that are no data override it."""
        return super().get_config()

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects=None):
        """Return a new model with fresh weights."""
        functional = _functional()
        with custom_object_scope(custom_objects or {}):
            wired = "layers" in config and "input_layers" in config
            if wired and cls in (Model, functional.Functional):
                return functional.from_config(config)
            if wired and not _takes(cls, config):
                return functional.from_config(config, cls)
            return super().from_config(config)


def _functional() -> ModuleType:
    from kcompile.keras.models import functional  # `Model(inputs, outputs)` makes a subclass of Model

    return functional


def _takes(cls: type, config: dict) -> bool:
    parameters = inspect.signature(cls.__init__).parameters
    return "layers" in parameters and "input_layers" in parameters


def _declared(shape: Any, dtype: Any, name: str) -> Any:
    if isinstance(shape, Mapping):
        return {k: _declared(s, dtype[k] if isinstance(dtype, Mapping) else dtype, k) for k, s in shape.items()}
    if shape and isinstance(shape[0], (list, tuple)):
        dtypes = dtype if isinstance(dtype, (list, tuple)) else [dtype] * len(shape)
        return [_declared(s, d, f"x{i}") for i, (s, d) in enumerate(zip(shape, dtypes))]
    return KerasTensor((None, *shape[1:]), dtype, name=name)


def _shape_of(tensors: Any) -> Any:
    """Return nested shapes; a list of one as that one."""
    single = isinstance(tensors, (list, tuple)) and len(tensors) == 1
    return tree.map_structure(lambda t: t.shape, tensors[0] if single else tensors)


def _like(leaf: Any) -> Any:
    """Return a KerasTensor like a tensor, its batch size left open."""
    if isinstance(leaf, KerasTensor) or not is_tensor(leaf):
        return leaf
    shape = tuple(s if isinstance(s, int) else None for s in leaf.shape)
    return KerasTensor((None, *shape[1:]) if shape else (), leaf.dtype)


def check_built(model: Model, what: str) -> None:
    """Raise unless the model's weights exist."""
    if not model.built:
        raise KcompileError(
            f"{what}: the model '{model.name}' has not yet been built. Build the model first by calling "
            "`build(input_shape)` or by calling the model on a batch of data."
        )
