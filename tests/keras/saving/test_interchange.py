"""Files of real Keras 3 load here and ours load there: outputs, weights and optimizer state."""

import warnings

import numpy as np
import pytest

from kcompile import keras
from tests.keras.real import real_keras
from tests.keras.saving import models
from tests.keras.saving.models import assert_same_outputs, assert_same_state, interpret

MODELS = {
    "cnn": models.cnn,
    "two_by_two": models.two_by_two,
    "plain_two_by_two": lambda k: models.two_by_two(k, operations=False),
    "embedding": models.embedding,
    "recurrent": models.recurrent,
    "attention": models.attention,
    "heads": lambda k: models.attention(k, plain=False),
}


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("name", MODELS)
def test_keras_to_kcompile(name, tmp_path):
    real = real_keras()
    model, x, y = MODELS[name](real)
    model.fit(x, y, epochs=2, verbose=0, shuffle=False)
    for file in ("m.keras", "m.h5"):
        model.save(tmp_path / file)
        found = interpret(keras.models.load_model(tmp_path / file))
        assert_same_outputs(found, model, x)
        assert_same_state(found, model)
        assert [v.shape for v in found.weights] == [tuple(v.shape) for v in model.weights]


@pytest.mark.parametrize("name", MODELS)
def test_kcompile_to_keras(name, tmp_path):
    real = real_keras()
    model, x, y = MODELS[name](keras)
    interpret(model).fit(x, y, epochs=2, verbose=0, shuffle=False)
    model.save(tmp_path / "m.keras")
    found = real.models.load_model(tmp_path / "m.keras")
    assert_same_outputs(found, model, x)
    assert_same_state(model, found)
    if name not in (
        "two_by_two",
        "attention",
    ):  # Keras reads no operations and no score_mode from HDF5, its own neither
        model.save(tmp_path / "m.h5")
        assert_same_outputs(real.models.load_model(tmp_path / "m.h5", compile=False), model, x)


@pytest.mark.parametrize("name", MODELS)
def test_weights_both_ways(name, tmp_path):
    real = real_keras()
    theirs, x, _ = MODELS[name](real)
    ours, _, _ = MODELS[name](keras)
    theirs.save_weights(tmp_path / "k.weights.h5")
    interpret(ours).load_weights(tmp_path / "k.weights.h5")
    assert_same_outputs(ours, theirs, x)
    again, _, _ = MODELS[name](real)
    ours.save_weights(tmp_path / "c.weights.h5")
    again.load_weights(tmp_path / "c.weights.h5")
    assert_same_outputs(ours, again, x)


OPTIMIZERS = {
    "SGD momentum": {"momentum": 0.9, "nesterov": True},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Adam": {"amsgrad": True},
    "Adagrad": {},
    "Adadelta": {},
    "Adamax": {},
    "Nadam": {},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_in_the_other(name, tmp_path):
    """Two epochs here or there, save, load in the other, two more: as four epochs in one."""
    real = real_keras()
    cls, options = name.split()[0], OPTIMIZERS[name]

    def fit(model):
        model.fit(x, y, epochs=2, verbose=0, shuffle=False, batch_size=8)
        return model

    theirs, x, y = models.mlp(real, getattr(real.optimizers, cls)(**options))
    theirs.save(tmp_path / "start.keras")
    ours = interpret(keras.models.load_model(tmp_path / "start.keras"))
    fit(ours).save(tmp_path / "ours.keras")
    fit(theirs).save(tmp_path / "theirs.keras")
    crossed = fit(real.models.load_model(tmp_path / "ours.keras"))
    continued = fit(interpret(keras.models.load_model(tmp_path / "theirs.keras")))
    fit(theirs)
    for other in (crossed, continued):
        assert_same_outputs(other, theirs, x, atol=2e-5)
        assert int(np.asarray(other.optimizer.iterations)) == 8


def test_layout_of_the_archive(tmp_path):
    """config.json and the names in model.weights.h5 are those of Keras."""
    import json
    import zipfile

    import h5py

    real = real_keras()
    told = []
    for which in (real, keras):
        which.backend.clear_session()
        model, x, y = models.cnn(which)
        if which is keras:
            interpret(model)
        model.fit(x, y, verbose=0)
        model.save(tmp_path / "m.keras")
        with zipfile.ZipFile(tmp_path / "m.keras") as archive:
            assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
            config = json.loads(archive.read("config.json"))
            with h5py.File(archive.open("model.weights.h5")) as file:
                names = _shapes(file)
        told.append((config, {n for n in names if "seed_generator" not in n[0]}))
    (theirs, their_names), (ours, our_names) = told
    assert our_names == their_names
    assert set(theirs) == set(ours)
    for one, other in zip(theirs["config"]["layers"], ours["config"]["layers"], strict=True):
        assert (one["module"], one["class_name"]) == (other["module"], other["class_name"])
        if one["class_name"] in ("Conv2D", "BatchNormalization", "Dense"):
            assert one["build_config"] == other["build_config"]
    assert set(theirs["compile_config"]) == set(ours["compile_config"])


def _shapes(file):
    found = []
    file.visititems(lambda name, entry: found.append((name, getattr(entry, "shape", None))))
    return found


def test_json_both_ways():
    real = real_keras()
    theirs, _, _ = models.two_by_two(real)
    ours = keras.models.model_from_json(theirs.to_json())
    assert [v.shape for v in ours.weights] == [tuple(v.shape) for v in theirs.weights]
    assert [o.name for o in ours.operations] == [o.name for o in theirs.operations]
    again = real.models.model_from_json(ours.to_json())
    assert [(v.name, v.shape) for v in again.weights] == [(v.name, v.shape) for v in theirs.weights]


def test_functions_of_images_and_order_in_a_model(tmp_path):
    """Their operation classes have odd names (FFT, TopK) and modules (image, math)."""
    x = keras.Input((6, 5, 3))
    y = keras.ops.sort(keras.ops.image.resize(x, (4, 4), interpolation="bicubic"), axis=-1)
    values, _ = keras.ops.top_k(y, 2)
    real_part, _ = keras.ops.rfft(values)
    model = keras.Model(x, real_part)
    model.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((2, 6, 5, 3)).astype("float32")
    expected = model.predict(images, verbose=0)
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(images, verbose=0), expected)
    theirs = real_keras().models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(theirs.predict(images, verbose=0), expected, rtol=1e-4, atol=1e-4)
