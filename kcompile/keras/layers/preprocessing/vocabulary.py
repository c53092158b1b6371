"""Vocabulary: what lookup layers share. Tokens by index, learned from data or given, with special ones in front."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from kcompile.errors import ArgumentError, KcompileError
from kcompile.keras import config
from kcompile.keras.layers.preprocessing.encoding import check_output_mode

MODES = ("int", "one_hot", "multi_hot", "count", "tf_idf")


class Vocabulary:
    """Mixed into lookup layers. Subclasses say `_as_tokens(data)`: documents as lists of tokens.

    Indices: the mask token (0, only for output "int"), then `num_oov_indices` for unknown tokens, then the tokens.
    """

    def _set_up(
        self, max_tokens, num_oov_indices, mask_token, oov_token, vocabulary, idf_weights, invert, output_mode,
        pad_to_max_tokens, sparse, salt,
    ) -> None:  # fmt: skip
        self.output_mode = check_output_mode(output_mode, MODES, sparse, self)
        if max_tokens is not None and max_tokens <= 1:
            raise ArgumentError(f"If set, `max_tokens` must be greater than 1. Received: max_tokens={max_tokens}")
        if pad_to_max_tokens and max_tokens is None:
            raise ArgumentError("If pad_to_max_tokens is True, must set `max_tokens`.")
        if num_oov_indices < 0:
            raise ArgumentError(
                f"`num_oov_indices` must be greater than or equal to 0. Received: num_oov_indices={num_oov_indices}"
            )
        if invert and self.output_mode != "int":
            raise ArgumentError(
                f"`output_mode` must be `'int'` when `invert` is true. Received: output_mode={output_mode}"
            )
        self.max_tokens, self.num_oov_indices, self.pad_to_max_tokens = max_tokens, num_oov_indices, pad_to_max_tokens
        self.mask_token, self.oov_token, self.invert = mask_token, oov_token, invert
        self.sparse, self.salt = sparse, salt
        self.given = vocabulary is not None
        self._tokens: list | None = None
        self._idf: np.ndarray | None = None
        self.reset_state()
        if vocabulary is not None:
            self.set_vocabulary(vocabulary, idf_weights)
        elif idf_weights is not None:
            raise ArgumentError("`idf_weights` needs a `vocabulary`")
        self.built = True

    # special tokens --------------------------------------------------------------------------------

    @property
    def _oov_start(self) -> int:
        return 1 if self.mask_token is not None and self.output_mode == "int" else 0

    @property
    def _token_start(self) -> int:
        return self._oov_start + self.num_oov_indices

    def _special(self) -> list:
        return [self.mask_token] * self._oov_start + [self.oov_token] * self.num_oov_indices

    # learning --------------------------------------------------------------------------------------

    def reset_state(self) -> None:
        """Forget what `update_state` has counted."""
        self._counts, self._documents, self._num_documents = Counter(), Counter(), 0

    def _count(self, documents: list[list]) -> None:
        if self.given:
            raise KcompileError(
                f"Cannot adapt layer '{self.name}' after setting a static vocabulary via `vocabulary` argument or "
                "`set_vocabulary()` method."
            )
        for document in documents:
            self._counts.update(document)
            self._documents.update(set(document))
        self._num_documents += len(documents)

    def finalize_state(self) -> None:
        """Make the vocabulary of what was counted: most frequent first, equals in falling order."""
        if self.given or not self._counts:
            return
        for special in (self.mask_token, self.oov_token):
            self._counts.pop(special, None)
        ranked = sorted(self._counts, key=_bytes_or_number, reverse=True)
        ranked.sort(key=lambda token: -self._counts[token])
        if self.max_tokens:
            ranked = ranked[: self.max_tokens - self._token_start]
        self._tokens = ranked
        if self.output_mode == "tf_idf":
            seen = np.array([self._documents[t] for t in ranked], np.float32)
            weights = np.log(1 + self._num_documents / (1 + seen)).astype(config.floatx())
            mean = weights.mean() if len(weights) else 0.0
            self._idf = np.concatenate([np.full(self._token_start, mean, weights.dtype), weights])
        self.reset_state()
        self._tables_changed()

    # asking and setting ------------------------------------------------------------------------------

    def _tables_changed(self) -> None:
        """Called when the vocabulary is another one."""
        self._index = {t: n + self._token_start for n, t in enumerate(self._tokens)}
        if self.mask_token is not None:
            self._index[self.mask_token] = 0 if self.output_mode == "int" else -1  # -1: counts nowhere

    def _known(self) -> list:
        if self._tokens is None:
            raise KcompileError(
                f"The vocabulary of layer '{self.name}' is not known: pass `vocabulary`, or call `adapt` or "
                "`set_vocabulary` before it is used."
            )
        return self._tokens

    def vocabulary_size(self) -> int:
        """Return how many indices there are, special ones included."""
        return len(self._tokens or ()) + self._token_start

    def get_vocabulary(self, include_special_tokens: bool = True) -> list:
        """Return the token of each index."""
        return [*(self._special() if include_special_tokens else ()), *(self._tokens or ())]

    def set_vocabulary(self, vocabulary: Any, idf_weights: Any = None) -> None:
        """Set the tokens (a list, array, or path to a file of one token per line), with or without special ones.

        Raises: ArgumentError for repeated tokens, special ones in the middle, or wrong weights.
        """
        if self.output_mode == "tf_idf" and idf_weights is None:
            raise ArgumentError("`idf_weights` must be set if output_mode is 'tf_idf'.")
        if self.output_mode != "tf_idf" and idf_weights is not None:
            raise ArgumentError(
                "`idf_weights` should only be set if output_mode is `'tf_idf'`. "
                f"Received: output_mode={self.output_mode} and idf_weights={idf_weights}"
            )
        if isinstance(vocabulary, str):
            with open(vocabulary, encoding="utf-8") as lines:
                vocabulary = lines.read().splitlines()
        tokens = [t for document in self._as_tokens(vocabulary) for t in document]
        if not tokens:
            raise ArgumentError(f"Cannot set an empty vocabulary. Received: vocabulary={vocabulary}")
        has_special = tokens[: self._token_start] == self._special()
        tokens = tokens[self._token_start :] if has_special else tokens
        repeated = [t for t, n in Counter(tokens).items() if n > 1]
        if repeated:
            raise ArgumentError(
                "The passed vocabulary has at least one repeated term. Please uniquify your dataset. The repeated "
                f"terms are: {repeated}"
            )
        for name, token in (("mask", self.mask_token), ("OOV", self.oov_token if self.invert else None)):
            if token is not None and token in tokens:
                raise ArgumentError(
                    f"Found reserved {name} token at unexpected location in `vocabulary`. Note that passed "
                    "`vocabulary` does not need to include the OOV and mask tokens. Either remove all mask and OOV "
                    "tokens, or include them only at the start of the vocabulary in precisely this order: "
                    f"{self._special()}."
                )
        if self.max_tokens is not None and len(tokens) + self._token_start > self.max_tokens:
            raise ArgumentError(
                "Attempted to set a vocabulary larger than the maximum vocab size. Received vocabulary size is "
                f"{len(tokens) + self._token_start}; `max_tokens` is {self.max_tokens}."
            )
        self._tokens, self.given = tokens, True
        if idf_weights is not None:
            weights = np.asarray(idf_weights, config.floatx())
            if len(weights) != len(tokens) + (self._token_start if has_special else 0):
                raise ArgumentError(
                    "`idf_weights` must be the same length as vocabulary. Received: "
                    f"len(idf_weights)={len(weights)}, vocabulary of {len(tokens)}"
                )
            front = [] if has_special else [weights.mean()] * self._token_start
            self._idf = np.concatenate([np.asarray(front, weights.dtype), weights])
        self._tables_changed()

    # output ------------------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """The length of encoded outputs."""
        return self.max_tokens if self.pad_to_max_tokens else self.vocabulary_size()

    def _idf_weights(self) -> np.ndarray:
        self._known()
        return np.pad(self._idf, (0, self.depth - len(self._idf)))

    def _vocabulary_config(self) -> dict[str, Any]:
        """The learned vocabulary is in the config: any reader of it has a layer that is ready."""
        return {
            "vocabulary": None if self._tokens is None else self.get_vocabulary(),
            "idf_weights": None if self._idf is None else self._idf.tolist(),
        }


def _bytes_or_number(token: Any) -> Any:
    return token.encode() if isinstance(token, str) else token
