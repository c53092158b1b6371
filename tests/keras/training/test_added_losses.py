"""add_loss and activity regularizers in compiled steps: inside loops, branches, wrappers; against real Keras."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError

RNG = np.random.default_rng(0)
X, TARGET = RNG.standard_normal((8, 4, 3)).astype("f"), RNG.standard_normal((8, 2)).astype("f")


def penalty(k):
    """A layer that adds a mean: what it adds depends on how its rows are grouped."""

    class Penalty(k.layers.Layer):
        def call(self, x):
            self.add_loss(0.3 * k.ops.mean(k.ops.square(x)))
            return 2.0 * x

        def compute_output_shape(self, shape):
            return shape

    return Penalty()


def cell(k):
    class Cell(k.layers.Layer):
        def __init__(self):
            super().__init__()
            self.state_size = self.output_size = 2
            self.dense = k.layers.Dense(2, kernel_initializer="ones", activity_regularizer="l2")

        def build(self, shape):
            self.dense.build(shape)
            self.built = True

        def call(self, x, states):
            h = k.ops.tanh(self.dense(x) + states[0])
            self.add_loss(k.ops.mean(k.ops.square(h)))
            return h, [h]

    return Cell()


def ones(k, units=2, **options):
    return k.layers.Dense(units, kernel_initializer="ones", **options)


def recurrent(k, name, **options):
    options = {"kernel_initializer": "ones", "recurrent_initializer": "ones", **options}
    return getattr(k.layers, name)(2, activity_regularizer="l2", **options)


def inner(k):
    return k.Sequential([k.Input((3,)), ones(k, activity_regularizer="l2"), penalty(k)])


CASES = {
    "dense": lambda k: [ones(k, activity_regularizer="l1"), k.layers.Flatten()],
    "time_distributed": lambda k: [k.layers.TimeDistributed(penalty(k)), k.layers.Flatten()],
    "time_distributed_model": lambda k: [k.layers.TimeDistributed(inner(k)), k.layers.Flatten()],
    "time_distributed_dense": lambda k: [
        k.layers.TimeDistributed(ones(k, activity_regularizer="l2")),
        k.layers.Flatten(),
    ],
    "lstm_sequences": lambda k: [recurrent(k, "LSTM", return_sequences=True), k.layers.Flatten()],
    "gru_both_ways": lambda k: [k.layers.Bidirectional(recurrent(k, "GRU"))],
    # a loop that real Keras on JAX cannot take losses out of: there it is unrolled
    "cell": lambda k: [k.layers.RNN(cell(k), unroll=k is not keras)],
}


def losses(k, name):
    model = k.Sequential([k.Input((4, 3)), *CASES[name](k), ones(k)])
    model.compile(k.optimizers.SGD(0.01), "mse")
    found = [model.train_on_batch(X, TARGET) for _ in range(2)]
    found += model.fit(X, TARGET, batch_size=4, shuffle=False, verbose=0).history["loss"]
    found.append(model.evaluate(X, TARGET, batch_size=4, verbose=0))
    model(X)
    return np.array(found, float), float(sum(model.losses))


@pytest.mark.parametrize("name", CASES)
def test_against_keras(name, real_keras):
    (ours, eager), (theirs, wanted) = losses(keras, name), losses(real_keras, name)
    np.testing.assert_allclose(ours, theirs, rtol=2e-5)
    np.testing.assert_allclose(eager, wanted, rtol=2e-4)


def test_time_distributed_over_an_open_number_of_timesteps():
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.TimeDistributed(penalty(keras))])
    model.compile("sgd", "mse")
    for time in (4, 2):
        x = X[:, :time]
        wanted = np.mean(np.square(x)) + 0.3 * np.sum(np.mean(np.square(x), axis=(0, 2)))
        np.testing.assert_allclose(model.test_on_batch(x, x), wanted, rtol=1e-5)


def test_of_a_branch_only_what_was_taken():
    class Either(keras.layers.Layer):
        def call(self, x):
            def add(factor):
                self.add_loss(factor * keras.ops.mean(x))
                return factor * x

            return keras.ops.cond(keras.ops.sum(x) > 0, lambda: add(2.0), lambda: add(3.0))

    model = keras.Sequential([keras.Input((3,)), Either()])
    model.compile("sgd", "mse")
    for sign, factor in ((1.0, 2.0), (-1.0, 3.0)):
        x = sign * np.ones((2, 3), "f")
        assert model.test_on_batch(x, factor * x) == pytest.approx(sign * factor)


def test_what_depends_on_weights_alone():
    layer = keras.layers.Dense(2, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((3,)), layer])
    layer.add_loss(lambda: keras.ops.sum(layer.kernel))  # as in tf.keras 2: computed when it is asked for
    assert [float(v) for v in model.losses] == [6.0]
    model.compile(keras.optimizers.SGD(0.5), "mse")
    x = np.zeros((2, 3), "f")
    assert model.train_on_batch(x, np.zeros((2, 2), "f")) == 6.0
    np.testing.assert_array_equal(layer.kernel.numpy(), np.full((3, 2), 0.5, "f"))
    assert model.evaluate(x, np.zeros((2, 2), "f"), verbose=0) == 3.0


def test_outside_of_a_call_it_says_so():
    layer = penalty(keras)
    for loss in (0.5, np.ones(()), keras.ops.ones(())):
        with pytest.raises(ArgumentError, match=r"'penalty.*inside `build\(\)` or `call\(\)`"):
            layer.add_loss(loss)
    model = keras.Sequential([keras.Input((3,)), layer])
    with pytest.raises(ArgumentError, match="inside"):
        model.add_loss(0.5)


def test_no_number_is_refused_by_name():
    class Odd(keras.layers.Layer):
        def call(self, x):
            self.add_loss("mean")
            return x

    with pytest.raises(ArgumentError, match=r"add_loss.*'odd.*'mean'"):
        Odd()(X)


def test_weights_that_only_branches_read():
    """Each branch reads them as if it were the first; the gradient is that of the branch that counts."""

    class Sign(keras.layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight(name="w", shape=(input_shape[-1], 1), initializer="ones")

        def call(self, x):
            return keras.ops.cond(keras.ops.mean(x) > 0, lambda: x @ self.w, lambda: -2.0 * (x @ self.w))

    x = np.array([[1.0, 2.0]], "float32")
    for sign, expected in ((1, [[0.8], [0.6]]), (-1, [[0.6], [0.2]])):
        model = keras.Sequential([keras.Input((2,)), Sign()])
        model.compile(keras.optimizers.SGD(0.2), lambda y, found: found, jit=True)
        model.train_on_batch(sign * x, np.zeros((1, 1)))
        np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-6)
