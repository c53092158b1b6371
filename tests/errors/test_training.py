"""What a person is told who trains or runs a model with wrong data or arguments: where, expected, received."""

import subprocess
import sys

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import KcompileError
from kcompile.keras import layers, ops

X, Y = np.ones((6, 4), np.float32), np.zeros(6, np.int32)
SPARSE = "sparse_categorical_crossentropy"


def made(loss=SPARSE, **options):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax", name="out")], name="m")
    model.compile("adam", loss, **options)
    return model


@pytest.fixture(scope="module")
def model():
    return made()


@pytest.fixture(scope="module")
def two():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    model = keras.Model([a, b], layers.Dense(3)(layers.Add()([a, b])), name="two")
    model.compile("sgd", "mse")
    return model


def says(error, kinds, *parts):
    assert isinstance(error.value, KcompileError), type(error.value)
    assert isinstance(error.value, kinds), type(error.value)
    for part in parts:
        assert part in str(error.value)


# inputs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x, expected, found",
    [
        (np.ones((6, 5), np.float32), "(None, 4)", "(None, 5)"),
        (np.ones((6, 4, 2), np.float32), "(None, 4)", "(None, 4, 2)"),
        (np.ones(6, np.float32), "(None, 4)", "(None,)"),
    ],
)
def test_wrong_shapes_of_x(model, x, expected, found):
    for act in (
        lambda: model.fit(x, Y, verbose=0),
        lambda: model.evaluate(x, Y, verbose=0),
        lambda: model.predict(x, verbose=0),
        lambda: model.train_on_batch(x, Y),
        lambda: model.predict_on_batch(x),
    ):
        with pytest.raises(ValueError) as error:
            act()
        says(error, ValueError, f"expected shape={expected}", f"found shape={found}", "'m'")


@pytest.mark.parametrize(
    "x, parts",
    [
        (np.array([["a"] * 4] * 6), ["`x`", "<U1", "numbers"]),
        (np.array([[1, 2], [3]] * 3, dtype=object), ["`x`", "object", "pad_sequences"]),
        ([[1, 2], [3]] * 3, ["`x`", "differ in length", "pad_sequences"]),
        (np.ones((6, 4), complex), ["`x`", "complex128"]),
        (np.ones((6, 4), "datetime64[s]"), ["`x`", "datetime64"]),
        (np.full((6, 4), 2**40), ["`x`", "beyond 32 bits"]),
        (["a", "b"], ["`x`", "numbers"]),
    ],
)
def test_wrong_dtypes_of_x(model, x, parts):
    for act in (lambda: model.fit(x, Y, verbose=0), lambda: model.predict(x), lambda: model.predict_on_batch(x)):
        with pytest.raises(TypeError) as error:
            act()
        says(error, TypeError, *parts)


@pytest.mark.parametrize(
    "x, parts", [(None, ["`x`", "None"]), ("text", ["builtins.str"]), (np.float32(3), ["`x`", "batch axis"])]
)
def test_no_data_at_all(model, x, parts):
    with pytest.raises(ValueError) as error:
        model.fit(x, Y, verbose=0)
    says(error, ValueError, *parts)


def test_empty_arrays(model):
    for act in (
        lambda: model.fit(X[:0], Y[:0], verbose=0),
        lambda: model.evaluate(X[:0], Y[:0], verbose=0),
        lambda: model.predict(X[:0]),
        lambda: model.predict_on_batch(X[:0]),
        lambda: model.train_on_batch(X[:0], Y[:0]),
    ):
        with pytest.raises(ValueError) as error:
            act()
        says(error, ValueError, "at least one sample", "empty x")


@pytest.mark.parametrize("weights", [None, np.ones(4, np.float32)])
def test_unequal_lengths(model, weights):
    y = Y[:5] if weights is None else Y
    for act in (model.fit, model.evaluate):
        with pytest.raises(ValueError) as error:
            act(X, y, sample_weight=weights, verbose=0)
        says(error, ValueError, "cardinality", "'x' sizes: 6", f"'y' sizes: {len(y)}")
    with pytest.raises(ValueError, match="cardinality"):
        model.train_on_batch(X, y, sample_weight=weights)
    with pytest.raises(ValueError, match="cardinality"):
        model.fit(X, Y, validation_data=(X, Y[:2]), verbose=0)


def test_number_and_lengths_of_several_inputs(two, model):
    with pytest.raises(ValueError) as error:
        two.fit([X, X[:3]], X[:, :3], verbose=0)
    says(error, ValueError, "cardinality", "6, 3")
    with pytest.raises(ValueError) as error:
        two.predict([X], verbose=0)
    says(error, ValueError, "expects 2 input(s)", "1 input", "two")
    with pytest.raises(ValueError) as error:
        model.predict([X, X], verbose=0)
    says(error, ValueError, "expects 1 input(s)", "2 input", "'m'")


# labels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels, parts",
    [
        (np.full(6, np.nan), ["NaN"]),
        (np.array([0, 1, 2, 0, np.nan, 1]), ["NaN"]),
        (np.array([0, 1, 3, 0, 1, 2]), ["0 to 2", "[3]"]),
        (np.array([0, -1, 0, 0, 0, 0]), ["0 to 2", "[-1]"]),
        (np.array([0, 1, 2, 9, 0, 0], np.uint8), ["0 to 2", "[9]"]),
        (np.array([0.0, 1.0, 7.0, 1.0, 0.0, 0.0]), ["0 to 2", "7.0"]),
        (np.array([[0], [1], [2], [3], [0], [0]]), ["0 to 2", "[3]"]),
    ],
)
def test_labels_of_sparse_losses(model, labels, parts):
    before = model.get_weights()
    for act in (
        lambda: model.fit(X, labels, verbose=0),
        lambda: model.evaluate(X, labels, verbose=0),
        lambda: model.train_on_batch(X, labels),
        lambda: model.test_on_batch(X, labels),
        lambda: model.fit(iter([(X, labels)]), steps_per_epoch=1, verbose=0),
    ):
        with pytest.raises(ValueError) as error:
            act()
        says(error, ValueError, "'out'", SPARSE, *parts)
    for a, b in zip(before, model.get_weights()):  # nothing was trained on them
        np.testing.assert_array_equal(a, b)


def test_labels_of_validation_data(model):
    with pytest.raises(ValueError, match="from 0 to 2"):
        model.fit(X, Y, validation_data=(X, np.full(6, 5)), verbose=0)


def test_labels_are_checked_after_good_batches(model):
    """The quick path of equal batches looks at each of them."""
    model.train_on_batch(X, Y)
    model.train_on_batch(X, Y)
    with pytest.raises(ValueError, match="from 0 to 2"):
        model.train_on_batch(X, np.full(6, 3, np.int32))


@pytest.mark.parametrize(
    "loss, y, parts",
    [
        (SPARSE, np.zeros((6, 2), np.int32), ["y_true.shape=(batch, 2)", "categorical_crossentropy"]),
        ("categorical_crossentropy", Y, ["same shape", "sparse_categorical_crossentropy"]),
        ("categorical_crossentropy", np.ones((6, 2)), ["(batch, 2)", "(batch, 3)"]),
        ("mse", np.ones((6, 2)), ["(batch, 2)", "(batch, 3)", "'mse'", "'out'"]),
    ],
)
def test_targets_that_do_not_fit_the_loss(loss, y, parts):
    with pytest.raises(ValueError) as error:
        made(loss).fit(X, y, verbose=0)
    says(error, ValueError, *parts)


def test_missing_targets(model):
    for act in (lambda: model.fit(X, verbose=0), lambda: model.train_on_batch(X)):
        with pytest.raises(ValueError) as error:
            act()
        says(error, ValueError, "'m'", "no targets `y`")


# names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "act, parts",
    [
        (lambda: made("sparse_categorical_crosentropy"), ["Unknown loss", "Did you mean", SPARSE]),
        (lambda: made("mse").compile("adma", "mse"), ["Unknown optimizer: 'adma'", "Did you mean 'adam"]),
        (lambda: made(metrics=["acuracy"]), ["Unknown metric: 'acuracy'", "Did you mean 'accuracy'"]),
        (lambda: made(weighted_metrics={"out": ["mea"]}), ["Unknown metric: 'mea'", "Did you mean"]),
        (lambda: layers.Dense(3, activation="sigmiod"), ["Unknown activation", "Did you mean 'sigmoid'"]),
        (lambda: layers.Dense(3, kernel_regularizer="l4"), ["Unknown regularizer: 'l4'", "L2"]),
        (lambda: layers.Dense(3, kernel_initializer="he_normel"), ["Unknown initializer", "'he_normal'"]),
        (lambda: layers.Dense(3, unit=4), ["Dense", "'unit'", "units"]),
    ],
)
def test_unknown_names(act, parts):
    with pytest.raises(ValueError) as error:
        act()
    says(error, ValueError, *parts)


@pytest.mark.parametrize(
    "module, name, meant",
    [
        ("layers", "Dens", "Dense"),
        ("losses", "MeanSquaredEror", "MeanSquaredError"),
        ("optimizers", "Adamm", "Adam"),
        ("metrics", "Acuracy", "Accuracy"),
    ],
)
def test_unknown_attributes(module, name, meant):
    with pytest.raises(AttributeError) as error:
        getattr(getattr(keras, module), name)
    says(error, AttributeError, name, f"Did you mean {meant!r}")


# the wrong moment, the wrong argument --------------------------------------------------------------


def test_unbuilt_models():
    for model in (keras.Sequential([layers.Dense(1)], name="raw"), type("Mine", (keras.Model,), {})(name="raw")):
        with pytest.raises(KcompileError) as error:
            model.save_weights("raw.weights.h5")
        says(error, KcompileError, "raw", "not yet been built", "build(input_shape)")
        assert model.get_weights() == []  # as Keras: nothing is there yet
        with pytest.raises(ValueError):
            model.set_weights([np.ones((4, 1))])
    with pytest.raises(KcompileError, match="isn't built"):
        layers.Dense(1).count_params()


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_models_that_are_not_compiled(method):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    with pytest.raises(KcompileError, match=rf"`compile\(\)` before calling `{method}\(\)`"):
        getattr(model, method)(X, Y)
    assert model.predict(X, verbose=0).shape == (6, 3)  # predicting needs no loss


@pytest.mark.parametrize(
    "arguments, parts",
    [
        ({"validation_split": 1.5}, ["validation_split", "between 0 and 1", "1.5"]),
        ({"validation_split": -0.5}, ["validation_split", "between 0 and 1", "-0.5"]),
        ({"validation_split": "a"}, ["validation_split", "between 0 and 1", "a"]),
        ({"validation_split": 0.99}, ["6 samples", "not sufficient", "0.99"]),
        ({"batch_size": 0}, ["batch_size", "positive integer", "0"]),
        ({"batch_size": -3}, ["batch_size", "positive integer", "-3"]),
        ({"batch_size": 2.5}, ["batch_size", "positive integer", "2.5"]),
        ({"batch_size": "a"}, ["batch_size", "positive integer", "'a'"]),
        ({"epochs": "3"}, ["epochs", "integer", "'3'"]),
        ({"epochs": -1}, ["epochs", "at least 0", "-1"]),
        ({"callbacks": [3]}, ["callbacks", "int"]),
        ({"class_weight": {"a": 1.0}}, ["class_weight", "class indices", "'a'"]),
        ({"sample_weight": np.ones((6, 4), np.float32)}, ["sample_weight", "(batch, 4)", "'out'"]),
        ({"validation_data": (X,) * 4}, ["validation_data", "4 items"]),
        ({"validation_data": (X, Y), "validation_freq": "x"}, ["validation_freq", "'x'"]),
    ],
)
def test_arguments_of_fit(model, arguments, parts):
    with pytest.raises(ValueError) as error:
        model.fit(X, Y, **{"verbose": 0, **arguments})
    says(error, ValueError, *parts)


@pytest.mark.parametrize(
    "arguments, parts",
    [
        ({"num_threads": -2}, ["num_threads", "at least 1", "-2"]),
        ({"num_threads": 1.5}, ["num_threads", "1.5"]),
        ({"jit": "maybe"}, ["jit", "'maybe'"]),
        ({"unknown": 3}, ["unexpected arguments", "unknown"]),
        ({"sample_weight_mode": "timely"}, ["sample_weight_mode", "'timely'"]),
    ],
)
def test_arguments_of_compile(arguments, parts):
    with pytest.raises(ValueError) as error:
        made(**arguments)
    says(error, ValueError, *parts)


@pytest.mark.parametrize(
    "weights, parts",
    [
        ([np.ones((4, 3))], ["'m'", "length 1", "2 weights"]),
        ([np.ones((3, 4)), np.ones(3)], ["m", "(4, 3)", "(3, 4)", "out/kernel"]),
    ],
)
def test_weights_that_do_not_fit(model, weights, parts):
    with pytest.raises(ValueError) as error:
        model.set_weights(weights)
    says(error, ValueError, *parts)


# what a layer's call does ------------------------------------------------------------------------------


class Squash(layers.Layer):
    def call(self, x):
        return np.tanh(x)


class Branch(layers.Layer):
    def call(self, x):
        return x if ops.sum(x) > 0 else -x


class Scale(layers.Layer):
    def call(self, x):
        return x * float(ops.max(x))


class Loop(layers.Layer):
    def call(self, x):
        return sum(row for row in x)


@pytest.mark.parametrize(
    "layer, hint",
    [
        (Squash, "keras.ops instead of NumPy"),
        (Branch, "keras.ops.where"),
        (Scale, "float() and int()"),
        (Loop, "only known when the program runs"),
    ],
)
def test_layers_that_need_numbers_while_tracing(layer, hint):
    with pytest.raises(KcompileError) as error:
        keras.Sequential([keras.Input((4,)), layer(name="mine"), layers.Dense(3)])
    says(error, KcompileError, "'mine'", layer.__name__, hint, "test_training.py")


# nothing takes the process down --------------------------------------------------------------------

HOSTILE = """
import numpy as np
from kcompile import keras
model = keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Embedding(5, 3), keras.layers.Flatten(),
                          keras.layers.Dense(2, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
x, y = np.zeros((6, 4), np.int32), np.zeros(6, np.int32)
model.fit(x, y, verbose=0)
for rows in (np.full((6, 4), 5), np.full((6, 4), -1), np.full((6, 4), 2**31 - 1), np.zeros((6, 0)), np.zeros((0, 4))):
    for act in (model.predict, model.predict_on_batch, lambda r: model.fit(r, y, verbose=0)):
        try:
            print(np.isfinite(act(rows)).all())
        except ValueError as error:
            print(type(error).__name__)
print("alive", np.isfinite(model.predict(x, verbose=0)).all())
"""


def test_bad_indices_crash_nothing():
    done = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "alive True"
    assert set(done.stdout.split()[:-2]) <= {"ArgumentError", "ShapeError"}  # each was refused
