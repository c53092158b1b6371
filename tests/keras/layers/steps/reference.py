"""Layers written by a user, and what stands for layers that Keras 3 has no more; built with either library."""

from __future__ import annotations

from itertools import product


def user_layer(keras, x):
    """Two weights, one of them never trained, and a loss of its own."""

    class Mixed(keras.layers.Layer):
        def build(self, input_shape):
            self.gain = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gain")
            self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False, name="seen")

        def call(self, x):
            self.add_loss(0.1 * keras.ops.sum(self.gain**2))
            self.seen.assign(self.seen + keras.ops.mean(x))
            return x * self.gain - keras.ops.mean(x, axis=-1, keepdims=True)

    return Mixed()(x)


def masked_softmax(keras, x, kept):
    """The product ends the mask, which has as many axes as the output: no loss could count it."""
    return 1.0 * keras.layers.Softmax()(x, mask=keras.ops.cast(kept, "bool"))


def frozen_batch_normalization(keras, x):
    layer = keras.layers.BatchNormalization()
    layer.trainable = False
    return layer(x)


def stacked_cells(keras, x):
    layers = keras.layers
    stack = layers.StackedRNNCells([layers.LSTMCell(3), layers.GRUCell(4), layers.SimpleRNNCell(2)])
    return layers.RNN(stack, return_sequences=True, return_state=True)(x)


def user_cell(keras, x):
    """A cell of two states; AbstractRNNCell where it is (tf.keras 2), else a layer."""
    base = getattr(keras.layers, "AbstractRNNCell", keras.layers.Layer)

    class Cell(base):
        state_size = [4, 3]
        output_size = 2

        def build(self, input_shape):
            self.wide = self.add_weight(shape=(input_shape[-1] + 3, 4), name="wide")
            self.narrow = self.add_weight(shape=(4, 3), name="narrow")

        def call(self, inputs, states, training=False):
            a, b = states
            a = 0.5 * a + keras.ops.tanh(keras.ops.matmul(keras.ops.concatenate([inputs, b], axis=-1), self.wide))
            b = keras.ops.sigmoid(keras.ops.matmul(a, self.narrow))
            return a[:, 1:3] - keras.ops.sum(b, axis=-1, keepdims=True), [a, b]

    return keras.layers.RNN(Cell(), return_sequences=True)(x)


def wrapper(keras, x):
    class Doubled(keras.layers.Wrapper):
        def call(self, inputs):
            return 2.0 * self.layer(inputs)

    return Doubled(keras.layers.Dense(3))(x)


def locally_connected(keras, filters: int, sizes: tuple[int, ...], strides: tuple[int, ...]):
    """Return the layer of tf.keras 2, tanh of a product per place, written with slices."""
    ops = keras.ops

    class Local(keras.layers.Layer):
        def build(self, shape):
            places = [(n - k) // s + 1 for n, k, s in zip(shape[1:-1], sizes, strides)]
            self.places = list(product(*map(range, places)))
            self.grid = (*places, filters)
            count = shape[-1]
            for k in sizes:
                count *= k
            self.kernel = self.add_weight(shape=(len(self.places), count, filters), name="kernel")
            self.bias = self.add_weight(shape=self.grid, name="bias")

        def call(self, x):
            cut = []
            for place in self.places:
                window = tuple(slice(p * s, p * s + k) for p, s, k in zip(place, strides, sizes))
                cut.append(ops.reshape(x[(slice(None), *window)], (-1, self.kernel.shape[1])))
            made = ops.einsum("pbk,pkf->bpf", ops.stack(cut), self.kernel)
            return ops.tanh(ops.reshape(made, (-1, *self.grid)) + self.bias)

    return Local()
