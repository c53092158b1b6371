"""ConvLSTM of rank 1 to 3: LSTM whose products are convolutions. Source: Shi et al. 2015, without peepholes."""

from __future__ import annotations

from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras import config, ops
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.rnn.cells import LongShortTermCell, UnitForgetBias
from kcompile.keras.layers.rnn.rnn import LayerOfCell
from kcompile.keras.ops.windows import per_axis
from kcompile.keras.registry import register


@register
class ConvLSTMCell(LongShortTermCell):
    """One step of ConvLSTM; states [h, c], both of the output's shape.

    Weights: kernel [*kernel_size, channels, 4 filters], recurrent_kernel [*kernel_size, filters, 4 filters],
             bias [4 filters].
    """

    dropout_mask_count = 4

    def __init__(
        self,
        rank,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        unit_forget_bias=True,
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        **kwargs,
    ):
        given = locals()
        kwargs.pop("implementation", None)
        super().__init__(**kwargs)
        self.take(given)
        self.rank, self.filters = rank, filters
        self.kernel_size = per_axis(kernel_size, rank, "kernel_size")
        self.strides = per_axis(strides, rank, "strides")
        self.dilation_rate = per_axis(dilation_rate, rank, "dilation_rate")
        self.padding = str(padding).lower()
        if self.padding not in ("valid", "same"):
            raise ArgumentError(f"The `padding` argument must be 'valid' or 'same'. Received: padding={padding!r}")
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ArgumentError(
                "Specifying `strides > 1` is not compatible with `dilation_rate > 1`. "
                f"Received: strides={self.strides} and dilation_rate={self.dilation_rate}"
            )
        self.data_format = config.standardize_data_format(data_format)
        self.unit_forget_bias = unit_forget_bias
        self.state_size = -1  # a shape, see get_initial_state

    @property
    def channel_axis(self) -> int:
        """The axis of the channels in one step."""
        return 1 if self.data_format == "channels_first" else self.rank + 1

    def build(self, inputs_shape, states_shape=None):
        spatial = [s for axis, s in enumerate(inputs_shape) if axis not in (0, self.channel_axis)]
        channels = inputs_shape[self.channel_axis]
        if None in spatial or channels is None:
            raise ShapeError(
                "ConvLSTM layers only support static input shapes for the spatial dimension and the channels. "
                f"Received invalid input shape: input_shape={inputs_shape}"
            )
        self.spatial_dims = tuple(self._reduced(*one) for one in zip(spatial, range(self.rank)))
        wide = 4 * self.filters
        bias = UnitForgetBias(self.bias_initializer, self.filters) if self.unit_forget_bias else None
        self.add_weights((*self.kernel_size, channels, wide), (*self.kernel_size, self.filters, wide), (wide,), bias)

    def _reduced(self, size: int, axis: int) -> int:
        """The size of the states along a spatial axis."""
        reach = (self.kernel_size[axis] - 1) * self.dilation_rate[axis]
        room = size - reach if self.padding == "valid" else size
        return -(-room // self.strides[axis])

    def call(self, inputs, states, training=False):
        h, c = states
        mask, recurrent_mask = self.masks(inputs, h, training)
        x = self.per_gate(self._input_conv, inputs, self.kernel, mask, self.bias, self.channel_axis)
        u = self.per_gate(self._recurrent_conv, h, self.recurrent_kernel, recurrent_mask, axis=self.channel_axis)
        return self.next_states([a + b for a, b in zip(x, u)], c)

    def aligned(self, bias):
        """The bias with its numbers along the channels."""
        shape = [1] * (self.rank + 2)
        shape[self.channel_axis] = -1
        return ops.reshape(bias, shape)

    def _input_conv(self, x, kernel):
        return ops.conv(x, kernel, self.strides, self.padding, self.data_format, self.dilation_rate)

    def _recurrent_conv(self, h, kernel):
        return ops.conv(h, kernel, 1, "same", self.data_format)

    def get_initial_state(self, batch_size=None):
        """Return zeros."""
        first = self.data_format == "channels_first"
        shape = (self.filters, *self.spatial_dims) if first else (*self.spatial_dims, self.filters)
        return [ops.zeros((batch_size, *shape), dtype=self.compute_dtype) for _ in range(2)]


class _ConvLSTM(LayerOfCell):
    """Shapes: [batch, time, ..., channels] -> [batch, ..., filters], with time if `return_sequences`."""

    cell_class, cell_name = ConvLSTMCell, "conv_lstm_cell"
    rank: int

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        unit_forget_bias=True,
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        seed=None,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        **kwargs,
    ):
        self.take({**locals(), "rank": self.rank})
        self.input_spec = InputSpec(ndim=self.rank + 3)

    def compute_mask(self, inputs, previous_mask):
        found = super().compute_mask(inputs, previous_mask)
        return [found[0], None, None] if self.return_state else found

    def get_config(self):
        found = super().get_config()
        found.pop("rank")
        return found


@register
class ConvLSTM1D(_ConvLSTM):
    """ConvLSTM over sequences of sequences."""

    rank = 1


@register
class ConvLSTM2D(_ConvLSTM):
    """ConvLSTM over sequences of images."""

    rank = 2


@register
class ConvLSTM3D(_ConvLSTM):
    """ConvLSTM over sequences of volumes."""

    rank = 3
