"""Real Keras 3 on JAX, float32, as the reference: `real_keras()` skips the test where it is not installed."""

from __future__ import annotations

import os

import pytest


def real_keras():
    os.environ["KERAS_BACKEND"] = "jax"  # read once, when keras is first imported
    return pytest.importorskip("keras")
