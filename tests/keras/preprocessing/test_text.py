"""keras.preprocessing.text: the numbers of the checklist (D-11), hashing, Tokenizer to JSON and back, real Keras."""

import importlib
import json

import numpy as np
import pytest

from kcompile.errors import ArgumentError
from kcompile.keras.preprocessing import text

TEXTS = ["The cat sat on the mat.", "The dog ate my homework."]


def fitted(**kwargs):
    tokenizer = text.Tokenizer(**kwargs)
    tokenizer.fit_on_texts(TEXTS)
    return tokenizer


def test_words():
    assert text.text_to_word_sequence("The quick, brown fox! Isn't it?") == [
        "the",
        "quick",
        "brown",
        "fox",
        "isn't",
        "it",
    ]
    assert text.text_to_word_sequence("A-b;C", lower=False, split=";", filters="-") == ["A", "b", "C"]


def test_hashing():
    assert text.hashing_trick("the cat sat the", 10, hash_function="md5") == [6, 3, 1, 6]
    assert text.hashing_trick("aa b", 10, hash_function=len) == [3, 2]
    numbers = text.one_hot("one two one", 50)
    assert numbers[0] == numbers[2] and all(1 <= n < 50 for n in numbers)


def test_index():
    words = ("the", "cat", "sat", "on", "mat", "dog", "ate", "my", "homework")
    tokenizer = fitted(num_words=5)
    assert tokenizer.word_index == {w: i for i, w in enumerate(words, 1)}
    assert tokenizer.texts_to_sequences(TEXTS) == [[1, 2, 3, 4, 1], [1]]
    assert tokenizer.sequences_to_texts([[1, 2, 9]]) == ["the cat"]


def test_matrices():
    tokenizer = fitted(num_words=5)
    assert tokenizer.texts_to_matrix(TEXTS).tolist() == [[0, 1, 1, 1, 1], [0, 1, 0, 0, 0]]
    assert tokenizer.texts_to_matrix(TEXTS, "count")[0].tolist() == [0, 2, 1, 1, 1]
    np.testing.assert_allclose(tokenizer.texts_to_matrix(TEXTS, "freq")[0], [0, 0.4, 0.2, 0.2, 0.2])
    np.testing.assert_allclose(tokenizer.texts_to_matrix(TEXTS, "tfidf")[1], [0, 0.5108256, 0, 0, 0], atol=1e-7)
    with pytest.raises(ArgumentError, match="Unknown vectorization mode"):
        tokenizer.texts_to_matrix(TEXTS, "tf")
    with pytest.raises(ArgumentError, match="num_words"):
        text.Tokenizer().sequences_to_matrix([[1]])


def test_unknown_words():
    tokenizer = fitted(num_words=5, oov_token="<oov>")
    assert tokenizer.word_index["<oov>"] == 1
    assert tokenizer.texts_to_sequences(TEXTS) == [[2, 3, 4, 1, 2, 1], [2, 1, 1, 1, 1]]


def test_json_round_trip():
    tokenizer = fitted(num_words=6, oov_token="?")
    again = text.tokenizer_from_json(tokenizer.to_json())
    assert again.get_config() == tokenizer.get_config()
    np.testing.assert_array_equal(again.texts_to_matrix(TEXTS, "tfidf"), tokenizer.texts_to_matrix(TEXTS, "tfidf"))
    assert json.loads(tokenizer.to_json())["class_name"] == "Tokenizer"


@pytest.mark.parametrize(
    "arguments",
    [{}, {"num_words": 4}, {"oov_token": "x"}, {"char_level": True}, {"lower": False}, {"analyzer": str.split}],
)
def test_against_keras(arguments, real_keras):
    theirs = importlib.import_module("keras._tf_keras.keras.preprocessing.text").Tokenizer(**arguments)
    ours = text.Tokenizer(**arguments)
    more = [*TEXTS, "My cat, my dog; THE mat", ""]
    for tokenizer in (ours, theirs):
        tokenizer.fit_on_texts(more)
    assert ours.word_index == theirs.word_index
    assert ours.texts_to_sequences([*more, "a new cat"]) == theirs.texts_to_sequences([*more, "a new cat"])
    for mode in ("binary", "count", "tfidf"):
        np.testing.assert_allclose(ours.texts_to_matrix(more, mode), theirs.texts_to_matrix(more, mode))
    assert ours.sequences_to_texts([[1, 2, 3]]) == theirs.sequences_to_texts([[1, 2, 3]])
