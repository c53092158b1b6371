"""IMDB: film reviews as word indices, with their verdict. Maas et al. 2011."""

from __future__ import annotations

import warnings

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras.datasets.reading import ORIGIN, fetch, marked, read_json, read_npz, shorter_than, vocabulary
from kcompile.keras.utils.files import get_file

_SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
_INDEX_MD5 = "bfafd718b763782e994055a2d397834f"


def load_data(
    path="imdb.npz",
    num_words=None,
    skip_top=0,
    maxlen=None,
    seed=113,
    start_char=1,
    oov_char=2,
    index_from=3,
    **kwargs,
) -> tuple:
    """Return `(x_train, y_train), (x_test, y_test)`: 25,000 and 25,000 reviews.

    Args:
        path: name in the cache, or an absolute path of a file at hand.
        num_words: keep the indices below this (words are numbered by how frequent they are).
        skip_top: leave out so many of the most frequent.
        maxlen: leave out reviews of this many words or more.
        seed: of the order of the reviews.
        start_char: put in front of every review.   oov_char: stands for words left out; None drops them.
        index_from: added to every index, to make room for the marks.

    Shapes: x [n] of lists of int, y [n] from 0 (bad) to 1 (good).
    """
    if "nb_words" in kwargs:
        warnings.warn("The `nb_words` argument in `load_data` has been renamed `num_words`.", stacklevel=2)
        num_words = kwargs.pop("nb_words")
    if kwargs:
        raise ArgumentError(f"Unrecognized keyword arguments: {sorted(kwargs)}")
    file = fetch(path, "imdb.npz", _SHA256)
    x_train, y_train, x_test, y_test = read_npz(file, ("x_train", "y_train", "x_test", "y_test"))
    rng = np.random.RandomState(seed)  # Keras's generator, so that a seed gives the same order
    parts = []
    for x, y in ((x_train, y_train), (x_test, y_test)):
        order = np.arange(len(x))
        rng.shuffle(order)
        texts, labels = marked(x[order], start_char, index_from), y[order]
        if maxlen:
            texts, labels = shorter_than(texts, labels, maxlen)
        parts.append((texts, labels))
    (train, y_train), (test, y_test) = parts
    x = vocabulary([*train, *test], num_words, skip_top, oov_char)
    return (x[: len(train)], y_train), (x[len(train) :], y_test)


def get_word_index(path: str = "imdb_word_index.json") -> dict[str, int]:
    """Return word -> index by frequency, from 1; in the data `index_from` is added."""
    return read_json(get_file(path, origin=ORIGIN + "imdb_word_index.json", file_hash=_INDEX_MD5))
