"""What every test starts from: verifiers on, a disk cache of its own, real Keras on JAX's CPU backend.

Set here, before anything of kcompile or Keras is imported, because both read the environment once.
"""

import atexit
import gc
import os
import shutil
import sys
import tempfile

import pytest

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["KCOMPILE_VERIFY"] = "1"
os.environ["KCOMPILE_CACHE_DIR"] = tempfile.mkdtemp(prefix="kcompile-tests-")  # private, as the cache demands
atexit.register(shutil.rmtree, os.environ["KCOMPILE_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def lean_process():
    """Drop what a module's tests compiled: a process that runs thousands of tests would grow by gigabytes."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    gc.collect()
