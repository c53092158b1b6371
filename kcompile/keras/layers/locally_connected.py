"""Locally connected layers: convolutions whose kernel differs from place to place."""

from __future__ import annotations

import itertools
import math

from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import activations, config, constraints, initializers, ops, regularizers
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.layer import Layer
from kcompile.keras.ops.windows import per_axis
from kcompile.keras.registry import register


class _LocallyConnected(Layer):
    """activation(Σ patch · kernel[place] + bias[place]).

    Weights: kernel [places, window · channels, filters], bias [*places, filters].
    """

    rank: int

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        implementation=1,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if str(padding).lower() != "valid":
            raise ArgumentError(
                f'Invalid border mode for {type(self).__name__} (only "valid" is supported): {padding!r}'
            )
        self.filters = int(filters)
        self.kernel_size = per_axis(kernel_size, self.rank, "kernel_size")
        self.strides = per_axis(strides, self.rank, "strides")
        self.padding = "valid"
        self.data_format = config.standardize_data_format(data_format)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.implementation = implementation  # ways of TensorFlow to compute the same; the kernel is that of 1
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.input_spec = InputSpec(ndim=self.rank + 2)

    def build(self, input_shape):
        first = self.data_format == "channels_first"
        channels = input_shape[1 if first else -1]
        sizes = input_shape[2:] if first else input_shape[1:-1]
        if channels is None or None in sizes:
            raise ShapeError(
                f"The spatial dimensions and the channels of the inputs to {type(self).__name__} should be fully "
                f"defined, but layer received an input with shape {tuple(input_shape)}"
            )
        self.places = tuple((n - k) // s + 1 for n, k, s in zip(sizes, self.kernel_size, self.strides))
        if min(self.places) < 1:
            raise ShapeError(f"{type(self).__name__}: a window of {self.kernel_size} does not fit into {tuple(sizes)}")
        self.input_spec = InputSpec(ndim=self.rank + 2, axes={1 if first else -1: channels})
        self.kernel = self.add_weight(
            name="kernel",
            shape=(math.prod(self.places), math.prod(self.kernel_size) * channels, self.filters),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(*self.places, self.filters),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def call(self, inputs):
        first = self.data_format == "channels_first"
        spatial = range(1, self.rank + 1)
        x = ops.transpose(inputs, (0, *(a + 1 for a in spatial), 1)) if first else inputs
        offsets = itertools.product(*(range(k) for k in self.kernel_size))
        windows = ops.stack([self._shifted(x, offset) for offset in offsets], axis=-1 if first else -2)
        batch = ops.shape(x)[0]  # rows of a kernel: window by channel, or channel by window for channels first
        patches = ops.reshape(windows, (batch, *self.kernel.shape[:2]))
        y = ops.einsum("bpk,pkf->bpf", patches, self.kernel)
        y = ops.reshape(y, (batch, *self.places, self.filters))
        if self.bias is not None:
            y = ops.add(y, self.bias)
        y = ops.transpose(y, (0, self.rank + 1, *spatial)) if first else y
        return self.activation(y)

    def _shifted(self, x, offset):
        """Return the element at `offset` of every window: [batch, *places, channels]."""
        cut = (slice(o, o + (n - 1) * s + 1, s) for o, n, s in zip(offset, self.places, self.strides))
        return x[(slice(None), *cut, slice(None))]


@register
class LocallyConnected1D(_LocallyConnected):
    """As Conv1D, with a kernel of its own for every timestep; the number of timesteps is fixed."""

    rank = 1


@register
class LocallyConnected2D(_LocallyConnected):
    """As Conv2D, with a kernel of its own for every pixel; the size of images is fixed."""

    rank = 2
