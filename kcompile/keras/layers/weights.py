"""What every layer has besides being called: its weights, its place in model graphs, its config."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, KcompileError
from kcompile.keras import dtype_policies
from kcompile.keras.configurable import derived_config, given_arguments
from kcompile.keras.layers import tracking
from kcompile.keras.serialization import deserialize_keras_object, serialize_keras_object
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.node import Node
from kcompile.keras.tracing.variable import Variable

_UNTRACKED = frozenset(
    {
        "_version",
        "_attributes",
        "_tree",
        "_arguments",
        "_called_shape",
        "_compiled_calls",
        "_inbound_nodes",
        "_outbound_nodes",
        "_losses",
        "_loss_functions",
        "_build_shapes",
    }
)
_BASE_PARAMETERS = ("activity_regularizer", "trainable", "dtype", "autocast", "name")


class _Tree:
    """A layer and those inside it, with their weights, as long as nobody's attributes change."""

    __slots__ = ("_attributes", "_weights", "layers")

    def __init__(self, root: LayerWeights):
        self.layers = root._found_layers()
        self._attributes = [tracking.attributes(layer) for layer in self.layers]
        self._weights: list[Variable] | None = None

    @property
    def is_current(self) -> bool:
        return all(one.are_current for one in self._attributes)

    @property
    def weights(self) -> list[Variable]:
        if self._weights is None:
            self._weights = tracking.unique([v for one in self.layers for v in one._own_variables()], lambda v: True)
        return self._weights


class LayerWeights:
    """Variables, sub-layers and their numbers."""

    untracked = _UNTRACKED  # attributes that hold no sub-layers of the layer

    def __new__(cls, *args, **kwargs):
        made = super().__new__(cls)
        state = {
            "_version": 0,
            "_arguments": given_arguments(cls, args, kwargs),
            "_weights": [],
            "_losses": [],
            "_loss_functions": [],
            "_adds_losses": False,
            "_inbound_nodes": [],
            "_outbound_nodes": [],
            "_build_shapes": None,
            "_compiled_calls": None,
            "_building": False,
            "_initial_weights": None,
            "_batch_input_shape": None,
            "_input_dtype": None,
            "_trainable": True,
            "built": False,
            "supports_masking": False,
            "input_spec": None,
        }
        vars(made).update(state)
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Variable) and not any(v is value for v in self._weights):
            self._weights.append(value)
        super().__setattr__(name, value)
        vars(self)["_version"] += 1
        tracking.changes[0] += 1

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        vars(self)["_version"] += 1
        tracking.changes[0] += 1

    def __getstate__(self) -> dict[str, Any]:  # copies find out themselves what they hold
        return {
            name: value for name, value in vars(self).items() if name not in ("_attributes", "_tree", "_compiled_calls")
        }

    # sub-layers -----------------------------------------------------------------------------------

    @property
    def _layers(self) -> list:
        """Direct sub-layers, in the order they were assigned."""
        return tracking.attributes(self).all(tracking.is_layer)

    def _flatten_layers(self, include_self: bool = True, recursive: bool = True) -> list:
        """This layer and all layers inside it, each once."""
        if not recursive:
            return [*([self] if include_self else []), *(one for one in self._layers if one is not self)]
        return self._whole_tree().layers[0 if include_self else 1 :]

    def _whole_tree(self) -> _Tree:
        known = vars(self).get("_tree")
        if known is None or not known.is_current:
            known = vars(self)["_tree"] = _Tree(self)
        return known

    def _found_layers(self) -> list:
        found: dict[int, Any] = {id(self): self}
        stack = [*self._layers[::-1]]
        while stack:
            layer = stack.pop()
            if id(layer) not in found:
                found[id(layer)] = layer
                stack.extend(layer._layers[::-1])
        return list(found.values())

    # variables ------------------------------------------------------------------------------------

    def _own_variables(self) -> list[Variable]:
        found = tracking.unique(
            [*self._weights, *tracking.attributes(self).all(tracking.is_variable)], tracking.is_variable
        )
        return [v for v in found if v.trainable_when_made] + [v for v in found if not v.trainable_when_made]

    def _seed_generators(self) -> list:
        return tracking.unique(
            (v for layer in self._flatten_layers() for v in tracking.attributes(layer).values),
            tracking.is_seed_generator,
        )

    @property
    def weights(self) -> list[Variable]:
        """All variables that are saved: trainable ones of each layer before its others."""
        return list(self._whole_tree().weights)

    @property
    def variables(self) -> list[Variable]:
        """The weights and the states of seed generators."""
        return [*self.weights, *(g.state for g in self._seed_generators())]

    @property
    def metrics(self) -> list:
        """The metrics that the layer, and those inside it, hold."""
        return tracking.metrics_of(self)

    @property
    def trainable_weights(self) -> list[Variable]:
        return [v for v in self.weights if v.trainable] if self.trainable else []

    @property
    def trainable_variables(self) -> list[Variable]:
        return self.trainable_weights

    @property
    def non_trainable_weights(self) -> list[Variable]:
        return [v for v in self.weights if not v.trainable] if self.trainable else self.weights

    @property
    def non_trainable_variables(self) -> list[Variable]:
        return [v for v in self.variables if not v.trainable] if self.trainable else self.variables

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        for variable in self._own_variables():
            variable.trainable = self._trainable and variable.trainable_when_made
        for layer in self._layers:
            layer.trainable = value

    def count_params(self) -> int:
        """Return the number of weights' elements.

        Raises: an error if the layer is not built yet.
        """
        if not self.built and not self.weights:
            raise KcompileError(
                "You tried to call `count_params` on layer "
                f"'{self.name}', but the layer isn't built. You can build it manually via: `layer.build(input_shape)`."
            )
        return sum(v.size for v in self.weights)

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of the weights as arrays."""
        return [np.asarray(v.numpy()) for v in self.weights]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Set the weights from arrays in the order of `get_weights`.

        Raises: ArgumentError if the number or a shape differs.
        """
        variables, weights = self.weights, list(weights)
        if len(variables) != len(weights):
            raise ArgumentError(
                f"You called `set_weights(weights)` on layer '{self.name}' with a weight list of length "
                f"{len(weights)}, but the layer was expecting {len(variables)} weights."
            )
        for variable, value in zip(variables, weights):
            if variable.shape != np.shape(value):
                raise ArgumentError(
                    f"Layer {self.name} weight shape {variable.shape} is not compatible with provided weight "
                    f"shape {np.shape(value)} (weight {variable.path})."
                )
        for variable, value in zip(variables, weights):
            variable.assign(np.asarray(value))

    def _set_initial_weights(self) -> None:
        if self._initial_weights is not None:
            initial, self._initial_weights = self._initial_weights, None
            self.set_weights(initial)

    def save_own_variables(self, store) -> None:
        """Write this layer's own variables (not those of sub-layers) into a mapping, by position."""
        for position, variable in enumerate(self._own_variables()):
            store[str(position)] = variable.numpy()

    def load_own_variables(self, store) -> None:
        """Read what `save_own_variables` wrote."""
        own = self._own_variables()
        if len(store) != len(own):
            raise ArgumentError(
                f"Layer '{self.name}' expected {len(own)} variables, but received {len(store)} variables during "
                f"loading. Expected: {[v.name for v in own]}"
            )
        for position, variable in enumerate(own):
            variable.assign(np.asarray(store[str(position)]))

    # dtypes ---------------------------------------------------------------------------------------

    @property
    def compute_dtype(self) -> str:
        return self.dtype_policy.compute_dtype

    @property
    def variable_dtype(self) -> str:
        return self.dtype_policy.variable_dtype

    @property
    def dtype(self) -> str:
        return self.variable_dtype

    @property
    def path(self) -> str:
        """The layer's name with those of the layers it was built in."""
        own = self._own_variables()
        return own[0].path.rsplit("/", 1)[0] if own and "/" in own[0].path else self.name


class LayerNodes:
    """Where the layer was called in model graphs."""

    def _node(self, index: int) -> Node:
        if not self._inbound_nodes:
            raise KcompileError(f"The layer {self.name} has never been called and thus has no defined input or output.")
        if not -len(self._inbound_nodes) <= index < len(self._inbound_nodes):
            raise ArgumentError(
                f"Asked for node {index} of layer {self.name}, but it was called {len(self._inbound_nodes)} times."
            )
        return self._inbound_nodes[index]

    def _only_node(self, what: str) -> Node:
        if len(self._inbound_nodes) > 1:
            raise KcompileError(
                f"The layer {self.name} has multiple inbound nodes, hence the notion of 'layer {what}' is ill-defined. "
                f"Use `get_{what}_at(node_index)` instead."
            )
        return self._node(0)

    @property
    def input(self):
        """The KerasTensor(s) the layer was called on."""
        return _single(self._only_node("input").input_tensors)

    @property
    def output(self):
        """The KerasTensor(s) the layer returned."""
        return self._only_node("output").outputs

    @property
    def input_shape(self):
        return tree.map_structure(lambda t: t.shape, self.input)

    @property
    def output_shape(self):
        return tree.map_structure(lambda t: t.shape, self.output)

    def get_input_at(self, node_index: int):
        """Return the input(s) of the n-th call."""
        return _single(self._node(node_index).input_tensors)

    def get_output_at(self, node_index: int):
        """Return the output(s) of the n-th call."""
        return self._node(node_index).outputs

    def get_input_mask_at(self, node_index: int):
        """Return the mask(s) of the input(s) of the n-th call, None where there is none."""
        return tree.map_structure(mask_of_one, self.get_input_at(node_index))

    def get_output_mask_at(self, node_index: int):
        """Return the mask(s) of the output(s) of the n-th call, None where there is none."""
        return tree.map_structure(mask_of_one, self.get_output_at(node_index))

    @property
    def inbound_nodes(self) -> list[Node]:
        """The calls of the layer in model graphs."""
        return self._inbound_nodes

    @property
    def outbound_nodes(self) -> list[Node]:
        """The calls that read what the layer returned."""
        return self._outbound_nodes

    def get_input_shape_at(self, node_index: int):
        return tree.map_structure(lambda t: t.shape, self.get_input_at(node_index))

    def get_output_shape_at(self, node_index: int):
        return tree.map_structure(lambda t: t.shape, self.get_output_at(node_index))


def mask_of_one(tensor: Any) -> Any:
    return getattr(tensor, "_keras_mask", None)


def _single(tensors: list) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


class LayerConfig:
    """Configs, and the arguments of tf.keras 2."""

    def _take_legacy_arguments(self, kwargs: dict[str, Any]) -> None:
        """Take `input_shape`, `input_dim`, `batch_input_shape`, `batch_size` and `weights` out of kwargs."""
        shape, size = kwargs.pop("input_shape", None), kwargs.pop("batch_size", None)
        width, whole = kwargs.pop("input_dim", None), kwargs.pop("batch_input_shape", None)
        whole = kwargs.pop("batch_shape", whole)
        if whole is not None:
            self._batch_input_shape = tuple(whole)
        elif shape is not None:
            shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
            self._batch_input_shape = (size, *shape)
        elif width is not None:
            self._batch_input_shape = (size, int(width))
        self._initial_weights = kwargs.pop("weights", None)
        self._input_dtype = kwargs.pop("input_dtype", None)
        for ignored in ("dynamic", "implementation", "quantization_config", "lora_rank", "lora_alpha"):
            if kwargs.get(ignored, 0) is None or ignored in ("dynamic", "implementation"):
                kwargs.pop(ignored, None)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer: name, trainable, dtype, and the constructor's arguments."""
        config = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": serialize_keras_object(self.dtype_policy),
        }
        config.update(derived_config(self, self._arguments, skip=_BASE_PARAMETERS))
        if self.activity_regularizer is not None or "activity_regularizer" in _parameters(type(self)):
            config["activity_regularizer"] = serialize_keras_object(self.activity_regularizer)
        if not self.autocast:
            config["autocast"] = False
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """Return a new layer; its weights are made when it is built."""
        config = dict(config)
        accepted = _parameters(cls)
        base = {}
        if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
            base = {k: config.pop(k) for k in ("name", "trainable", "dtype") if k in config and k not in accepted}
        made = cls(**deserialize_config(cls, config))
        if "name" in base:
            made.name = base["name"]
        if "dtype" in base:
            made.dtype_policy = dtype_policies.get(base["dtype"])
        if base.get("trainable") is False:
            made.trainable = False
        return made

    def get_build_config(self) -> dict[str, Any] | None:
        """Return the shapes the layer was built with, or None."""
        return self._build_shapes

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build with the shapes `get_build_config` gave."""
        shapes = {k: _shape_tuple(v) for k, v in (config or {}).items()}
        if "input_shape" in shapes:
            self.build(shapes["input_shape"])
        elif "shapes_dict" in shapes:
            self.build(**shapes["shapes_dict"])
        elif shapes:
            self.build(**shapes)
        self.built = True

    def _remember_build(self, build, args: tuple, kwargs: dict) -> None:
        try:
            bound = inspect.signature(build).bind(self, *args, **kwargs).arguments
        except TypeError:
            return
        shapes = {k: serialize_keras_object(v) for k, v in list(bound.items())[1:]}
        single = len(shapes) == 1
        self._build_shapes = {"input_shape": next(iter(shapes.values()))} if single else {"shapes_dict": shapes} or None


def deserialize_config(cls: type, config: dict[str, Any]) -> dict[str, Any]:
    """Turn the nested object configs in a layer's config into objects."""

    def value(v: Any) -> Any:
        if isinstance(v, dict) and "class_name" in v and "config" in v:
            return deserialize_keras_object(v)
        if isinstance(v, list):
            return [value(one) for one in v]
        return v

    return {k: v if k == "dtype" else value(v) for k, v in config.items()}


def _shape_tuple(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {k: _shape_tuple(v) for k, v in shape.items()}
    if isinstance(shape, (list, tuple)):
        if all(s is None or isinstance(s, int) for s in shape):
            return tuple(shape)
        return [_shape_tuple(s) for s in shape]
    return shape


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    return dict(list(inspect.signature(cls.__init__).parameters.items())[1:])
