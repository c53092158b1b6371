"""Layer: constructor + `build` + `call`. All else is derived.

Calling a layer
1. makes arrays, lists and numbers tensors of the compute dtype,
2. checks them against `input_spec`,
3. builds the layer once, from the inputs' shapes,
4. runs `call`: on numbers at once, on traced values as graph nodes; on KerasTensors only shapes are
   inferred and the call is recorded in the model graph.

Shapes come from tracing `call`, the config from the constructor's arguments, gradients and kernels from
the ops that `call` uses.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, KcompileError, NotSupportedError, suggestion
from kcompile.keras import constraints, dtype_policies, initializers, ops, regularizers
from kcompile.keras.absent import INTEGERS
from kcompile.keras.configurable import constructor_parameters
from kcompile.keras.layers import calling, compiled_calls
from kcompile.keras.layers.input_spec import check_inputs, shown_shape
from kcompile.keras.layers.stateless import stateless_call
from kcompile.keras.layers.weights import LayerConfig, LayerNodes, LayerWeights
from kcompile.keras.tracing import tree
from kcompile.keras.tracing.dtypes import is_float
from kcompile.keras.tracing.names import auto_name
from kcompile.keras.tracing.node import record
from kcompile.keras.tracing.scope import autocast, current_path, current_scope, name_scope, user_line
from kcompile.keras.tracing.tensor import KerasTensor, is_tensor
from kcompile.keras.tracing.trace import infer
from kcompile.keras.tracing.variable import Variable

# options of Keras's layers that none here has, and what to do instead
_UNSUPPORTED = {
    "quantization_config": " Integer weights are missing from kcompile: for less memory traffic use the dtype policy "
    "'mixed_bfloat16'.",
    "sparse": " Sparse tensors are missing from kcompile: the dense result is the default.",
    "ragged": " Ragged tensors are missing from kcompile: pad the rows and use a mask.",
    "lora_rank": " Dense, EinsumDense, Embedding and convolutions take it.",
}


class Layer(LayerWeights, LayerNodes, LayerConfig):
    """Base class of all layers.

    Args:
        activity_regularizer: penalty on the outputs, added to the loss.
        trainable: whether the weights take part in training.
        dtype: dtype or policy of computation and weights; default the global policy.
        name: default the class name in snake case, numbered.
        input_shape, input_dim, batch_input_shape, batch_size, weights: as in tf.keras 2, for first layers.

    >>> class Scale(Layer):
    ...     def build(self, input_shape):
    ...         self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones")
    ...     def call(self, x):
    ...         return x * self.scale
    >>> Scale()([[1.0, 2.0]]).numpy()
    array([[1., 2.]], dtype=float32)
    """

    plugin_group = "layers"
    calls_until_compiled = 8  # calls on arrays of one kind, see compiled_calls.py
    threads_of_calls: int | None = None
    is_interpreted = False  # whether NumPy shall run what is inside, see Model.compile

    def __init__(
        self,
        *,
        activity_regularizer=None,
        trainable: bool = True,
        dtype=None,
        autocast: bool = True,
        name: str | None = None,
        **kwargs,
    ):
        self._take_legacy_arguments(kwargs)
        if kwargs:
            known = [*constructor_parameters(type(self)), "input_shape", "weights"]
            raise ArgumentError(
                f"Unrecognized keyword arguments passed to {type(self).__name__}: {kwargs}"
                f"{'' if name is None else f' (layer {name!r})'}."
                f"{''.join(_UNSUPPORTED.get(k, suggestion(k, known)) for k in kwargs)} It takes: {', '.join(known)}"
            )
        self.name = name if name is not None else auto_name(type(self).__name__)
        if not isinstance(self.name, str) or "/" in self.name:
            raise ArgumentError(f"Argument `name` must be a string without '/'. Received: name={name!r}")
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.dtype_policy = dtype_policies.get(dtype)
        self.autocast = autocast
        self.supports_masking = type(self).compute_mask is not Layer.compute_mask
        self._trainable = bool(trainable)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls.build = _building(cls.build)

    # what subclasses write ------------------------------------------------------------------------

    def build(self, input_shape):
        """Make the weights. Subclasses override this; the default has none to make."""
        self.built = True

    def call(self, *args, **kwargs):
        """Compute the outputs with `keras.ops`. Subclasses override this."""
        raise NotImplementedError(f"Layer {type(self).__name__} does not have a `call()` method implemented.")

    def compute_mask(self, inputs, previous_mask):
        """Return the mask of the outputs; by default that of the inputs."""
        return previous_mask

    def compute_output_shape(self, *args, **kwargs):
        """Return the shape of the outputs for inputs of the given shape (None: unknown)."""
        args = [_symbolic_inputs(shape, self.compute_dtype) for shape in args]
        kwargs = {k.removesuffix("_shape"): _symbolic_inputs(s, self.compute_dtype) for k, s in kwargs.items()}
        if not self.built:
            self._build_for(args, kwargs)
        outputs = infer(self._compute, args, kwargs)
        return tree.map_structure(lambda t: t.shape, outputs)

    def compute_output_spec(self, *args, **kwargs):
        """Return KerasTensors like the outputs of `call` on these KerasTensors."""
        return infer(self._compute, args, kwargs)

    # calling --------------------------------------------------------------------------------------

    def __call__(self, *args, **kwargs):
        calls = self.__dict__.get("_compiled_calls")
        if calls is not None and current_scope() is None:
            found = calls(self, args, kwargs)
            if found is not NotImplemented:
                return found
        given = args, kwargs
        if (scope := current_scope()) is not None:
            args, kwargs = scope.enter_arguments(given)
        if not hasattr(self, "dtype_policy"):
            raise KcompileError(
                f"In layer {type(self).__name__}, you forgot to call `super().__init__()` as the first statement "
                "in the `__init__()` method."
            )
        compute_dtype = self.compute_dtype if self.autocast else None
        if args:
            first = calling.as_call_tensors(args[0], compute_dtype)
            args = (first, *calling.cast_tensors(list(args[1:]), compute_dtype))
            kwargs = calling.cast_tensors(kwargs, compute_dtype)
        else:
            kwargs = calling.as_call_tensors(kwargs, compute_dtype) if kwargs else kwargs
        inputs = args[0] if args else next((v for v in kwargs.values() if v is not None), None)
        check_inputs(self.input_spec, inputs, self.name)
        if not self.built:
            self._build_for(args, kwargs)
            check_inputs(self.input_spec, inputs, self.name)
        if any(isinstance(leaf, KerasTensor) for leaf in tree.flatten([list(args), kwargs])):
            outputs = infer(self._compute, args, kwargs)
            return record(self, args, kwargs, outputs)
        is_outermost = calling.current_call() is None
        if is_outermost:
            self._clear_losses()
        outputs = self._compute(*args, **kwargs)
        if is_outermost and current_scope() is None:
            outputs = calling.apart(outputs, [args, kwargs])
        if calls is None and current_scope() is None:
            calls = vars(self)["_compiled_calls"] = compiled_calls.calls_of(self)
            calls(self, *given)  # the first of its kind
        return outputs

    def _compute(self, *args, **kwargs):
        """Run `call` inside this layer's name, dtype and origin."""
        signature = calling.signature_of(type(self).call)
        training = self._training_for(signature, kwargs)
        inputs = args[0] if args else next(iter(kwargs.values()), None)
        previous_mask = calling.mask_of(inputs)
        if signature.has_mask:
            if kwargs.get("mask") is not None:
                previous_mask = kwargs["mask"]
            elif previous_mask is not None:
                kwargs["mask"] = previous_mask
        for argument, mask in calling.masks_by_name(signature, args, kwargs):
            kwargs[argument] = mask
        scope = current_scope()
        weights_dtype = self.compute_dtype if self.compute_dtype != self.variable_dtype else None
        with calling.Call(self, training), name_scope(self.name), autocast(weights_dtype):
            try:
                if scope is None or scope.abstract:
                    outputs = self.call(*args, **kwargs)
                else:
                    with scope.graph.origin(layer=current_path(), line=user_line()):
                        outputs = self.call(*args, **kwargs)
            except KcompileError as error:
                raise _located(error, self, inputs) from None
            if self.activity_regularizer is not None:
                self._add_activity_loss(outputs)
        if scope is not None:
            vars(self)["_called_shape"] = tree.map_structure(_shape_or_none, outputs)  # shown by `summary`
        if self.supports_masking:
            calling.set_mask(outputs, self.compute_mask(inputs, previous_mask))
        return outputs

    def _training_for(self, signature: calling.CallSignature, kwargs: dict) -> bool | None:
        """Resolve `training`: given, else that of the layer around, else the default of `call`."""
        training = kwargs.get("training")
        if training is None:
            around = calling.current_call()
            training = around.training if around is not None else None
        if training is None:
            training = signature.training_default
        if signature.has_training and training is not None:
            kwargs["training"] = training
        elif not signature.has_training and not signature.has_kwargs:
            kwargs.pop("training", None)
        return training

    def _build_for(self, args, kwargs) -> None:
        """Build from the shapes of the arguments."""
        shapes = _argument_shapes(self, args, kwargs)
        build = inspect.signature(self.build)
        taken = [p for p in build.parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        named = {f"{k}_shape": v for k, v in shapes.items()}
        if len(taken) > 1 and all(p.name in named or p.default is not p.empty for p in taken):
            self.build(**{p.name: named[p.name] for p in taken if p.name in named})
        else:
            calling.check_arguments(self, args, kwargs)
            self.build(next(iter(shapes.values()), None))
        self.built = True
        self._set_initial_weights()

    def read_by_calls(self, outermost: bool) -> dict[str, Any] | None:
        """The attributes that calls on arrays may depend on; None if Python must run the calls, see purity.py.

        outermost: whether it is this layer that is called, not one around it.
        """
        is_left = getattr(self, "runs_on_host", False) or getattr(self, "fixed_batch_size", None) is not None
        adds_losses = self._adds_losses or self.activity_regularizer is not None
        is_half = "bfloat16" in (self.compute_dtype, self.variable_dtype)
        return None if is_left or adds_losses or is_half else vars(self)

    def stateless_call(
        self, trainable_variables, non_trainable_variables, *args, return_losses: bool = False, **kwargs
    ) -> tuple:
        """Call the layer with these values of its variables; returns (outputs, new non-trainable values[, losses])."""

        def call():
            return self(*args, **kwargs)

        return stateless_call(self, call, trainable_variables, non_trainable_variables, return_losses)

    quantization_mode = None

    def quantize(self, mode=None, config=None, filters=None, **kwargs) -> None:
        """Missing: what Keras calls to turn weights into integers.

        Raises: NotSupportedError, always.
        """
        raise NotSupportedError(f"quantize({mode!r}) of {self.name!r} is missing from kcompile: {INTEGERS}.")

    # losses ---------------------------------------------------------------------------------------

    def add_loss(self, loss) -> None:
        """Add scalars to what training minimises; call it inside `call`.

        A function without arguments may be given anywhere: it is called whenever the losses are read.
        """
        scope = current_scope()
        for one in tree.flatten(loss):
            if callable(one) and not is_tensor(one):
                self._loss_functions.append(one)
                continue
            if not is_tensor(one) and not isinstance(one, (int, float)):
                raise ArgumentError(f"add_loss of layer {self.name!r} takes scalar tensors. Received: {one!r}")
            if scope is None and calling.current_call() is None and not self._building:
                raise ArgumentError(
                    f"add_loss of layer {self.name!r}: a value counts for the call it is computed in, so it is added "
                    "inside `build()` or `call()`. What depends on weights alone can be given as a function: "
                    f"`add_loss(lambda: ...)`. Received: {one!r}"
                )
            self._adds_losses = True
            if scope is None:
                self._losses.append(one)
            elif not scope.abstract:
                scope.add_loss(self._losses, one)

    def _add_activity_loss(self, outputs) -> None:
        for output in tree.flatten(outputs):
            if is_tensor(output):
                loss = self.activity_regularizer(output)
                batch = ops.shape(output)[0] if len(output.shape) else 1
                self.add_loss(ops.divide(loss, batch))

    def _clear_losses(self) -> None:
        scope = current_scope()
        for layer in self._flatten_layers():
            if scope is None:
                layer._losses.clear()
            else:
                scope.drop_losses(layer._losses)

    @property
    def losses(self) -> list:
        """Penalties of the last call (add_loss, activity) and of the weights' regularizers, as scalars."""
        found = [loss for layer in self._flatten_layers() for loss in layer._losses]
        return found + self.lasting_losses()

    def lasting_losses(self) -> list:
        """Penalties that come from the weights alone."""
        found = [loss() for layer in self._flatten_layers() for loss in layer._loss_functions]
        for variable in self.trainable_weights:
            if variable.regularizer is not None:
                found.append(ops.convert_to_tensor(variable.regularizer(variable)))
        return found

    # weights --------------------------------------------------------------------------------------

    def add_weight(
        self,
        *args,
        shape=None,
        initializer=None,
        dtype=None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer=None,
        constraint=None,
        aggregation: str = "none",
        overwrite_with_gradient: bool = False,
        name: str | None = None,
        **kwargs,
    ) -> Variable:
        """Make a weight. Default initializer: glorot_uniform for floats, zeros for the rest."""
        for given in args:  # tf.keras 2 takes (name, shape), Keras 3 (shape, initializer)
            if isinstance(given, str) and name is None and shape is None:
                name = given
            elif shape is None:
                shape = given
            elif initializer is None:
                initializer = given
            else:
                dtype = given
        dtype = dtype or self.variable_dtype
        if initializer is None:
            initializer = "glorot_uniform" if is_float(dtype) else "zeros"
        shape = () if shape is None else shape
        sizes = shape if isinstance(shape, (list, tuple)) else (shape,)
        if any(isinstance(s, str) or s is None for s in sizes):
            raise ArgumentError(f"add_weight of layer {self.name!r}: sizes must be integers. Received: shape={shape}")
        scope = name_scope(self.name) if not self._building else name_scope("", absolute=current_path())
        with scope:
            variable = Variable(
                initializers.get(initializer) if isinstance(initializer, (str, dict, type)) else initializer,
                shape=shape,
                dtype=dtype,
                trainable=trainable,
                autocast=autocast,
                aggregation=aggregation,
                name=name,
                regularizer=regularizers.get(regularizer),
                constraint=constraints.get(constraint),
            )
        variable.overwrite_with_gradient = overwrite_with_gradient
        if not self._trainable:
            variable.trainable = False
        self._weights.append(variable)
        return variable

    def add_variable(
        self,
        shape,
        initializer,
        dtype=None,
        trainable=True,
        autocast=True,
        regularizer=None,
        constraint=None,
        name=None,
    ) -> Variable:
        """`add_weight` under its older name."""
        given = {k: v for k, v in locals().items() if k != "self"}
        return self.add_weight(**given)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


def _building(build):
    """Wrap `build`: weights get the layer's name, and the shapes are remembered for saving."""

    @functools.wraps(build)
    def wrapped(self, *args, **kwargs):
        if self._building:  # super().build(...) of a subclass
            return build(self, *args, **kwargs)
        self._building = True
        try:
            with name_scope(self.name):
                build(self, *args, **kwargs)
        finally:
            self._building = False
        self.built = True
        self._remember_build(build, args, kwargs)

    return wrapped


def _located(error: KcompileError, layer: Layer, inputs: Any) -> KcompileError:
    """Add the layer and what it received to an error, once (the innermost layer)."""
    if getattr(error, "in_layer", False) or "\n  in  " in str(error):
        return error
    received = tree.map_structure(lambda t: shown_shape(t) if hasattr(t, "shape") else t, inputs)
    line = user_line()
    made = type(error)(
        f"{error}\n  in layer {layer.name!r} ({type(layer).__name__}){', called at ' + line if line else ''}"
        f"\n  received inputs of shape {received}"
    )
    made.in_layer = True
    return made


def _shape_or_none(output: Any) -> tuple | None:
    return shown_shape(output) if hasattr(output, "shape") else None


def _argument_shapes(layer: Layer, args, kwargs) -> dict[str, Any]:
    """Return argument name -> nested shapes, of the arguments that hold tensors."""
    names = calling.signature_of(type(layer).call).names
    named = {names[i] if i < len(names) else f"arg{i}": value for i, value in enumerate(args)}
    named.update(kwargs)
    return {
        name: _shapes(value)
        for name, value in named.items()
        if name not in ("training", "mask") and any(is_tensor(leaf) for leaf in tree.flatten(value))
    }


def _shapes(structure: Any) -> Any:
    if isinstance(structure, dict):
        return {k: _shapes(v) for k, v in structure.items()}
    if isinstance(structure, (list, tuple)):
        return [_shapes(v) for v in structure]
    return shown_shape(structure) if is_tensor(structure) else None


def _symbolic_inputs(shape: Any, dtype: str) -> Any:
    """Turn nested shapes into KerasTensors."""
    if isinstance(shape, dict):
        return {k: _symbolic_inputs(s, dtype) for k, s in shape.items()}
    if isinstance(shape, (list, tuple)) and shape and isinstance(shape[0], (list, tuple)):
        return [_symbolic_inputs(s, dtype) for s in shape]
    if isinstance(shape, (list, tuple)) and all(s is None or isinstance(s, (int, np.integer)) for s in shape):
        return KerasTensor(shape, dtype)
    return shape
