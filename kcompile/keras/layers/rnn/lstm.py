"""LSTM: gates in the order i, f, c, o. Source: Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras import ops
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.rnn.cells import LongShortTermCell, UnitForgetBias, zero_states
from kcompile.keras.layers.rnn.rnn import LayerOfCell
from kcompile.keras.registry import register


@register
class LSTMCell(LongShortTermCell):
    """One step of LSTM; states [h, c].

    c' = f c + i tanh(...),  h' = o tanh(c'),  with gates i, f, o = sigmoid(x W + b + h U).
    Weights: kernel [n, 4 units], recurrent_kernel [units, 4 units], bias [4 units].
    """

    def __init__(
        self,
        units,
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
        self.implementation = kwargs.pop("implementation", 2)
        super().__init__(**kwargs)
        self.take(given)
        self.take_units(units)
        if self.recurrent_dropout != 0.0:
            self.implementation = 1
        self.dropout_mask_count = 4 if self.implementation == 1 else None
        self.unit_forget_bias = unit_forget_bias
        self.state_size = [units, units]

    def build(self, input_shape):
        wide = 4 * self.units
        bias = UnitForgetBias(self.bias_initializer, self.units) if self.unit_forget_bias else None
        self.add_weights((input_shape[-1], wide), (self.units, wide), (wide,), bias)

    def call(self, inputs, states, training=False):
        h, c = states
        mask, recurrent_mask = self.masks(inputs, h, training)
        x = self.per_gate(ops.matmul, inputs, self.kernel, mask, self.bias)
        u = self.per_gate(ops.matmul, h, self.recurrent_kernel, recurrent_mask)
        return self.next_states([a + b for a, b in zip(x, u)], c)

    def get_initial_state(self, batch_size=None):
        """Return zeros."""
        return zero_states(self.state_size, batch_size, self.compute_dtype)


@register
class LSTM(LayerOfCell):
    """Long short-term memory.

    Shapes:  [batch, time, n] -> [batch, units], or [batch, time, units] with `return_sequences`.
    """

    cell_class, cell_name = LSTMCell, "lstm_cell"

    def __init__(
        self,
        units,
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
        unroll=False,
        use_cudnn="auto",
        **kwargs,
    ):
        check_cudnn(use_cudnn)
        self.take(locals())
        self.input_spec = InputSpec(ndim=3)


def check_cudnn(use_cudnn) -> None:
    """There is one implementation; the argument is checked, and has no effect."""
    if use_cudnn not in ("auto", True, False):
        raise ArgumentError(
            "Invalid valid received for argument `use_cudnn`. Expected one of {'auto', True, False}. "
            f"Received: use_cudnn={use_cudnn}"
        )


@register
class CuDNNLSTM(LSTM):
    """tf.keras 2's name of the LSTM for GPUs: LSTM as it is, with its weights."""

    def __init__(
        self,
        units,
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
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        **kwargs,
    ):
        given = {k: v for k, v in locals().items() if k not in ("self", "__class__", "kwargs")}
        super().__init__(**given, **kwargs)
