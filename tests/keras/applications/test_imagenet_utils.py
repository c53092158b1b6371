"""preprocess_input and decode_predictions."""

import json

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError
from kcompile.keras import applications


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_preprocessing_against_keras(mode, data_format, real_keras):
    shape = (2, 4, 5, 3) if data_format == "channels_last" else (2, 3, 4, 5)
    x = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    theirs = real_keras.applications.imagenet_utils.preprocess_input
    expected = theirs(x.copy(), data_format=data_format, mode=mode)
    before = x.copy()
    found = applications.imagenet_utils.preprocess_input(x, data_format=data_format, mode=mode)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(x, before)


def test_preprocessing_inside_a_model():
    x = keras.Input((4, 4, 3))
    model = keras.Model(x, applications.vgg16.preprocess_input(x))
    image = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3)).astype("float32")
    expected = applications.vgg16.preprocess_input(image)
    np.testing.assert_allclose(model.predict(image, verbose=0), expected, atol=1e-4)


def test_decoding(tmp_path, monkeypatch):
    from kcompile.keras.applications import imagenet_utils

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    names = tmp_path / "names.json"
    names.write_text(json.dumps({str(i): [f"n{i:08}", f"thing {i}"] for i in range(1000)}))
    monkeypatch.setattr(imagenet_utils, "_ORIGIN", names.as_uri())
    monkeypatch.setattr(imagenet_utils, "_MD5", None)
    scores = np.zeros((2, 1000))
    scores[0, [7, 3]] = 0.75, 0.25
    scores[1, 999] = 1
    found = applications.resnet50.decode_predictions(scores, top=2)
    assert found[0] == [("n00000007", "thing 7", 0.75), ("n00000003", "thing 3", 0.25)]
    assert found[1][0] == ("n00000999", "thing 999", 1.0)
    with pytest.raises(ArgumentError, match="samples, 1000"):
        applications.resnet50.decode_predictions(scores[:, :10])


@pytest.mark.parametrize("family", ["mobilenet_v3", "efficientnet", "efficientnet_v2"])
def test_families_that_scale_images_themselves(family):
    x = np.ones((1, 2, 2, 3))
    module = getattr(applications, family)
    assert module.preprocess_input(x) is x and module.decode_predictions is applications.vgg16.decode_predictions
