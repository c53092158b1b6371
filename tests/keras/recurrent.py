"""Small recurrent models, written once and built with either library (see zoo.py)."""

from __future__ import annotations

CLASSES = 3


def stacked_lstm(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None, 4)),
            layers.LSTM(5, return_sequences=True, kernel_regularizer="l2", recurrent_constraint="unit_norm"),
            layers.LSTM(3, activation="relu", recurrent_activation="hard_sigmoid", go_backwards=True),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def masked(keras):
    """Token ids of which 0 counts for nothing; the first layer's outputs carry the mask on."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(7, 4, mask_zero=True),
            layers.GRU(5, return_sequences=True, reset_after=False),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.SimpleRNN(4, use_bias=False),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def encoder_decoder(keras):
    """Final states of one layer are the first ones of another."""
    layers = keras.layers
    source, target = keras.Input((None, 3), name="source"), keras.Input((4, 2), name="target")
    _, h, c = layers.LSTM(5, return_state=True)(source)
    decoded = layers.LSTM(5, return_sequences=True)(target, initial_state=[h, c])
    _, *states = layers.Bidirectional(layers.GRU(4, return_state=True), merge_mode="sum")(source)
    both = layers.Bidirectional(layers.GRU(4), merge_mode="mul")(target, initial_state=states)
    joined = layers.Concatenate()([keras.ops.mean(decoded, axis=1), both])
    return keras.Model([source, target], layers.Dense(CLASSES, activation="softmax")(joined))


def cells(keras):
    layers = keras.layers
    stack = [layers.LSTMCell(4), layers.GRUCell(3), layers.SimpleRNNCell(5)]
    return keras.Sequential(
        [
            keras.Input((5, 3)),
            layers.RNN(stack, return_sequences=True),
            layers.LSTM(4, unroll=True),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def user_cell(keras):
    """Two states of different sizes, an output that is neither, and `training`."""

    class Cell(keras.layers.Layer):
        state_size = [4, 3]
        output_size = 2

        def build(self, input_shape):
            self.wide = self.add_weight(shape=(input_shape[-1] + 3, 4), name="wide")
            self.narrow = self.add_weight(shape=(4, 3), name="narrow")
            super().build(input_shape)

        def call(self, inputs, states, training=False):
            a, b = states
            a = 0.5 * a + keras.ops.tanh(keras.ops.matmul(keras.ops.concatenate([inputs, b], axis=-1), self.wide))
            b = keras.ops.sigmoid(keras.ops.matmul(a, self.narrow)) * (2.0 if training else 1.0)
            return a[:, 1:3] - keras.ops.sum(b, axis=-1, keepdims=True), [a, b]

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.RNN(Cell(), return_sequences=True),
            layers.RNN(Cell(), go_backwards=True),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def conv_lstm(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((3, 5, 4, 2)),
            layers.ConvLSTM2D(3, 3, padding="same", return_sequences=True),
            layers.ConvLSTM2D(2, (2, 3), strides=(2, 1), dilation_rate=1),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
