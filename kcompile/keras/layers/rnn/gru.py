"""GRU: gates in the order z (update), r (reset), h (candidate). Source: Cho et al. 2014."""

from __future__ import annotations

from kcompile.keras import ops
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.rnn.cells import GatedCell, zero_states
from kcompile.keras.layers.rnn.lstm import check_cudnn
from kcompile.keras.layers.rnn.rnn import LayerOfCell
from kcompile.keras.registry import register


@register
class GRUCell(GatedCell):
    """One step of GRU: h' = z h + (1 - z) tanh(x W + b + reset state U).

    With `reset_after` the reset gate acts on h U + b', which makes h U one product; else on h.
    Weights: kernel [n, 3 units], recurrent_kernel [units, 3 units], bias [2, 3 units] or [3 units].
    """

    gates = 3

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        dropout=0.0,
        recurrent_dropout=0.0,
        reset_after=True,
        seed=None,
        **kwargs,
    ):
        given = locals()
        self.implementation = kwargs.pop("implementation", 2)
        super().__init__(**kwargs)
        self.take(given)
        self.take_units(units)
        if self.recurrent_dropout != 0.0:
            self.implementation = 1
        self.dropout_mask_count = 3 if self.implementation == 1 else None
        self.reset_after = reset_after
        self.state_size = units

    def build(self, input_shape):
        wide = 3 * self.units
        self.add_weights((input_shape[-1], wide), (self.units, wide), (2, wide) if self.reset_after else (wide,))

    def call(self, inputs, states, training=False):
        several = isinstance(states, (list, tuple))
        h = states[0] if several else states
        mask, recurrent_mask = self.masks(inputs, h, training)
        bias, recurrent_bias = self.bias, None
        if bias is not None and self.reset_after:
            bias, recurrent_bias = self.bias[0], self.bias[1]
        x_z, x_r, x_h = self.per_gate(ops.matmul, inputs, self.kernel, mask, bias)
        if self.reset_after:
            u = self.per_gate(ops.matmul, h, self.recurrent_kernel, recurrent_mask, recurrent_bias)
            z, r = self.recurrent_activation(x_z + u[0]), self.recurrent_activation(x_r + u[1])
            candidate = r * u[2]
        else:
            h_z, h_r, h_h = (h * m for m in recurrent_mask) if recurrent_mask else (h, h, h)
            both, last = ops.split(self.recurrent_kernel, [2 * self.units], axis=-1)
            if recurrent_mask:
                u = [ops.matmul(x, k) for x, k in zip((h_z, h_r), ops.split(both, 2, axis=-1))]
            else:
                u = ops.split(ops.matmul(h, both), 2, axis=-1)
            z, r = self.recurrent_activation(x_z + u[0]), self.recurrent_activation(x_r + u[1])
            candidate = ops.matmul(r * h_h, last)
        new = z * h + (1 - z) * self.activation(x_h + candidate)
        return new, [new] if several else new

    def get_initial_state(self, batch_size=None):
        """Return zeros."""
        return [zero_states(self.units, batch_size, self.compute_dtype)]


@register
class GRU(LayerOfCell):
    """Gated recurrent units.

    Shapes:  [batch, time, n] -> [batch, units], or [batch, time, units] with `return_sequences`.
    """

    cell_class, cell_name = GRUCell, "gru_cell"

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
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
        unroll=False,
        reset_after=True,
        use_cudnn="auto",
        **kwargs,
    ):
        check_cudnn(use_cudnn)
        self.take(locals())
        self.input_spec = InputSpec(ndim=3)


@register
class CuDNNGRU(GRU):
    """tf.keras 2's name of the GRU for GPUs: GRU(reset_after=True), with its weights."""

    def __init__(
        self,
        units,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        kernel_regularizer=None,
        recurrent_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        recurrent_constraint=None,
        bias_constraint=None,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        **kwargs,
    ):
        given = {k: v for k, v in locals().items() if k not in ("self", "__class__", "kwargs")}
        super().__init__(**given, **kwargs)
