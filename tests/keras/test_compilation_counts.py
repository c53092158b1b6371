"""How often things are compiled, what stays in memory, and that numbers do not depend on how a program runs."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest

from kcompile import keras, pipeline
from kcompile.keras import layers
from kcompile.runtime import cache
from tests.keras.zoo import ROWS, ZOO, Case

CALLS = 10_000


def compiled(case: Case, **options):
    keras.utils.set_random_seed(7)
    model = case.build(keras)
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.2 * rng.random(w.shape).astype(np.float32) for w in model.get_weights()])
    model.compile("adam", case.loss(keras), **case.options, **options)
    return model


def resident_kib() -> int:
    with open("/proc/self/statm") as text:
        return int(text.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


# programs ------------------------------------------------------------------------------------------


def test_one_training_and_one_prediction_program():
    model = compiled(ZOO["mlp"])
    x, y = ZOO["mlp"].data(1000)
    before = pipeline.counters.programs
    model.fit(x, y, batch_size=32, epochs=2, verbose=0)
    assert pipeline.counters.programs == before + 1
    for rows in (1, 7, 1000):
        assert model.predict(x[:rows], verbose=0).shape == (rows, 3)
    assert pipeline.counters.programs == before + 2
    model.predict_on_batch(x[:5])
    model.fit(x[:77], y[:77], batch_size=10, verbose=0)
    assert pipeline.counters.programs == before + 2
    model.train_on_batch(x[:3], y[:3])
    assert pipeline.counters.programs == before + 2
    model.evaluate(x, y, verbose=0)
    model.test_on_batch(x[:9], y[:9])
    assert pipeline.counters.programs == before + 3


def test_a_twin_compiles_no_kernels():
    """The same architecture again: linked from the disk cache."""
    x, y = ZOO["logits"].data(ROWS)
    compiled(ZOO["logits"]).train_on_batch(x, y)
    kernels, hits = pipeline.counters.kernels, cache.counters.hits
    compiled(ZOO["logits"]).train_on_batch(x, y)
    # the entry carries the model's name
    assert pipeline.counters.kernels <= kernels + 1
    assert cache.counters.hits > hits


SECOND_PROCESS = """
import numpy as np
from kcompile import keras, pipeline
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)], name="m")
model.compile("adam", "mse")
model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
print(pipeline.counters.kernels, *(w.tobytes().hex() for w in model.get_weights()))
"""


def test_a_second_process_compiles_nothing_and_gets_the_same_bits():
    command = [sys.executable, "-c", SECOND_PROCESS]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(2)]
    assert int(runs[0][0]) > 0 and int(runs[1][0]) == 0
    assert runs[0][1:] == runs[1][1:]


# the same numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_native_equals_interpreted(name):
    case = ZOO[name]
    results = []
    for jit in (False, True):
        model = compiled(case, jit=jit)
        logs = [model.train_on_batch(*case.data(ROWS, seed=step), return_dict=True) for step in range(3)]
        x, y = case.data(9, seed=50)
        logs.append(model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True))
        results.append((logs, model.predict(x, batch_size=4, verbose=0), model.get_weights()))
    (expected_logs, expected, expected_weights), (logs, found, weights) = results
    for a, b in zip(logs, expected_logs, strict=True):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6)
    for a, b in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for a, b in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "cnn", "conv1d"])
def test_bits_do_not_depend_on_threads_or_the_run(name):
    case = ZOO[name]
    x, y = case.data(300)  # enough rows that the work is worth sharing
    bits = []
    for threads in (1, 2, 4, 2):
        model = compiled(case, num_threads=threads)
        model.fit(x, y, batch_size=140, epochs=2, shuffle=False, verbose=0)
        bits.append([w.tobytes() for w in model.get_weights()] + [model.predict(x, verbose=0).tobytes()])
    assert all(b == bits[0] for b in bits[1:])


# memory ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    model = compiled(ZOO["mlp"])
    model.train_on_batch(*ZOO["mlp"].data(ROWS))
    return model


@pytest.mark.parametrize("method", ["predict_on_batch", "train_on_batch"])
def test_memory_is_flat(model, method):
    x, y = ZOO["mlp"].data(ROWS)
    arguments = (x,) if method == "predict_on_batch" else (x, y)
    call = getattr(model, method)
    for _ in range(200):
        call(*arguments)
    gc.collect()
    before = resident_kib()
    for _ in range(CALLS):
        call(*arguments)
    gc.collect()
    assert resident_kib() - before < 1024  # a leak of 100 bytes a call would show


def test_memory_is_flat_over_predict_of_all_sizes(model):
    x, _ = ZOO["mlp"].data(64)
    sizes = [1, 7, 33, 64]
    for rows in sizes:
        model.predict(x[:rows], verbose=0)
    before = resident_kib()
    for n in range(400):
        model.predict(x[: sizes[n % 4]], verbose=0)
    gc.collect()
    assert resident_kib() - before < 1024


def large_model(rows: int = 8):
    """40 MB of weights and 80 MB of slots."""
    model = keras.Sequential([keras.Input((3200,)), layers.Dense(3200, name="wide"), layers.Dense(1, name="end")])
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((rows, 3200), np.float32), np.ones((rows, 1), np.float32))
    return model


def test_a_deleted_model_is_freed():
    large_model()
    gc.collect()
    before = resident_kib()
    for _ in range(4):
        model = large_model()
        arena = weakref.ref(model.layers[-1].kernel._arena)
        itself = weakref.ref(model)
        assert arena() is not None
        del model
        gc.collect()
        assert itself() is None and arena() is None
    assert resident_kib() - before < 60 * 1024  # four would be 480 MB


# importing -------------------------------------------------------------------------------------------

HEAVY = ("llvmlite", "h5py", "networkx", "keras", "jax", "tensorflow", "torch", "numpy.random", "numpy.ma", "numpy.fft")


@pytest.mark.parametrize("module, heavy", [("kcompile", HEAVY), ("kcompile.keras", HEAVY[:7])])
def test_import_is_light(module, heavy):
    code = f"import sys, {module}; print(*(m for m in {heavy!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
