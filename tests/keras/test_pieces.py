"""Initializers, regularizers, constraints (D-9): values, distributions, names, configs."""

import numpy as np
import pytest

from kcompile.errors import UnknownNameError
from kcompile.keras import activations, constraints, initializers, regularizers
from kcompile.keras.random import SeedGenerator, set_random_seed

W = np.array([[1.0, -2.0], [3.0, -4.0]], "f")


def test_regularizers():
    for found, expected in (
        (regularizers.l1(0.01), 0.1),
        (regularizers.l2(0.01), 0.3),
        (regularizers.l1_l2(0.001, 0.001), 0.04),
        (regularizers.get("l2"), 0.3),
        (regularizers.get("l1_l2"), 0.0),
        (regularizers.get({"class_name": "L1", "config": {"l1": 0.1}}), 1.0),
    ):
        np.testing.assert_allclose(float(found(W)), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="non-negative"):
        regularizers.L2(-1)


def test_orthogonal_regularizer(real_keras):
    for mode in ("rows", "columns"):
        expected = real_keras.regularizers.OrthogonalRegularizer(0.1, mode)(real_keras.ops.convert_to_tensor(W))
        np.testing.assert_allclose(regularizers.OrthogonalRegularizer(0.1, mode)(W), expected, rtol=1e-5)


def test_constraints():
    scaled = [[0.6324555, -0.8944272], [1.8973665, -1.7888544]]
    np.testing.assert_allclose(constraints.max_norm(2)(W), scaled, rtol=1e-5)
    np.testing.assert_allclose(constraints.min_max_norm(1, 2)(W), scaled, rtol=1e-5)
    np.testing.assert_allclose(constraints.non_neg()(W), [[1, 0], [3, 0]])
    np.testing.assert_allclose(
        constraints.get("unit_norm")(W), [[0.3162278, -0.4472136], [0.9486833, -0.8944272]], rtol=1e-5
    )


NO_DISTRIBUTION = ("Initializer", "Constant", "Identity", "STFT", "STFTInitializer")


@pytest.mark.parametrize("name", [n for n in dir(initializers) if n[0].isupper() and n not in NO_DISTRIBUTION])
def test_distributions_are_keras(name, real_keras):
    shape = (60, 80)
    ours = np.asarray(getattr(initializers, name)()(shape))
    theirs = np.asarray(getattr(real_keras.initializers, name)()(shape))
    assert ours.dtype == np.float32 and ours.shape == shape
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.06)
    np.testing.assert_allclose(ours.mean(), theirs.mean(), atol=0.02)
    np.testing.assert_allclose(np.abs(ours).max(), np.abs(theirs).max(), rtol=0.3)


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["uniform", "truncated_normal", "untruncated_normal"])
def test_variance_scaling(mode, distribution):
    shape = (3, 3, 20, 50)
    fan = {"fan_in": 180, "fan_out": 450, "fan_avg": 315}[mode]
    found = np.asarray(initializers.VarianceScaling(2.0, mode, distribution, seed=1)(shape))
    np.testing.assert_allclose(found.var(), 2.0 / fan, rtol=0.06)


def test_constant_ones():
    np.testing.assert_array_equal(initializers.Constant(2)((2, 2)), 2 * np.ones((2, 2)))
    np.testing.assert_array_equal(initializers.Constant([[1], [2]])((2, 2)), [[1, 1], [2, 2]])
    np.testing.assert_array_equal(initializers.Identity(3)((2, 3)), 3 * np.eye(2, 3))
    q = np.asarray(initializers.Orthogonal(gain=2, seed=0)((5, 3)))
    np.testing.assert_allclose(q.T @ q, 4 * np.eye(3), atol=1e-5)


def test_seeds():
    fixed = initializers.GlorotUniform(seed=3)
    np.testing.assert_array_equal(fixed((2, 2)), fixed((2, 2)))
    free = initializers.GlorotUniform()
    assert not np.array_equal(free((2, 2)), free((2, 2)))
    stream = initializers.RandomNormal(seed=SeedGenerator(1))
    assert not np.array_equal(stream((2, 2)), stream((2, 2)))
    draws = []
    for _ in range(2):
        set_random_seed(7)
        draws.append(np.asarray(free((3,))))
    np.testing.assert_array_equal(*draws)


@pytest.mark.parametrize(
    "module, name",
    [
        (initializers, "glorot_uniform"),
        (initializers, "GlorotUniform"),
        (initializers, "he_normal"),
        (initializers, "zeros"),
        (initializers, "uniform"),
        (initializers, "orthogonal"),
        (regularizers, "L1L2"),
        (constraints, "max_norm"),
    ],
)
def test_names_and_configs(module, name):
    found = module.get(name)
    config = module.serialize(found)
    assert config["registered_name"] is None and config["module"].startswith("keras.")
    assert module.deserialize(config) == found
    assert module.get(config) == found and module.get(type(found)) == found and module.get(found) is found
    assert module.get(None) is None


def test_functions_are_pieces():
    def two(shape, dtype=None):
        return np.full(shape, 2.0)

    assert initializers.get(two) is two
    assert activations.get(None) is activations.linear
    assert activations.get("swish") is activations.silu
    assert activations.serialize(activations.relu) == "relu"
    assert activations.get({"class_name": "function", "config": "relu", "registered_name": "relu"}) is activations.relu


@pytest.mark.parametrize(
    "module, name, hint",
    [
        (initializers, "glorot_unifrom", "glorot_uniform"),
        (activations, "rellu", "relu"),
        (regularizers, "l22", "l2"),
        (constraints, "max_nrom", "max_norm"),
    ],
)
def test_unknown_names_come_with_a_suggestion(module, name, hint):
    with pytest.raises(UnknownNameError, match=f"{name}.*Did you mean '{hint}'"):
        module.get(name)
