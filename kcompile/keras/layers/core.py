"""Dense, Activation, Embedding, Input and the layers that only rearrange."""

from __future__ import annotations

from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.keras import activations, config, constraints, initializers, ops, regularizers
from kcompile.keras.layers.calling import parameter_names
from kcompile.keras.layers.indices import index_error
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.layer import Layer
from kcompile.keras.layers.lora import LowRank
from kcompile.keras.ops.function import tensor
from kcompile.keras.ops.indexing import nearest_slices
from kcompile.keras.registry import register
from kcompile.keras.tracing.dtypes import is_float
from kcompile.keras.tracing.node import Node
from kcompile.keras.tracing.scope import current_scope
from kcompile.keras.tracing.tensor import KerasTensor


@register
class Dense(LowRank):
    """activation(x · kernel + bias) on the last axis.

    Shapes:  [..., n] -> [..., units].
    Weights: kernel [n, units], bias [units].

    >>> Dense(2, kernel_initializer="ones")([[1.0, 2.0]]).numpy()
    array([[3., 3.]], dtype=float32)
    """

    def __init__(
        self,
        units,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        lora_rank=None,
        lora_alpha=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if not isinstance(units, int) or units <= 0:
            raise ArgumentError(
                f"Received an invalid value for `units`, expected a positive integer. Received: units={units}"
            )
        self._take_rank(lora_rank, lora_alpha)
        self.units = units
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.input_spec = InputSpec(min_ndim=2)
        self.supports_masking = True

    def build(self, input_shape):
        width = input_shape[-1]
        if width is None:
            raise ShapeError(
                f'The last dimension of the inputs to Dense layer "{self.name}" must be defined. '
                f"Found None. Full input shape received: {tuple(input_shape)}"
            )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: width})
        self.kernel = self.add_weight(
            name="kernel",
            shape=(width, self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self._adapt()

    def call(self, inputs, training=None):
        x = ops.matmul(inputs, self._adapted())
        if self.bias is not None:
            x = ops.add(x, self.bias)
        return self.activation(x)


@register
class Activation(Layer):
    """An activation function as a layer."""

    def __init__(self, activation, **kwargs):
        super().__init__(**kwargs)
        self.activation = activations.get(activation)
        self.supports_masking = True

    def call(self, inputs):
        return self.activation(inputs)


@register
class Embedding(LowRank):
    """Rows of a table, looked up by integers.

    Shapes:  [...] integers in 0..input_dim-1 -> [..., output_dim].
    Weights: embeddings [input_dim, output_dim].
    """

    adapted_name = "embeddings"

    def __init__(
        self,
        input_dim,
        output_dim,
        embeddings_initializer="uniform",
        embeddings_regularizer=None,
        embeddings_constraint=None,
        mask_zero=False,
        weights=None,
        lora_rank=None,
        lora_alpha=None,
        **kwargs,
    ):
        length = kwargs.pop("input_length", None)
        if length is not None and "input_shape" not in kwargs and "batch_input_shape" not in kwargs:
            kwargs["input_shape"] = (length,)
        super().__init__(**kwargs)
        self._take_rank(lora_rank, lora_alpha)
        self.input_dim, self.output_dim = int(input_dim), int(output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        self.mask_zero = mask_zero
        self.autocast = False  # class numbers must not be rounded
        self.supports_masking = bool(mask_zero)
        self._initial_weights = weights if weights is None or isinstance(weights, (list, tuple)) else [weights]
        if self._batch_input_shape is None:
            self._implied_input_shape = (None, None)  # the rank is known: a Sequential can be shown at once

    def build(self, input_shape=None):
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
        )
        self._adapt()

    def call(self, inputs):
        scope = current_scope()
        is_checked = scope is not None and scope.limit_index(inputs, self.input_dim, self.name)
        if isinstance(inputs, np.ndarray) and inputs.size:
            if inputs.min() < 0 or inputs.max() >= self.input_dim:
                raise index_error(self.name, self.input_dim, inputs)
            is_checked = True
        rows = ops.cast(inputs, "int32")
        if is_checked:
            found = ops.convert_to_tensor(nearest_slices(tensor(self.embeddings), tensor(rows), 0))
        else:  # the program computes them: NaN where there is no row
            found = ops.take(self.embeddings, rows, axis=0)
        if not self.lora_enabled:
            return found
        on_top = ops.matmul(ops.take(self._lora[0], rows, axis=0), self._lora[1]) * (self.lora_alpha / self.lora_rank)
        return ops.add(found, ops.cast(on_top, ops.dtype(found)))

    def compute_mask(self, inputs, previous_mask=None):
        return ops.not_equal(inputs, 0) if self.mask_zero else None

    def get_config(self):
        config = super().get_config()
        config.pop("weights", None)
        config.pop("autocast", None)
        return config


@register
class ReversibleEmbedding(Embedding):
    """An Embedding that also goes back: called with `reverse=True`, vectors become scores of all rows.

    Shapes:  [...] integers -> [..., output_dim]; reversed: [..., output_dim] -> [..., input_dim].
    Weights: embeddings [input_dim, output_dim]; reverse_embeddings [output_dim, input_dim] unless tied.
    Args:
        tie_weights: the way back takes the same table.
        reverse_dtype: dtype of the product on the way back.
        logit_soft_cap: scores become c · tanh(score / c).
    """

    def __init__(
        self,
        input_dim,
        output_dim,
        tie_weights=True,
        embeddings_initializer="uniform",
        embeddings_regularizer=None,
        embeddings_constraint=None,
        mask_zero=False,
        reverse_dtype=None,
        logit_soft_cap=None,
        **kwargs,
    ):
        super().__init__(
            input_dim,
            output_dim,
            embeddings_initializer=embeddings_initializer,
            embeddings_regularizer=embeddings_regularizer,
            embeddings_constraint=embeddings_constraint,
            mask_zero=mask_zero,
            **kwargs,
        )
        self.tie_weights, self.reverse_dtype, self.logit_soft_cap = tie_weights, reverse_dtype, logit_soft_cap
        self.supports_masking = self._makes_mask = True  # `call` says which

    def build(self, input_shape=None):
        super().build(input_shape)
        if not self.tie_weights:
            self.reverse_embeddings = self.add_weight(
                name="reverse_embeddings",
                shape=(self.output_dim, self.input_dim),
                initializer=self.embeddings_initializer,
            )

    def call(self, inputs, reverse=False):
        if not reverse:
            return super().call(inputs)
        kernel = ops.transpose(self.embeddings) if self.tie_weights else self.reverse_embeddings
        kind = self.reverse_dtype or self.compute_dtype
        logits = ops.matmul(ops.cast(inputs, kind), ops.cast(kernel, kind))
        if self.logit_soft_cap is None:
            return logits
        return ops.tanh(logits / self.logit_soft_cap) * self.logit_soft_cap

    def compute_mask(self, inputs, previous_mask=None):
        is_reversed = is_float(ops.dtype(inputs))  # vectors, not numbers of rows
        return None if is_reversed else super().compute_mask(inputs, previous_mask)


@register
class Identity(Layer):
    """The inputs, unchanged."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        return inputs


@register
class Masking(Layer):
    """Zeros and a mask for timesteps whose features all equal `mask_value`."""

    def __init__(self, mask_value=0.0, **kwargs):
        super().__init__(**kwargs)
        self.mask_value = mask_value
        self.supports_masking = True

    def compute_mask(self, inputs, previous_mask=None):
        return ops.any(ops.not_equal(inputs, self.mask_value), axis=-1)

    def call(self, inputs):
        kept = ops.any(ops.not_equal(inputs, self.mask_value), axis=-1, keepdims=True)
        return inputs * ops.cast(kept, ops.dtype(inputs))


@register
class Lambda(Layer):
    """Any function of the inputs, written in keras.ops."""

    def __init__(self, function, output_shape=None, mask=None, arguments=None, **kwargs):
        super().__init__(**kwargs)
        if not callable(function):
            raise ArgumentError(f"Argument `function` must be a callable. Received: function={function!r}")
        self.function = function
        self.mask = mask
        self.arguments = arguments or {}
        self.supports_masking = mask is not None
        self._takes = [name for name in ("mask", "training") if name in parameter_names(function)]

    def call(self, inputs, mask=None, training=None):
        given = {"mask": mask, "training": training}
        return self.function(inputs, **self.arguments, **{name: given[name] for name in self._takes})

    def compute_mask(self, inputs, previous_mask=None):
        return self.mask(inputs, previous_mask) if callable(self.mask) else self.mask


@register
class InputLayer(Layer):
    """The entry of a model: its output is a symbolic tensor."""

    def __init__(
        self,
        shape=None,
        batch_size=None,
        dtype=None,
        sparse=None,
        ragged=None,
        batch_shape=None,
        input_tensor=None,
        optional=False,
        name=None,
        **kwargs,
    ):
        batch_shape = kwargs.pop("batch_input_shape", batch_shape)
        shape = kwargs.pop("input_shape", shape)
        super().__init__(name=name, **kwargs)
        for option, given, instead in (
            ("sparse", sparse, "pass a dense array, or class indices to an Embedding layer"),
            ("ragged", ragged, "pad the rows (keras.utils.pad_sequences) and use a Masking layer"),
        ):
            if given:
                raise NotSupportedError(
                    f"Input {self.name!r}: {option}=True: {option} tensors are not supported; {instead}"
                )
        if input_tensor is not None:
            batch_shape, dtype = input_tensor.shape, dtype or input_tensor.dtype
        if batch_shape is None:
            if shape is None:
                raise ArgumentError("You must pass a `shape` argument.")
            shape = (shape,) if isinstance(shape, int) else shape
            batch_shape = (batch_size, *shape)
        for size in batch_shape:
            if size is not None and (not isinstance(size, int) or size < 0):
                raise ArgumentError(
                    f"Cannot convert {tuple(batch_shape)!r} to a shape. Found invalid dimension {size!r}."
                )
        self.batch_shape = tuple(batch_shape)
        self._input_dtype = KerasTensor((), dtype or config.floatx()).dtype
        self.optional = optional
        tensor = input_tensor if isinstance(input_tensor, KerasTensor) else None
        if tensor is None:
            tensor = KerasTensor(self.batch_shape, self._input_dtype, name=self.name)
        Node(self, (), {}, tensor)
        self.built = True

    def call(self):
        return None

    @property
    def dtype(self) -> str:
        return self._input_dtype

    def get_config(self) -> dict[str, Any]:
        return {
            "batch_shape": self.batch_shape,
            "dtype": self._input_dtype,
            "sparse": False,
            "ragged": False,
            "name": self.name,
            "optional": self.optional,
        }


def Input(
    shape=None,
    batch_size=None,
    dtype=None,
    sparse=None,
    ragged=None,
    batch_shape=None,
    name=None,
    tensor=None,
    optional=False,
):
    """Return a symbolic tensor: the entry of a functional model.

    >>> Input((28, 28, 1)).shape
    (None, 28, 28, 1)
    """
    layer = InputLayer(
        shape=shape,
        batch_size=batch_size,
        dtype=dtype,
        sparse=sparse,
        ragged=ragged,
        batch_shape=batch_shape,
        input_tensor=tensor,
        name=name,
        optional=optional,
    )
    return layer.output
