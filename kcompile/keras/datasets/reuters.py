"""Reuters: 11,228 newswires as word indices, of 46 topics. Lewis et al., Reuters-21578."""

from __future__ import annotations

import numpy as np

from kcompile.keras.datasets.reading import ORIGIN, fetch, marked, read_json, read_npz, shorter_than, vocabulary
from kcompile.keras.utils.files import get_file

_SHA256 = "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916"
_INDEX_MD5 = "4d44cc38712099c9e383dc6e5f11a921"
# the topics of Reuters-21578 in the order of the labels
_TOPICS = (
    "cocoa grain veg-oil earn acq wheat copper housing money-supply coffee sugar trade reserves ship cotton carcass "
    "crude nat-gas cpi money-fx interest gnp meal-feed alum oilseed gold tin strategic-metal livestock retail ipi "
    "iron-steel rubber heat jobs lei bop zinc orange pet-chem dlr gas silver wpi hog lead"
)


def load_data(
    path="reuters.npz",
    num_words=None,
    skip_top=0,
    maxlen=None,
    test_split=0.2,
    seed=113,
    start_char=1,
    oov_char=2,
    index_from=3,
) -> tuple:
    """Return `(x_train, y_train), (x_test, y_test)`; the arguments are those of `imdb.load_data`.

    Args:   test_split: share of the newswires that makes the test part.

    Shapes: x [n] of lists of int, y [n] from 0 to 45.
    """
    x, y = read_npz(fetch(path, "reuters.npz", _SHA256), ("x", "y"))
    order = np.arange(len(x))
    np.random.RandomState(seed).shuffle(order)  # Keras's generator, so that a seed gives the same order
    texts, labels = marked(x[order], start_char, index_from), y[order]
    if maxlen:
        texts, labels = shorter_than(texts, labels, maxlen)
    rows = vocabulary(texts, num_words, skip_top, oov_char)
    at = int(len(rows) * (1 - test_split))
    return (rows[:at], labels[:at]), (rows[at:], labels[at:])


def get_word_index(path: str = "reuters_word_index.json") -> dict[str, int]:
    """Return word -> index by frequency, from 1; in the data `index_from` is added."""
    return read_json(get_file(path, origin=ORIGIN + "reuters_word_index.json", file_hash=_INDEX_MD5))


def get_label_names() -> tuple[str, ...]:
    """Return the names of the 46 topics, in the order of the labels."""
    return tuple(_TOPICS.split())
