"""Dtype policies: results, dtypes and training of every layer against real Keras; bfloat16 eager, compiled, saved."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.codegen.host import host_target
from kcompile.keras import dtype_policies, layers, ops
from kcompile.testing import random_inputs
from tests.keras.layers.test_all import CASES

TOLERANCE = {
    "float64": {"rtol": 1e-5, "atol": 1e-5},  # real Keras computes in float32: JAX without its 64-bit mode
    "mixed_float16": {"rtol": 1e-2, "atol": 1e-2},
    "mixed_bfloat16": {"rtol": 6e-2, "atol": 6e-2},
    "bfloat16": {"rtol": 6e-2, "atol": 6e-2},
}
ARITHMETIC = (
    "Dense EinsumDense Embedding Conv2D Conv2DTranspose DepthwiseConv2D SeparableConv2D AveragePooling2D MaxPooling2D "
    "GlobalAveragePooling2D BatchNormalization LayerNormalization GroupNormalization RMSNormalization "
    "UnitNormalization Softmax PReLU ELU Rescaling Normalization CategoryEncoding Discretization Dot Average "
    "UpSampling2D ZeroPadding2D"
).split()
SAMPLE = list({c[0]: c for c in CASES if c[0] in ARITHMETIC and not c[3].get("training")}.values())


@pytest.fixture
def policy(request, real_keras):
    before = dtype_policies.dtype_policy(), real_keras.config.dtype_policy()
    dtype_policies.set_dtype_policy(request.param)
    real_keras.config.set_dtype_policy(request.param)
    yield request.param
    dtype_policies.set_dtype_policy(before[0])
    real_keras.config.set_dtype_policy(before[1])


@pytest.mark.parametrize("policy", ["mixed_bfloat16"], indirect=True)
@pytest.mark.parametrize("name, init, shape, more", SAMPLE, ids=[c[0] for c in SAMPLE])
def test_layers_compute_in_the_policys_dtype(policy, name, init, shape, more, real_keras):
    x = random_inputs(np.random.default_rng(0), shape, more.get("input_dtype", "float32"))
    ours, theirs = (getattr(k.layers, name)(**init) for k in (keras, real_keras))
    expected = theirs(x)
    ours(x)
    assert [w.dtype for w in ours.weights] == [str(w.dtype) for w in theirs.weights]
    rng = np.random.default_rng(1)
    values = [rng.uniform(0.5, 1.5, w.shape).astype("f") for w in ours.weights]
    ours.set_weights(values)
    theirs.set_weights(values)
    if name == "Normalization":
        theirs.finalize_state()
    found, expected = ours(x), theirs(x)
    assert str(found.dtype) == str(expected.dtype)
    scale = max(1.0, float(np.abs(np.asarray(expected, "f")).max(initial=0)))
    np.testing.assert_allclose(np.asarray(found, "f") / scale, np.asarray(expected, "f") / scale, **TOLERANCE[policy])


def model(k):
    return k.Sequential(
        [
            k.Input((8, 8, 3)),
            k.layers.Conv2D(8, 3, activation="relu"),
            k.layers.BatchNormalization(),
            k.layers.MaxPooling2D(),
            k.layers.Flatten(),
            k.layers.Dense(16, activation="gelu"),
            k.layers.LayerNormalization(),
            k.layers.Dense(4, dtype="float32"),
        ]
    )


@pytest.mark.parametrize("policy", list(TOLERANCE), indirect=True)
def test_training_follows_keras(policy, real_keras):
    real_keras.utils.set_random_seed(0)  # of some draws a maximum changes its place between float32 and float64
    ours, theirs = model(keras), model(real_keras)
    ours.set_weights([np.asarray(w, "f") for w in theirs.get_weights()])
    rng = np.random.default_rng(0)
    for m, k in ((ours, keras), (theirs, real_keras)):
        loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
        m.compile(k.optimizers.SGD(0.05), loss, auto_scale_loss=False)
    x, y = rng.standard_normal((16, 8, 8, 3)).astype("f"), rng.integers(0, 4, 16).astype("int32")
    for _ in range(5):
        found, expected = (float(np.asarray(m.train_on_batch(x, y))) for m in (ours, theirs))
        assert found == pytest.approx(expected, rel=1e-5 if policy == "float64" else 4e-2)
    near = 1e-4 if policy == "float64" else 0.1
    np.testing.assert_allclose(ours.predict(x, verbose=0), theirs.predict(x, verbose=0), rtol=near, atol=near)


def wide_model(k):
    """Windows and odd sums, wide enough for products in pairs."""
    layers = [k.layers.Conv2D(33, 3, strides=2, activation="relu"), k.layers.Flatten()]
    layers += [k.layers.Dense(70, activation="relu"), k.layers.Dense(4, dtype="float32")]
    return k.Sequential([k.Input((9, 9, 5)), *layers])


@pytest.mark.parametrize("policy", ["mixed_bfloat16"], indirect=True)
def test_products_in_pairs_follow_keras(policy, real_keras):
    ours, theirs = wide_model(keras), wide_model(real_keras)
    ours.set_weights([np.asarray(w, "f") for w in theirs.get_weights()])
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((33, 9, 9, 5)).astype("f"), rng.standard_normal((33, 4)).astype("f")
    for m, k in ((ours, keras), (theirs, real_keras)):
        m.compile(k.optimizers.SGD(0.05), "mse", auto_scale_loss=False)
    found, expected = (m.predict(x, verbose=0) for m in (ours, theirs))
    np.testing.assert_allclose(found, expected, rtol=5e-2, atol=2e-2)
    for _ in range(2):
        found, expected = (float(np.asarray(m.train_on_batch(x, y))) for m in (ours, theirs))
        assert found == pytest.approx(expected, rel=1e-2)
    if host_target().bf16_pairs:
        assert sum("pairs" in r.path for r in ours.profile(x, y, batch_size=33).records) >= 4


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"], indirect=True)
def test_compiled_and_eager_agree(policy, tmp_path):
    made = model(keras)
    x = np.random.default_rng(0).standard_normal((5, 8, 8, 3)).astype("f")
    eager = np.asarray(made(x))
    made.compile("adam", "mse")
    np.testing.assert_allclose(made.predict(x, verbose=0), eager, rtol=2e-2, atol=2e-2)
    made.fit(x, np.zeros((5, 4), "f"), epochs=2, verbose=0)
    path = str(tmp_path / "model.keras")
    made.save(path)
    again = keras.models.load_model(path)
    assert [w.dtype for w in again.weights] == [w.dtype for w in made.weights]
    np.testing.assert_array_equal(again.predict(x, verbose=0), made.predict(x, verbose=0))


def test_numbers_of_bfloat16():
    x = ops.cast(np.array([1.0, 1.001, 3.14159, np.nan, np.inf], "f"), "bfloat16")
    assert x.dtype == "bfloat16" and x.numpy().dtype == np.float32
    np.testing.assert_array_equal(x.numpy(), np.array([1.0, 1.0, 3.140625, np.nan, np.inf], "f"))
    assert (x * 2.5).dtype == "bfloat16" and (x + np.ones(5, "f")).dtype == np.float32
    assert float(ops.cast(1.0, "bfloat16") / 3) == 0.333984375
    variable = keras.Variable([1.001, 2.0], dtype="bfloat16")
    assert variable.dtype == "bfloat16" and variable.numpy().tolist() == [1.0, 2.0]
    variable.assign_add([0.001, 1.001])
    assert variable.numpy().tolist() == [1.0, 3.0] and variable.value.dtype == "bfloat16"
    for made in (ops.zeros((2, 3), "bfloat16"), ops.eye(3, dtype="bfloat16"), ops.arange(3, dtype="bfloat16")):
        assert made.dtype == "bfloat16"


def test_predictions_are_float32():
    made = keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype="bfloat16")])
    assert made.predict(np.ones((4, 3), "f"), verbose=0).dtype == np.float32


def test_half_precision_scales_the_loss():
    policy = dtype_policies.dtype_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        made = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Dense(1, dtype="float32")])
        made.compile("sgd", "mse")
        assert isinstance(made.optimizer, keras.mixed_precision.LossScaleOptimizer)
        history = made.fit(np.ones((8, 3), "f"), np.zeros((8, 1), "f"), epochs=20, verbose=0).history["loss"]
        assert history[-1] < history[0] / 2
        made.compile("sgd", "mse", auto_scale_loss=False)
        assert isinstance(made.optimizer, keras.optimizers.SGD)
    finally:
        dtype_policies.set_dtype_policy(policy)


def test_inputs_are_of_the_default_float_type():
    x = np.random.default_rng(0).normal(size=(3, 4))  # float64
    keras.config.set_floatx("float64")
    try:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Activation("linear", dtype="float64")])
        assert model.inputs[0].dtype == "float64"
        np.testing.assert_array_equal(model.predict(x, verbose=0), x)
        np.testing.assert_array_equal(np.asarray(model(x)), x)
    finally:
        keras.config.set_floatx("float32")
