"""flow_from_directory against real Keras, in order and without changes; its modes; training from it."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError
from kcompile.keras.preprocessing.image import DirectoryIterator, ImageDataGenerator

pytest.importorskip("PIL")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, count in (("cat", 4), ("dog", 3)):
        (root / name).mkdir()
        for n in range(count):
            image = rng.integers(0, 256, (5 + n, 6, 3)).astype("f")
            keras.utils.save_img(root / name / f"{n}.png", image, scale=False)
    (root / "cat" / "notes.txt").write_text("no image")
    return str(root)


@pytest.mark.parametrize("mode", ["categorical", "binary", "sparse", "input", None])
def test_against_keras(mode, folder, real_keras):
    from keras.src.legacy.preprocessing.image import ImageDataGenerator as Theirs

    options = {"target_size": (4, 4), "class_mode": mode, "batch_size": 3, "shuffle": False}
    ours = ImageDataGenerator(rescale=1 / 255).flow_from_directory(folder, **options)
    theirs = Theirs(rescale=1 / 255).flow_from_directory(folder, **options)
    assert ours.class_indices == theirs.class_indices and len(ours) == len(theirs) == 3
    assert ours.filenames == theirs.filenames and ours.image_shape == theirs.image_shape
    for n in range(3):
        for a, b in zip(keras.tree.flatten(ours[n]), keras.tree.flatten(theirs[n]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
            assert np.asarray(a).dtype == np.asarray(b).dtype


def test_parts_and_training(folder):
    generator = ImageDataGenerator(validation_split=0.5, horizontal_flip=True)
    options = {"target_size": (4, 4), "color_mode": "grayscale", "batch_size": 2, "seed": 1}
    parts = [generator.flow_from_directory(folder, subset=s, **options) for s in ("training", "validation")]
    assert [p.samples for p in parts] == [4, 3]
    assert not set(parts[0].filenames) & set(parts[1].filenames)
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", "mse", jit=False)
    model.fit(parts[0], epochs=1, verbose=0, validation_data=parts[1])
    with pytest.raises(ArgumentError, match="class_mode: 'other'"):
        DirectoryIterator(folder, generator, class_mode="other")
