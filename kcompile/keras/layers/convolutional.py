"""Convolutions of any rank. A class says its rank and the defaults; `_Convolution` does the rest."""

from __future__ import annotations

from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import activations, config, constraints, initializers, ops, regularizers
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.layer import Layer
from kcompile.keras.layers.lora import LowRank
from kcompile.keras.ops.windows import per_axis
from kcompile.keras.registry import register


class _Windowed(Layer):
    """What all convolutions share: window, strides, padding, layout, activation, bias."""

    rank: int
    paddings = ("valid", "same")

    def _set_window(self, kernel_size, strides, padding, data_format, dilation_rate) -> None:
        self.kernel_size = per_axis(kernel_size, self.rank, "kernel_size")
        self.strides = per_axis(strides, self.rank, "strides")
        self.dilation_rate = per_axis(dilation_rate, self.rank, "dilation_rate")
        self.padding = str(padding).lower()
        if self.padding not in self.paddings:
            raise ArgumentError(f"The `padding` argument must be one of {self.paddings}. Received: padding={padding!r}")
        self.data_format = config.standardize_data_format(data_format)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ArgumentError(
                "`strides > 1` not supported in conjunction with `dilation_rate > 1`. Received: "
                f"strides={self.strides} and dilation_rate={self.dilation_rate}"
            )
        self.input_spec = InputSpec(min_ndim=self.rank + 2)

    @property
    def channel_axis(self) -> int:
        return 1 if self.data_format == "channels_first" else -1

    def channels_of(self, input_shape) -> int:
        """Return the number of input channels, and fix it from here on."""
        channels = input_shape[self.channel_axis]
        if channels is None:
            raise ShapeError(
                f'The channel dimension of the inputs to {type(self).__name__} layer "{self.name}" must be defined. '
                f"Found None. Full input shape received: {tuple(input_shape)}"
            )
        self.input_spec = InputSpec(min_ndim=self.rank + 2, axes={self.channel_axis: channels})
        return channels

    def with_bias(self, x):
        """Add the bias and apply the activation."""
        if self.bias is not None:
            ones = (1,) * self.rank
            shape = (1, -1, *ones) if self.data_format == "channels_first" else (1, *ones, -1)
            bias = self.bias if self.data_format == "channels_last" else ops.reshape(self.bias, shape)
            x = ops.add(x, bias)
        return self.activation(x)


class _Convolution(_Windowed, LowRank):
    """activation(convolve(x, kernel) + bias).

    Weights: kernel [*kernel_size, channels / groups, filters], bias [filters].
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
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
        self._take_rank(lora_rank, lora_alpha)
        if not isinstance(filters, int) or filters <= 0:
            raise ArgumentError(
                f"Invalid value for argument `filters`. Expected a strictly positive value. Received filters={filters}."
            )
        if not isinstance(groups, int) or groups <= 0 or filters % groups:
            raise ArgumentError(
                "The number of filters must be evenly divisible by the number of groups. Received: "
                f"groups={groups}, filters={filters}"
            )
        self.filters, self.groups = filters, groups
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build(self, input_shape):
        channels = self.channels_of(input_shape)
        if channels % self.groups:
            raise ShapeError(
                "The number of input channels must be evenly divisible by the number of groups. Received "
                f"groups={self.groups}, but the input has {channels} channels (full input shape is "
                f"{tuple(input_shape)})."
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=self.kernel_shape(channels),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self._adapt()

    def kernel_shape(self, channels: int) -> tuple[int, ...]:
        return (*self.kernel_size, channels // self.groups, self.filters)

    def convolution_op(self, inputs, kernel):
        """Convolve with `kernel`: what classes override that change kernels, such as to standardised ones."""
        return ops.conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )

    def call(self, inputs):
        return self.with_bias(self.convolution_op(inputs, self._adapted()))


@register(aliases=("Convolution1D",))
class Conv1D(_Convolution):
    """Convolution along time; padding `"causal"` looks only at the past.

    Shapes: [batch, time, channels] -> [batch, new time, filters].
    """

    rank = 1
    paddings = ("valid", "same", "causal")


@register(aliases=("Convolution2D",))
class Conv2D(_Convolution):
    """Convolution over images.

    Shapes: [batch, height, width, channels] -> [batch, new height, new width, filters].
    """

    rank = 2


@register(aliases=("Convolution3D",))
class Conv3D(_Convolution):
    """Convolution over volumes.

    Shapes: [batch, depth, height, width, channels] -> [batch, new sizes, filters].
    """

    rank = 3


class _TransposedConvolution(_Convolution):
    """The gradient of a convolution as a layer: strides make the output larger.

    Weights: kernel [*kernel_size, filters, channels], bias [filters].
    """

    adapted_name = ""

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        output_padding=None,
        data_format=None,
        dilation_rate=1,
        activation=None,
        use_bias=True,
        **kwargs,
    ):
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            activation=activation,
            use_bias=use_bias,
            **kwargs,
        )
        self.output_padding = output_padding if output_padding is None else _numbers(output_padding, self.rank)

    def kernel_shape(self, channels: int) -> tuple[int, ...]:
        return (*self.kernel_size, self.filters, channels)

    def call(self, inputs):
        x = ops.conv_transpose(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return self.with_bias(x)

    def get_config(self):
        config = super().get_config()
        config.pop("groups", None)
        return config


def _numbers(value, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


@register(aliases=("Convolution1DTranspose",))
class Conv1DTranspose(_TransposedConvolution):
    """Transposed convolution along time."""

    rank = 1


@register(aliases=("Convolution2DTranspose",))
class Conv2DTranspose(_TransposedConvolution):
    """Transposed convolution over images."""

    rank = 2


@register(aliases=("Convolution3DTranspose",))
class Conv3DTranspose(_TransposedConvolution):
    """Transposed convolution over volumes."""

    rank = 3


class _DepthwiseConvolution(_Windowed):
    """Each channel convolved with its own kernels.

    Weights: kernel [*kernel_size, channels, depth_multiplier], bias [channels · depth_multiplier].
    """

    def __init__(
        self,
        kernel_size,
        strides=1,
        padding="valid",
        depth_multiplier=1,
        data_format=None,
        dilation_rate=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.depth_multiplier = depth_multiplier
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.depthwise_constraint = constraints.get(depthwise_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build(self, input_shape):
        channels = self.channels_of(input_shape)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, channels, self.depth_multiplier),
            initializer=self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            constraint=self.depthwise_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(channels * self.depth_multiplier,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def call(self, inputs):
        x = ops.depthwise_conv(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return self.with_bias(x)


@register
class DepthwiseConv1D(_DepthwiseConvolution):
    """Depthwise convolution along time."""

    rank = 1


@register
class DepthwiseConv2D(_DepthwiseConvolution):
    """Depthwise convolution over images."""

    rank = 2


class _SeparableConvolution(_Windowed):
    """A depthwise convolution, then a 1-wide convolution that mixes the channels.

    Weights: depthwise_kernel [*kernel_size, channels, depth_multiplier],
    pointwise_kernel [1, ..., channels · depth_multiplier, filters], bias [filters].
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        depth_multiplier=1,
        activation=None,
        use_bias=True,
        depthwise_initializer="glorot_uniform",
        pointwise_initializer="glorot_uniform",
        bias_initializer="zeros",
        depthwise_regularizer=None,
        pointwise_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        depthwise_constraint=None,
        pointwise_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        for name, value in (("filters", filters), ("depth_multiplier", depth_multiplier)):
            if not isinstance(value, int) or value <= 0:
                raise ArgumentError(
                    f"Invalid value for argument `{name}`. Expected a strictly positive value. Received {name}={value}."
                )
        self.filters, self.depth_multiplier = filters, depth_multiplier
        self._set_window(kernel_size, strides, padding, data_format, dilation_rate)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.depthwise_initializer = initializers.get(depthwise_initializer)
        self.pointwise_initializer = initializers.get(pointwise_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.depthwise_regularizer = regularizers.get(depthwise_regularizer)
        self.pointwise_regularizer = regularizers.get(pointwise_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.depthwise_constraint = constraints.get(depthwise_constraint)
        self.pointwise_constraint = constraints.get(pointwise_constraint)
        self.bias_constraint = constraints.get(bias_constraint)

    def build(self, input_shape):
        channels = self.channels_of(input_shape)
        self.depthwise_kernel = self.add_weight(
            name="depthwise_kernel",
            shape=(*self.kernel_size, channels, self.depth_multiplier),
            initializer=self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            constraint=self.depthwise_constraint,
        )
        self.pointwise_kernel = self.add_weight(
            name="pointwise_kernel",
            shape=(*(1,) * self.rank, channels * self.depth_multiplier, self.filters),
            initializer=self.pointwise_initializer,
            regularizer=self.pointwise_regularizer,
            constraint=self.pointwise_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def call(self, inputs):
        x = ops.separable_conv(
            inputs,
            self.depthwise_kernel,
            self.pointwise_kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return self.with_bias(x)


@register(aliases=("SeparableConvolution1D",))
class SeparableConv1D(_SeparableConvolution):
    """Separable convolution along time."""

    rank = 1
    paddings = ("valid", "same", "causal")


@register(aliases=("SeparableConvolution2D",))
class SeparableConv2D(_SeparableConvolution):
    """Separable convolution over images."""

    rank = 2
