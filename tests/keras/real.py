"""Real Keras 3 on JAX, float32, as the reference (test extra)."""

from __future__ import annotations

import os


def real_keras():
    """The real package, on the JAX backend."""
    os.environ["KERAS_BACKEND"] = "jax"  # read once, when keras is first imported
    import jax
    import keras  # not at the top: the environment comes first

    # most tests run a program once, on a few numbers: XLA's costly passes would take longer than they save
    jax.config.update("jax_disable_most_optimizations", True)

    return keras
