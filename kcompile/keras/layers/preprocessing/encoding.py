"""Class indices as vectors: one class per element, which classes occur, how often."""

from __future__ import annotations

from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras import ops
from kcompile.keras.layers.layer import Layer
from kcompile.keras.registry import register


def encode(indices, output_mode: str, depth: int, dtype, count_weights=None):
    """Return class indices as integers, or as vectors of `depth` numbers (indices outside it count nowhere).

    Args:
        output_mode: "int"; "one_hot": a vector per element; "multi_hot": which classes occur in a sample;
            "count": how often (with `count_weights`, one per index).
    """
    if output_mode == "int":
        return ops.cast(indices, dtype)
    indices = ops.cast(indices, "int32")
    if len(indices.shape) == 0:
        indices = ops.expand_dims(indices, -1)
    if output_mode == "multi_hot":
        axis = 1 if len(indices.shape) > 1 else 0
        return ops.max(ops.one_hot(indices, depth, dtype=dtype), axis=axis)
    if output_mode == "one_hot":
        if len(indices.shape) > 1 and indices.shape[-1] == 1:
            indices = ops.squeeze(indices, axis=-1)
        return ops.one_hot(indices, depth, dtype=dtype)
    hot = ops.one_hot(indices, depth, dtype=dtype if count_weights is None else ops.dtype(count_weights))
    if count_weights is not None:
        hot = hot * ops.expand_dims(count_weights, -1)
    return ops.sum(hot, axis=1 if len(indices.shape) > 1 else 0)


def check_output_mode(output_mode: str, allowed: tuple[str, ...], sparse: bool, layer: Layer) -> str:
    """Return the mode by its present name.

    Raises: ArgumentError for an unknown one, NotSupportedError for sparse output.
    """
    output_mode = {"binary": "multi_hot", "tf-idf": "tf_idf"}.get(output_mode, output_mode)
    if output_mode not in allowed:
        raise ArgumentError(f"Unknown arg for output_mode: {output_mode}. Expected one of {allowed}")
    if sparse:
        raise NotSupportedError(
            f"{type(layer).__name__}(sparse=True) of layer {layer.name!r}: sparse tensors are not supported; leave it "
            "out for the same numbers in a dense array, or feed output_mode='int' to an Embedding layer"
        )
    return output_mode


@register
class CategoryEncoding(Layer):
    """Class indices in 0..num_tokens-1 as vectors; see `encode`.

    >>> CategoryEncoding(4)([[0, 1], [3, 3]]).numpy()
    array([[1., 1., 0., 0.],
           [0., 0., 0., 1.]], dtype=float32)
    """

    def __init__(self, num_tokens=None, output_mode="multi_hot", sparse=False, **kwargs):
        super().__init__(**kwargs)
        if num_tokens is None:
            raise ArgumentError(
                "num_tokens must be set to use this layer. If the number of tokens is not known beforehand, use the "
                "IntegerLookup layer instead."
            )
        if num_tokens < 1:
            raise ArgumentError(f"`num_tokens` must be >= 1. Received: num_tokens={num_tokens}.")
        self.num_tokens, self.sparse = num_tokens, sparse
        self.output_mode = check_output_mode(output_mode, ("count", "one_hot", "multi_hot"), sparse, self)

    def call(self, inputs, count_weights=None):
        if count_weights is not None and self.output_mode != "count":
            raise ArgumentError(
                f"`count_weights` is not used when `output_mode` is not `'count'`. Received {self.output_mode!r}"
            )
        return encode(inputs, self.output_mode, self.num_tokens, self.dtype, count_weights)

    def get_config(self):
        config = super().get_config()
        config.pop("sparse")
        return config
