"""Tokens to indices and back: StringLookup in Python, IntegerLookup in the compiled program."""

from __future__ import annotations

import itertools

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras import ops
from kcompile.keras.layers.layer import Layer
from kcompile.keras.layers.preprocessing.encoding import encode
from kcompile.keras.layers.preprocessing.hashing import bin_of
from kcompile.keras.layers.preprocessing.host import HostLayer, batches_of, strings
from kcompile.keras.layers.preprocessing.vocabulary import Vocabulary
from kcompile.keras.registry import register
from kcompile.keras.tracing.tensor import KerasTensor


class _Lookup(Vocabulary):
    """What both lookups share: learning, and encoding of indices."""

    def adapt(self, data, steps=None) -> None:
        """Learn the vocabulary from an array, a list, or (`steps`) batches."""
        self.reset_state()
        for batch in batches_of(data, steps, lists_are_data=True):
            array = np.asarray(batch)
            self._count(self._as_tokens(array[:, None] if array.ndim == 1 and batch is data else array))
        self.finalize_state()

    def update_state(self, data) -> None:
        """Count a batch of documents (a single one, if there is one axis)."""
        self._count(self._as_tokens(data))

    def _encoded(self, indices):
        if self.output_mode == "int":
            return indices
        mode = "count" if self.output_mode == "tf_idf" else self.output_mode
        dtype = "float32" if mode != "int" and self.output_mode == "tf_idf" else "int64"
        found = encode(indices, mode, self.depth, dtype)
        return found * self._idf_weights() if self.output_mode == "tf_idf" else found

    def get_config(self):
        config = super().get_config()
        config.pop("dtype", None)
        return {**config, **self._vocabulary_config()}


@register
class StringLookup(_Lookup, HostLayer):
    """The index of each string in a vocabulary; with `invert` the string of each index.

    >>> StringLookup(vocabulary=["a", "b"])([["a", "z", "b"]]).numpy().tolist()
    [[1, 0, 2]]
    """

    def __init__(
        self,
        max_tokens=None,
        num_oov_indices=1,
        mask_token=None,
        oov_token="[UNK]",
        vocabulary=None,
        idf_weights=None,
        invert=False,
        output_mode="int",
        pad_to_max_tokens=False,
        sparse=False,
        encoding="utf-8",
        name=None,
        salt=None,
        **kwargs,
    ):
        for ignored in ("vocabulary_size", "has_input_vocabulary", "oov_method", "vocabulary_dtype", "dtype"):
            kwargs.pop(ignored, None)
        super().__init__(name=name, **kwargs)
        self.encoding = encoding
        self._set_up(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert, output_mode,
            pad_to_max_tokens, sparse, salt,
        )  # fmt: skip

    def _as_tokens(self, data) -> list[list[str]]:
        array = strings(data, self.encoding)
        return array.reshape(1, -1).tolist() if array.ndim < 2 else array.reshape(len(array), -1).tolist()

    def on_host(self, inputs):
        self._known()
        if self.invert:
            words = np.array([*self.get_vocabulary()], object)
            indices = np.asarray(inputs, np.int64)
            known = (indices >= 0) & (indices < len(words))
            return np.where(known, words[np.where(known, indices, 0)], self.oov_token)
        array = strings(inputs, self.encoding)
        return np.asarray(self._encoded(self.indices_of(array.reshape(-1).tolist()).reshape(array.shape)))

    def indices_of(self, tokens: list[str]) -> np.ndarray:
        """Return the index of each token."""
        unknown = self._oov_start if self.num_oov_indices == 1 else None
        found = list(map(self._index.get, tokens, itertools.repeat(unknown)))
        if unknown is None:
            found = [self.index_of(token) if n is None else n for token, n in zip(tokens, found)]
        return np.array(found, np.int64)

    def index_of(self, token: str) -> int:
        """Return the index of a token; several unknown ones share out their indices by hash."""
        found = self._index.get(token)
        if found is not None:
            return found
        if not self.num_oov_indices:
            raise ArgumentError(
                f"When `num_oov_indices=0` all inputs should be in vocabulary, found OOV values {token!r}, consider "
                "setting `num_oov_indices=1`."
            )
        if self.num_oov_indices == 1:
            return self._oov_start
        salt = [self.salt, self.salt] if isinstance(self.salt, int) else self.salt
        return self._oov_start + bin_of(token, self.num_oov_indices, salt)

    def compute_output_spec(self, inputs):
        if self.invert:
            return KerasTensor(inputs.shape, "string")
        return _encoded_spec(inputs.shape, self.output_mode, self.depth)


def _encoded_spec(shape, mode: str, depth: int) -> KerasTensor:
    if mode == "int":
        return KerasTensor(shape, "int64")
    if mode == "one_hot":
        shape = (*shape[:-1], depth) if len(shape) > 1 and shape[-1] == 1 else (*shape, depth)
    else:
        shape = (*shape[:-1], depth) if shape else (depth,)
    return KerasTensor(shape, "float32" if mode == "tf_idf" else "int64")


@register
class IntegerLookup(_Lookup, Layer):
    """The index of each integer in a vocabulary; with `invert` the integer of each index.

    Compiled: a binary search over the sorted vocabulary, one comparison per bit of its size.

    >>> IntegerLookup(vocabulary=[12, 36])([[36, 5, 12]]).numpy().tolist()
    [[2, 0, 1]]
    """

    def __init__(
        self,
        max_tokens=None,
        num_oov_indices=1,
        mask_token=None,
        oov_token=-1,
        vocabulary=None,
        vocabulary_dtype="int64",
        idf_weights=None,
        invert=False,
        output_mode="int",
        sparse=False,
        pad_to_max_tokens=False,
        oov_method="floormod",
        salt=None,
        name=None,
        **kwargs,
    ):
        for ignored in ("vocabulary_size", "has_input_vocabulary", "dtype"):
            kwargs.pop(ignored, None)
        if oov_method != "floormod":
            raise ArgumentError(
                f"IntegerLookup(oov_method={oov_method!r}) of layer {name!r} is missing from kcompile: use 'floormod', "
                "or a Hashing layer"
            )
        super().__init__(name=name, **kwargs)
        self.vocabulary_dtype, self.oov_method, self.autocast = vocabulary_dtype, oov_method, False
        self._set_up(
            max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert, output_mode,
            pad_to_max_tokens, sparse, salt,
        )  # fmt: skip

    def _as_tokens(self, data) -> list[list[int]]:
        array = np.asarray(data).astype(np.int64)
        return array.reshape(1, -1).tolist() if array.ndim < 2 else array.reshape(len(array), -1).tolist()

    def call(self, inputs):
        self._known()
        values = ops.cast(inputs, "int64")
        if self.invert:
            table = np.array(self.get_vocabulary(), np.int64)
            known = ops.logical_and(values >= 0, values < len(table))
            return ops.where(known, ops.take(table, ops.where(known, values, 0), axis=0), self.oov_token)
        order = np.argsort(np.array(self._tokens, np.int64), kind="stable")
        keys = np.array(self._tokens, np.int64)[order]
        place = ops.zeros_like(values, dtype="int32")  # the last key not above the value, bit by bit
        for bit in reversed(range(max(1, (len(keys) - 1).bit_length()))):
            ahead = place + (1 << bit)
            inside = ops.minimum(ahead, len(keys) - 1)
            taken = ops.logical_and(ahead < len(keys), ops.take(keys, inside, axis=0) <= values)
            place = ops.where(taken, ahead, place)
        found = ops.take((order + self._token_start).astype(np.int64), place, axis=0)
        unknown = self._oov_start
        if self.num_oov_indices > 1:
            unknown = ops.mod(values, self.num_oov_indices) + self._oov_start
        elif not self.num_oov_indices:
            unknown = -1
        found = ops.where(ops.take(keys, place, axis=0) == values, found, unknown)
        if self.mask_token is not None:
            found = ops.where(values == self.mask_token, 0 if self.output_mode == "int" else -1, found)
        return self._encoded(found)

    def get_config(self):
        config = super().get_config()
        config.pop("autocast", None)
        return config
