"""Mistakes in training calls: each is an error that names what, where, expected and received."""

import math

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, DTypeError, KcompileError, NotSupportedError, ShapeError, UnknownNameError
from kcompile.keras import layers


def classifier(loss="sparse_categorical_crossentropy", **options):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax", name="kind")])
    model.compile("sgd", loss, jit=False, **options)
    return model


X = np.zeros((4, 4), "float32")


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, -1, 2, 1]])
def test_labels_out_of_range(labels):
    for call in (lambda m, y: m.fit(X, y, verbose=0), lambda m, y: m.train_on_batch(X, y)):
        with pytest.raises(ArgumentError, match=r"'kind'.*from 0 to 2, received"):
            call(classifier(), np.array(labels))


def test_labels_out_of_range_in_a_later_batch():
    model = classifier()
    model.train_on_batch(X, np.zeros(4, "int32"))
    with pytest.raises(ArgumentError, match="from 0 to 2"):
        model.train_on_batch(X, np.full(4, 3, "int32"))


def test_nan_labels():
    with pytest.raises(ArgumentError, match=r"'kind'.*NaN"):
        classifier().fit(X, np.array([0, 1, math.nan, 2]), verbose=0)


def test_wrong_rank_or_width_of_targets():
    with pytest.raises(ShapeError, match=r"one-hot(.|\n)*'kind'"):
        classifier().fit(X, np.eye(4)[:, :3], verbose=0)
    with pytest.raises(ShapeError, match=r"same shape(.|\n)*'kind'"):
        classifier("categorical_crossentropy").fit(X, np.zeros((4, 2)), verbose=0)


def test_wrong_inputs():
    with pytest.raises(KcompileError, match="4"):
        classifier().fit(np.zeros((4, 5)), np.zeros(4), verbose=0)
    with pytest.raises(KcompileError):
        classifier().predict(np.zeros((4, 2, 5)))
    with pytest.raises(DTypeError, match="expected numbers"):
        classifier().predict(np.array([["a", "b", "c", "d"]]))
    with pytest.raises(DTypeError, match="object"):
        classifier().predict(np.array([[1, 2], [3]], dtype=object))


def test_mismatched_and_empty_data():
    with pytest.raises(ArgumentError, match=r"'x' sizes: 4\n'y' sizes: 3"):
        classifier().fit(X, np.zeros(3), verbose=0)
    with pytest.raises(ArgumentError, match="empty"):
        classifier().fit(np.zeros((0, 4)), np.zeros(0), verbose=0)
    with pytest.raises(ArgumentError, match="empty"):
        classifier().predict(np.zeros((0, 4)))
    with pytest.raises(ArgumentError, match="no targets"):
        classifier().fit(X, verbose=0)
    with pytest.raises(ArgumentError, match="batch_size"):
        classifier().fit(X, np.zeros(4), batch_size=0)
    with pytest.raises(ArgumentError, match="not sufficient"):
        classifier().fit(X[:1], np.zeros(1), validation_split=0.5)


def test_unknown_names_among_known_ones():
    """As many targets as outputs, but not theirs: by position only where no name is that of an output."""
    inputs, y = keras.Input((4,)), np.zeros((4, 1))
    model = keras.Model(inputs, [layers.Dense(1, name="a")(inputs), layers.Dense(1, name="b")(inputs)])
    model.compile("sgd", "mse", jit=False)
    with pytest.raises(ArgumentError, match=r"`y` has the keys \['c'\].*\['a', 'b'\]"):
        model.fit(X, {"a": y, "c": y}, verbose=0)
    model.fit(X, {"first": y, "second": y}, verbose=0)


def test_generators_that_end_early():
    """What was trained stays, with a warning; without a first batch there is nothing to do."""
    data = [(X, np.zeros(4))]
    for source, steps in ((iter(data * 2), None), (iter(data * 2), 2)):
        with pytest.warns(UserWarning, match="ran out of data"):
            history = classifier().fit(source, epochs=3, steps_per_epoch=steps, verbose=0)
        assert history.epoch == [0]
    with pytest.raises(ArgumentError, match="no batches"), pytest.warns(UserWarning, match="ran out of data"):
        classifier().fit(iter([]), verbose=0)


def test_generators_take_no_targets_beside():
    with pytest.raises(ArgumentError, match="`x` gives it too"):
        classifier().fit(iter([(X, np.zeros(4))]), np.zeros(4))
    with pytest.raises(ArgumentError, match="validation_split"):
        classifier().fit(iter([(X, np.zeros(4))]), validation_split=0.5)


def test_not_compiled():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    for call in (lambda: model.fit(X, X), lambda: model.evaluate(X, X), lambda: model.train_on_batch(X, X)):
        with pytest.raises(KcompileError, match="compile"):
            call()
    assert model.optimizer is None


def test_unknown_names_are_reported_by_compile():
    with pytest.raises(UnknownNameError, match="Did you mean 'adam'"):
        classifier().compile("adm", "mse")
    with pytest.raises(UnknownNameError, match="Did you mean 'mean_squared_error'"):
        classifier().compile("adam", "mean_square_error")
    with pytest.raises(UnknownNameError, match="accurac"):
        classifier(metrics=["acuracy"]).fit(X, np.zeros(4), verbose=0)


def test_wrong_compile_arguments():
    with pytest.raises(NotSupportedError, match="target_tensors"):
        classifier(target_tensors=[1])
    with pytest.raises(ArgumentError, match="metrics"):
        classifier(metrics="accuracy")
    with pytest.raises(ArgumentError, match="unexpected"):
        classifier(quickly=True)
    two = keras.Input((4,))
    model = keras.Model(two, [layers.Dense(1, name="a")(two), layers.Dense(1, name="b")(two)])
    model.compile("sgd", {"a": "mse", "c": "mse"}, jit=False)
    with pytest.raises(ArgumentError, match=r"\['c'\].*\['a', 'b'\]"):
        model.fit(X, [np.zeros((4, 1))] * 2, verbose=0)


def test_embedding_indices_out_of_range():
    model = keras.Sequential([keras.Input((2,), dtype="int32"), layers.Embedding(5, 3, name="words"), layers.Flatten()])
    model.compile("sgd", "mse", jit=False)
    good, bad = np.array([[0, 4]]), np.array([[0, 5]])
    y = np.zeros((1, 6))
    model.fit(good, y, verbose=0)
    model.predict_on_batch(good.astype("int32"))
    for call in (
        lambda: model.fit(bad, y, verbose=0),
        lambda: model.predict(bad),
        lambda: model.predict_on_batch(bad.astype("int32")),
        lambda: model.train_on_batch(bad, y),
    ):
        with pytest.raises(ArgumentError, match="'words' expects indices from 0 to 4; received values from 0 to 5"):
            call()


def test_embedding_indices_are_checked_in_every_kind_of_model():
    table = layers.Embedding(5, 3, name="words")
    inputs = keras.Input((2,), dtype="int32")
    keras.Model(inputs, table(inputs))

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.table = table

        def call(self, x):
            return self.table(x["ids"])

    bad = np.array([[0, 5]], np.int32)
    with pytest.raises(ArgumentError, match="'words' expects indices from 0 to 4; received values from 0 to 5"):
        table(bad)
    with pytest.raises(ArgumentError, match="'words' expects indices from 0 to 4; received values from 0 to 5"):
        Own().predict({"ids": bad}, verbose=0)
    # of indices that the program computes: numbers out of range give NaN, as in Keras on JAX, and read nothing else
    found = keras.Model(inputs, table(inputs + 1)).predict(np.array([[3, 4], [-2, 90]]), verbose=0)
    rows = np.asarray(table.embeddings)
    np.testing.assert_array_equal(found[:, 0], rows[[4, -1]])
    assert np.isnan(found[:, 1]).all()


def test_what_is_no_data_is_named():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    for data in (memoryview(np.ones((2, 3), "f")), {1, 2}, b"abc"):
        with pytest.raises(ArgumentError, match="Unrecognized data type"):
            model.predict(data, verbose=0)
    inputs = keras.Input((3,))
    with pytest.raises(ArgumentError, match="`inputs` argument cannot be empty"):
        keras.Model(inputs=[], outputs=[])
    with pytest.raises(ArgumentError, match="`outputs` argument cannot be empty"):
        keras.Model(inputs=inputs, outputs=[])
