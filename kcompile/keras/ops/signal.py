"""keras.ops functions of signals: Fourier transforms along the last axes, frames, short-time spectra.

A complex tensor is a pair (real, imaginary). A transform of n points is a product with a matrix of cosines and
sines if n is small or prime; else n = n1 · n2, a transform of n1 points, a twist, and one of n2 points. Every
step is a matrix product, so it fuses, differentiates and compiles like one. Sizes are known at compile time.

Source: Cooley, Tukey 1965, "An algorithm for the machine calculation of complex Fourier series".
"""

from __future__ import annotations

import numpy as np

from kcompile import ops as prim
from kcompile.errors import ArgumentError, DTypeError, NotSupportedError, ShapeError
from kcompile.ir import dim
from kcompile.keras.ops.creation import filled, iota
from kcompile.keras.ops.function import broadcast, dtype_key, floating, public, rank, tensor
from kcompile.keras.ops.shapes import moveaxis, pad, part
from kcompile.keras.tracing.dtypes import is_float
from kcompile.ops.contract import matmul as _matmul

DIRECT = 64  # up to so many points one product is as fast as several


def _pair(x):
    if not isinstance(x, (tuple, list)) or len(x) != 2:
        raise ArgumentError(f"Input `x` should be a tuple of two tensors - real and imaginary. Received: x={x}")
    re, im = (tensor(v) for v in x)
    if tuple(re.shape) != tuple(im.shape):
        raise ShapeError(
            "Input `x` should be a tuple of two tensors of one shape. "
            f"Received: x[0].shape = {tuple(re.shape)}, x[1].shape = {tuple(im.shape)}"
        )
    if not (is_float(dtype_key(re)) and is_float(dtype_key(im))):
        raise DTypeError(f"At least one tensor in input `x` is not of type float. Received: x={x}")
    return re, im


def _first_factor(n: int) -> int:
    """The largest divisor of n that one product may take; n itself if there is none above 1."""
    found = max((d for d in range(2, min(n, DIRECT) + 1) if n % d == 0), default=n)
    return n if n <= DIRECT else found


def _waves(rows: int, columns: int, n: int, sign: int, kind: str):
    """cos and sin of 2π · sign · row · column / n."""
    turns = np.outer(np.arange(rows), np.arange(columns)) % n
    angle = sign * 2 * np.pi * turns / n
    return tensor(np.cos(angle), kind), tensor(np.sin(angle), kind)


def _times(a, b):
    """The product of two complex pairs, element by element."""
    (x, y), (u, v) = a, b
    return prim.sub(prim.mul(x, u), prim.mul(y, v)), prim.add(prim.mul(x, v), prim.mul(y, u))


def _transform(re, im, sign: int):
    """Σ x[j] · exp(sign · 2πi · j · k / n) along the last axis."""
    n = re.shape[-1]
    if not isinstance(n, int):
        raise NotSupportedError("a Fourier transform needs its number of points when the program is compiled")
    kind, first = dtype_key(re), _first_factor(n)
    if first == n:
        c, s = _waves(n, n, n, sign, kind)
        return prim.sub(_matmul(re, c), _matmul(im, s)), prim.add(_matmul(re, s), _matmul(im, c))
    rest, before = n // first, tuple(re.shape[:-1])
    re, im = (prim.reshape(v, shape=(*before, first, rest)) for v in (re, im))
    axis = len(before)
    swap = (*range(axis), axis + 1, axis)
    re, im = _transform(*(prim.transpose(v, perm=swap) for v in (re, im)), sign)  # [..., j2, k1]
    re, im = _times((re, im), _waves(rest, first, n, sign, kind))
    re, im = _transform(*(prim.transpose(v, perm=swap) for v in (re, im)), sign)  # [..., k1, k2]
    re, im = (prim.reshape(prim.transpose(v, perm=swap), shape=(*before, n)) for v in (re, im))
    return re, im


def _split(found: np.ndarray, kind):
    return found.real.astype(kind), found.imag.astype(kind)


@public
def fft(x):
    """Return the discrete Fourier transform of a complex pair along the last axis."""
    re, im = _pair(x)
    if isinstance(re, np.ndarray) and isinstance(im, np.ndarray):
        return _split(np.fft.fft(re + 1j * im), re.dtype)
    return _transform(re, im, -1)


def _over_two(x, sign: int):
    re, im = _pair(x)
    if rank(re) < 2:
        raise ShapeError(f"Input should have rank >= 2. Received: shape {tuple(re.shape)}")
    re, im = _transform(re, im, sign)
    swap = (*range(rank(re) - 2), rank(re) - 1, rank(re) - 2)
    re, im = _transform(*(prim.transpose(v, perm=swap) for v in (re, im)), sign)
    return tuple(prim.transpose(v, perm=swap) for v in (re, im))


@public
def fft2(x):
    """Return the Fourier transform of a complex pair along the last two axes."""
    return _over_two(x, -1)


@public
def ifft2(x):
    """Return the inverse of fft2."""
    re, im = _over_two(x, 1)
    count = tensor(float(re.shape[-1] * re.shape[-2]), dtype_key(re))
    return prim.div(re, count), prim.div(im, count)


def _fitted(x, length: int | None):
    """Cut or fill the last axis with zeros."""
    have = x.shape[-1]
    if length is None or have == length:
        return x
    if isinstance(have, int) and have > length:
        return part(x, rank(x) - 1, 0, length)
    zeros = [(0, 0)] * (rank(x) - 1)
    return tensor(pad(x, [*zeros, (0, length - have)]))


@public
def rfft(x, fft_length=None):
    """Return the first half of the Fourier transform of a real tensor, as a complex pair."""
    x = _fitted(floating(x), fft_length)
    n = x.shape[-1]
    re, im = _transform(x, _like(x, 0.0), -1)
    half = dim.floordiv(n, 2) + 1
    return tuple(part(v, rank(v) - 1, 0, half) for v in (re, im))


def _like(x, value: float):
    return tensor(filled(tuple(x.shape), value, dtype_key(x)))


@public
def irfft(x, fft_length=None):
    """Return the real tensor of `fft_length` points whose rfft is x."""
    re, im = _pair(x)
    n = 2 * (re.shape[-1] - 1) if fft_length is None else int(fft_length)
    half = n // 2 + 1
    re, im = (_fitted(v, half) for v in (re, im))
    last = rank(re) - 1
    mirrored = [prim.reverse(part(v, last, 1, n - half), axes=(last,)) for v in (re, im)] if n > half else None
    if mirrored:
        re = prim.concat(re, mirrored[0], axis=last)
        im = prim.concat(_real_ends(im, n), prim.neg(mirrored[1]), axis=last)
    found, _ = _transform(re, im, 1)
    return prim.div(found, tensor(float(n), dtype_key(found)))


def _real_ends(im, n: int):
    """Bins that are their own mirror have no imaginary part."""
    bins = np.arange(im.shape[-1])
    own = (bins == 0) | (bins * 2 == n)
    return prim.select(tensor(own), tensor(0.0, dtype_key(im)), im)


# frames ---------------------------------------------------------------------------------------------


def _frames(x, length: int, stride: int):
    count = dim.floordiv(x.shape[-1] - length, stride) + 1
    first = prim.mul(tensor(iota((count, 1), 0, "int32")), tensor(stride, "int32"))
    places = prim.add(first, tensor(np.arange(length, dtype="int32")))
    return prim.gather(x, places, axis=rank(x) - 1)


@public
def extract_sequences(x, sequence_length, sequence_stride):
    """Return the overlapping pieces of the last axis, [..., pieces, sequence_length]."""
    return _frames(tensor(x), int(sequence_length), int(sequence_stride))


def _window(window, length: int, size: int, kind: str):
    """The window of `length` points in the middle of `size`."""
    if window is None:
        return tensor(np.ones(size), kind)
    low = (size - length) // 2
    if isinstance(window, str):
        if window not in ("hann", "hamming"):
            raise ArgumentError(
                f'If a string is passed to `window`, it must be one of `"hann"`, `"hamming"`. Received: window={window}'
            )
        angle = 2 * np.pi * np.arange(length) / length  # periodic: one point more would repeat the first
        share = 0.5 if window == "hann" else 0.54
        window = share - (1 - share) * np.cos(angle)
    window = tensor(window, kind)
    if tuple(window.shape) != (length,):
        raise ShapeError(
            f"The shape of `window` must be equal to [sequence_length]. Received: window shape={tuple(window.shape)}"
        )
    return prim.pad(window, low=(low,), high=(size - length - low,), interior=(0,), value=0.0)


def _check_lengths(sequence_length: int, fft_length: int) -> None:
    if fft_length < sequence_length:
        raise ArgumentError(
            "`fft_length` must equal or larger than `sequence_length`. "
            f"Received: sequence_length={sequence_length}, fft_length={fft_length}"
        )


@public
def stft(x, sequence_length, sequence_stride, fft_length, window="hann", center=True):
    """Return the spectra of overlapping windowed pieces, as a complex pair [..., pieces, fft_length // 2 + 1]."""
    x = tensor(x)
    if dtype_key(x) not in ("float32", "float64"):
        raise DTypeError(f"Invalid input type. Expected `float32` or `float64`. Received: input type={dtype_key(x)}")
    _check_lengths(sequence_length, fft_length)
    if center:
        edge = fft_length // 2
        x = tensor(pad(x, [(0, 0)] * (rank(x) - 1) + [(edge, edge)], mode="reflect"))
    shape = _window(window, sequence_length, fft_length, dtype_key(x))
    return rfft(prim.mul(_frames(x, fft_length, sequence_stride), shape), fft_length)


@public
def istft(x, sequence_length, sequence_stride, fft_length, length=None, window="hann", center=True):
    """Return the signal whose stft is x: pieces weighted by the window and added, over the sum of its squares."""
    re, im = _pair(x)
    if rank(re) < 2:
        raise ShapeError(f"Input `x` must have at least 2 dimensions. Received shape: {tuple(re.shape)}")
    _check_lengths(sequence_length, fft_length)
    kind, pieces = dtype_key(re), re.shape[-2]
    total = fft_length + sequence_stride * (pieces - 1)
    shape = _window(window, sequence_length, fft_length, kind)
    frames = prim.mul(tensor(irfft((re, im), fft_length)), shape)
    first = prim.mul(tensor(iota((pieces, 1), 0, "int32")), tensor(sequence_stride, "int32"))
    places = prim.add(first, tensor(np.arange(fft_length, dtype="int32")))
    rest = tuple(frames.shape[:-2])
    moved = tensor(moveaxis(frames, (-2, -1), (0, 1)))
    signal = prim.scatter_add(tensor(filled((total, *rest), 0, kind)), places, moved)
    squares = broadcast(prim.square(shape), (pieces, fft_length))
    weight = prim.scatter_add(tensor(filled((total,), 0, kind)), places, squares)
    one = tensor(1.0, kind)
    weight = prim.select(prim.gt(weight, tensor(1e-10, kind)), weight, one)
    signal = prim.div(signal, prim.reshape(weight, shape=(total, *(1 for _ in rest))))
    start = fft_length // 2 if center else 0
    end = start + length if length is not None else total - (fft_length // 2 if center else 0)
    if isinstance(end, int) and isinstance(total, int):
        end = min(end, total)
    return moveaxis(part(signal, 0, start, end - start), 0, -1)


def _no_complex(name: str):
    raise NotSupportedError(
        f"keras.ops.{name}: complex dtypes are missing from kcompile. A complex tensor is a pair (real, imaginary), as "
        "fft, stft and their like take and return it."
    )


@public
def polar(abs_, angle):
    """Not supported: there are no complex dtypes."""
    _no_complex("polar")


@public
def view_as_complex(x):
    """Not supported: there are no complex dtypes."""
    _no_complex("view_as_complex")


@public
def view_as_real(x):
    """Not supported: there are no complex dtypes."""
    _no_complex("view_as_real")
