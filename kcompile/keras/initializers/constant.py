"""Initializers without randomness."""

from __future__ import annotations

import numpy as np

from kcompile.errors import ArgumentError
from kcompile.keras.initializers.initializer import Initializer
from kcompile.keras.registry import register


@register
class Zeros(Initializer):
    """All 0."""

    def values(self, shape):
        return np.zeros(shape)


@register
class Ones(Initializer):
    """All 1."""

    def values(self, shape):
        return np.ones(shape)


@register
class Constant(Initializer):
    """All `value`, a number or an array that broadcasts to the shape."""

    def __init__(self, value=0.0):
        self.value = value

    def values(self, shape):
        return np.broadcast_to(np.asarray(self.value), shape)


@register(aliases=("IdentityInitializer", "identity"))
class Identity(Initializer):
    """`gain` on the diagonal of a matrix, 0 elsewhere."""

    def __init__(self, gain=1.0):
        self.gain = gain

    def values(self, shape):
        if len(shape) != 2:
            raise ArgumentError(f"Identity initializer can only be used for 2D matrices. Received: shape={shape}")
        return self.gain * np.eye(*shape)


_WINDOWS = {  # cos(2 pi k n / N) of the terms, k from 0
    "boxcar": (1.0,),
    "hann": (0.5, -0.5),
    "hamming": (0.54, -0.46),
    "blackman": (0.42, -0.5, 0.08),
}


def _window(name: str, length: int, periodic: bool) -> np.ndarray:
    if name not in _WINDOWS:
        raise ArgumentError(f"STFT: unknown window {name!r}; known are {', '.join(_WINDOWS)}, or give an array")
    turns = np.arange(length) / max(length if periodic else length - 1, 1)
    return sum(a * np.cos(2 * np.pi * k * turns) for k, a in enumerate(_WINDOWS[name]))


@register(aliases=("STFTInitializer", "stft"))
class STFT(Initializer):
    """One part of the matrix of a Fourier transform of windowed frames, for weights [frame, 1, frequencies].

    Args:
        side: real or imag.
        window: boxcar, hann, hamming, blackman, an array, or None.
        scaling: density divides by the window's norm, spectrum by its sum, None leaves it.
        periodic: the window's period is its length, not one less.
    """

    def __init__(self, side="real", window="hann", scaling="density", periodic=False):
        if side not in ("real", "imag"):
            raise ArgumentError(f"side should be 'real' or 'imag', not {side}")
        if isinstance(window, str):
            _window(window, 1, periodic)
        if scaling not in (None, "density", "spectrum"):
            raise ArgumentError(
                f"Scaling is invalid, it must be `None`, 'density' or 'spectrum'. Received scaling={scaling}"
            )
        self.side, self.window, self.scaling, self.periodic = side, window, scaling, periodic

    def values(self, shape):
        length, _, frequencies = shape
        turns = np.outer(np.arange(length), np.arange(frequencies)) / max(2 * (frequencies - 1), 1)
        found = (np.cos if self.side == "real" else np.sin)(-2 * np.pi * turns)
        if self.window is not None:
            is_name = isinstance(self.window, str)
            window = _window(self.window, length, self.periodic) if is_name else np.asarray(self.window, np.float64)
            if window.shape != (length,):
                raise ArgumentError(f"The shape of `window` must be [frame_length]. Received: {window.shape}")
            scale = {"density": np.sqrt(np.sum(window**2)), "spectrum": np.sum(np.abs(window))}.get(self.scaling, 1.0)
            found = found * window[:, None] / scale
        return np.broadcast_to(found[:, None, :], shape)
