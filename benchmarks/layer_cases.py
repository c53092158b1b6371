"""The rows of `layers.py`: one case or more per layer, written as plain data.

A case says which layer, with which arguments, on which inputs; `benchmarks/layers_keras.py` builds it with any
module called keras, `benchmarks/layers_torch.py` as its twin. Sizes are those of layers in real networks, large
enough that the kernels count and not the call, small enough for a few milliseconds. FORWARD is inference of a model
of that one layer, TRAIN a step of plain gradient descent on the mean square of its output; behind each input
stands one trainable number, so that every peer needs the gradient of the input too.

REASONS says why a row may be slower than LEAST of the best peer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

FORWARD, TRAIN = "forward", "train"
BOTH = (FORWARD, TRAIN)
LEAST = 0.7  # of the best peer's speed: a slower row needs a reason
LIST, APART = "list", "apart"  # how a layer takes several inputs


@dataclass(frozen=True)
class Made:
    """A layer within a layer: a class and its arguments."""

    layer: str
    config: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A layer on inputs. shapes: with the batch; top: whole numbers are drawn below it; takes: LIST or APART;
    training: inference does what training does (noise); keras: what real Keras has in its place, None: nothing."""

    layer: str
    config: Mapping[str, object]
    shapes: tuple[tuple[int, ...], ...]
    modes: tuple[str, ...] = BOTH
    note: str = ""
    dtype: str = "float32"
    top: int = 0
    takes: str = LIST
    training: bool = False
    keras: Made | str | None = ""
    quick: bool = False

    @property
    def name(self) -> str:
        return f"{self.layer} {self.note}".strip()

    def made(self, ours: bool) -> Made | None:
        """The layer in kcompile's words, or in those of real Keras, which may have none."""
        own = Made(self.layer, self.config) if self.wrapped is None else self.wrapped
        return own if ours or self.keras == "" else self.keras

    @property
    def wrapped(self) -> Made | None:
        """A cell runs within RNN."""
        if self.layer.endswith(("Cell", "Cells")):
            return Made("RNN", {"cell": Made(self.layer, self.config)})
        return None


@dataclass(frozen=True)
class Row:
    """A case in one of its modes."""

    case: Case
    mode: str

    @property
    def name(self) -> str:
        return f"{self.case.name} {self.mode}"


def _case(layer: str, /, *shapes: tuple[int, ...], modes=BOTH, note="", dtype="float32", top=0, takes=LIST,
          training=False, keras="", quick=False, **config) -> Case:  # fmt: skip
    return Case(layer, config, shapes, modes, note, dtype, top, takes, training, keras, quick)


def _line(x):
    return 2.0 * x + 1.0


MAP = (8, 32, 32, 64)
VIDEO = (2, 8, 16, 16, 32)
LINE = (32, 128, 64)
PHOTOS = (8, 96, 96, 3)
TOKENS = (32, 256)
_words = tuple(f"word{n}" for n in range(1000))
_lstm = Made("LSTM", {"units": 64})
_gru = Made("GRU", {"units": 64})
_steps = {"units": 64}

CORE = (
    _case("Dense", (128, 784), units=512, activation="relu", quick=True),
    _case("Dense", (32, 64, 256), units=256, note="on steps"),
    _case("Activation", MAP, activation="relu", note="relu"),
    _case("Activation", MAP, activation="tanh", note="tanh"),
    _case("Activation", MAP, activation="gelu", note="gelu"),
    _case("Flatten", MAP),
    _case("Reshape", MAP, target_shape=(1024, 64)),
    _case("Permute", (16, 128, 256), dims=(2, 1)),
    _case("RepeatVector", (64, 256), n=32),
    _case("Lambda", MAP, function=_line),
    _case("ActivityRegularization", MAP, l1=1e-4, l2=1e-4),
    _case("Masking", LINE),
    _case("Identity", MAP),
    _case("Embedding", TOKENS, dtype="int32", top=10000, input_dim=10000, output_dim=128, quick=True),
    _case("EinsumDense", (8, 128, 256), equation="abc,cde->abde", output_shape=(None, 8, 32), bias_axes="de"),
    _case("TimeDistributed", (8, 16, 16, 16, 16), layer=Made("Conv2D", {"filters": 32, "kernel_size": 3})),
)

CONVOLUTION = (
    _case("Conv1D", (16, 256, 64), filters=64, kernel_size=3, padding="same", activation="relu"),
    _case("Conv1D", (16, 512, 32), filters=32, kernel_size=2, dilation_rate=4, padding="causal", note="causal"),
    _case("Conv2D", (8, 28, 28, 64), filters=64, kernel_size=3, padding="same", activation="relu"),
    _case("Conv2D", (8, 56, 56, 32), filters=64, kernel_size=3, strides=2, padding="same", note="strided"),
    _case("Conv2D", (8, 28, 28, 128), filters=128, kernel_size=1, note="1x1"),
    _case("Conv2D", (8, 28, 28, 64), filters=64, kernel_size=3, groups=4, padding="same", note="groups"),
    _case("Conv2D", (8, 28, 28, 64), filters=64, kernel_size=3, dilation_rate=2, padding="same", note="dilated"),
    _case("Conv3D", (2, 16, 16, 16, 16), filters=32, kernel_size=3, padding="same", activation="relu"),
    _case("SeparableConv1D", (16, 512, 64), filters=64, kernel_size=3, padding="same"),
    _case("SeparableConv2D", (8, 28, 28, 128), filters=128, kernel_size=3, padding="same"),
    _case("DepthwiseConv1D", (32, 256, 128), kernel_size=5, padding="same"),
    _case("DepthwiseConv2D", (8, 28, 28, 192), kernel_size=3, padding="same"),
    _case("Conv1DTranspose", (16, 128, 64), filters=32, kernel_size=4, strides=2, padding="same"),
    _case("Conv2DTranspose", (8, 16, 16, 64), filters=32, kernel_size=3, strides=2, padding="same"),
    _case("Conv3DTranspose", (2, 8, 8, 8, 32), filters=16, kernel_size=3, strides=2, padding="same"),
    _case("LocallyConnected1D", (32, 64, 32), filters=32, kernel_size=3, keras=None),
    _case("LocallyConnected2D", (32, 16, 16, 16), filters=16, kernel_size=3, keras=None),
)

POOLING = (
    _case("MaxPooling1D", (32, 256, 64), pool_size=2),
    _case("MaxPooling2D", (8, 56, 56, 64), pool_size=2, quick=True),
    _case("MaxPooling2D", (8, 56, 56, 32), pool_size=3, strides=2, padding="same", note="overlapping"),
    _case("MaxPooling3D", (2, 16, 32, 32, 16), pool_size=2),
    _case("AveragePooling1D", (32, 256, 64), pool_size=2),
    _case("AveragePooling2D", (8, 56, 56, 64), pool_size=2),
    _case("AveragePooling3D", (2, 16, 32, 32, 16), pool_size=2),
    _case("GlobalMaxPooling1D", (32, 256, 64)),
    _case("GlobalMaxPooling2D", (16, 28, 28, 64)),
    _case("GlobalMaxPooling3D", (4, 16, 16, 16, 32)),
    _case("GlobalAveragePooling1D", (32, 256, 64)),
    _case("GlobalAveragePooling2D", (16, 28, 28, 64)),
    _case("GlobalAveragePooling3D", (4, 16, 16, 16, 32)),
)

SHAPE = (
    _case("Cropping1D", (32, 256, 64), cropping=(8, 8)),
    _case("Cropping2D", MAP, cropping=4),
    _case("Cropping3D", (4, 16, 16, 16, 32), cropping=2),
    _case("UpSampling1D", LINE, size=2),
    _case("UpSampling2D", (8, 16, 16, 64), size=2),
    _case("UpSampling2D", (8, 16, 16, 64), size=2, interpolation="bilinear", note="bilinear"),
    _case("UpSampling3D", VIDEO, size=2),
    _case("ZeroPadding1D", (32, 256, 64), padding=4),
    _case("ZeroPadding2D", MAP, padding=1),
    _case("ZeroPadding3D", (4, 16, 16, 16, 32), padding=1),
)

MERGING = (
    *(_case(name, MAP, MAP) for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")),
    _case("Concatenate", MAP, (8, 32, 32, 32)),
    _case("Dot", (32, 64, 128), (32, 96, 128), axes=2),
)

ACTIVATION = (
    _case("ReLU", MAP, max_value=6.0),
    _case("LeakyReLU", MAP, negative_slope=0.1),
    _case("PReLU", MAP, shared_axes=(1, 2)),
    _case("ELU", MAP, quick=True),
    _case("ThresholdedReLU", MAP, theta=0.5, keras=Made("ReLU", {"threshold": 0.5})),
    _case("Softmax", (256, 1000)),
)

NORMALIZATION = (
    _case("BatchNormalization", MAP, quick=True),
    _case("LayerNormalization", (32, 128, 256)),
    _case("GroupNormalization", MAP, groups=8),
    _case("RMSNormalization", (32, 128, 256)),
    _case("UnitNormalization", (32, 128, 256)),
    _case("SpectralNormalization", (128, 512), layer=Made("Dense", {"units": 256})),
)

NOISE = (
    _case("Dropout", MAP, rate=0.3, training=True, quick=True),
    _case("SpatialDropout1D", LINE, rate=0.3, training=True),
    _case("SpatialDropout2D", MAP, rate=0.3, training=True),
    _case("SpatialDropout3D", VIDEO, rate=0.3, training=True),
    _case("GaussianNoise", MAP, stddev=0.1, training=True),
    _case("GaussianDropout", MAP, rate=0.3, training=True),
    _case("AlphaDropout", MAP, rate=0.3, training=True),
)

RECURRENT = (
    _case("SimpleRNN", LINE, units=64),
    _case("LSTM", LINE, units=64, return_sequences=True),
    _case("GRU", LINE, units=64),
    _case("CuDNNLSTM", LINE, units=64, keras=_lstm),
    _case("CuDNNGRU", LINE, units=64, keras=_gru),
    _case("SimpleRNNCell", LINE, units=64),
    _case("LSTMCell", LINE, units=64),
    _case("GRUCell", LINE, units=64),
    _case("StackedRNNCells", LINE, cells=(Made("LSTMCell", _steps), Made("LSTMCell", _steps))),
    _case("RNN", LINE, cell=Made("LSTMCell", _steps), return_sequences=True),
    _case("Bidirectional", LINE, layer=_lstm),
    _case("TimeDistributed", LINE, layer=Made("Dense", {"units": 128}), note="dense"),
    _case("ConvLSTM1D", (8, 16, 64, 8), filters=16, kernel_size=3, padding="same"),
    _case("ConvLSTM2D", (4, 8, 16, 16, 8), filters=16, kernel_size=3, padding="same"),
    _case("ConvLSTM3D", (2, 4, 8, 8, 8, 8), filters=16, kernel_size=3, padding="same"),
)

_sequence = (8, 128, 256)
ATTENTION = (
    _case("Attention", (8, 128, 64), (8, 128, 64)),
    _case("AdditiveAttention", (4, 64, 64), (4, 64, 64)),
    _case("MultiHeadAttention", _sequence, _sequence, takes=APART, num_heads=8, key_dim=32),
    _case("GroupQueryAttention", _sequence, _sequence, takes=APART, head_dim=32, num_query_heads=8,
          num_key_value_heads=2),
)  # fmt: skip

_only = {"modes": (FORWARD,)}
PREPROCESSING = (
    _case("Rescaling", PHOTOS, scale=1 / 127.5, offset=-1.0),
    _case("Normalization", PHOTOS, mean=(0.4, 0.5, 0.6), variance=(0.1, 0.2, 0.3)),
    _case("Resizing", PHOTOS, height=64, width=64),
    _case("CenterCrop", PHOTOS, height=64, width=64),
    _case("CategoryEncoding", TOKENS, dtype="int32", top=512, num_tokens=512, **_only),
    _case("Discretization", (256, 256), bin_boundaries=tuple(n / 8 - 2 for n in range(32)), **_only),
    _case("Hashing", TOKENS, dtype="int64", top=10**9, num_bins=1024, **_only),
    _case("IntegerLookup", TOKENS, dtype="int64", top=1000, vocabulary=tuple(range(0, 2000, 2)), **_only),
    _case("StringLookup", (32, 64), dtype="string", top=1200, vocabulary=_words, **_only),
    _case(
        "TextVectorization", (64, 1), dtype="string", top=1200, vocabulary=_words, output_sequence_length=32, **_only
    ),
    _case("RandomBrightness", PHOTOS, factor=0.2, training=True, **_only),
    _case("RandomContrast", PHOTOS, factor=0.2, training=True, **_only),
    _case("RandomCrop", PHOTOS, height=64, width=64, training=True, **_only),
    _case("RandomFlip", PHOTOS, mode="horizontal", training=True, **_only),
    _case("RandomRotation", PHOTOS, factor=0.1, training=True, **_only),
    _case("RandomTranslation", PHOTOS, height_factor=0.1, width_factor=0.1, training=True, **_only),
    _case("RandomZoom", PHOTOS, height_factor=0.2, training=True, **_only),
)

CASES = (*CORE, *CONVOLUTION, *POOLING, *SHAPE, *MERGING, *ACTIVATION, *NORMALIZATION, *NOISE, *RECURRENT, *ATTENTION,
         *PREPROCESSING)  # fmt: skip
ROWS = tuple(Row(case, mode) for case in CASES for mode in case.modes)

# layers without a row: they compute nothing of their own
NO_ROW = {
    "Input": "names an input",
    "InputLayer": "names an input",
    "InputSpec": "a description",
    "Layer": "the base class",
    "Wrapper": "the base class of wrappers",
    "Recurrent": "the old name of RNN",
}

# by the name of a row, as measured with 2 threads
_VIEW = (
    "PyTorch gives back a view of its input in 4 us, no number moves; a result here is an array of its own: "
    "2 MB are read and written in 20 to 26 us"
)
REASONS: dict[str, str] = {
    "Identity forward": _VIEW,
    "Flatten forward": _VIEW,
    # 0.68 in one run, 0.99 in another
    "Conv2D groups forward": "the 16 outputs of a group are one vector, so each multiply-add loads a number: 52 % of "
    "the peak in 474 us; the border and the bias are passes of their own, 34 and 28 us",
}


def arrays(case: Case) -> list[np.ndarray]:
    """The inputs of a case, always the same."""
    draw = np.random.default_rng(0)
    return [_array(draw, case, shape) for shape in case.shapes]


def _array(draw: np.random.Generator, case: Case, shape: tuple[int, ...]) -> np.ndarray:
    if case.dtype == "string":
        words: Callable[[], str] = lambda: f"word{draw.integers(case.top)}"  # noqa: E731
        text = words if shape[-1] > 1 else lambda: " ".join(words() for _ in range(32))
        return np.array([text() for _ in range(int(np.prod(shape)))]).reshape(shape)
    if case.top:
        return draw.integers(0, case.top, shape).astype(case.dtype)
    if shape == PHOTOS:
        return draw.uniform(0, 255, shape).astype(case.dtype)
    return draw.standard_normal(shape, case.dtype)
