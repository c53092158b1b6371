"""SimpleRNN: h' = activation(x W + b + h U)."""

from __future__ import annotations

from kcompile.keras import ops
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.rnn.cells import GatedCell, zero_states
from kcompile.keras.layers.rnn.rnn import LayerOfCell
from kcompile.keras.registry import register


@register
class SimpleRNNCell(GatedCell):
    """One step of SimpleRNN.

    Weights: kernel [n, units], recurrent_kernel [units, units], bias [units].
    """

    def __init__(
        self,
        units,
        activation="tanh",
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
        seed=None,
        **kwargs,
    ):
        given = locals()
        kwargs.pop("implementation", None)
        super().__init__(**kwargs)
        self.take(given)
        self.take_units(units)
        self.state_size = units

    def build(self, input_shape):
        self.add_weights((input_shape[-1], self.units), (self.units, self.units), (self.units,))

    def call(self, sequence, states, training=False):
        several = isinstance(states, (list, tuple))
        h = states[0] if several else states
        if training and self.dropout > 0:
            sequence = sequence * self.get_dropout_mask(sequence)
        if training and self.recurrent_dropout > 0:
            h = h * self.get_recurrent_dropout_mask(h)
        x = ops.matmul(sequence, self.kernel)
        if self.bias is not None:
            x = ops.add(x, self.bias)
        output = self.activation(x + ops.matmul(h, self.recurrent_kernel))
        return output, [output] if several else output

    def get_initial_state(self, batch_size=None):
        """Return zeros."""
        return [zero_states(self.units, batch_size, self.compute_dtype)]


@register
class SimpleRNN(LayerOfCell):
    """The output is fed back as a second input.

    Shapes:  [batch, time, n] -> [batch, units], or [batch, time, units] with `return_sequences`.
    """

    cell_class, cell_name = SimpleRNNCell, "simple_rnn_cell"

    def __init__(
        self,
        units,
        activation="tanh",
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
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        seed=None,
        **kwargs,
    ):
        self.take(locals())
        self.input_spec = InputSpec(ndim=3)
