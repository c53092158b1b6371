"""Layers from signals to spectra over time."""

from __future__ import annotations

import math
import warnings

import numpy as np

from kcompile.errors import ArgumentError, DTypeError
from kcompile.keras import config, ops
from kcompile.keras.initializers.constant import STFT
from kcompile.keras.layers.input_spec import InputSpec
from kcompile.keras.layers.layer import Layer
from kcompile.keras.registry import register
from kcompile.keras.tracing.dtypes import is_float

_MODES = ("log", "magnitude", "psd", "real", "imag", "angle", "stft")


def mel(hertz):
    """Frequency on the mel scale. Source: O'Shaughnessy 1987, in natural logarithms."""
    return 1127.0 * np.log(1.0 + np.asarray(hertz, np.float64) / 700.0)


def mel_weights(bands: int, frequencies: int, sampling_rate: float, low: float, high: float) -> np.ndarray:
    """Triangles [frequencies, bands] of equal width on the mel scale; the lowest frequency has none."""
    at = mel(np.linspace(0.0, sampling_rate / 2, frequencies))[:, None]
    edges = np.linspace(mel(low), mel(high), bands + 2)
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    found = np.maximum(0.0, np.minimum((at - left) / (middle - left), (right - at) / (right - middle)))
    found[0] = 0.0
    return found


@register
class MelSpectrogram(Layer):
    """The power of a signal in `num_mel_bins` bands over time, in decibels unless told otherwise.

    Shapes:  [samples] or [batch, samples] -> [(batch,) num_mel_bins, time].
    Args:
        fft_length, sequence_stride, sequence_length, window: of the short-time Fourier transform.
        mag_exp: exponent of the magnitudes; 2 gives power.
        top_db: what lies further below the largest value is raised to there; min_power: the least power.
    """

    def __init__(
        self,
        fft_length=2048,
        sequence_stride=512,
        sequence_length=None,
        window="hann",
        sampling_rate=16000,
        num_mel_bins=128,
        min_freq=20.0,
        max_freq=None,
        power_to_db=True,
        top_db=80.0,
        mag_exp=2.0,
        min_power=1e-10,
        ref_power=1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.fft_length, self.sequence_stride = fft_length, sequence_stride
        self.sequence_length = sequence_length or fft_length
        if fft_length < self.sequence_length:
            raise ArgumentError(
                "`fft_length` must be greater than or equal to `sequence_length`. Received: "
                f"`sequence_length`={self.sequence_length}, `fft_length`={fft_length}."
            )
        self.window, self.sampling_rate, self.num_mel_bins = window, sampling_rate, num_mel_bins
        self.min_freq, self.max_freq = min_freq, max_freq or int(sampling_rate / 2)
        self.power_to_db, self.top_db, self.mag_exp = power_to_db, top_db, mag_exp
        self.min_power, self.ref_power = min_power, ref_power

    def call(self, inputs):
        kind = self.compute_dtype if self.compute_dtype in ("float32", "float64") else "float32"
        x = ops.cast(inputs, kind)
        real, imaginary = ops.stft(x, self.sequence_length, self.sequence_stride, self.fft_length, self.window)
        power = ops.power(ops.square(real) + ops.square(imaginary), self.mag_exp / 2)
        limits = self.min_freq, self.max_freq
        weights = mel_weights(self.num_mel_bins, self.fft_length // 2 + 1, self.sampling_rate, *limits)
        found = ops.matmul(power, weights.astype(kind))
        if self.power_to_db:
            found = 10.0 * ops.log10(ops.maximum(found, self.min_power))
            found = found - 10.0 * math.log10(max(abs(self.ref_power), self.min_power))
            found = ops.maximum(found, ops.max(found) - self.top_db)
        return ops.cast(ops.swapaxes(found, -1, -2), self.compute_dtype)


@register
class STFTSpectrogram(Layer):
    """Short-time Fourier transforms of the channels of a signal, as a convolution whose kernels can be trained.

    Shapes:  [batch, time, channels] -> [batch, frames, channels * frequencies]; with `expand_dims`
             [batch, frames, frequencies, channels]; channels in front where `data_format` says so.
    Weights: real_kernel, imag_kernel [frame_length, 1, frequencies], those the mode needs.
    Args:
        mode: log, magnitude, psd (power), real, imag, angle, or stft (real and imaginary parts).
        frame_step: default half of frame_length; fft_length: default the next power of two.
        window, periodic, scaling: see `keras.initializers.STFT`.
    """

    def __init__(
        self,
        mode="log",
        frame_length=256,
        frame_step=None,
        fft_length=None,
        window="hann",
        periodic=False,
        scaling="density",
        padding="valid",
        expand_dims=False,
        data_format=None,
        **kwargs,
    ):
        if frame_step is not None and not 1 <= frame_step <= frame_length:
            raise ArgumentError(
                "`frame_step` should be a positive integer not greater than `frame_length`. Received "
                f"frame_step={frame_step}, frame_length={frame_length}"
            )
        if fft_length is not None and fft_length < frame_length:
            raise ArgumentError(
                "`fft_length` should be not less than `frame_length`. Received "
                f"fft_length={fft_length}, frame_length={frame_length}"
            )
        if fft_length is not None and fft_length & -fft_length != fft_length:
            warnings.warn(f"`fft_length` is recommended to be a power of two. Received {fft_length=}", stacklevel=2)
        if mode not in _MODES:
            raise ArgumentError(f"Output mode is invalid, it must be one of {', '.join(_MODES)}. Received: mode={mode}")
        if padding not in ("valid", "same"):
            raise ArgumentError(f"Padding is invalid, it should be 'valid', 'same'. Received: padding={padding}")
        super().__init__(**kwargs)
        self.mode, self.frame_length, self.frame_step, self.fft_length = mode, frame_length, frame_step, fft_length
        self.window, self.periodic, self.scaling, self.padding = window, periodic, scaling, padding
        self.expand_dims, self.data_format = expand_dims, config.standardize_data_format(data_format)
        self._parts = {side: STFT(side, window, scaling, periodic) for side in ("real", "imag")}
        self.input_spec = InputSpec(ndim=3)

    def build(self, input_shape):
        points = self.fft_length or 2 ** math.ceil(math.log2(self.frame_length))
        shape = (self.frame_length, 1, points // 2 + 1)
        if self.mode != "imag":
            self.real_kernel = self.add_weight(name="real_kernel", shape=shape, initializer=self._parts["real"])
        if self.mode != "real":
            self.imag_kernel = self.add_weight(name="imag_kernel", shape=shape, initializer=self._parts["imag"])

    def call(self, inputs):
        if not is_float(ops.dtype(inputs)):
            raise DTypeError(f"STFTSpectrogram needs signals of floats. Received: input type={ops.dtype(inputs)}")
        x = inputs if self.data_format == "channels_first" else ops.swapaxes(inputs, 1, 2)
        _, channels, time = ops.shape(x)
        signals = ops.reshape(x, (-1, time, 1))
        step = self.frame_step or self.frame_length // 2

        def transformed(kernel):
            found = ops.conv(signals, kernel, strides=step, padding=self.padding, data_format="channels_last")
            return ops.reshape(found, (-1, channels, *ops.shape(found)[1:]))  # [batch, channels, frames, frequencies]

        return self._arranged(self._measured(transformed))

    def _measured(self, transformed):
        if self.mode == "real":
            return transformed(self.real_kernel)
        if self.mode == "imag":
            return transformed(self.imag_kernel)
        real, imaginary = transformed(self.real_kernel), transformed(self.imag_kernel)
        if self.mode == "angle":
            return ops.arctan2(imaginary, real)
        if self.mode == "stft":
            return ops.concatenate([real, imaginary], axis=-1)
        power = ops.square(real) + ops.square(imaginary)
        if self.mode == "psd":  # all but the first and last frequency stand for two
            return power + ops.pad(power[..., 1:-1], [[0, 0], [0, 0], [0, 0], [1, 1]])
        magnitude = ops.sqrt(ops.maximum(power, config.epsilon()))
        return magnitude if self.mode == "magnitude" else ops.log(ops.maximum(magnitude, config.epsilon()))

    def _arranged(self, found):
        _, channels, frames, frequencies = ops.shape(found)
        is_first = self.data_format == "channels_first"
        if self.expand_dims:
            return found if is_first else ops.transpose(found, (0, 2, 3, 1))
        if is_first:
            return ops.reshape(ops.swapaxes(found, 2, 3), (-1, channels * frequencies, frames))
        return ops.reshape(ops.swapaxes(found, 1, 2), (-1, frames, channels * frequencies))
