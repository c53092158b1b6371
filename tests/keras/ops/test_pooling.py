"""Who gets the gradient of a pooled maximum: the element real Keras on JAX gives it to, with ties and NaN."""

import numpy as np
import pytest

from kcompile import autodiff, pipeline
from kcompile.keras import ops
from kcompile.keras.tracing import trace
from kcompile.keras.tracing.scope import unwrap

jax = pytest.importorskip("jax")

# spatial sizes, pool_size, strides, padding
CASES = [
    ((9,), 2, 2, "same"),
    ((8,), 3, 1, "same"),
    ((9,), 2, 3, "valid"),
    ((80,), 35, 33, "valid"),
    ((7, 6), 2, 2, "valid"),
    ((7, 8), (2, 3), (2, 3), "same"),
    ((7, 6), 3, 2, "valid"),
    ((7, 6), 3, 2, "same"),
    ((5, 6), 2, (3, 1), "valid"),
    ((9, 8), 3, 4, "same"),
    ((5, 4, 6), 2, 2, "valid"),
    ((5, 4, 5), (2, 3, 2), (1, 2, 3), "same"),
]


def few_values(shape, rng, nans: float):
    """Numbers with many ties among them."""
    x = rng.integers(-2, 3, shape).astype("float32") * np.float32(0.5)
    x[rng.random(shape) < nans] = np.nan
    return x


@pytest.mark.parametrize("layout, cases", [("channels_last", CASES), ("channels_first", CASES[4:8:2])])
def test_gradient_of_max_pool(layout, cases, real_keras):
    def gradients(v):
        found = {}
        for n, (_, *case) in enumerate(cases):
            y = ops.max_pool(v[f"x{n}"], *case, data_format=layout)
            found[f"d{n}"] = autodiff.grad(unwrap(ops.sum(y * v[f"g{n}"])), [unwrap(v[f"x{n}"])])[0]
        return found

    program, rng = None, np.random.default_rng(0)
    for nans in (0.0, 0.2):
        given, expected = {}, {}
        for n, (sizes, *case) in enumerate(cases):
            x = given[f"x{n}"] = few_values((2, *sizes, 3) if layout == "channels_last" else (2, 3, *sizes), rng, nans)
            y, pullback = jax.vjp(lambda v, case=case: real_keras.ops.max_pool(v, *case, data_format=layout), x)
            g = given[f"g{n}"] = rng.integers(1, 9, y.shape).astype("float32")
            expected[f"d{n}"] = np.asarray(pullback(g)[0])
        if program is None:
            program = pipeline.compile(trace(gradients, {n: (a.shape, "float32") for n, a in given.items()}).graph)
        found = program.run(given, {})
        for n, case in enumerate(cases):
            np.testing.assert_array_equal(found[f"d{n}"], expected[f"d{n}"], err_msg=str(case))


@pytest.mark.parametrize("strides", [2, 3, 1])
def test_sizes_that_are_known_when_it_runs(strides, real_keras):
    rng = np.random.default_rng(1)

    def gradient(v):
        y = ops.max_pool(v["x"], 2, strides)
        return {"d": autodiff.grad(unwrap(ops.sum(y * y)), [unwrap(v["x"])])[0]}

    program = pipeline.compile(trace(gradient, {"x": ((None, None, 5), "float32")}).graph)
    for shape in ((1, 2, 5), (2, 9, 5), (3, 10, 5)):
        x = few_values(shape, rng, 0.0)
        y, pullback = jax.vjp(lambda v: real_keras.ops.max_pool(v, 2, strides), x)
        np.testing.assert_array_equal(
            program.run({"x": x}, {})["d"], np.asarray(pullback(2 * y)[0]), err_msg=str(shape)
        )
