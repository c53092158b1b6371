"""Every layer with something to compare: families of branches, each family one model (see branches.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.keras.layers.steps import reference
from tests.keras.layers.steps.branches import Branch, Given


def of(name: str, *shapes: Any, like: str | None = None, call: dict | None = None, **init: Any) -> Branch:
    """Return a branch of one layer, called with a tensor, or with a list where there are several.

    like: the layer of Keras 3 that it equals, where it has none of this name.
    """
    given = tuple(s if isinstance(s, Given) else Given(s) for s in shapes)

    def build(keras, *tensors, cls=name):
        layer = getattr(keras.layers, cls)(**init)
        return layer(tensors[0] if len(tensors) == 1 else list(tensors), **(call or {}))

    return Branch((name,), build, given, (lambda k, *t: build(k, *t, cls=like)) if like else None)


def around(names: str, build: Callable[..., Any], *shapes: Any) -> Branch:
    """Return a branch built by a function of (keras, tensors...)."""
    return Branch(tuple(names.split()), build, tuple(s if isinstance(s, Given) else Given(s) for s in shapes))


FIRST = {"data_format": "channels_first"}
STEPS = Given((None, 3), sizes=(5,))
MASKED = Given((5, 3), masked=True)

PLAIN = {
    "dense": of("Dense", (5,), units=3, activation="tanh"),
    "dense_of_steps": of("Dense", STEPS, units=4, use_bias=False, kernel_regularizer="l2"),
    "dense_constrained": of("Dense", (5,), units=3, kernel_constraint="unit_norm", bias_constraint="non_neg"),
    "dense_decayed": of("Dense", (4,), units=3, activity_regularizer="l1", bias_regularizer="l1"),
    "einsum": of("EinsumDense", (4,), equation="ab,bc->ac", output_shape=3, bias_axes="c", activation="gelu"),
    "einsum_ellipsis": of("EinsumDense", (4, 3, 5), equation="...x,xy->...y", output_shape=3, bias_axes="y"),
    "einsum_heads": of("EinsumDense", STEPS, equation="abc,cde->abde", output_shape=[None, 2, 3], bias_axes="de"),
    "embedding": of("Embedding", Given((4,), 6), input_dim=6, output_dim=3),
    "embedding_masked": of("Embedding", Given((None,), 4, sizes=(5,)), input_dim=4, output_dim=3, mask_zero=True),
    "lambda": around("Lambda", lambda k, x: k.layers.Lambda(lambda t: t * k.ops.sigmoid(t))(x), (3, 2)),
    "identity": of("Identity", (3, 2)),
    "masking": of("Masking", MASKED, mask_value=0.0),
    "activity": of("ActivityRegularization", (3, 2), l1=0.1, l2=0.01),
    "dropout": of("Dropout", (5,), rate=0.0),
    "spatial_1d": of("SpatialDropout1D", (4, 3), rate=0.0),
    "spatial_2d": of("SpatialDropout2D", (3, 4, 2), rate=0.0, **FIRST),
    "spatial_3d": of("SpatialDropout3D", (3, 2, 2, 2), rate=0.0),
    "gaussian_noise": of("GaussianNoise", (5,), stddev=0.0),
    "gaussian_dropout": of("GaussianDropout", (5,), rate=0.0),
    "alpha_dropout": of("AlphaDropout", (5,), rate=0.0),
    "user_layer": around("Layer", reference.user_layer, (4,)),
}

ACTIVATIONS = {
    **{
        name: of("Activation", (7,), activation=name)
        for name in (
            "elu relu selu gelu tanh sigmoid softplus softsign swish exponential hard_sigmoid leaky_relu "
            "log_softmax mish relu6 celu hard_tanh hard_shrink tanh_shrink soft_shrink sparse_plus squareplus "
            "log_sigmoid linear hard_silu softmax sparse_sigmoid"
        ).split()
    },
    "relu_layer": of("ReLU", (4, 3)),
    "relu_bounded": of("ReLU", (4, 3), max_value=0.8, negative_slope=0.1, threshold=0.2),
    "leaky": of("LeakyReLU", (4, 3), negative_slope=0.2),
    "elu_layer": of("ELU", (4, 3), alpha=0.5),
    "prelu": of("PReLU", (3, 4)),
    "prelu_shared": of("PReLU", (3, 4), alpha_initializer="ones", shared_axes=[1]),
    "softmax_layer": of("Softmax", (3, 4), axis=1),
    "softmax_two": of("Softmax", (3, 4), axis=(1, 2)),
    "softmax_masked": around("Softmax", reference.masked_softmax, (6,), Given((6,), 2)),
    "thresholded": Branch(
        ("ThresholdedReLU",),
        lambda k, x: k.layers.ThresholdedReLU(theta=0.3)(x),
        (Given((9,)),),
        lambda k, x: k.layers.ReLU(threshold=0.3)(x),
    ),
}

CONVOLUTIONS = {
    "conv1d": of("Conv1D", (9, 2), filters=3, kernel_size=3, activation="relu"),
    "conv1d_causal": of("Conv1D", (9, 2), filters=3, kernel_size=3, padding="causal", dilation_rate=2),
    "conv1d_groups": of("Conv1D", (7, 4), filters=4, kernel_size=2, strides=2, groups=2),
    "conv1d_first": of("Conv1D", (2, 7), filters=3, kernel_size=3, padding="same", **FIRST),
    "conv1d_open": of("Conv1D", Given((None, 2), sizes=(7,)), filters=3, kernel_size=4, padding="same", strides=2),
    "conv2d": of("Conv2D", (6, 5, 2), filters=3, kernel_size=(3, 2), activation="tanh"),
    "conv2d_open": of("Conv2D", Given((None, None, 2), sizes=(5, 7)), filters=3, kernel_size=3, padding="same"),
    "conv2d_strided": of("Conv2D", (6, 7, 2), filters=3, kernel_size=3, strides=2, padding="same"),
    "conv2d_uneven": of("Conv2D", (6, 7, 2), filters=3, kernel_size=(2, 3), strides=(2, 1)),
    "conv2d_dilated": of("Conv2D", (7, 6, 2), filters=3, kernel_size=3, dilation_rate=2, padding="same"),
    "conv2d_dilated_valid": of("Conv2D", (7, 6, 2), filters=3, kernel_size=(2, 3), dilation_rate=(3, 2)),
    "conv2d_groups": of("Conv2D", (5, 4, 4), filters=6, kernel_size=2, groups=2),
    "conv2d_first": of("Conv2D", (3, 5, 4), filters=2, kernel_size=2, padding="same", strides=2, **FIRST),
    "conv2d_first_groups": of("Conv2D", (4, 5, 4), filters=4, kernel_size=2, groups=2, dilation_rate=2, **FIRST),
    "conv2d_pointwise": of("Conv2D", (3, 5, 4), filters=2, kernel_size=1, strides=2, use_bias=False),
    "conv3d": of("Conv3D", (3, 4, 3, 2), filters=2, kernel_size=2, padding="same"),
    "conv3d_strided": of("Conv3D", (5, 4, 3, 2), filters=2, kernel_size=(2, 3, 2), strides=(2, 1, 1)),
    "conv3d_first": of("Conv3D", (4, 3, 4, 3), filters=2, kernel_size=2, groups=2, dilation_rate=(1, 2, 1), **FIRST),
}

TRANSPOSED = {
    "up1d": of("Conv1DTranspose", (4, 3), filters=2, kernel_size=3, strides=2),
    "up1d_same": of("Conv1DTranspose", (4, 3), filters=2, kernel_size=2, strides=3, padding="same"),
    "up1d_first": of("Conv1DTranspose", (3, 4), filters=2, kernel_size=3, dilation_rate=2, **FIRST),
    "up1d_padded": of("Conv1DTranspose", (4, 3), filters=2, kernel_size=3, strides=2, output_padding=1),
    "up2d": of("Conv2DTranspose", (3, 4, 2), filters=2, kernel_size=(2, 3), strides=(1, 2)),
    "up2d_same": of("Conv2DTranspose", (3, 4, 2), filters=2, kernel_size=3, strides=2, padding="same"),
    "up2d_first": of("Conv2DTranspose", (2, 4, 3), filters=2, kernel_size=3, strides=2, padding="same", **FIRST),
    "up2d_open": of("Conv2DTranspose", Given((None, None, 2), sizes=(4, 3)), filters=2, kernel_size=3, strides=2),
    "up3d": of("Conv3DTranspose", (2, 2, 3, 2), filters=2, kernel_size=2, strides=2),
    "up3d_same": of("Conv3DTranspose", (2, 3, 2, 2), filters=2, kernel_size=3, padding="same", strides=(2, 1, 2)),
}

SEPARABLE = {
    "depthwise1d": of("DepthwiseConv1D", (6, 2), kernel_size=3, depth_multiplier=2),
    "depthwise1d_first": of("DepthwiseConv1D", (2, 6), kernel_size=3, padding="same", strides=2, **FIRST),
    "depthwise2d": of("DepthwiseConv2D", (5, 4, 3), kernel_size=3, padding="same", activation="relu"),
    "depthwise2d_strided": of("DepthwiseConv2D", (5, 6, 3), kernel_size=(2, 3), strides=2, depth_multiplier=2),
    "depthwise2d_dilated": of("DepthwiseConv2D", (5, 6, 3), kernel_size=2, dilation_rate=2, use_bias=False),
    "depthwise2d_first": of("DepthwiseConv2D", (3, 5, 6), kernel_size=3, strides=2, padding="same", **FIRST),
    "separable1d": of("SeparableConv1D", (6, 2), filters=4, kernel_size=3, strides=2, padding="same"),
    "separable1d_dilated": of("SeparableConv1D", (6, 2), filters=3, kernel_size=2, dilation_rate=2),
    "separable2d": of("SeparableConv2D", (5, 4, 3), filters=4, kernel_size=(2, 3), depth_multiplier=2),
    "separable2d_first": of("SeparableConv2D", (3, 5, 4), filters=2, kernel_size=3, padding="same", **FIRST),
    "local1d": Branch(
        ("LocallyConnected1D",),
        lambda k, x: k.layers.LocallyConnected1D(3, 3, strides=2, activation="tanh")(x),
        (Given((8, 2)),),
        lambda k, x: reference.locally_connected(k, 3, (3,), (2,))(x),
    ),
    "local2d": Branch(
        ("LocallyConnected2D",),
        lambda k, x: k.layers.LocallyConnected2D(2, (2, 3), strides=(1, 2), activation="tanh")(x),
        (Given((4, 5, 3)),),
        lambda k, x: reference.locally_connected(k, 2, (2, 3), (1, 2))(x),
    ),
}

POOLING = {
    f"{kind.lower()}{n}": of(kind + f"Pooling{rank}D", shape, **init)
    for kind in ("Max", "Average")
    for n, (rank, shape, init) in enumerate(
        [
            (1, (5, 2), {"pool_size": 2, "strides": 1}),
            (1, (2, 5), {"pool_size": 3, "strides": 2, "padding": "same", **FIRST}),
            (2, (5, 4, 2), {"pool_size": 2}),
            (2, (5, 6, 2), {"pool_size": 3, "strides": 2, "padding": "same"}),
            (2, (2, 5, 4), {"pool_size": (2, 3), "strides": (2, 1), **FIRST}),
            (2, Given((None, None, 2), sizes=(5, 7)), {"pool_size": (3, 2), "padding": "same"}),
            (3, (4, 4, 2, 2), {"pool_size": 2}),
            (3, (2, 3, 4, 3), {"pool_size": 2, "strides": 1, "padding": "same", **FIRST}),
        ]
    )
} | {
    f"global_{kind.lower()}{n}": of(f"Global{kind}Pooling{rank}D", shape, **init)
    for kind in ("Max", "Average")
    for n, (rank, shape, init) in enumerate(
        [
            (1, Given((None, 3), sizes=(5,)), {}),
            (1, (3, 5), {"keepdims": True, **FIRST}),
            (2, (4, 3, 2), {"keepdims": True}),
            (2, (2, 4, 3), FIRST),
            (3, (2, 3, 2, 2), {}),
        ]
    )
}
POOLING |= {
    f"adaptive_{kind.lower()}{rank}": of(f"Adaptive{kind}Pooling{rank}D", shape, **init)
    for kind in ("Max", "Average")
    for rank, shape, init in (
        (1, (5, 2), {"output_size": 3}),
        (2, (2, 5, 4), {"output_size": (2, 3), **FIRST}),
        (3, (3, 2, 4, 2), {"output_size": 2}),
    )
}
POOLING["global_masked"] = of("GlobalAveragePooling1D", MASKED)

SHAPES = {
    "flatten": of("Flatten", (3, 4)),
    "flatten_first": of("Flatten", (3, 4, 2), **FIRST),
    "reshape": of("Reshape", (3, 4), target_shape=(-1, 2)),
    "permute": of("Permute", (3, 4, 2), dims=(2, 1, 3)),
    "repeat": of("RepeatVector", (4,), n=3),
    "pad1d": of("ZeroPadding1D", (3, 2), padding=(1, 2)),
    "pad2d": of("ZeroPadding2D", (3, 4, 2), padding=((1, 2), (0, 3))),
    "pad2d_first": of("ZeroPadding2D", (2, 3, 4), padding=(1, 2), **FIRST),
    "pad3d": of("ZeroPadding3D", (2, 2, 2, 1), padding=((1, 0), (0, 2), (1, 1))),
    "pad3d_first": of("ZeroPadding3D", (1, 2, 2, 2), padding=1, **FIRST),
    "crop1d": of("Cropping1D", Given((None, 2), sizes=(5,)), cropping=(1, 2)),
    "crop2d": of("Cropping2D", (4, 5, 1), cropping=((1, 0), (1, 2))),
    "crop2d_first": of("Cropping2D", (1, 4, 5), cropping=1, **FIRST),
    "crop3d": of("Cropping3D", (3, 4, 3, 1)),
    "crop3d_first": of("Cropping3D", (1, 3, 4, 3), cropping=((1, 0), (1, 1), (0, 2)), **FIRST),
    "grow1d": of("UpSampling1D", (3, 2), size=3),
    "grow2d": of("UpSampling2D", (2, 3, 2), size=(2, 3)),
    "grow2d_first": of("UpSampling2D", (2, 2, 3), size=2, **FIRST),
    "grow2d_bilinear": of("UpSampling2D", (2, 3, 2), size=3, interpolation="bilinear"),
    "grow2d_bicubic": of("UpSampling2D", (3, 3, 2), size=2, interpolation="bicubic"),
    "grow2d_lanczos": of("UpSampling2D", (3, 2, 2), size=2, interpolation="lanczos3"),
    "grow3d": of("UpSampling3D", (2, 2, 2, 1)),
    "grow3d_first": of("UpSampling3D", (1, 2, 2, 2), size=(1, 2, 3), **FIRST),
}

NORMALIZATION = {
    "batch": of("BatchNormalization", (4,)),
    "batch_steps": of("BatchNormalization", (4, 3), momentum=0.9, epsilon=1e-2),
    "batch_first": of("BatchNormalization", (4, 3, 2), axis=1, scale=False, momentum=0.9),
    "batch_plain": of("BatchNormalization", (5, 3), scale=False, center=False),
    "batch_masked": of("BatchNormalization", MASKED, momentum=0.8),
    "batch_frozen": around("BatchNormalization", reference.frozen_batch_normalization, (4,)),
    "layer": of("LayerNormalization", (6,)),
    "layer_axes": of("LayerNormalization", (4, 3), axis=[1, 2], epsilon=1e-5),
    "layer_inner": of("LayerNormalization", (4, 3), axis=1, center=False),
    "layer_masked": of("LayerNormalization", MASKED, scale=False),
    "unit": of("UnitNormalization", (4,)),
    "unit_axes": of("UnitNormalization", (4, 2), axis=[1, 2]),
    "unit_inner": of("UnitNormalization", (4, 2), axis=1),
    "group": of("GroupNormalization", (3, 6), groups=2),
    "instance": of("GroupNormalization", (3, 5, 4), groups=-1, center=False),
    "group_first": of("GroupNormalization", (4, 3, 5), groups=2, axis=1, scale=False),
    "rms": of("RMSNormalization", (4,)),
    "rms_steps": of("RMSNormalization", STEPS, epsilon=1e-3),
    "spectral": around(
        "SpectralNormalization",
        lambda k, x: k.layers.SpectralNormalization(k.layers.Dense(3, activation="tanh"), power_iterations=2)(x),
        (4,),
    ),
    "spectral_conv": around(
        "SpectralNormalization",
        lambda k, x: k.layers.SpectralNormalization(k.layers.Conv2D(3, 2))(x),
        (4, 3, 2),
    ),
    "standard": of("Normalization", (4,), mean=[0.5, 1.0, 0.0, -1.0], variance=[1.0, 2.0, 3.0, 0.5]),
    "standard_axes": of("Normalization", (4, 2), axis=None, mean=0.5, variance=2.0, invert=True),
}

MERGING = {
    "add": of("Add", (3,), (3,), (1,)),
    "add_steps": of("Add", STEPS, STEPS),
    "subtract": of("Subtract", (3,), (3,)),
    "multiply": of("Multiply", (4, 3), (4, 3), (1, 3)),
    "average": of("Average", (3,), (3,), (3,)),
    "maximum": of("Maximum", (5,), (5,), (5,)),
    "minimum": of("Minimum", (5,), (5,)),
    "concatenate": of("Concatenate", (3, 2), (1, 2), axis=1),
    "concatenate_last": of("Concatenate", STEPS, STEPS),
    "concatenate_masked": of("Concatenate", MASKED, MASKED, axis=1),
    "add_masked": of("Add", MASKED, MASKED),
    "dot": of("Dot", (3,), (3,), axes=1),
    "dot_steps": of("Dot", (3, 4), (5, 3), axes=(1, 2), normalize=True),
}

RECURRENT = {
    "simple": of("SimpleRNN", STEPS, units=4),
    "simple_masked": of("SimpleRNN", MASKED, units=3, activation="relu", return_sequences=True),
    "lstm": of("LSTM", STEPS, units=4, return_sequences=True),
    "lstm_masked": of("LSTM", MASKED, units=3, go_backwards=True, use_bias=False),
    "lstm_states": of("LSTM", (4, 2), units=3, return_state=True, unit_forget_bias=False, recurrent_regularizer="l2"),
    "lstm_zeros": of("LSTM", MASKED, units=3, return_sequences=True, zero_output_for_mask=True),
    "lstm_unrolled": of("LSTM", (3, 2), units=3, unroll=True, recurrent_activation="hard_sigmoid"),
    "gru": of("GRU", STEPS, units=4, return_sequences=True, go_backwards=True),
    "gru_before": of("GRU", (4, 2), units=3, reset_after=False),
    "gru_masked": of("GRU", MASKED, units=3, return_state=True),
    "cudnn_lstm": of("CuDNNLSTM", (4, 2), units=3, like="LSTM"),
    "cudnn_gru": of("CuDNNGRU", (4, 2), units=3, like="GRU"),
    "from_states": around(
        "LSTM", lambda k, x, h, c: k.layers.LSTM(3, return_sequences=True)(x, initial_state=[h, c]), (4, 2), (3,), (3,)
    ),
}

CELLS = {
    "simple_cell": around(
        "RNN SimpleRNNCell", lambda k, x: k.layers.RNN(k.layers.SimpleRNNCell(3), return_sequences=True)(x), (4, 2)
    ),
    "lstm_cell": around("RNN LSTMCell", lambda k, x: k.layers.RNN(k.layers.LSTMCell(3), unroll=True)(x), (4, 2)),
    "gru_cell": around("RNN GRUCell", lambda k, x: k.layers.RNN(k.layers.GRUCell(3), go_backwards=True)(x), STEPS),
    "cell_alone": around("LSTMCell", lambda k, x, h, c: k.layers.LSTMCell(3)(x, [h, c])[0], (4,), (3,), (3,)),
    "stacked": around("StackedRNNCells", reference.stacked_cells, MASKED),
    "user_cell": around("AbstractRNNCell", reference.user_cell, STEPS),
    "both_ways": around(
        "Bidirectional",
        lambda k, x: k.layers.Bidirectional(k.layers.LSTM(3, return_sequences=True), merge_mode="mul")(x),
        MASKED,
    ),
    "both_ways_last": around("Bidirectional", lambda k, x: k.layers.Bidirectional(k.layers.GRU(3))(x), (4, 2)),
    "each_step": around("TimeDistributed", lambda k, x: k.layers.TimeDistributed(k.layers.Dense(2))(x), MASKED),
    "each_image": around(
        "TimeDistributed",
        lambda k, x: k.layers.TimeDistributed(k.layers.Conv2D(2, 2, activation="relu"))(x),
        (3, 4, 3, 2),
    ),
    "wrapped": around("Wrapper", reference.wrapper, (4,)),
}

RECURRENT_CONVOLUTIONS = {
    "conv_lstm1d": of("ConvLSTM1D", (3, 5, 2), filters=2, kernel_size=2, strides=2),
    "conv_lstm2d": of("ConvLSTM2D", (3, 3, 4, 2), filters=2, kernel_size=3, padding="same", return_sequences=True),
    "conv_lstm2d_first": of("ConvLSTM2D", (2, 2, 3, 2), filters=2, kernel_size=(2, 1), **FIRST),
    "conv_lstm3d": of("ConvLSTM3D", (2, 2, 3, 2, 1), filters=1, kernel_size=2),
}

Q, V = (5, 4), (7, 4)
HEADS = {"num_heads": 2, "key_dim": 3}
GROUPS = {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}
MASKED_V = Given(V, masked=True)
ATTENTION = {
    "dot_attention": of("Attention", Q, V),
    "scaled": of("Attention", Q, V, V, use_scale=True, call={"use_causal_mask": True}),
    "scores": of("Attention", Q, V, score_mode="concat", use_scale=True, call={"return_attention_scores": True}),
    "attention_masked": of("Attention", Given(Q, masked=True), MASKED_V),
    "additive": of("AdditiveAttention", Q, V),
    "additive_masked": of("AdditiveAttention", Given(Q, masked=True), MASKED_V, use_scale=False),
    "heads": around("MultiHeadAttention", lambda k, x: k.layers.MultiHeadAttention(**HEADS)(x, x), Q),
    "heads_open": around(
        "MultiHeadAttention",
        lambda k, q, v: k.layers.MultiHeadAttention(**HEADS, output_shape=5)(q, v, use_causal_mask=True),
        Given((None, 4), sizes=(5,)),
        Given((None, 4), sizes=(6,)),
    ),
    "heads_masked": around(
        "MultiHeadAttention",
        lambda k, q, v: k.layers.MultiHeadAttention(**HEADS, use_bias=False)(q, v),
        Given(Q, masked=True),
        MASKED_V,
    ),
    "heads_scores": around(
        "MultiHeadAttention",
        lambda k, q, v: k.layers.MultiHeadAttention(**HEADS, value_dim=2)(q, v, return_attention_scores=True),
        Q,
        V,
    ),
    "grouped": around("GroupQueryAttention", lambda k, q, v: k.layers.GroupQueryAttention(**GROUPS)(q, v), Q, V),
    "grouped_causal": around(
        "GroupQueryAttention",
        lambda k, q, v: k.layers.GroupQueryAttention(**GROUPS, use_bias=False)(q, v, use_causal_mask=True),
        Q,
        Q,
    ),
}


def image(name: str, shape=(5, 6, 2), **init: Any) -> Branch:
    """Return a branch of a layer on images whose random factors are fixed."""
    return of(name, Given(shape, positive=True), **init)


PREPROCESSING = {
    "rescaling": of("Rescaling", (3,), scale=[0.5, 2.0, 1.0], offset=-1.0),
    "center_crop": image("CenterCrop", height=3, width=4),
    "center_crop_grown": image("CenterCrop", height=8, width=4),
    "resizing": image("Resizing", height=4, width=9),
    "resizing_first": image("Resizing", (2, 5, 6), height=8, width=5, **FIRST),
    "resizing_cubic": image("Resizing", height=9, width=5, interpolation="bicubic"),
    "resizing_cut": image("Resizing", height=4, width=4, crop_to_aspect_ratio=True),
    "resizing_padded": image("Resizing", height=4, width=4, pad_to_aspect_ratio=True),
    "brightness": image("RandomBrightness", factor=(0.2, 0.2), value_range=(0.0, 1.0)),
    "contrast": image("RandomContrast", factor=(0.0, 0.0), value_range=(0.0, 1.0)),
    "rotation": image("RandomRotation", factor=(0.1, 0.1)),
    "rotation_constant": image("RandomRotation", factor=(0.2, 0.2), fill_mode="constant", fill_value=0.5),
    "translation": image("RandomTranslation", height_factor=(0.2, 0.2), width_factor=(-0.3, -0.3)),
    "zoom": image("RandomZoom", height_factor=(0.3, 0.3)),
    "zoom_in": image("RandomZoom", height_factor=(-0.3, -0.3), width_factor=(0.2, 0.2), fill_mode="nearest"),
    "crop": image("RandomCrop", height=5, width=6),
}


def counted(name: str, given: Given, **init: Any) -> Branch:
    """Return a branch whose layer gives integers or no gradient; a dense layer reads its results."""

    def build(k, x):
        return k.layers.Dense(2)(k.ops.cast(getattr(k.layers, name)(**init)(x), "float32"))

    return Branch((name,), build, (given,))


INDICES = {
    "encoding": counted("CategoryEncoding", Given((5,), 4), num_tokens=4),
    "encoding_one_hot": counted("CategoryEncoding", Given((1,), 4), num_tokens=4, output_mode="one_hot"),
    "encoding_count": counted("CategoryEncoding", Given((5,), 3), num_tokens=3, output_mode="count"),
    "bins": counted("Discretization", Given((5,)), bin_boundaries=[-0.5, 0.0, 1.0]),
    "bins_multi_hot": counted("Discretization", Given((4,)), bin_boundaries=[0.0, 1.0], output_mode="multi_hot"),
}

FAMILIES = {
    "plain": PLAIN,
    "activations": ACTIVATIONS,
    "convolutions": CONVOLUTIONS,
    "transposed": TRANSPOSED,
    "separable": SEPARABLE,
    "pooling": POOLING,
    "shapes": SHAPES,
    "normalization": NORMALIZATION,
    "merging": MERGING,
    "recurrent": RECURRENT,
    "cells": CELLS,
    "recurrent_convolutions": RECURRENT_CONVOLUTIONS,
    "attention": ATTENTION,
    "preprocessing": PREPROCESSING,
    "indices": INDICES,
}
# registered layers without a branch, and why
ELSEWHERE = {
    "RandomFlip": "random in training, whatever its arguments (preprocessing/test_images.py)",
    "InputLayer": "computes nothing",
    "ConvLSTMCell": "the cell of the ConvLSTM layers; Keras has it of a fixed rank, and names it for none",
    "HashedCrossing": "as Hashing",
    "Hashing": "strings and integers to indices, before the compiled program (preprocessing/test_strings.py)",
    "IntegerLookup": "as Hashing",
    "StringLookup": "as Hashing",
    "TextVectorization": "as Hashing",
    "Pipeline": "its layers one after the other (preprocessing/test_augmentations.py)",
    "ReversibleEmbedding": "two steps and predictions beside Keras (test_layer.py)",
    "STFTSpectrogram": "values and gradients in test_all.py",
    "MelSpectrogram": "as STFTSpectrogram",
    **dict.fromkeys(
        "RandomShear RandomPerspective RandomElasticTransform RandomColorDegeneration RandomColorJitter "
        "RandomSaturation RandomHue RandomGrayscale RandomInvert RandomPosterization Solarization RandomSharpness "
        "RandomGaussianBlur RandomErasing AutoContrast Equalization ContrastLimitedAdaptiveHistogramEqualization "
        "CutMix MixUp RandAugment AugMix MaxNumBoundingBoxes".split(),
        "from the same draws, beside Keras (preprocessing/test_augmentations.py)",
    ),
}
