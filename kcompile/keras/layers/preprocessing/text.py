"""TextVectorization: texts to indices of their words, or to counts of them."""

from __future__ import annotations

import itertools
import re
import string
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.keras import config
from kcompile.keras.layers.preprocessing.encoding import check_output_mode
from kcompile.keras.layers.preprocessing.host import HostLayer, batches_of, strings
from kcompile.keras.layers.preprocessing.lookup import StringLookup
from kcompile.keras.layers.preprocessing.vocabulary import MODES
from kcompile.keras.registry import register
from kcompile.keras.tracing.tensor import KerasTensor

_PUNCTUATION = re.compile(r"""[!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']""")
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_STANDARDIZE = (None, "lower_and_strip_punctuation", "lower", "strip_punctuation")
_SPLIT = (None, "whitespace", "character")


@register
class TextVectorization(HostLayer):
    """Texts as indices of words (0: padding, 1: unknown), or as vectors of which and how many words occur.

    Args:
        standardize, split: a name, None, or a function of an array of strings (split: to lists of tokens).
        ngrams: also runs of up to so many tokens (an int), or of just these lengths (a tuple).
        output_sequence_length: cut or pad to it; None: pad to the longest text of a call.

    >>> layer = TextVectorization(vocabulary=["earth", "wind"])
    >>> layer(["Wind and earth!", "wind"]).numpy().tolist()
    [[3, 1, 2], [3, 0, 0]]
    """

    def __init__(
        self,
        max_tokens=None,
        standardize="lower_and_strip_punctuation",
        split="whitespace",
        ngrams=None,
        output_mode="int",
        output_sequence_length=None,
        pad_to_max_tokens=False,
        vocabulary=None,
        idf_weights=None,
        sparse=False,
        ragged=False,
        encoding="utf-8",
        name=None,
        **kwargs,
    ):
        kwargs.pop("vocabulary_size", None)
        super().__init__(name=name, **kwargs)
        for what, value, known in (("standardize", standardize, _STANDARDIZE), ("split", split, _SPLIT)):
            if not callable(value) and value not in known:
                raise ArgumentError(f"Unknown `{what}`: expected one of {known} or a function. Received: {value!r}")
        if ragged:
            raise NotSupportedError(
                f"TextVectorization(ragged=True) of layer {self.name!r}: ragged tensors are not supported; leave it "
                "out: shorter texts are padded with 0, which Embedding(mask_zero=True) masks"
            )
        self.output_mode = check_output_mode(output_mode, MODES, sparse, self)
        if output_sequence_length is not None and self.output_mode != "int":
            raise ArgumentError(
                "`output_sequence_length` must not be set if `output_mode` is not 'int'. Received "
                f"output_sequence_length={output_sequence_length}."
            )
        self.max_tokens, self.standardize, self.split, self.encoding = max_tokens, standardize, split, encoding
        self.ngrams = tuple(ngrams) if isinstance(ngrams, list) else ngrams
        self.output_sequence_length, self.pad_to_max_tokens = output_sequence_length, pad_to_max_tokens
        self.sparse, self.ragged = sparse, ragged
        self.lookup = StringLookup(
            max_tokens=max_tokens,
            vocabulary=vocabulary,
            idf_weights=idf_weights,
            pad_to_max_tokens=pad_to_max_tokens,
            mask_token="",
            output_mode=self.output_mode,
            encoding=encoding,
            name=self.name,  # messages are about the layer that the user made
        )

    # vocabulary --------------------------------------------------------------------------------------

    def adapt(self, data, batch_size=None, steps=None) -> None:
        """Learn the vocabulary from texts: an array, a list, or (`steps`) batches."""
        self.reset_state()
        for batch in batches_of(data, steps, lists_are_data=True):
            self.update_state(batch)
        self.finalize_state()

    def update_state(self, data) -> None:
        self.lookup._count(self.tokens_of(data))

    def finalize_state(self) -> None:
        self.lookup.finalize_state()

    def reset_state(self) -> None:
        self.lookup.reset_state()

    def get_vocabulary(self, include_special_tokens: bool = True) -> list[str]:
        """Return the token of each index."""
        return self.lookup.get_vocabulary(include_special_tokens)

    def vocabulary_size(self) -> int:
        return self.lookup.vocabulary_size()

    def set_vocabulary(self, vocabulary, idf_weights=None) -> None:
        """Set the tokens instead of learning them."""
        self.lookup.set_vocabulary(vocabulary, idf_weights)

    # text --------------------------------------------------------------------------------------------

    def tokens_of(self, texts: Any) -> list[list[str]]:
        """Return the tokens of each text."""
        array = strings(texts, self.encoding)
        array = array.reshape(1) if array.ndim == 0 else array
        if self.split is not None and array.ndim > 1:
            if array.shape[-1] != 1:
                raise ShapeError(
                    "When using `TextVectorization` to tokenize strings, the input rank must be 1 or the last shape "
                    f"dimension must be 1. Received: inputs.shape={array.shape} with rank={array.ndim}"
                )
            array = array[..., 0]
        if callable(self.standardize):
            array = strings(self.standardize(array.astype(str)))
        else:
            array = np.array([self._standard(text) for text in array.reshape(-1)], object).reshape(array.shape)
        if callable(self.split):
            found = [[str(t) for t in tokens] for tokens in self.split(array.astype(str))]
        elif self.split is None:
            found = array.reshape(len(array), -1).tolist()
        else:
            found = [text.split() if self.split == "whitespace" else list(text) for text in array.reshape(-1)]
        return found if self.ngrams is None else [_runs(tokens, self.ngrams) for tokens in found]

    def _standard(self, text: str) -> str:
        if self.standardize in ("lower", "lower_and_strip_punctuation"):
            text = _lower(text)
        if self.standardize in ("strip_punctuation", "lower_and_strip_punctuation"):
            text = _PUNCTUATION.sub("", text)
        return text

    def on_host(self, inputs):
        self.lookup._known()
        texts = self.tokens_of(inputs)
        indices = self.lookup.indices_of(list(itertools.chain.from_iterable(texts)))
        rows = np.split(indices, np.cumsum([len(tokens) for tokens in texts[:-1]]))[: len(texts)]
        if np.ndim(inputs) == 0:
            return self._filled(rows)[0]
        return self._filled(rows)

    def _filled(self, rows: list[np.ndarray]) -> np.ndarray:
        width = self.output_sequence_length if self.output_mode == "int" else None
        width = max(map(len, rows), default=0) if width is None else width
        indices = np.full((len(rows), width), 0 if self.output_mode == "int" else -1, np.int64)
        for row, found in zip(indices, rows):
            row[: len(found)] = found[:width]
        return np.asarray(self.lookup._encoded(indices))

    def compute_output_spec(self, inputs):
        if self.output_mode == "int":
            return KerasTensor((inputs.shape[0], self.output_sequence_length), "int64")
        shape = (inputs.shape[0], self.lookup.depth)
        return KerasTensor(shape, config.floatx() if self.output_mode == "tf_idf" else "int64")

    def get_config(self):
        found = super().get_config()
        return {**found, **self.lookup._vocabulary_config()}


def _lower(text: str) -> str:
    """Lower the ASCII letters, as TensorFlow does without an encoding."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def _runs(tokens: list[str], ngrams: int | tuple[int, ...]) -> list[str]:
    """Return all runs of the given lengths, shorter ones first, joined by spaces."""
    lengths = range(1, ngrams + 1) if isinstance(ngrams, int) else ngrams
    return [" ".join(tokens[i : i + n]) for n in lengths for i in range(len(tokens) - n + 1)]
