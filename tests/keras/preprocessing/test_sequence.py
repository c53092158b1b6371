"""keras.preprocessing.sequence: the numbers of the checklist (D-11), real Keras, windows in fit."""

import importlib
import itertools
import json

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, ShapeError
from kcompile.keras.preprocessing import sequence

RAGGED = [[1], [2, 3], [4, 5, 6]]


def test_padding():
    assert sequence.pad_sequences(RAGGED).tolist() == [[0, 0, 1], [0, 2, 3], [4, 5, 6]]
    assert sequence.pad_sequences(RAGGED, maxlen=2).tolist() == [[0, 1], [2, 3], [5, 6]]
    padded = sequence.pad_sequences(RAGGED, maxlen=2, padding="post", truncating="post", value=-1)
    assert padded.tolist() == [[1, -1], [2, 3], [4, 5]] and padded.dtype == np.int32
    assert keras.utils.pad_sequences is sequence.pad_sequences


ENDS = ("pre", "post")


@pytest.mark.parametrize("padding, truncating, maxlen", list(itertools.product(ENDS, ENDS, (None, 2, 5))))
def test_padding_against_keras(padding, truncating, maxlen, real_keras):
    given = [[[1, 2]], [], [[3, 4], [5, 6], [7, 8]]]
    arguments = {"maxlen": maxlen, "padding": padding, "truncating": truncating, "value": 9.5, "dtype": "float32"}
    expected = real_keras.utils.pad_sequences(given, **arguments)
    found = sequence.pad_sequences(given, **arguments)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_padding_text_and_nothing():
    found = sequence.pad_sequences([["a"], ["bb", "c"]], dtype=object, value="-")
    assert found.tolist() == [["-", "a"], ["bb", "c"]]
    assert sequence.pad_sequences([]).shape == (0, 0)
    assert sequence.pad_sequences([[1], [2]], maxlen=0).shape == (2, 0)


def test_padding_refuses():
    with pytest.raises(ArgumentError, match="truncating"):
        sequence.pad_sequences(RAGGED, truncating="middle")
    with pytest.raises(ArgumentError, match="non-iterable: 3"):
        sequence.pad_sequences([[1], 3])
    with pytest.raises(ShapeError, match="position 1"):
        sequence.pad_sequences([[[1, 2]], [[1, 2, 3]]])
    with pytest.raises(ArgumentError, match="not compatible"):
        sequence.pad_sequences([["a"]], value="x")


def test_sampling_table():
    expected = [0.00315225, 0.00315225, 0.00547597, 0.00741556, 0.00912817, 0.01068435]
    np.testing.assert_allclose(sequence.make_sampling_table(6), expected, atol=5e-9)
    assert sequence.make_sampling_table(100, sampling_factor=1.0).max() == 1.0


def test_skipgrams():
    couples, labels = sequence.skipgrams([1, 2, 3], 4, window_size=1, negative_samples=0, shuffle=False)
    assert couples == [[1, 2], [2, 1], [2, 3], [3, 2]] and labels == [1, 1, 1, 1]
    couples, _ = sequence.skipgrams([1, 0, 3], 4, window_size=2, negative_samples=0, shuffle=False)
    assert couples == [[1, 3], [3, 1]]


def test_skipgrams_negative():
    couples, labels = sequence.skipgrams(list(range(1, 9)), 50, window_size=2, negative_samples=1.5, seed=1)
    positive = labels.count(1)
    assert len(labels) == len(couples) == positive + int(positive * 1.5)
    assert all(1 <= w < 50 for pair in couples for w in pair)
    again = sequence.skipgrams(list(range(1, 9)), 50, window_size=2, negative_samples=1.5, seed=1)
    assert again == (couples, labels)
    _, categorical = sequence.skipgrams([1, 2], 4, categorical=True, shuffle=False)
    assert categorical == [[0, 1], [0, 1], [1, 0], [1, 0]]
    none, _ = sequence.skipgrams([1, 2, 3], 4, sampling_table=np.zeros(4), seed=0)
    assert none == []


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"sampling_rate": 2},
        {"stride": 3, "reverse": True},
        {"start_index": 2, "end_index": 15, "batch_size": 4},
    ],
)
def test_windows_against_keras(arguments, real_keras):
    theirs = importlib.import_module("keras._tf_keras.keras.preprocessing.sequence").TimeseriesGenerator
    data, targets = np.arange(40).reshape(20, 2), np.arange(20) * 10
    ours = sequence.TimeseriesGenerator(data, targets, length=5, **arguments)
    expected = theirs(data, targets, length=5, **arguments)
    assert len(ours) == len(expected)
    for index in range(len(ours)):
        for a, b in zip(ours[index], expected[index]):
            np.testing.assert_array_equal(a, b)
    config = json.loads(ours.to_json())["config"]
    assert config["length"] == 5 and json.loads(config["targets"]) == targets.tolist()


def test_windows_in_fit():
    series = np.sin(np.arange(60) / 3).astype("float32")[:, None]
    windows = sequence.TimeseriesGenerator(series, series, length=4, batch_size=8, shuffle=True)
    model = keras.Sequential([keras.Input((4, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    history = model.fit(windows, epochs=2, verbose=0)
    assert len(history.history["loss"]) == 2
    with pytest.raises(ArgumentError, match="no part of"):
        sequence.TimeseriesGenerator(series, series, length=60)
    with pytest.raises(ArgumentError, match="same length"):
        sequence.TimeseriesGenerator(series, series[:5], length=2)
