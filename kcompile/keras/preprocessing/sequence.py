"""Sequences of numbers: padding, skip-grams, windows over a time series."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras.utils.dataset import PyDataset
from kcompile.keras.utils.sequences import pad_sequences

__all__ = ["TimeseriesGenerator", "make_sampling_table", "pad_sequences", "skipgrams"]

_EULER_GAMMA = 0.577  # the precision that scripts' tables were made with


def make_sampling_table(size: int, sampling_factor: float = 1e-5) -> np.ndarray:
    """Return how likely the i-th most frequent word is kept: min(1, sqrt(t / f) + t / f) capped below 1.

    Frequencies follow Zipf's law: f(rank) = 1 / (rank · (ln rank + γ) + 1/2 - 1/(12 rank)).

    Shapes: [size]; index 0, which stands for no word, gets the value of rank 1.
    Source: Mikolov et al. 2013, "Distributed Representations of Words and Phrases", section 2.3, in word2vec's form.

    >>> make_sampling_table(3).round(8).tolist()
    [0.00315225, 0.00315225, 0.00547597]
    """
    rank = np.arange(size, dtype=np.float64)
    rank[:1] = 1
    inverse_frequency = rank * (np.log(rank) + _EULER_GAMMA) + 0.5 - 1.0 / (12.0 * rank)
    ratio = sampling_factor * inverse_frequency
    return np.minimum(1.0, ratio / np.sqrt(ratio))


def skipgrams(
    sequence,
    vocabulary_size: int,
    window_size: int = 4,
    negative_samples: float = 1.0,
    shuffle: bool = True,
    categorical: bool = False,
    sampling_table=None,
    seed: int | None = None,
) -> tuple[list[list[int]], list]:
    """Return pairs of words and labels: 1 for two words of one window, 0 for a word and a random one.

    Args:
        sequence: word indices; 0 is no word and is passed over.
        vocabulary_size: indices go from 1 to this minus 1.
        window_size: how far apart a pair's words may be, to either side.
        negative_samples: random pairs per real pair.
        categorical: give labels as [0, 1] and [1, 0].
        sampling_table: probability of keeping a word, by index.
        seed: of the shuffling and the drawing.

    >>> skipgrams([1, 2], 3, window_size=1, negative_samples=0, shuffle=False)
    ([[1, 2], [2, 1]], [1, 1])
    """
    rng = random.Random(seed)
    positive, negative = ([0, 1], [1, 0]) if categorical else (1, 0)
    couples, labels = [], []
    for here, word in enumerate(sequence):
        if not word or (sampling_table is not None and sampling_table[word] < rng.random()):
            continue
        for there in range(max(0, here - window_size), min(len(sequence), here + window_size + 1)):
            if there != here and sequence[there]:
                couples.append([word, sequence[there]])
                labels.append(positive)
    if negative_samples > 0:
        words = [couple[0] for couple in couples]
        count = int(len(labels) * negative_samples)
        rng.shuffle(words)
        couples += [[words[i % len(words)], rng.randint(1, vocabulary_size - 1)] for i in range(count)]
        labels += [negative] * count
    if shuffle:
        order = list(range(len(couples)))
        rng.shuffle(order)
        couples, labels = [couples[i] for i in order], [labels[i] for i in order]
    return couples, labels


class TimeseriesGenerator(PyDataset):
    """Batches of windows over a time series, each with the target that follows its window.

    Args:
        data: [time, ...].   targets: [time, ...], of the same length.
        length: steps that a window covers.
        sampling_rate: distance of the steps kept within a window.
        stride: distance of consecutive windows.
        start_index, end_index: the part of the series to use, both ends included.
        shuffle: draw windows at random.
        reverse: turn each window round in time.

    Shapes: windows [batch, length / sampling_rate, ...], targets [batch, ...].

    >>> x, y = TimeseriesGenerator(np.arange(6), np.arange(6), length=3, batch_size=2)[0]
    >>> x.tolist(), y.tolist()
    ([[0, 1, 2], [1, 2, 3]], [3, 4])
    """

    def __init__(
        self,
        data,
        targets,
        length,
        sampling_rate=1,
        stride=1,
        start_index=0,
        end_index=None,
        shuffle=False,
        reverse=False,
        batch_size=128,
    ):
        super().__init__()
        if len(data) != len(targets):
            raise ArgumentError(f"Data and targets have to be of same length. Received {len(data)} and {len(targets)}")
        self.data, self.targets = data, targets
        self.length, self.sampling_rate, self.stride = length, sampling_rate, stride
        self.start_index = start_index + length
        self.end_index = len(data) - 1 if end_index is None else end_index
        self.shuffle, self.reverse, self.batch_size = shuffle, reverse, batch_size
        if self.start_index > self.end_index:
            raise ArgumentError(
                f"`start_index+length={self.start_index} > end_index={self.end_index}` is disallowed, as no part of "
                "the sequence would be left to be used as current step."
            )

    def __len__(self) -> int:
        windows = self.end_index - self.start_index + self.stride
        return -(-(windows // self.stride) // self.batch_size)

    def __getitem__(self, index: int):
        if self.shuffle:
            ends = np.random.randint(self.start_index, self.end_index + 1, size=self.batch_size)
        else:
            first = self.start_index + self.batch_size * self.stride * index
            last = min(first + self.batch_size * self.stride, self.end_index + 1)
            ends = np.arange(first, last, self.stride)
        windows = np.array([self.data[end - self.length : end : self.sampling_rate] for end in ends])
        targets = np.array([self.targets[end] for end in ends])
        return (windows[:, ::-1, ...] if self.reverse else windows), targets

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as plain data.

        Raises: ArgumentError if the series is no JSON.
        """
        config = {}
        for name in ("data", "targets"):
            values = getattr(self, name)
            values = values.tolist() if isinstance(values, np.ndarray) else values
            try:
                config[name] = json.dumps(values)
            except TypeError:
                raise ArgumentError(f"`{name}` is not JSON serializable: {type(values).__name__}") from None
        names = ("length", "sampling_rate", "stride", "start_index", "end_index", "shuffle", "reverse", "batch_size")
        return config | {name: getattr(self, name) for name in names}

    def to_json(self, **kwargs) -> str:
        """Return the generator as JSON text."""
        return json.dumps({"class_name": type(self).__name__, "config": self.get_config()}, **kwargs)
