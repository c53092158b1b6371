"""Every registered layer: `check_layer`, and outputs, shapes, weights and configs against real Keras."""

import numpy as np
import pytest

from kcompile import plugins
from kcompile.keras import layers
from kcompile.testing import check_layer, random_inputs

# layer, constructor arguments, input shape(s), further arguments of check_layer
CASES = [
    ("Dense", {"units": 3, "activation": "tanh"}, (4, 5), {"expected_num_trainable_weights": 2}),
    ("Dense", {"units": 2, "use_bias": False}, (2, 3, 4), {}),
    ("Dense", {"units": 2, "kernel_regularizer": "l2", "bias_constraint": "non_neg"}, (2, 3), {}),
    ("Activation", {"activation": "gelu"}, (2, 3), {}),
    ("ReLU", {}, (2, 3), {}),
    ("ReLU", {"max_value": 0.8, "negative_slope": 0.1, "threshold": 0.2}, (4, 6), {}),
    ("ReLU", {"max_value": 6}, (4, 6), {}),
    ("LeakyReLU", {}, (2, 3), {}),
    ("LeakyReLU", {"negative_slope": 0.1}, (2, 3), {}),
    ("ELU", {"alpha": 0.5}, (2, 3), {}),
    ("PReLU", {"alpha_initializer": "ones", "shared_axes": [1]}, (2, 3, 4), {}),
    ("Softmax", {"axis": 1}, (2, 3, 4), {}),
    ("Softmax", {"axis": (1, 2)}, (2, 3, 4), {}),
    ("ThresholdedReLU", {"theta": 0.3}, (2, 3), {}),
    ("Dropout", {"rate": 0.4}, (4, 5), {}),
    ("Dropout", {"rate": 0.4, "seed": 3, "noise_shape": (None, 1)}, (4, 5), {"training": True}),
    ("SpatialDropout1D", {"rate": 0.4}, (2, 3, 4), {"training": True}),
    ("SpatialDropout2D", {"rate": 0.4}, (2, 3, 4, 2), {"training": True}),
    ("SpatialDropout3D", {"rate": 0.4}, (2, 3, 2, 2, 2), {"training": True}),
    ("GaussianNoise", {"stddev": 0.3}, (2, 3), {"training": True}),
    ("GaussianDropout", {"rate": 0.3}, (2, 3), {"training": True}),
    ("AlphaDropout", {"rate": 0.3}, (4, 3), {"training": True}),
    ("ActivityRegularization", {"l1": 0.1, "l2": 0.01}, (2, 3), {}),
    ("Flatten", {}, (2, 3, 4), {"expected_output_shape": (2, 12)}),
    ("Flatten", {"data_format": "channels_first"}, (2, 3, 4, 2), {}),
    ("Flatten", {}, (3,), {"expected_output_shape": (3, 1)}),
    ("Reshape", {"target_shape": (-1, 2)}, (2, 3, 4), {"expected_output_shape": (2, 6, 2)}),
    ("Reshape", {"target_shape": (4, 3)}, (2, 12), {}),
    ("Permute", {"dims": (2, 1, 3)}, (2, 3, 4, 5), {}),
    ("RepeatVector", {"n": 3}, (2, 4), {}),
    ("Identity", {}, (2, 3), {}),
    ("Masking", {"mask_value": 0.0}, (2, 3, 2), {}),
    ("Conv1D", {"filters": 3, "kernel_size": 3, "padding": "causal", "dilation_rate": 2}, (2, 9, 2), {}),
    ("Conv1D", {"filters": 4, "kernel_size": 2, "strides": 2, "groups": 2, "activation": "relu"}, (2, 7, 4), {}),
    ("Conv2D", {"filters": 3, "kernel_size": (3, 2)}, (2, 6, 5, 2), {}),
    ("Conv2D", {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same"}, (2, 6, 7, 2), {}),
    ("Conv2D", {"filters": 2, "kernel_size": 2, "data_format": "channels_first"}, (2, 3, 5, 4), {}),
    ("Conv3D", {"filters": 2, "kernel_size": 2, "padding": "same"}, (1, 3, 4, 3, 2), {}),
    ("Conv1DTranspose", {"filters": 2, "kernel_size": 3, "strides": 2}, (2, 4, 3), {}),
    ("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "strides": 2, "padding": "same"}, (2, 3, 4, 2), {}),
    ("Conv3DTranspose", {"filters": 2, "kernel_size": 2, "strides": 2}, (1, 2, 2, 2, 2), {}),
    ("DepthwiseConv1D", {"kernel_size": 3, "depth_multiplier": 2}, (2, 6, 2), {}),
    ("DepthwiseConv2D", {"kernel_size": 3, "padding": "same"}, (2, 5, 4, 3), {}),
    ("SeparableConv1D", {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}, (2, 6, 2), {}),
    ("SeparableConv2D", {"filters": 4, "kernel_size": (2, 3), "depth_multiplier": 2}, (2, 5, 4, 3), {}),
    ("MaxPooling1D", {"pool_size": 2, "strides": 1}, (2, 5, 2), {}),
    ("MaxPooling2D", {}, (2, 5, 4, 2), {}),
    ("MaxPooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}, (2, 5, 6, 2), {}),
    ("MaxPooling2D", {"data_format": "channels_first"}, (2, 2, 5, 4), {}),
    ("MaxPooling3D", {}, (1, 4, 4, 2, 2), {}),
    ("AveragePooling1D", {"pool_size": 2}, (2, 5, 2), {}),
    ("AveragePooling2D", {"pool_size": 2, "strides": 2, "padding": "same"}, (2, 5, 4, 2), {}),
    ("AveragePooling3D", {"pool_size": 2}, (1, 4, 4, 2, 2), {}),
    ("GlobalMaxPooling1D", {}, (2, 5, 3), {}),
    ("GlobalMaxPooling2D", {"keepdims": True}, (2, 4, 3, 2), {}),
    ("GlobalMaxPooling3D", {}, (1, 2, 3, 2, 2), {}),
    ("GlobalAveragePooling1D", {}, (2, 5, 3), {}),
    ("GlobalAveragePooling2D", {"data_format": "channels_first"}, (2, 4, 3, 2), {}),
    ("GlobalAveragePooling3D", {}, (1, 2, 3, 2, 2), {}),
    ("AdaptiveMaxPooling1D", {"output_size": 3}, (2, 5, 3), {}),
    ("AdaptiveMaxPooling2D", {"output_size": (2, 3), "data_format": "channels_first"}, (2, 2, 5, 4), {}),
    ("AdaptiveMaxPooling3D", {"output_size": 2}, (1, 3, 2, 4, 2), {}),
    ("AdaptiveAveragePooling1D", {"output_size": 3, "data_format": "channels_first"}, (2, 3, 5), {}),
    ("AdaptiveAveragePooling2D", {"output_size": (2, 3)}, (2, 5, 4, 2), {}),
    ("AdaptiveAveragePooling3D", {"output_size": 2}, (1, 3, 2, 4, 2), {}),
    ("ZeroPadding1D", {"padding": (1, 2)}, (2, 3, 2), {}),
    ("ZeroPadding2D", {"padding": ((1, 2), (0, 3))}, (2, 3, 4, 1), {}),
    ("ZeroPadding2D", {"padding": (1, 2), "data_format": "channels_first"}, (2, 3, 4, 1), {}),
    ("ZeroPadding3D", {"padding": 1}, (1, 2, 2, 2, 1), {}),
    ("Cropping1D", {"cropping": 1}, (2, 5, 2), {}),
    ("Cropping2D", {"cropping": ((1, 0), (1, 2))}, (2, 4, 5, 1), {}),
    ("Cropping3D", {}, (1, 3, 4, 3, 1), {}),
    ("UpSampling1D", {"size": 3}, (2, 3, 2), {}),
    ("UpSampling2D", {"size": (2, 3)}, (2, 2, 3, 2), {}),
    ("UpSampling2D", {"size": 3, "interpolation": "bilinear"}, (2, 2, 3, 2), {}),
    ("UpSampling3D", {}, (1, 2, 2, 2, 1), {}),
    ("BatchNormalization", {}, (5, 4), {"expected_num_non_trainable_weights": 2}),
    ("BatchNormalization", {}, (3, 4, 2), {"training": True}),
    ("BatchNormalization", {"axis": 1, "scale": False, "momentum": 0.9}, (3, 4, 2, 2), {"training": True}),
    ("LayerNormalization", {}, (3, 4), {}),
    ("LayerNormalization", {"axis": [1, 2], "epsilon": 1e-5}, (3, 4, 2), {}),
    ("LayerNormalization", {"axis": 1, "center": False}, (3, 4, 2), {}),
    ("UnitNormalization", {}, (3, 4), {}),
    ("UnitNormalization", {"axis": [1, 2]}, (3, 4, 2), {}),
    ("GroupNormalization", {"groups": 2}, (3, 4, 6), {}),
    ("GroupNormalization", {"groups": -1, "center": False}, (2, 3, 5, 4), {}),
    ("GroupNormalization", {"groups": 2, "axis": 1, "scale": False}, (2, 4, 3, 5), {}),
    ("RMSNormalization", {}, (3, 4), {"expected_num_trainable_weights": 1}),
    ("RMSNormalization", {"epsilon": 1e-3}, (2, 3, 4), {}),
    ("EinsumDense", {"equation": "ab,bc->ac", "output_shape": 3, "bias_axes": "c", "activation": "tanh"}, (2, 4), {}),
    ("EinsumDense", {"equation": "...x,xy->...y", "output_shape": 3, "bias_axes": "y"}, (2, 4, 3, 5), {}),
    ("EinsumDense", {"equation": "abc,cde->abde", "output_shape": [None, 2, 3], "bias_axes": "de"}, (2, 4, 5), {}),
    ("EinsumDense", {"equation": "ab...,bc->ac...", "output_shape": 3, "bias_axes": "c"}, (2, 4, 5), {}),
    ("LocallyConnected1D", {"filters": 3, "kernel_size": 3, "strides": 2, "activation": "tanh"}, (2, 8, 2), {}),
    ("LocallyConnected2D", {"filters": 3, "kernel_size": (2, 3)}, (2, 4, 5, 2), {}),
    (
        "LocallyConnected2D",
        {"filters": 2, "kernel_size": 2, "strides": (1, 2), "data_format": "channels_first", "use_bias": False},
        (2, 3, 4, 5),
        {},
    ),
    ("Rescaling", {"scale": 0.5, "offset": -1.0}, (2, 3), {}),
    ("Rescaling", {"scale": [0.5, 2.0, 1.0]}, (2, 3), {}),
    ("Normalization", {}, (3, 4), {"expected_num_non_trainable_weights": 3}),
    ("Normalization", {"axis": None, "mean": 0.5, "variance": 2.0}, (3, 4), {}),
    ("Normalization", {"axis": (1, 2), "mean": [1.0, 2.0], "variance": [2.0, 3.0], "invert": True}, (3, 4, 2), {}),
    ("CategoryEncoding", {"num_tokens": 4}, (3, 5), {"input_dtype": "int32"}),
    ("CategoryEncoding", {"num_tokens": 5, "output_mode": "one_hot"}, (3, 2), {"input_dtype": "int32"}),
    ("CategoryEncoding", {"num_tokens": 5, "output_mode": "one_hot"}, (3, 1), {"input_dtype": "int32"}),
    ("CategoryEncoding", {"num_tokens": 3, "output_mode": "count"}, (3, 5), {"input_dtype": "int32"}),
    ("Discretization", {"bin_boundaries": [-0.5, 0.0, 1.0]}, (3, 5), {"gradient": False}),
    ("Discretization", {"bin_boundaries": [0.0, 1.0], "output_mode": "one_hot"}, (3, 1), {"gradient": False}),
    ("Discretization", {"bin_boundaries": [0.0, 1.0], "output_mode": "multi_hot"}, (3, 4), {"gradient": False}),
    ("Discretization", {"bin_boundaries": [0.0, 1.0], "output_mode": "count"}, (3, 4), {"gradient": False}),
    ("Embedding", {"input_dim": 5, "output_dim": 3}, (2, 4), {"input_dtype": "int32"}),
    ("Add", {}, [(2, 3), (2, 3), (2, 1)], {}),
    ("Subtract", {}, [(2, 3), (2, 3)], {}),
    ("Multiply", {}, [(2, 3), (2, 3)], {}),
    ("Average", {}, [(2, 3), (2, 3), (2, 3)], {}),
    ("Maximum", {}, [(2, 3), (2, 3)], {}),
    ("Minimum", {}, [(2, 3), (2, 3)], {}),
    ("Concatenate", {"axis": 1}, [(2, 3, 2), (2, 1, 2)], {}),
    ("Dot", {"axes": 1}, [(2, 3), (2, 3)], {}),
    ("Dot", {"axes": (1, 2), "normalize": True}, [(2, 3, 4), (2, 5, 3)], {}),
    ("SimpleRNN", {"units": 3}, (2, 4, 5), {"expected_num_trainable_weights": 3}),
    ("SimpleRNN", {"units": 3, "activation": None, "return_sequences": True, "unroll": True}, (2, 3, 2), {}),
    ("LSTM", {"units": 3, "return_sequences": True}, (3, 4, 5), {"expected_output_shape": (3, 4, 3)}),
    ("LSTM", {"units": 2, "go_backwards": True, "use_bias": False}, (2, 3, 5), {}),
    ("LSTM", {"units": 2, "unit_forget_bias": False, "recurrent_regularizer": "l2"}, (2, 1, 3), {}),
    ("LSTM", {"units": 2, "dropout": 0.4, "seed": 1}, (2, 3, 2), {"training": True}),
    ("LSTM", {"units": 2, "recurrent_dropout": 0.4, "seed": 1}, (2, 3, 2), {"training": True}),
    ("GRU", {"units": 3, "return_sequences": True, "go_backwards": True}, (2, 4, 3), {}),
    ("GRU", {"units": 3, "reset_after": False, "recurrent_activation": "hard_sigmoid"}, (3, 4, 2), {}),
    ("GRU", {"units": 2, "dropout": 0.4, "recurrent_dropout": 0.2, "seed": 1}, (2, 3, 2), {"training": True}),
    ("GRU", {"units": 2, "reset_after": False, "recurrent_dropout": 0.2, "seed": 1}, (2, 3, 2), {"training": True}),
    ("CuDNNLSTM", {"units": 3, "return_state": True}, (2, 4, 2), {}),
    ("CuDNNGRU", {"units": 3}, (2, 4, 2), {}),
    ("ConvLSTM1D", {"filters": 2, "kernel_size": 2, "strides": 2}, (2, 3, 5, 2), {}),
    ("ConvLSTM2D", {"filters": 2, "kernel_size": 3, "padding": "same"}, (2, 3, 3, 4, 2), {}),
    ("ConvLSTM2D", {"filters": 2, "kernel_size": (2, 1), "data_format": "channels_first"}, (1, 2, 2, 3, 2), {}),
    ("ConvLSTM2D", {"filters": 2, "kernel_size": 2, "dropout": 0.3, "seed": 1}, (1, 2, 3, 3, 1), {"training": True}),
    ("ConvLSTM3D", {"filters": 1, "kernel_size": 2, "return_sequences": True}, (1, 2, 2, 3, 2, 1), {}),
    ("STFTSpectrogram", {"frame_length": 8, "mode": "psd", "scaling": None}, (2, 30, 2), {}),
    ("STFTSpectrogram", {"frame_length": 6, "mode": "stft", "expand_dims": True, "padding": "same"}, (1, 20, 2), {}),
    (
        "STFTSpectrogram",
        {"frame_length": 5, "frame_step": 2, "fft_length": 8, "window": "hamming", "data_format": "channels_first"},
        (2, 2, 17),
        {},
    ),
    (
        "MelSpectrogram",
        {"fft_length": 16, "sequence_stride": 8, "num_mel_bins": 5, "sampling_rate": 2000, "power_to_db": False},
        (2, 40),
        {},
    ),
    (
        "MelSpectrogram",
        {"fft_length": 16, "sequence_length": 12, "num_mel_bins": 3, "sampling_rate": 1000, "mag_exp": 1.0},
        (2, 40),
        {"gradient": False},  # everything far below the maximum is one number
    ),
]
IDS = [f"{n}-{c[0]}" for n, c in enumerate(CASES)]
# registered by our modules, but no layer to be called with these checks, or checked elsewhere
ELSEWHERE = {"InputLayer", "Lambda", "Model", "Functional", "Sequential", "FeatureSpace"}
ELSEWHERE |= {"RNN", "AbstractRNNCell", "StackedRNNCells", "Bidirectional"}  # rnn/
ELSEWHERE |= {"SimpleRNNCell", "LSTMCell", "GRUCell", "ConvLSTMCell"}
ELSEWHERE |= {"Wrapper", "TimeDistributed", "SpectralNormalization"}  # around a layer: test_wrappers.py
ELSEWHERE |= {
    "Hashing",
    "HashedCrossing",
    "StringLookup",
    "IntegerLookup",
    "TextVectorization",
}  # preprocessing/test_strings.py
ELSEWHERE |= {
    "Resizing",
    "CenterCrop",
    "RandomCrop",
    "RandomFlip",
    "RandomBrightness",
    "RandomContrast",
}  # test_images.py
ELSEWHERE |= {"RandomRotation", "RandomTranslation", "RandomZoom"}
ELSEWHERE |= set(
    "RandomShear RandomPerspective RandomElasticTransform RandomColorDegeneration RandomColorJitter RandomSaturation "
    "RandomHue RandomGrayscale RandomInvert RandomPosterization Solarization RandomSharpness RandomGaussianBlur "
    "RandomErasing AutoContrast Equalization ContrastLimitedAdaptiveHistogramEqualization CutMix MixUp RandAugment "
    "AugMix MaxNumBoundingBoxes Pipeline".split()
)  # test_augmentations.py
ELSEWHERE |= {"ReversibleEmbedding"}  # test_layer.py
ELSEWHERE |= {"Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention"}  # test_attention.py
# Keras 3 has no such layer, or draws other random numbers, or needs no comparison
NOT_IN_KERAS = {"ThresholdedReLU", "CuDNNLSTM", "CuDNNGRU", "LocallyConnected1D", "LocallyConnected2D"}
in_keras = pytest.mark.parametrize(
    "name, init, shape, more", [pytest.param(*c, id=i) for c, i in zip(CASES, IDS) if c[0] not in NOT_IN_KERAS]
)


def test_every_layer_has_a_case():
    ours = {n for n in plugins.names("layers", aliases=False) if plugins.get("layers", n).__module__.startswith("kc")}
    assert ours - {c[0] for c in CASES} <= ELSEWHERE


@pytest.mark.parametrize("name, init, shape, more", CASES, ids=IDS)
def test_promises(name, init, shape, more):
    check_layer(getattr(layers, name), init, input_shape=shape, **more)


@in_keras
def test_against_keras(name, init, shape, more, real_keras):
    random = more.get("training") and "BatchNormalization" != name
    x = random_inputs(np.random.default_rng(0), shape, more.get("input_dtype", "float32"))
    ours, theirs = getattr(layers, name)(**init, name="it"), getattr(real_keras.layers, name)(**init, name="it")
    kwargs = {"training": True} if more.get("training") else {}
    first, expected = ours(x, **kwargs), theirs(x, **kwargs)
    assert first.shape == tuple(expected.shape) and str(first.dtype) == str(expected.dtype)
    rng = np.random.default_rng(1)
    assert [w.shape for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    assert [w.trainable for w in ours.weights] == [w.trainable for w in theirs.weights]
    values = [rng.uniform(0.5, 1.5, w.shape).astype("f") for w in ours.weights]
    ours.set_weights(values)
    theirs.set_weights(values)
    if name == "Normalization":
        theirs.finalize_state()  # Keras keeps copies of these weights
    if not random:
        np.testing.assert_allclose(ours(x, **kwargs), np.asarray(theirs(x, **kwargs)), rtol=2e-5, atol=2e-5)
        for one, other in zip(ours.get_weights(), theirs.get_weights()):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    losses = [float(loss) for loss in ours.losses]
    np.testing.assert_allclose(losses, [float(loss) for loss in theirs.losses], rtol=1e-5)


@in_keras
def test_configs_travel(name, init, shape, more, real_keras):
    ours, theirs = getattr(layers, name)(**init, name="it"), getattr(real_keras.layers, name)(**init, name="it")
    read = type(theirs).from_config(ours.get_config())
    assert plain(read.get_config()) == plain(theirs.get_config())
    back = type(ours).from_config(theirs.get_config())
    assert plain(back.get_config()) == plain(ours.get_config())


def plain(value):
    """Tuples and lists are one thing in JSON; object ids are Keras's own."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k != "shared_object_id"}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value
