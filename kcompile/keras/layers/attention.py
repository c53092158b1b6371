"""Attention and AdditiveAttention: rows of values, mixed by how well a query fits each key."""

from __future__ import annotations

from kcompile.errors import ArgumentError
from kcompile.keras import ops, random
from kcompile.keras.layers.layer import Layer
from kcompile.keras.registry import register


def causal_mask(queries, keys):
    """Return [1, queries, keys]: true where the key stands no later than the query."""
    row, column = _positions(queries, keys)
    return ops.greater_equal(row, column)


def window_mask(queries, keys, size: int):
    """Return [1, queries, keys]: true where query and key stand less than `size` apart."""
    row, column = _positions(queries, keys)
    return ops.less(ops.abs(ops.subtract(row, column)), size)


def _positions(queries, keys):
    row = ops.reshape(ops.arange(queries, dtype="int32"), (1, queries, 1))
    return row, ops.reshape(ops.arange(keys, dtype="int32"), (1, 1, keys))


@register
class Attention(Layer):
    """softmax(query · keyᵀ) · value.

    Shapes:  [query, value] or [query, value, key] of [batch, Tq, n], [batch, Tv, m], [batch, Tv, n]
             -> [batch, Tq, m], with `return_attention_scores` the shares [batch, Tq, Tv] too.
    Masks:   [query_mask, value_mask]: queries whose output is 0, values that get no share.
    Weights: scale (`use_scale`), concat_score_weight (`score_mode="concat"`), numbers.
    Source:  Luong, Pham, Manning 2015.
    """

    def __init__(self, use_scale=False, score_mode="dot", dropout=0.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        if score_mode not in ("dot", "concat"):
            raise ArgumentError(
                "Invalid value for argument score_mode. Expected one of {'dot', 'concat'}. "
                f"Received: score_mode={score_mode}"
            )
        self.use_scale, self.score_mode = use_scale, score_mode
        self.dropout, self.seed = dropout, seed
        if dropout > 0:
            self.seed_generator = random.SeedGenerator(seed)
        self.supports_masking = True
        self.scale = self.concat_score_weight = None

    def build(self, input_shape):
        self._validate_inputs(input_shape)
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=(), initializer="ones")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight(name="concat_score_weight", shape=(), initializer="ones")

    def call(self, inputs, mask=None, training=False, return_attention_scores=False, use_causal_mask=False):
        self._validate_inputs(inputs, mask)
        query, value = inputs[:2]
        key = inputs[2] if len(inputs) > 2 else value
        query_mask, value_mask = mask[:2] if mask else (None, None)
        scores = self._calculate_scores(query, key)
        kept = self._calculate_score_mask(scores, value_mask, use_causal_mask)
        result, shares = self._apply_scores(scores, value, kept, training)
        if query_mask is not None:
            result = ops.where(ops.expand_dims(query_mask, -1), result, 0.0)
        return (result, shares) if return_attention_scores else result

    def compute_mask(self, inputs, previous_mask=None):
        return previous_mask[0] if previous_mask else None

    def _calculate_scores(self, query, key):
        """Return how well each query fits each key, [batch, Tq, Tv]."""
        if self.score_mode == "dot":
            scores = ops.matmul(query, ops.swapaxes(key, -2, -1))
            return scores if self.scale is None else scores * self.scale
        both = _each_sum(query, key)
        if self.scale is not None:
            both = self.scale * both
        return self.concat_score_weight * ops.sum(ops.tanh(both), axis=-1)

    def _calculate_score_mask(self, scores, value_mask, use_causal_mask):
        """Return which keys count, [batch or 1, Tq or 1, Tv], or None if all do."""
        if value_mask is not None:
            value_mask = ops.expand_dims(ops.cast(value_mask, "bool"), -2)
        if not use_causal_mask:
            return value_mask
        causal = causal_mask(*ops.shape(scores)[-2:])
        return causal if value_mask is None else ops.logical_and(value_mask, causal)

    def _apply_scores(self, scores, value, scores_mask=None, training=False):
        """Return the mixed values and the shares."""
        if scores_mask is not None:
            far = 65504.0 if ops.dtype(scores) == "float16" else 1e9
            scores = ops.where(scores_mask, scores, scores - far)
        shares = ops.softmax(scores, axis=-1)
        if training and self.dropout > 0:
            shares = random.dropout(shares, self.dropout, seed=self.seed_generator)
        return ops.matmul(shares, value), shares

    def _validate_inputs(self, inputs, mask=None):
        name = type(self).__name__
        for what, given, items in (
            ("", inputs, "[query, value] or [query, value, key]"),
            (" mask", mask, "[query_mask, value_mask]"),
        ):
            if given is None and what:
                continue
            if not isinstance(given, list) or not 2 <= len(given) <= 3:
                raise ArgumentError(f"{name} layer{what} must be a list of 2 or 3, namely {items}. Received: {given}")


@register
class AdditiveAttention(Attention):
    """Like Attention, with scores Σ scale · tanh(query + key).

    Weights: scale (`use_scale`), one number per feature.
    Source:  Bahdanau, Cho, Bengio 2015.
    """

    def __init__(self, use_scale=True, dropout=0.0, **kwargs):
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape):
        self._validate_inputs(input_shape)
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=(input_shape[0][-1],), initializer="glorot_uniform")

    def _calculate_scores(self, query, key):
        fit = ops.tanh(_each_sum(query, key))
        return ops.sum(fit if self.scale is None else self.scale * fit, axis=-1)

    def get_config(self):
        config = super().get_config()
        config.pop("score_mode", None)
        return config


def _each_sum(query, key):
    """Return the sums of each query with each key: [batch, Tq, Tv, n]."""
    return ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
