"""Real Keras, a test-only dependency, on its JAX backend."""

import os

import pytest


@pytest.fixture(scope="session")
def real_keras():
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    pytest.importorskip("jax")
    return pytest.importorskip("keras")
