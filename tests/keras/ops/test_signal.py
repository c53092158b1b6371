"""Fourier transforms and frames: against real Keras, compiled, and by finite differences."""

import numpy as np
import pytest

from kcompile.errors import KcompileError
from kcompile.keras import ops
from tests.keras.ops.checking import check, check_compiled, check_gradient, ids

RNG = np.random.default_rng(0)


def f(*shape):
    return RNG.standard_normal(shape).astype("float32")


def pair(*shape):
    return (f(*shape), f(*shape))


CASES = [
    *(("fft", (pair(2, n),), {}) for n in (1, 7, 64, 67, 96, 210)),  # small, prime, composite
    ("fft2", (pair(2, 6, 5),), {}),
    ("ifft2", (pair(2, 6, 5),), {}),
    ("rfft", (f(2, 8),), {}),
    ("rfft", (f(2, 9),), {"fft_length": 6}),
    ("rfft", (f(2, 9),), {"fft_length": 12}),
    ("irfft", (pair(2, 5),), {}),
    ("irfft", (pair(2, 5),), {"fft_length": 9}),
    ("irfft", (pair(2, 5),), {"fft_length": 6}),
    ("extract_sequences", (f(2, 17), 5, 3), {}),
    ("stft", (f(2, 40), 8, 3, 16), {}),
    ("stft", (f(40), 8, 8, 8), {"window": "hamming", "center": False}),
    ("stft", (f(2, 40), 6, 2, 6), {"window": None}),
    ("istft", (pair(2, 9, 5), 8, 2, 8), {}),
    ("istft", (pair(2, 9, 5), 8, 4, 8), {"length": 20, "window": "hamming"}),
    ("istft", (pair(9, 5), 6, 2, 8), {"center": False}),
]


@pytest.mark.parametrize("name, args, kwargs", CASES, ids=ids(CASES))
def test_function(name, args, kwargs, real_keras):
    check(real_keras, name, args, kwargs, rtol=1e-4, atol=2e-4, open_batch=name in ("rfft", "fft2"))


def test_compiled(real_keras):
    check_compiled(real_keras, CASES, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(
    "name, args, kwargs",
    [
        ("fft", (pair(6),), {}),
        ("fft2", (pair(3, 4),), {}),
        ("rfft", (f(2, 7),), {}),
        ("irfft", (pair(2, 4),), {}),
        ("stft", (f(12), 4, 2, 4), {}),
        ("istft", (pair(4, 3), 4, 2, 4), {}),
    ],
)
def test_gradient(name, args, kwargs):
    check_gradient(name, args, kwargs)


def test_a_signal_comes_back():
    x = f(2, 64)
    back = ops.istft(ops.stft(x, 16, 4, 16), 16, 4, 16)
    np.testing.assert_allclose(np.asarray(back), x, atol=1e-5)


def test_wrong_arguments_say_so():
    for call in (
        lambda: ops.fft(f(3)),
        lambda: ops.fft((f(3), f(4))),
        lambda: ops.stft(f(9), 8, 2, 4),
        lambda: ops.stft(f(9), 4, 2, 4, window="box"),
    ):
        with pytest.raises(KcompileError):
            call()
