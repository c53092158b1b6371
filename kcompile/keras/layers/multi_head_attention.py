"""MultiHeadAttention and GroupQueryAttention: learned projections around attention in several heads."""

from __future__ import annotations

import math
import string

from kcompile.errors import ArgumentError
from kcompile.keras import constraints, initializers, ops, regularizers
from kcompile.keras.layers.activations import Softmax
from kcompile.keras.layers.attention import causal_mask, window_mask
from kcompile.keras.layers.einsum_dense import EinsumDense
from kcompile.keras.layers.layer import Layer
from kcompile.keras.layers.regularization import Dropout
from kcompile.keras.registry import register


class _Heads(Layer):
    """Base: masks, and what the projections have in common."""

    def __init__(
        self,
        *,
        dropout,
        use_bias,
        sliding_window,
        flash_attention,
        kernel_initializer,
        bias_initializer,
        kernel_regularizer,
        bias_regularizer,
        activity_regularizer,
        kernel_constraint,
        bias_constraint,
        use_gate,
        seed,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if sliding_window is not None and (not isinstance(sliding_window, int) or sliding_window <= 0):
            raise ArgumentError(
                f"`sliding_window` must be `None` or a positive integer. Received: sliding_window={sliding_window}"
            )
        if flash_attention and dropout > 0.0:
            raise ArgumentError(
                "Dropout is not supported when flash attention is enabled. Please set dropout to 0.0 to use flash "
                "attention."
            )
        self.dropout, self.use_bias, self.use_gate, self.seed = dropout, use_bias, use_gate, seed
        self.sliding_window = sliding_window
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self._of_projections = regularizers.get(activity_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.supports_masking = True

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        key = value if key is None else key
        mask = self._compute_attention_mask(
            query, value, query_mask, value_mask, key_mask, attention_mask, use_causal_mask
        )
        gate = self._gate_dense(query) if self.use_gate else None
        query, key, value = self._project(query, key, value)
        result, scores = self._compute_attention(query, key, value, mask, training, return_attention_scores)
        result = self._combine(result if gate is None else ops.multiply(result, gate))
        return (result, scores) if return_attention_scores else result

    def _compute_attention_mask(
        self,
        query,
        value,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        use_causal_mask=False,
    ):
        """Return which keys count for which queries: all masks together, [batch or 1, T, S], or None."""
        masks = [(m, axis) for m, axis in ((query_mask, -1), (value_mask, -2), (key_mask, -2)) if m is not None]
        found = [ops.expand_dims(ops.cast(mask, "bool"), axis) for mask, axis in masks]
        lengths = ops.shape(query)[1], ops.shape(value)[1]
        if use_causal_mask:
            found.append(causal_mask(*lengths))
        if self.sliding_window is not None:
            found.append(window_mask(*lengths, self.sliding_window))
        if attention_mask is not None:
            found.insert(0, ops.cast(attention_mask, "bool"))
        joined = found[0] if found else None
        for mask in found[1:]:
            joined = ops.logical_and(joined, mask)
        return joined

    def _projection(self, name: str, equation: str, bias_axes: str, sizes, input_shape, activation=None) -> EinsumDense:
        """Return a built linear map to the given last sizes."""
        outputs = equation.partition("->")[2]
        made = EinsumDense(
            equation,
            output_shape=[None] * (len(outputs) - 1 - len(sizes)) + list(sizes),
            bias_axes=bias_axes if self.use_bias else None,
            name=name,
            activation=activation,
            kernel_initializer=self.kernel_initializer.clone(),  # each draws its own numbers
            bias_initializer=self.bias_initializer.clone(),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            activity_regularizer=self._of_projections,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.dtype_policy,
        )
        made.build(tuple(input_shape))
        return made

    def _into_heads(self, name: str, shape, heads: int, size: int, activation=None) -> EinsumDense:
        """A projection of the last axis to [heads, size]."""
        free = string.ascii_lowercase[: len(shape) - 1]
        return self._projection(name, f"{free}x,xyz->{free}yz", "yz", (heads, size), shape, activation)

    def _out_of_heads(self, name: str, shape, sizes) -> EinsumDense:
        """A projection of the last two axes to some sizes."""
        free, made = string.ascii_lowercase[: len(shape) - 2], string.ascii_uppercase[: len(sizes)]
        return self._projection(name, f"{free}yz,yz{made}->{free}{made}", made, sizes, shape)

    def _masked_softmax(self, scores, attention_mask=None):
        return self._softmax(scores, mask=attention_mask)

    def compute_mask(self, inputs, previous_mask=None):
        return previous_mask

    def get_config(self):
        config = super().get_config()
        config.pop("flash_attention", None)
        return {**config, "activity_regularizer": regularizers.serialize(self._of_projections)}


def _of_rank(mask, rank: int, place: int):
    """Insert axes of size 1 at `place` until the mask has a rank."""
    while mask is not None and len(mask.shape) < rank:
        mask = ops.expand_dims(mask, place)
    return mask


@register
class MultiHeadAttention(_Heads):
    """Attention in several heads, each between its own projections of query, key and value.

    Args:    key_dim, value_dim: sizes of a head; attention_axes: axes attended over (all between batch and
             features); sliding_window: keys further away do not count.
    Shapes:  query [batch, T, n], value [batch, S, m] -> [batch, T, n] (or `output_shape` for n), with
             `return_attention_scores` the shares [batch, heads, T, S] too.
    Weights: query, key, value (and gate) [n, heads, size] with bias, attention_output [heads, size, n] with bias.
    Source:  Vaswani et al. 2017.
    """

    def __init__(
        self,
        num_heads,
        key_dim,
        value_dim=None,
        dropout=0.0,
        use_bias=True,
        output_shape=None,
        attention_axes=None,
        sliding_window=None,
        flash_attention=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        use_gate=False,
        seed=None,
        **kwargs,
    ):
        for name, size in (("num_heads", num_heads), ("key_dim", key_dim), ("value_dim", value_dim)):
            if (not isinstance(size, int) or size <= 0) and not (name == "value_dim" and size is None):
                raise ArgumentError(
                    f"Received an invalid value for argument `{name}`, expected a positive integer. "
                    f"Received: {name}={size}"
                )
        if attention_axes is not None and not isinstance(attention_axes, (int, list, tuple)):
            raise ArgumentError(
                f"`attention_axes` must be an int, list, or tuple. Received: attention_axes={attention_axes}"
            )
        super().__init__(
            dropout=dropout,
            use_bias=use_bias,
            sliding_window=sliding_window,
            flash_attention=flash_attention,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            use_gate=use_gate,
            seed=seed,
            **kwargs,
        )
        self.num_heads, self.key_dim = num_heads, key_dim
        self.value_dim = value_dim or key_dim
        self.attention_axes = (attention_axes,) if isinstance(attention_axes, int) else attention_axes
        self._output_sizes = (output_shape,) if isinstance(output_shape, int) else output_shape and tuple(output_shape)

    def build(self, query_shape, value_shape, key_shape=None):
        key_shape = value_shape if key_shape is None else key_shape
        if tuple(value_shape[1:-1]) != tuple(key_shape[1:-1]):
            raise ArgumentError(
                "All dimensions of `value` and `key`, except the last one, must be equal. Received: "
                f"value_shape={value_shape} and key_shape={key_shape}"
            )
        self.query_dense = self._into_heads("query", query_shape, self.num_heads, self.key_dim)
        self.key_dense = self._into_heads("key", key_shape, self.num_heads, self.key_dim)
        if self.use_gate:
            self._gate_dense = self._into_heads("gate", query_shape, self.num_heads, self.value_dim, "sigmoid")
        self.value_dense = self._into_heads("value", value_shape, self.num_heads, self.value_dim)
        self._dot_product_equation, self._combine_equation, axes = _equations(len(value_shape) + 1, self.attention_axes)
        self._mask_place = -2 * axes - 1
        self._softmax = Softmax(axis=tuple(range(-axes, 0)), dtype=self.dtype_policy)
        self._dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy, seed=self.seed)
        inner = (*query_shape[:-1], self.num_heads, self.value_dim)
        self.output_dense = self._out_of_heads("attention_output", inner, self._output_sizes or (query_shape[-1],))

    def _project(self, query, key, value):
        return self.query_dense(query), self.key_dense(key), self.value_dense(value)

    def _combine(self, result):
        return self.output_dense(result)

    def _compute_attention(self, query, key, value, attention_mask=None, training=None, return_attention_scores=False):
        """Return the mixed values [batch, T, heads, value_dim], and the shares if they are wanted."""
        scale = 1.0 / math.sqrt(self.key_dim)
        if not (self.dropout > 0 or return_attention_scores or len(query.shape) != 4):
            mask = _of_rank(attention_mask, 4, self._mask_place)
            return ops.dot_product_attention(query, key, value, mask=mask, scale=scale), None
        scores = ops.einsum(self._dot_product_equation, key, ops.multiply(query, scale))
        shares = self._masked_softmax(scores, _of_rank(attention_mask, len(scores.shape), self._mask_place))
        used = self._dropout_layer(shares, training=training) if self.dropout > 0 else shares
        return ops.einsum(self._combine_equation, used, value), shares

    def get_config(self):
        return {**super().get_config(), "output_shape": self._output_sizes}


def _equations(rank: int, attention_axes) -> tuple[str, str, int]:
    """Return the two products for projected tensors of a rank (heads and features last), and how many axes attend.

    Axes that do not attend are common to queries and keys, as the heads are.
    """
    axes = tuple(range(1, rank - 2)) if attention_axes is None else tuple(a % (rank - 1) for a in attention_axes)
    queries = string.ascii_lowercase[:rank]
    keys = "".join(c.upper() if i in axes else c for i, c in enumerate(queries))
    common = "".join(c for i, c in enumerate(queries[:-1]) if i not in axes)
    scores = common + "".join(queries[a] for a in axes) + "".join(keys[a] for a in axes)
    return f"{keys},{queries}->{scores}", f"{scores},{keys}->{queries}", len(axes)


@register("GroupQueryAttention", aliases=("GroupedQueryAttention",))
class GroupedQueryAttention(_Heads):
    """Attention in several heads, of which groups share the projections of key and value.

    Shapes:  query [batch, T, n], value [batch, S, n] -> [batch, T, n].
    Weights: query (and gate) [n, query heads, size], key and value [n, key heads, size], attention_output.
    Source:  Ainslie et al. 2023.
    """

    public_name = "GroupQueryAttention"  # Keras has both names: this one in configs, the class's own for layers

    def __init__(
        self,
        head_dim,
        num_query_heads,
        num_key_value_heads,
        dropout=0.0,
        use_bias=True,
        sliding_window=None,
        flash_attention=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        use_gate=False,
        seed=None,
        **kwargs,
    ):
        if num_query_heads % num_key_value_heads:
            raise ArgumentError(
                "`num_query_heads` must be divisible by `num_key_value_heads`. "
                f"Received: num_query_heads={num_query_heads}, num_key_value_heads={num_key_value_heads}"
            )
        super().__init__(
            dropout=dropout,
            use_bias=use_bias,
            sliding_window=sliding_window,
            flash_attention=flash_attention,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            use_gate=use_gate,
            seed=seed,
            **kwargs,
        )
        self.activity_regularizer = self._of_projections  # of the result, too
        self.head_dim, self.num_query_heads, self.num_key_value_heads = head_dim, num_query_heads, num_key_value_heads

    def build(self, query_shape, value_shape, key_shape=None):
        key_shape = value_shape if key_shape is None else key_shape
        many, few, size = self.num_query_heads, self.num_key_value_heads, self.head_dim
        self._query_dense = self._into_heads("query", query_shape, many, size)
        self._key_dense = self._into_heads("key", key_shape, few, size)
        if self.use_gate:
            self._gate_dense = self._into_heads("gate", query_shape, many, size, "sigmoid")
        self._value_dense = self._into_heads("value", value_shape, few, size)
        self._softmax = Softmax(axis=-1, dtype=self.dtype_policy)
        self._dropout_layer = Dropout(self.dropout, dtype=self.dtype_policy, seed=self.seed)
        self._output_dense = self._out_of_heads("attention_output", (None, None, many, size), (query_shape[-1],))

    def _project(self, query, key, value):
        return self._query_dense(query), self._key_dense(key), self._value_dense(value)

    def _combine(self, result):
        return self._output_dense(result)

    def _compute_attention(self, query, key, value, attention_mask=None, training=None, return_attention_scores=False):
        """Return the mixed values [batch, T, query heads, size], and the shares if they are wanted.

        The query heads of a group stand side by side, so that keys and values are read by all without copies.
        """
        few, each = self.num_key_value_heads, self.num_query_heads // self.num_key_value_heads
        batch, queries, keys = *ops.shape(query)[:2], ops.shape(key)[1]
        grouped = ops.reshape(query, (batch, queries, few, each, self.head_dim))
        scores = ops.einsum("bqvgh,bkvh->bvgqk", grouped, key) * (1.0 / math.sqrt(self.head_dim))
        mask = _of_rank(attention_mask, 4, -3)
        if mask is not None:
            heads = (1, 1) if mask.shape[1] == 1 else (few, each)
            mask = ops.reshape(mask, (ops.shape(mask)[0], *heads, *ops.shape(mask)[2:]))
        if self.dropout > 0 or return_attention_scores:
            shares = self._masked_softmax(scores, mask)
        else:
            if mask is not None:
                scores = ops.where(mask, scores, -3e4 if ops.dtype(scores) == "float16" else -0.7 * 3.4e38)
            shares = ops.softmax(scores, axis=-1)
        used = self._dropout_layer(shares, training=training) if self.dropout > 0 else shares
        result = ops.reshape(ops.einsum("bvgqk,bkvh->bqvgh", used, value), ops.shape(query))
        return result, ops.reshape(shares, (batch, self.num_query_heads, queries, keys))
