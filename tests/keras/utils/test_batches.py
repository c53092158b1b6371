"""Folders and time series as batches; splitting. Images need Pillow."""

import importlib
import wave

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError, NotSupportedError
from kcompile.keras.training.data import make_data

utils = keras.utils


@pytest.fixture
def texts(tmp_path):
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        for i in range(4):
            (tmp_path / name / f"{i}.txt").write_text(f"{name} {i}")
    (tmp_path / "good" / "notes.md").write_text("left out")
    return tmp_path


def test_texts(texts, capsys):
    data = utils.text_dataset_from_directory(texts, batch_size=3, shuffle=False)
    assert "Found 8 files belonging to 2 classes." in capsys.readouterr().out
    assert data.class_names == ["bad", "good"] and len(data) == 3
    batches = list(data)
    assert [len(x) for x, _ in batches] == [3, 3, 2]
    assert batches[0][0].tolist() == ["bad 0", "bad 1", "bad 2"]
    assert np.concatenate([y for _, y in batches]).tolist() == [0] * 4 + [1] * 4
    assert data[0][1].dtype == np.int32


def test_parts_and_functions_of_batches(texts):
    data = utils.text_dataset_from_directory(texts, batch_size=3, shuffle=False)
    assert [len(x) for x, _ in data.take(2)] == [3, 3] and [len(x) for x, _ in data.skip(2)] == [2]
    ids = data.map(lambda x, y: x).map(lambda x: [t[-1] for t in x])
    assert list(ids.take(1)) == [["0", "1", "2"]] and len(ids) == 3
    layer = keras.layers.TextVectorization()
    layer.adapt(data.map(lambda x, y: x))
    assert layer.vocabulary_size() == 8
    mixed = utils.timeseries_dataset_from_array(np.arange(9.0), None, 1, batch_size=2, shuffle=True, seed=1)
    assert np.ravel(list(mixed.take(2))).tolist() == np.ravel([mixed[0], mixed[1]]).tolist()
    assert sorted(np.concatenate(list(mixed.map(lambda x: -x))).ravel()) == sorted(-np.arange(9.0))


def test_label_modes(texts):
    def labels(**kwargs):
        return utils.text_dataset_from_directory(texts, shuffle=False, verbose=False, batch_size=8, **kwargs)[0][1]

    assert labels(label_mode="binary").tolist() == [[0]] * 4 + [[1]] * 4
    assert labels(label_mode="categorical")[0].tolist() == [1, 0]
    assert labels(class_names=["good", "bad"]).tolist() == [0] * 4 + [1] * 4
    assert labels(labels=list(range(8))).tolist() == list(range(8))
    plain = utils.text_dataset_from_directory(texts, labels=None, label_mode=None, verbose=False, max_length=3)
    assert set(plain[0]) == {"bad", "goo"}


def test_parts_do_not_overlap(texts):
    arguments = {"validation_split": 0.25, "seed": 5, "verbose": False}
    train = utils.text_dataset_from_directory(texts, subset="training", **arguments)
    held = utils.text_dataset_from_directory(texts, subset="validation", **arguments)
    assert (len(train.file_paths), len(held.file_paths)) == (6, 2)
    assert not set(train.file_paths) & set(held.file_paths)
    both = utils.text_dataset_from_directory(texts, subset="both", **arguments)
    assert [part.file_paths for part in both] == [train.file_paths, held.file_paths]
    with pytest.raises(ArgumentError, match="seed"):
        utils.text_dataset_from_directory(texts, validation_split=0.5, subset="both")
    with pytest.raises(ArgumentError, match="class_names"):
        utils.text_dataset_from_directory(texts, class_names=["good", "worse"])
    with pytest.raises(ArgumentError, match="No files"):
        utils.image_dataset_from_directory(texts)


def test_images_in_fit(tmp_path):
    importlib.import_module("PIL")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            utils.save_img(tmp_path / name / f"{i}.png", rng.integers(0, 256, (9, 12, 3)), scale=False)
    data = utils.image_dataset_from_directory(tmp_path, image_size=(6, 4), batch_size=4, seed=1, verbose=False)
    x, y = data[0]
    assert x.shape == (4, 6, 4, 3) and x.dtype == np.float32 and y.shape == (4,)
    gray = utils.image_dataset_from_directory(
        tmp_path, color_mode="grayscale", image_size=(9, 12), shuffle=False, verbose=False
    )
    assert gray[0][0].shape == (6, 9, 12, 1)
    model = keras.Sequential([keras.Input((6, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert len(model.fit(data, epochs=2, verbose=0).history["loss"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"sequence_stride": 3},
        {"sampling_rate": 2, "start_index": 1, "end_index": 15},
        {"batch_size": 4},
    ],
)
def test_series(arguments):
    data, targets = np.arange(20), np.arange(20) * 10
    found = list(utils.timeseries_dataset_from_array(data, targets, 4, **arguments))
    rate, first = arguments.get("sampling_rate", 1), arguments.get("start_index", 0)
    last = arguments.get("end_index", 20)
    starts = range(first, last - 3 * rate, arguments.get("sequence_stride", 1))
    assert np.concatenate([x for x, _ in found]).tolist() == [[s + rate * i for i in range(4)] for s in starts]
    assert np.concatenate([y for _, y in found]).tolist() == [10 * s for s in starts]
    assert utils.timeseries_dataset_from_array(data, None, 4)[0].shape == (17, 4)


def test_split():
    x, y = np.arange(10.0)[:, None], np.arange(10)
    left, right = utils.split_dataset((x, y), left_size=0.7)
    assert [int(b) for _, b in left] == list(range(7)) and [int(b) for _, b in right] == [7, 8, 9]
    batches = left.batch(4)
    assert [len(b) for _, b in batches] == [4, 3]
    left, right = utils.split_dataset(x, right_size=3, shuffle=True, seed=1)
    assert sorted(float(v[0]) for part in (left, right) for v in part) == list(range(10))
    left, _ = utils.split_dataset([(np.ones(2), 1), (np.zeros(2), 0)], left_size=1)
    assert left[0][0].tolist() == [1, 1]
    for sizes in ({}, {"left_size": 8, "right_size": 3}, {"left_size": 10}, {"left_size": 1.5}):
        with pytest.raises(ArgumentError):
            utils.split_dataset(x, **sizes)


def test_a_new_order_in_each_pass():
    from kcompile.keras.utils.batches import Batches

    data = Batches(50, lambda rows: rows, batch_size=20, shuffle=True, seed=0)
    first, second = np.concatenate(list(data)), np.concatenate(list(data))
    assert sorted(first) == sorted(second) == list(range(50)) and first.tolist() != second.tolist()


def test_audio_from_folders(tmp_path):
    for number, (label, frames) in enumerate([("a", 30), ("b", 20), ("b", 25)]):
        (tmp_path / label).mkdir(exist_ok=True)
        samples = (np.sin(np.arange(2 * frames) / 3) * 20_000).astype("<i2")
        with wave.open(str(tmp_path / label / f"{number}.wav"), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(samples.tobytes())
    read = keras.utils.audio_dataset_from_directory
    (x, y), *rest = read(tmp_path, batch_size=8, shuffle=False, verbose=False)
    assert x.shape == (3, 30, 2) and y.tolist() == [0, 1, 1] and not rest
    np.testing.assert_allclose(x[1, :20].ravel(), np.sin(np.arange(40) / 3) * 20_000 / 32768, atol=1e-4)
    assert not x[1, 20:].any()
    x, _ = next(iter(read(tmp_path, output_sequence_length=22, shuffle=False, verbose=False)))
    assert x.shape == (3, 22, 2)
    with pytest.raises(NotSupportedError, match="sampling_rate=16000"):
        read(tmp_path, sampling_rate=16000)


def test_fit_keeps_the_order_of_datasets():
    """As with a `tf.data` dataset: the last, short batch comes last, though `fit` shuffles PyDatasets."""
    rows = utils.timeseries_dataset_from_array(np.arange(20.0), np.arange(20.0), 2, batch_size=2)
    data = make_data(rows, shuffle=True)
    first = [float(np.asarray(x).ravel()[0]) for x, *_ in data.epoch(np.random.default_rng(1))]
    assert first == list(range(0, 20, 2))
