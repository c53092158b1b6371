"""Text to numbers: splitting, hashing, and `Tokenizer`, which learns an index of words."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError

__all__ = ["Tokenizer", "hashing_trick", "one_hot", "text_to_word_sequence", "tokenizer_from_json"]

FILTERS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'


def text_to_word_sequence(input_text: str, filters: str = FILTERS, lower: bool = True, split: str = " ") -> list[str]:
    """Return the words of a text.

    Args:   filters: characters taken as gaps; the apostrophe is not among them.

    >>> text_to_word_sequence("The quick, brown fox! Isn't it?")
    ['the', 'quick', 'brown', 'fox', "isn't", 'it']
    """
    text = input_text.lower() if lower else input_text
    return [word for word in text.translate(str.maketrans(dict.fromkeys(filters, split))).split(split) if word]


def one_hot(
    input_text: str,
    n: int,
    filters: str = FILTERS,
    lower: bool = True,
    split: str = " ",
    analyzer: Callable | None = None,
) -> list[int]:
    """Return the words of a text as numbers from 1 to n - 1, by Python's hash: another in each process."""
    return hashing_trick(input_text, n, hash, filters, lower, split, analyzer)


def hashing_trick(
    text: str,
    n: int,
    hash_function: str | Callable[[str], int] | None = None,
    filters: str = FILTERS,
    lower: bool = True,
    split: str = " ",
    analyzer: Callable | None = None,
) -> list[int]:
    """Return the words of a text as numbers from 1 to n - 1; different words may share one.

    Args:   hash_function: a function, "md5" (the same everywhere and always), or None for Python's hash.

    >>> hashing_trick('the cat sat the', 10, hash_function='md5')
    [6, 3, 1, 6]
    """
    if hash_function is None:
        hash_function = hash
    elif hash_function == "md5":
        hash_function = _md5
    words = text_to_word_sequence(text, filters, lower, split) if analyzer is None else analyzer(text)
    return [hash_function(word) % (n - 1) + 1 for word in words]


def _md5(word: str) -> int:
    return int(hashlib.md5(word.encode(), usedforsecurity=False).hexdigest(), 16)


class Tokenizer:
    """Numbers for words, the most frequent first: learned by `fit_on_texts`, applied by `texts_to_*`.

    Args:
        num_words: use only words with an index below this; the full index is kept.
        filters, lower, split: as in `text_to_word_sequence`.
        char_level: take characters for words.
        oov_token: stands, with index 1, for words that have no number.
        analyzer: a function from a text to its words.

    Index 0 is no word. Texts may be given as lists of words.
    """

    def __init__(
        self,
        num_words=None,
        filters=FILTERS,
        lower=True,
        split=" ",
        char_level=False,
        oov_token=None,
        analyzer=None,
        **kwargs,
    ):
        self.document_count = kwargs.pop("document_count", 0)
        if kwargs:
            raise ArgumentError(f"Unrecognized keyword arguments: {sorted(kwargs)}")
        self.num_words = num_words
        self.filters = filters
        self.lower = lower
        self.split = split
        self.char_level = char_level
        self.oov_token = oov_token
        self.analyzer = analyzer
        self.word_counts: dict[str, int] = {}
        self.word_docs: dict[str, int] = Counter()  # word -> number of texts that hold it
        self.word_index: dict[str, int] = {}
        self.index_word: dict[int, str] = {}
        self.index_docs: dict[int, int] = Counter()

    def _words(self, text: Any) -> list[str]:
        if self.char_level or isinstance(text, (list, tuple)):
            if not self.lower:
                return list(text)
            return [word.lower() for word in text] if isinstance(text, (list, tuple)) else list(text.lower())
        if self.analyzer is not None:
            return self.analyzer(text)
        return text_to_word_sequence(text, self.filters, self.lower, self.split)

    def fit_on_texts(self, texts: Iterable[Any]) -> None:
        """Count words; may be called again with more texts."""
        for text in texts:
            self.document_count += 1
            words = self._words(text)
            for word in words:
                self.word_counts[word] = self.word_counts.get(word, 0) + 1
            for word in set(words):
                self.word_docs[word] += 1
        by_count = sorted(self.word_counts, key=lambda word: -self.word_counts[word])  # stable: first seen first
        known = [] if self.oov_token is None else [self.oov_token]
        self.word_index = {word: index for index, word in enumerate(known + by_count, 1)}
        self.index_word = {index: word for word, index in self.word_index.items()}
        for word, count in self.word_docs.items():
            self.index_docs[self.word_index[word]] = count

    def fit_on_sequences(self, sequences: Iterable[list[int]]) -> None:
        """Count in how many sequences each index occurs; needed for `sequences_to_matrix(mode="tfidf")`."""
        for sequence in sequences:
            self.document_count += 1
            for index in set(sequence):
                self.index_docs[index] += 1

    def texts_to_sequences(self, texts: Iterable[Any]) -> list[list[int]]:
        """Return texts as lists of indices; words without one are left out, or the `oov_token`."""
        return list(self.texts_to_sequences_generator(texts))

    def texts_to_sequences_generator(self, texts: Iterable[Any]) -> Iterator[list[int]]:
        """Yield `texts_to_sequences` one by one."""
        unknown = self.word_index.get(self.oov_token) if self.oov_token is not None else None
        for text in texts:
            found = (self._index_of(word, unknown) for word in self._words(text))
            yield [index for index in found if index is not None]

    def _index_of(self, word: str, unknown: int | None) -> int | None:
        index = self.word_index.get(word)
        if index is None or (self.num_words and index >= self.num_words):
            return unknown
        return index

    def sequences_to_texts(self, sequences: Iterable[Iterable[int]]) -> list[str]:
        """Return lists of indices as texts, words joined by blanks."""
        return list(self.sequences_to_texts_generator(sequences))

    def sequences_to_texts_generator(self, sequences: Iterable[Iterable[int]]) -> Iterator[str]:
        """Yield `sequences_to_texts` one by one."""
        for sequence in sequences:
            words = []
            for index in sequence:
                word = self.index_word.get(index)
                if word is None or (self.num_words and index >= self.num_words):
                    word = self.oov_token
                if word is not None:
                    words.append(word)
            yield " ".join(words)

    def texts_to_matrix(self, texts: Iterable[Any], mode: str = "binary") -> np.ndarray:
        """Return one row per text; see `sequences_to_matrix`."""
        return self.sequences_to_matrix(self.texts_to_sequences(texts), mode)

    def sequences_to_matrix(self, sequences: Iterable[list[int]], mode: str = "binary") -> np.ndarray:
        """Return one row per sequence with a column per index: [rows, num_words].

        Args:
            mode: "binary": occurs or not; "count": how often; "freq": count over length;
                "tfidf": (1 + ln count) · ln(1 + texts / (1 + texts with the word)).

        Raises: ArgumentError without `num_words` before fitting, or for another mode.
        """
        if mode not in ("binary", "count", "freq", "tfidf"):
            raise ArgumentError(f"Unknown vectorization mode: {mode!r}. Expected binary, count, freq or tfidf.")
        if not self.num_words and not self.word_index:
            raise ArgumentError("Specify a dimension (`num_words` argument), or fit on some text data first.")
        if mode == "tfidf" and not self.document_count:
            raise ArgumentError("Fit the Tokenizer on some data before using tfidf mode.")
        columns = self.num_words or len(self.word_index) + 1
        sequences = list(sequences)
        matrix = np.zeros((len(sequences), columns))
        for row, sequence in enumerate(sequences):
            for index, count in Counter(i for i in sequence if i < columns).items():
                matrix[row, index] = self._weight(index, count, len(sequence), mode)
        return matrix

    def _weight(self, index: int, count: int, length: int, mode: str) -> float:
        if mode == "binary":
            return 1.0
        if mode == "count":
            return count
        if mode == "freq":
            return count / length
        inverse = np.log(1 + self.document_count / (1 + self.index_docs.get(index, 0)))
        return (1 + np.log(count)) * inverse

    def get_config(self) -> dict[str, Any]:
        """Return arguments and counts as plain data, in Keras's layout: the dictionaries as JSON text."""
        config = {
            name: getattr(self, name)
            for name in ("num_words", "filters", "lower", "split", "char_level", "oov_token", "document_count")
        }
        for name in ("word_counts", "word_docs", "index_docs", "index_word", "word_index"):
            config[name] = json.dumps(getattr(self, name))
        return config

    def to_json(self, **kwargs) -> str:
        """Return the tokenizer as JSON text, which `tokenizer_from_json` reads."""
        return json.dumps({"class_name": type(self).__name__, "config": self.get_config()}, **kwargs)


def tokenizer_from_json(json_string: str) -> Tokenizer:
    """Return the tokenizer that `Tokenizer.to_json` wrote."""
    config = dict(json.loads(json_string)["config"])
    held = {
        name: json.loads(config.pop(name))
        for name in ("word_counts", "word_docs", "index_docs", "index_word", "word_index")
    }
    tokenizer = Tokenizer(**config)
    tokenizer.word_counts, tokenizer.word_index = held["word_counts"], held["word_index"]
    tokenizer.word_docs = Counter(held["word_docs"])
    tokenizer.index_docs = Counter({int(k): v for k, v in held["index_docs"].items()})  # JSON keys are text
    tokenizer.index_word = {int(k): v for k, v in held["index_word"].items()}
    return tokenizer
