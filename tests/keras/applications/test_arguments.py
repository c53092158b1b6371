"""The arguments all applications share: weights from files, inputs, what is refused and how."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError
from kcompile.keras import applications
from kcompile.keras.applications import building
from tests.keras.applications.common import plain_weights  # noqa: F401

pytestmark = pytest.mark.usefixtures("plain_weights")


def test_own_weights_file(tmp_path):
    arguments = {"input_shape": (32, 32, 3), "alpha": 0.25, "classes": 5}
    model = applications.MobileNet(weights=None, **arguments)
    path = str(tmp_path / "small.h5")
    model.save_weights(path)
    again = applications.MobileNet(weights=path, **arguments)
    for a, b in zip(model.weights, again.weights):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_arguments():
    small = {"weights": None, "alpha": 0.25}
    tensor = keras.Input((64, 64, 3))
    model = applications.MobileNet(input_tensor=tensor, include_top=False, **small)
    assert model.input is tensor and model.output.shape == (None, 2, 2, 256)
    assert applications.MobileNet(include_top=False, pooling="avg", **small).output.shape == (None, 256)
    head = applications.MobileNet(classes=7, classifier_activation=None, input_shape=(32, 32, 1), **small)
    assert head.output.shape == (None, 7)
    for wrong, word in (
        ({"weights": "nowhere.h5"}, "nowhere.h5"),
        ({"weights": "imagenet", "classes": 10}, "classes"),
        ({"weights": None, "input_shape": (16, 16, 3)}, "at least 32x32"),
        ({"weights": None, "input_shape": (64, 64)}, "three integers"),
        ({"weights": None, "include_top": False, "pooling": "sum"}, "pooling"),
    ):
        with pytest.raises(ArgumentError, match=word):
            applications.VGG16(**wrong)


def test_published_weights_come_from_the_cache(tmp_path, monkeypatch):
    """`weights="imagenet"` reads `models/` below KERAS_HOME before it asks the network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    model = applications.MobileNet(weights=None, alpha=0.25, input_shape=(128, 128, 3), include_top=False)
    model.weights[0].assign(np.full(model.weights[0].shape, 3.0))
    path = tmp_path / "models" / "mobilenet_2_5_128_tf_no_top.h5"
    model.save_weights(str(path))
    again = applications.MobileNet(alpha=0.25, input_shape=(128, 128, 3), include_top=False)
    assert again.weights[0].numpy().min() == 3.0


def test_published_weights_that_cannot_be_had(tmp_path, monkeypatch):
    """No cache, no network: the message names the file and the two ways on."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def refuse(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(building, "get_file", refuse)
    with pytest.raises(ArgumentError, match=r"weights_mobilenet_v3_small_224_1.0_float.h5.*weights=None"):
        applications.MobileNetV3Small()
    for network, wrong in (
        (applications.MobileNetV2, {"alpha": 0.6}),
        (applications.MobileNetV3Small, {"alpha": 0.75, "minimalistic": True}),
    ):
        with pytest.raises(ArgumentError, match="alpha"):
            network(**wrong)


def test_the_residual_scale_travels_in_configs():
    model = applications.InceptionResNetV2(weights=None, include_top=False)
    again = type(model).from_config(model.get_config())
    scales = [[la.scale for la in m.layers if type(la).__name__ == "CustomScaleLayer"] for m in (model, again)]
    assert scales[0] == scales[1] == [0.17] * 10 + [0.1] * 20 + [0.2] * 9 + [1.0]
