"""What a person is told who calls a layer or builds a model in a wrong way."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.keras import Input, Model, Sequential, layers, ops

ONES = np.ones


def dense():
    layer = layers.Dense(10, name="head")
    layer.build((None, 128))
    return layer


@pytest.mark.parametrize(
    "act, kind, parts",
    [
        (
            lambda: dense()(ONES((32, 64))),
            ValueError,
            ['layer "head"', "expected axis -1", "value 128", "shape (32, 64)"],
        ),
        (lambda: dense()(ONES(5)), ValueError, ['layer "head"', "expected min_ndim=2, found ndim=1", "(5,)"]),
        (
            lambda: layers.Conv2D(2, 3, name="c")(ONES((4, 5))),
            ValueError,
            ['layer "c"', "expected min_ndim=4, found ndim=2", "(4, 5)"],
        ),
        (
            lambda: layers.Conv2D(2, 7, name="c")(ONES((1, 5, 5, 1))),
            ValueError,
            ["negative or zero", "(1, 5, 5, 1)", "layer 'c'"],
        ),
        (
            lambda: layers.Dense(2, name="d")(Input((None,))),
            ValueError,
            ["last dimension", 'layer "d"', "must be defined", "(None, None)"],
        ),
        (lambda: layers.Dense(0), ValueError, ["units", "positive integer", "0"]),
        (lambda: layers.Dense(2, activation="rellu"), ValueError, ["'rellu'", "Did you mean 'relu'"]),
        (lambda: layers.Dense(2, kernel_initializer="glorot"), ValueError, ["Unknown initializer: 'glorot'"]),
        (lambda: layers.Conv2D(4, 3, padding="sme"), ValueError, ["padding", "valid", "same", "'sme'"]),
        (lambda: layers.Conv2D(4, (3, 3, 3)), ValueError, ["kernel_size", "tuple of 2", "(3, 3, 3)"]),
        (lambda: layers.MaxPooling2D(data_format="last"), ValueError, ["data_format", "channels_last", "last"]),
        (lambda: layers.Dropout(1.5), ValueError, ["rate", "between 0 and 1", "1.5"]),
        (lambda: layers.Reshape((5,))(ONES((2, 4))), ValueError, ["total size", "(4,)", "(5,)"]),
        (lambda: layers.Permute((0, 1)), ValueError, ["dims", "start from 1", "(0, 1)"]),
        (
            lambda: layers.Add()([ONES((2, 3)), ONES((2, 4))]),
            ValueError,
            ["incompatible shapes", "(2, 3)", "(2, 4)"],
        ),
        (lambda: layers.Add()(ONES((2, 3))), ValueError, ["list of inputs"]),
        (lambda: layers.Subtract()([ONES((2, 3))] * 3), ValueError, ["exactly 2 inputs"]),
        (
            lambda: layers.Concatenate()([ONES((2, 3)), ONES((3, 3))]),
            ValueError,
            ["matching shapes except for the concatenation axis", "(2, 3)", "(3, 3)"],
        ),
        (lambda: layers.Dense(2)("text"), ValueError, ["should be tensors", "text"]),
        (lambda: layers.Dens, AttributeError, ["Dens", "Did you mean 'Dense'"]),
        (lambda: keras.Sequental, AttributeError, ["Sequental", "Did you mean 'Sequential'"]),
        (lambda: layers.Dense(2, name="d").count_params(), Exception, ["count_params", "'d'", "build"]),
        (lambda: Sequential()(ONES((2, 2))), Exception, ["no layers"]),
        (
            lambda: dense().set_weights([ONES((2, 2))]),
            ValueError,
            ["set_weights", "length 1", "expecting 2", "head"],
        ),
        (
            lambda: dense().set_weights([ONES((2, 10)), ONES(10)]),
            ValueError,
            ["head", "(128, 10)", "(2, 10)", "kernel"],
        ),
        (lambda: Model(Input((2,)), layers.Dense(2)(Input((2,)))), ValueError, ["not among the model's `inputs`"]),
        (lambda: Model(ONES(2), ONES(2)), ValueError, ["must be KerasTensors"]),
        (lambda: np.sin(Input((2,))), (ValueError, TypeError), []),
        (lambda: layers.Layer()(ONES((2, 2))), NotImplementedError, ["call()"]),
        (lambda: functional()(ONES((2, 5))), ValueError, ['layer "m"', "expected shape=(None, 4)", "(2, 5)"]),
        (lambda: functional()([ONES((2, 4))] * 2), ValueError, ['"m"', "expects 1 input", "received 2"]),
        (lambda: functional().get_layer("x"), ValueError, ["No such layer: x", "'d'"]),
        (lambda: ops.matmul(ONES((2, 3)), ONES((4, 2))), ValueError, ["(2, 3)", "(4, 2)"]),
        (lambda: ops.reshape(ONES(6), (4, -1)), ValueError, ["6 elements", "(4, -1)"]),
        (lambda: ops.add([[1, 2], [3]], 1), ValueError, []),
        (lambda: ops.sum(None), ValueError, ["None"]),
        (lambda: ops.cast(1, "float31"), TypeError, ["float31"]),
        (lambda: layers.Dense(2)([[1.0], [2.0, 3.0]]), ValueError, ["differ in length", "pad_sequences"]),
        (lambda: layers.MultiHeadAttention(2, 4, name="a")(ONES((1, 2, 3))), ValueError, ["'a'", "without `value`"]),
        (lambda: layers.Layer(name="n").add_weight(shape=(2, "a")), ValueError, ["'n'", "integers", "(2, 'a')"]),
        (lambda: keras.optimizers.Adam("0.1"), ValueError, ["learning_rate", "'0.1'"]),
    ],
)
def test_messages(act, kind, parts):
    with pytest.raises(kind) as caught:
        act()
    for part in parts:
        assert part in str(caught.value), str(caught.value)


def functional():
    x = Input((4,))
    return Model(x, layers.Dense(2, name="d")(x), name="m")


def test_an_error_inside_call_names_the_layer_and_the_line():
    class Wrong(layers.Layer):
        def call(self, x):
            return ops.matmul(x, ops.ones((7, 7)))

    with pytest.raises(ValueError, match=r"in layer 'wrong_here' \(Wrong\), called at test_layers.py:\d+") as caught:
        Wrong(name="wrong_here")(np.ones((2, 3)))
    assert "received inputs of shape (2, 3)" in str(caught.value)


def test_forgotten_super():
    class Forgets(layers.Layer):
        def __init__(self):
            self.units = 3

    with pytest.raises(Exception, match=r"forgot to call `super\(\).__init__\(\)`"):
        Forgets()(np.ones((2, 2)))
