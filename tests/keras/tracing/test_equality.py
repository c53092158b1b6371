"""`==` and `!=` compare numbers wherever code is traced, as they do where it runs; passes may compare values."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.keras import layers, ops
from kcompile.keras.tracing import trace

X = np.array([[0.0, 1.0, 2.0], [1.0, np.nan, 0.0]], "float32")


class Marks(layers.Layer):
    """0 where x is 0, 1 where it is 1, 2 elsewhere, 3 for NaN."""

    def build(self, input_shape):
        self.one = self.add_weight(name="one", shape=(), initializer="ones", trainable=False)

    def call(self, x):
        other = ops.logical_and(x != 0, self.one != x)
        return ops.where(x != x, 3.0, ops.where(other, 2.0, ops.cast(x == self.one, "float32")))


EXPECTED = [[0, 1, 2], [1, 3, 0]]


def sequential():
    return keras.Sequential([Marks()])


def functional():
    x = keras.Input((3,))
    return keras.Model(x, Marks()(x))


def subclassed():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.marks = Marks()

        def call(self, x):
            return self.marks(x)

    return Own()


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("make", [sequential, functional, subclassed])
def test_in_models(make, jit):
    model = make()
    model.compile(jit=jit)
    np.testing.assert_array_equal(model.predict(X, verbose=0), EXPECTED)
    np.testing.assert_array_equal(model(X), EXPECTED)


def test_in_losses_and_gradients():
    def loss(y_true, y_pred):
        return ops.where(y_true == 0, 0.0, 1.0) * ops.square(y_pred - y_true)

    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.5), loss, jit=True)
    assert model.train_on_batch(np.array([[3.0], [2.0]]), np.array([[0.0], [1.0]])) == 0.5
    np.testing.assert_allclose(model.get_weights()[0], [[0.0]], atol=1e-6)  # 1 - 0.5 * 2 * (2 - 1) * 2 / 2


def test_of_variables():
    v, w = keras.Variable([1.0, 2.0]), keras.Variable([1.0, 3.0])
    np.testing.assert_array_equal(v == w, [True, False])
    np.testing.assert_array_equal(v != [1.0, 5.0], [False, True])
    assert v != None and not (v == None)  # noqa: E711
    assert {v: 1, w: 2}[v] == 1


def test_of_bfloat16():
    x = ops.cast([1.0, 2.0], "bfloat16")
    np.testing.assert_array_equal(x == ops.cast([1.0, 3.0], "bfloat16"), [True, False])
    np.testing.assert_array_equal(x != 1.0, [False, True])


def test_of_symbolic_tensors_as_in_keras():
    x, y = keras.Input((3,)), keras.Input((3,))
    assert x == x and not (x == y)
    model = keras.Model(x, ops.cast(x != 0, "float32"))
    np.testing.assert_array_equal(model.predict(X, verbose=0), [[0, 1, 1], [1, 1, 0]])


def test_under_a_tape():
    x = ops.convert_to_tensor(np.array([0.0, 2.0], "float32"))
    with keras.GradientTape() as tape:
        tape.watch(x)
        same = x * 1 == 0
        y = ops.where(same, 5.0, 3.0) * x
    np.testing.assert_array_equal(tape.gradient(y, x), [5, 3])
    np.testing.assert_array_equal(y == 6, [False, True])


def test_once_traced_equal_values_are_the_same_ones():
    traced = trace(lambda given: given["x"] + given["x"] == 2.0, {"x": ((None, 3), "float32")})
    (value,) = traced.graph.outputs.values()
    assert value == value and value != value.node.inputs[0] and value in list(traced.graph.outputs.values())


def test_the_truth_of_a_comparison_is_unknown_while_tracing():
    class Wrong(layers.Layer):
        def call(self, x):
            return x if x == 0 else x + 1

    with pytest.raises(Exception, match="truth of a symbolic value"):
        keras.Sequential([Wrong()]).predict(X, verbose=0)
