"""Options of layers: what Keras computes with them, or an error that names layer and option and says what to do."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, NotSupportedError, ShapeError
from kcompile.keras import layers

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((8, 6, 4)).astype("f"), RNG.standard_normal((8, 3)).astype("f")
IMAGE = RNG.standard_normal((8, 5, 5, 2)).astype("f")

REFUSED = {
    "sparse input": (lambda: keras.Input((3,), sparse=True, name="words"), "'words': sparse=True.*dense"),
    "ragged input": (lambda: keras.Input((3,), ragged=True, name="words"), "'words': ragged=True.*pad"),
    "encoding": (lambda: layers.CategoryEncoding(3, sparse=True, name="e"), r"CategoryEncoding\(sparse=True\).*'e'"),
    "lookup": (
        lambda: layers.StringLookup(sparse=True, output_mode="count", name="e"),
        r"StringLookup\(sparse=True\).*'e'",
    ),
    "integers": (lambda: layers.IntegerLookup(oov_method="farmhash", name="e"), "oov_method.*'e'.*Hashing"),
    "bins": (lambda: layers.Discretization([0.0], sparse=True, name="e"), r"Discretization\(sparse=True\).*'e'"),
    "hashing": (lambda: layers.Hashing(3, sparse=True, name="e"), r"Hashing\(sparse=True\).*'e'"),
    "texts": (lambda: layers.TextVectorization(ragged=True, name="e"), r"\(ragged=True\).*'e'.*mask_zero"),
    "adjustment": (lambda: layers.BatchNormalization(adjustment=len, name="e"), "adjustment.*'e'.*layer of your own"),
    "virtual": (lambda: layers.BatchNormalization(virtual_batch_size=2, name="e"), "virtual_batch_size.*'e'.*Group"),
    "axis": (lambda: layers.BatchNormalization(axis=5, name="e")(X), "'e': axis=5"),
    "quantization": (lambda: layers.Dense(2, quantization_config=object(), name="e"), "quant.*'e'.*mixed_bfloat16"),
    "typing error": (lambda: layers.Dense(2, kernal_initializer="zeros", name="e"), "'e'.*mean 'kernel_initializer'"),
    "base's": (lambda: layers.Dropout(0.5, trainabel=False), "Dropout.*mean 'trainable'"),
    "rank": (lambda: layers.Dense(2, lora_rank=-1, name="e"), "'e'.*lora_rank"),
    "rank of transposed": (lambda: layers.Conv2DTranspose(2, 3, lora_rank=1), "Conv2DTranspose.*lora_rank"),
    "rank elsewhere": (lambda: layers.LayerNormalization(lora_rank=1), "lora_rank.*Dense"),
    "bounds": (lambda: layers.BatchNormalization(renorm=True, renorm_clipping={"max": 1}), "renorm_clipping.*rmax"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_to_do(name):
    make, message = REFUSED[name]
    with pytest.raises((ArgumentError, NotSupportedError, ShapeError), match=message):
        make()


def flat(k, layer):
    return [layer, k.layers.Flatten()]


COMPUTED = {
    "renorm": lambda k: [*flat(k, k.layers.BatchNormalization(renorm=True, momentum=0.8))],
    "renorm clipped": lambda k: [
        *flat(k, k.layers.BatchNormalization(
            renorm=True, scale=False, renorm_momentum=0.7, renorm_clipping={"rmin": 0.9, "rmax": 1.1, "dmax": 0.2}))
    ],
    "rms_scaling": lambda k: flat(k, k.layers.LayerNormalization(axis=(1, 2), rms_scaling=True)),
    "lora dense": lambda k: flat(k, k.layers.Dense(5, lora_rank=2, kernel_regularizer="l2")),
    "lora einsum": lambda k: flat(k, k.layers.EinsumDense("abc,cd->abd", (6, 5), lora_rank=2)),
    "lora convolution": lambda k: flat(k, k.layers.Conv1D(4, 2, lora_rank=1)),
}  # fmt: skip


def trained(k, name, weights=None):
    model = k.Sequential([k.Input((6, 4)), *COMPUTED[name](k), k.layers.Dense(3)])
    if weights is None:  # nothing is 0 or 1, so that every weight counts
        rng = np.random.default_rng(1)
        weights = [rng.uniform(0.3, 0.9, w.shape).astype("f") for w in model.get_weights()]
    model.set_weights(weights)
    model.compile(k.optimizers.SGD(0.02), "mse")
    losses = [model.train_on_batch(X, Y) for _ in range(3)] + [model.evaluate(X, Y, verbose=0)]
    return model, np.array(losses, float)


@pytest.mark.parametrize("name", COMPUTED)
def test_against_keras(name, real_keras, tmp_path):
    (ours, losses), (theirs, wanted) = trained(keras, name), trained(real_keras, name)
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=2e-3, atol=1e-4)
    assert ours.layers[0].get_config().keys() >= theirs.layers[0].get_config().keys() - {
        "quantization_config",
        "activity_regularizer",
    }
    theirs.save(tmp_path / "theirs.keras")
    read = keras.models.load_model(tmp_path / "theirs.keras")
    np.testing.assert_allclose(read.predict(X, verbose=0), theirs.predict(X, verbose=0), rtol=2e-4, atol=2e-5)
    ours.save(tmp_path / "ours.keras")
    read = real_keras.models.load_model(tmp_path / "ours.keras")
    np.testing.assert_allclose(read.predict(X, verbose=0), ours.predict(X, verbose=0), rtol=2e-4, atol=2e-5)


def test_an_adapted_embedding(real_keras):
    ids = np.array([[1, 3], [0, 2]])
    for k in (keras, real_keras):
        layer = k.layers.Embedding(4, 3)
        before = np.asarray(layer(ids))
        layer.enable_lora(2, lora_alpha=4)
        np.testing.assert_array_equal(np.asarray(layer(ids)), before)
        assert [w.shape for w in layer.trainable_weights] == [(4, 2), (2, 3)]
        layer.set_weights([np.ones((4, 3), "f"), np.full((4, 2), 0.5, "f"), np.full((2, 3), 0.25, "f")])
        np.testing.assert_allclose(np.asarray(layer(ids)), np.full((2, 2, 3), 1.5))
    with pytest.raises(ArgumentError, match="only be done once"):
        ours = layers.Embedding(4, 3, lora_rank=1)
        ours(ids)
        ours.enable_lora(2)
