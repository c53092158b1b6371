"""Real Keras, a test-only dependency, on its JAX backend."""

import pytest

from tests.keras.real import real_keras as load_real_keras


@pytest.fixture(scope="session")
def real_keras():
    return load_real_keras()
