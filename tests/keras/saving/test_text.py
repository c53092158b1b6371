"""to_json, to_yaml and back; W-7 of the checklist."""

import json

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import NotSupportedError, SavedFileError, UnknownNameError
from tests.keras.saving.models import data


def w3():
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Dense(5, "relu", name="layer1", input_shape=(4,)),
            layers.Dense(3, "relu", name="layer2"),
            layers.Dense(1, name="layer3"),
        ]
    )


def summary(model):
    lines = []
    model.summary(print_fn=lines.append)
    return lines


@pytest.mark.parametrize("layout", ["keras3", "classic"])
def test_json_round_trip(layout):
    model = w3()
    model.compile(optimizer="SGD", loss="mse", metrics=["mae"], jit=False)
    model.fit(data((100, 4)), data((100, 1)), batch_size=5, verbose=0)
    again = keras.models.model_from_json(model.to_json(layout))
    assert summary(again) == summary(model)
    assert again.optimizer is None
    assert again.get_layer("layer1").kernel.shape == (4, 5)
    assert not np.allclose(again.get_weights()[0], model.get_weights()[0])
    assert all((again.get_layer(n).bias.numpy() == 0).all() for n in ("layer1", "layer2", "layer3"))


def test_fields_of_the_classic_layout():
    found = json.loads(w3().to_json("classic"))
    assert set(found) == {"class_name", "config", "keras_version", "backend"}
    assert set(found["config"]) == {"name", "layers"}
    entry, first, second = found["config"]["layers"][:3]
    assert entry["class_name"] == "InputLayer"
    assert set(entry["config"]) == {"batch_input_shape", "dtype", "name", "ragged", "sparse"}
    assert first["config"]["batch_input_shape"] == [None, 4] and "batch_input_shape" not in second["config"]
    assert first["config"]["dtype"] == "float32"
    assert first["config"]["kernel_initializer"] == {"class_name": "GlorotUniform", "config": {"seed": None}}
    assert first["config"]["bias_initializer"] == {"class_name": "Zeros", "config": {}}
    assert set(second["config"]) == {
        "activation",
        "activity_regularizer",
        "bias_constraint",
        "bias_initializer",
        "bias_regularizer",
        "dtype",
        "kernel_constraint",
        "kernel_initializer",
        "kernel_regularizer",
        "name",
        "trainable",
        "units",
        "use_bias",
    }


def test_yaml_and_config():
    model = w3()
    again = keras.models.model_from_yaml(model.to_yaml())
    assert summary(again) == summary(model)
    again = keras.models.model_from_config({"class_name": "Sequential", "config": model.get_config()})
    assert summary(again) == summary(model)
    with pytest.raises((NotSupportedError, SavedFileError), match=r"PyYAML|expected a dict"):
        keras.models.model_from_yaml("- just\n- a list\n")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"class_name": "Sequential"}', "null", '{"a": 1}'])
def test_text_that_is_no_model(text):
    with pytest.raises(SavedFileError):
        keras.models.model_from_json(text)


def test_unknown_class_is_named():
    text = w3().to_json().replace('"Dense"', '"Dence"')
    with pytest.raises(UnknownNameError, match=r"Dence.*Dense"):
        keras.models.model_from_json(text)
