"""Initializers: moments and ranges against real Keras, seeds, configs, names."""

import numpy as np
import pytest

from kcompile import plugins
from kcompile.errors import ArgumentError
from kcompile.keras import initializers
from tests.keras.real import real_keras

SHAPE = (3, 3, 40, 60)
RANDOM = [
    ("RandomNormal", {"mean": 0.5, "stddev": 0.2}),
    ("RandomUniform", {"minval": -0.3, "maxval": 0.7}),
    ("TruncatedNormal", {"mean": 0.1, "stddev": 0.2}),
    ("VarianceScaling", {"scale": 3.0, "mode": "fan_out", "distribution": "uniform"}),
    ("VarianceScaling", {"mode": "fan_avg", "distribution": "untruncated_normal"}),
    ("VarianceScaling", {"input_axes": [0, 2], "output_axes": [3]}),
    ("GlorotUniform", {}),
    ("GlorotNormal", {}),
    ("HeUniform", {}),
    ("HeNormal", {}),
    ("LecunUniform", {}),
    ("LecunNormal", {}),
    ("Orthogonal", {"gain": 2.0}),
]
FIXED = [
    ("Zeros", {}, (2, 3)),
    ("Ones", {}, (2, 3)),
    ("Constant", {"value": 1.5}, (2, 3)),
    ("Identity", {"gain": 0.5}, (3, 4)),
]


@pytest.mark.parametrize("name, options", RANDOM, ids=str)
def test_distributions_are_those_of_keras(name, options):
    keras = real_keras()
    ours = getattr(initializers, name)(seed=1, **options)(SHAPE).numpy()
    theirs = np.asarray(getattr(keras.initializers, name)(seed=1, **options)(SHAPE))
    assert ours.shape == SHAPE and ours.dtype == np.float32
    spread = float(theirs.std())
    assert ours.mean() == pytest.approx(float(theirs.mean()), abs=0.03 * spread)
    assert ours.std() == pytest.approx(spread, rel=0.02)
    if "Normal" not in name or "Truncated" in name:  # bounded: both reach close to the same bound
        for q in (0.01, 0.1, 0.5, 0.9, 0.99):
            assert float(np.quantile(ours, q)) == pytest.approx(float(np.quantile(theirs, q)), abs=0.1 * spread)
    if name in ("RandomUniform", "TruncatedNormal", "GlorotUniform", "HeUniform", "LecunUniform"):
        assert abs(ours.max() - theirs.max()) < 0.02 * spread and abs(ours.min() - theirs.min()) < 0.02 * spread


@pytest.mark.parametrize("name, options", RANDOM, ids=str)
def test_seeds(name, options):
    make, shape = getattr(initializers, name), (2, 2, 4, 5)
    first = make(seed=7, **options)(shape).numpy()
    np.testing.assert_array_equal(make(seed=7, **options)(shape).numpy(), first)
    assert (make(seed=8, **options)(shape).numpy() != first).any()
    again = initializers.deserialize(initializers.serialize(make(seed=7, **options)))
    np.testing.assert_array_equal(again(shape).numpy(), first)


@pytest.mark.parametrize("name, options, shape", FIXED, ids=str)
def test_fixed_values_equal_keras(name, options, shape):
    theirs = np.asarray(getattr(real_keras().initializers, name)(**options)(shape))
    np.testing.assert_array_equal(getattr(initializers, name)(**options)(shape).numpy(), theirs)


@pytest.mark.parametrize("side", ["real", "imag"])
@pytest.mark.parametrize(
    "window, scaling, periodic", [("hann", "density", False), ("hamming", "spectrum", True), (None, None, False)]
)
def test_fourier_matrices_equal_keras(side, window, scaling, periodic):
    options = {"side": side, "window": window, "scaling": scaling, "periodic": periodic}
    theirs = np.asarray(real_keras().initializers.STFT(**options)((16, 1, 9)))
    np.testing.assert_allclose(
        initializers.STFT(**options)((16, 1, 9)).numpy(), theirs, rtol=0, atol=4e-6
    )  # theirs is computed in float32


def test_orthogonal_columns():
    q = initializers.Orthogonal(gain=2.0, seed=0)((2, 8, 5)).numpy().reshape(16, 5)
    np.testing.assert_allclose(q.T @ q, 4.0 * np.eye(5), atol=1e-5)
    with pytest.raises(ArgumentError, match="two-dimensional"):
        initializers.Orthogonal()((3,))


def test_names_and_errors():
    older = {"normal": "RandomNormal", "uniform": "RandomUniform", "IdentityInitializer": "Identity"}
    for name, new in {**older, "OrthogonalInitializer": "Orthogonal", "lecun_uniform": "LecunUniform"}.items():
        assert type(initializers.get(name)) is getattr(initializers, new)
        assert getattr(initializers, name) is getattr(initializers, new)
    with pytest.raises(ArgumentError, match="scale"):
        initializers.VarianceScaling(scale=0.0)
    builtin = plugins.names("initializers", aliases=False)
    tested = {n for n, *_ in RANDOM} | {n for n, *_ in FIXED} | {"STFT"}
    assert {n for n in builtin if plugins.get("initializers", n).__module__.startswith("kcompile.")} == tested
