"""keras.datasets on small files in Keras's formats: shapes, seeds, cutting of texts as in real Keras, hostile files."""

import gzip
import importlib
import inspect
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from kcompile.errors import ArgumentError, SavedFileError
from kcompile.keras import datasets
from kcompile.keras.datasets import cifar10 as cifar10_module
from kcompile.keras.datasets import pickles

RNG = np.random.default_rng(0)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    folder = tmp_path / "datasets"
    folder.mkdir()
    return folder


def ragged(count, longest=12):
    rows = np.empty(count, dtype=object)
    rows[:] = [[int(w) for w in RNG.integers(1, 40, RNG.integers(1, longest))] for _ in range(count)]
    return rows


def same(found, expected):
    for ours, theirs in zip(found, expected):
        for a, b in zip(ours, theirs):
            assert a.shape == b.shape and a.dtype == b.dtype
            assert a.tolist() == b.tolist()


def test_signatures(real_keras):
    for name in datasets.__all__:
        for function in ("load_data", "get_word_index", "get_label_names"):
            theirs = getattr(getattr(real_keras.datasets, name), function, None)
            if theirs is not None:
                ours = getattr(getattr(datasets, name), function)
                expected = {k: p.default for k, p in inspect.signature(theirs).parameters.items()}
                assert {k: p.default for k, p in inspect.signature(ours).parameters.items()} == expected


def test_mnist(tmp_path):
    arrays = {
        "x_train": RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8),
        "y_train": np.arange(6, dtype=np.uint8),
        "x_test": RNG.integers(0, 256, (2, 28, 28), dtype=np.uint8),
        "y_test": np.arange(2, dtype=np.uint8),
    }
    path = str(tmp_path / "small.npz")
    np.savez_compressed(path, **arrays)
    (x_train, y_train), (x_test, y_test) = datasets.mnist.load_data(path=path)
    for found, name in ((x_train, "x_train"), (y_train, "y_train"), (x_test, "x_test"), (y_test, "y_test")):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, arrays[name])


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "mnist.npz"
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(SavedFileError, match=r"mnist\.npz"):
        datasets.mnist.load_data(path=str(path))
    np.savez(path, x_train=np.zeros(3))
    with pytest.raises(SavedFileError, match="holds no 'y_train'"):
        datasets.mnist.load_data(path=str(path))


def write_idx(path, array):
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_fashion_mnist(home):
    folder = home / "fashion-mnist"
    folder.mkdir()
    arrays = {}
    for part, count in (("train", 5), ("t10k", 2)):
        arrays[part] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8), np.arange(count, dtype=np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", arrays[part][0])
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", arrays[part][1])
    same(datasets.fashion_mnist.load_data(), (arrays["train"], arrays["t10k"]))
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x09abc"))
    with pytest.raises(SavedFileError, match="t10k-labels"):
        datasets.fashion_mnist.load_data()


def cifar_batch(path, rows, **labels):
    data = RNG.integers(0, 256, (rows, 3072), dtype=np.uint8)
    path.write_bytes(pickle.dumps({"data": data, "batch_label": "x", **labels}, protocol=2))
    return data


def test_cifar10_from_an_archive(home, tmp_path, monkeypatch):
    source = tmp_path / "cifar-10-batches-py"
    source.mkdir()
    rows = [cifar_batch(source / f"data_batch_{i}", 2, labels=[i, i + 1]) for i in range(1, 6)]
    cifar_batch(source / "test_batch", 3, labels=[7, 8, 9])
    archive = tmp_path / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, arcname=source.name)
    monkeypatch.setattr(cifar10_module, "_ORIGIN", archive.as_uri())
    monkeypatch.setattr(cifar10_module, "_SHA256", None)
    (x_train, y_train), (x_test, y_test) = datasets.cifar10.load_data()
    assert x_train.shape == (10, 32, 32, 3) and x_test.shape == (3, 32, 32, 3)
    assert x_train.dtype == y_train.dtype == y_test.dtype == np.uint8
    assert y_train[:3].tolist() == [[1], [2], [2]] and y_test.tolist() == [[7], [8], [9]]
    np.testing.assert_array_equal(x_train[2], rows[1][0].reshape(3, 32, 32).transpose(1, 2, 0))


def test_cifar100(home):
    folder = home / "cifar-100-python"
    folder.mkdir()
    cifar_batch(folder / "train", 2, fine_labels=[99, 3], coarse_labels=[19, 1])
    cifar_batch(folder / "test", 1, fine_labels=[50], coarse_labels=[5])
    (_, y_train), (x_test, _) = datasets.cifar100.load_data()
    assert y_train.tolist() == [[99], [3]] and x_test.shape == (1, 32, 32, 3)
    assert datasets.cifar100.load_data("coarse")[0][1].tolist() == [[19], [1]]
    with pytest.raises(ArgumentError, match="label_mode"):
        datasets.cifar100.load_data("medium")


CUTS = [
    {},
    {"num_words": 20},
    {"num_words": 30, "skip_top": 5, "oov_char": None},
    {"maxlen": 8, "seed": 3},
    {"start_char": None, "index_from": 0},
]


@pytest.mark.parametrize("arguments", CUTS)
@pytest.mark.parametrize("name", ["imdb", "reuters"])
def test_texts_against_keras(name, arguments, tmp_path, real_keras, monkeypatch):
    path = str(tmp_path / "texts.npz")
    if name == "imdb":
        parts = {"x_train": ragged(9), "y_train": np.arange(9), "x_test": ragged(5), "y_test": np.arange(5)}
        np.savez(path, allow_pickle=True, **parts)
    else:
        np.savez(path, allow_pickle=True, x=ragged(20), y=np.arange(20))
    module = getattr(importlib.import_module("keras.src.datasets"), name)
    monkeypatch.setattr(module, "get_file", lambda *_, **__: path)
    same(getattr(datasets, name).load_data(path, **arguments), module.load_data(**arguments))


def test_texts_all_too_long(tmp_path):
    path = str(tmp_path / "r.npz")
    np.savez(path, x=ragged(4), y=np.arange(4))
    with pytest.raises(ArgumentError, match="maxlen=1"):
        datasets.reuters.load_data(path, maxlen=1)


def test_topics(real_keras):
    assert datasets.reuters.get_label_names() == tuple(real_keras.datasets.reuters.get_label_names())


@pytest.mark.parametrize("name", ["boston_housing", "california_housing"])
def test_houses_against_keras(name, tmp_path, real_keras, monkeypatch):
    path = str(tmp_path / "houses.npz")
    np.savez(path, x=RNG.normal(size=(700, 3)), y=np.arange(700.0))
    module = getattr(importlib.import_module("keras.src.datasets"), name)
    monkeypatch.setattr(module, "get_file", lambda *_, **__: path)
    for arguments in ({}, {"test_split": 0.5, "seed": 1}):
        same(getattr(datasets, name).load_data(path=path, **arguments), module.load_data(**arguments))
    if name == "california_housing":
        same(datasets.california_housing.load_data("small", path), module.load_data("small"))


# hostile files --------------------------------------------------------------------------------------


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(5))
def test_pickles_hold_what_was_pickled(protocol):
    value = {"data": np.arange(6, dtype=">i4").reshape(2, 3), "labels": [1, 2], "name": "é", "raw": b"\xff\0"}
    found = pickles.load(pickle.dumps(value, protocol), "x")
    assert found.pop("data").tolist() == value.pop("data").tolist()
    assert found == value
    fortran = np.asfortranarray(RNG.normal(size=(3, 4)))
    np.testing.assert_array_equal(pickles.load(pickle.dumps(fortran, protocol), "x"), fortran)


@pytest.mark.parametrize("function", [os.system, eval, np.load, np.fromfile, getattr, print])
def test_pickles_run_nothing(function, tmp_path, capfd):
    with pytest.raises(SavedFileError, match=r"bad\.npz.*asks for"):
        pickles.load(pickle.dumps({"data": Evil(function, "echo no")}), "bad.npz")
    assert capfd.readouterr().out == ""
    row = np.empty(1, dtype=object)
    row[0] = Evil(function, "echo no")
    path = str(tmp_path / "bad.npz")
    np.savez(path, x=row, y=np.zeros(1))
    with pytest.raises(SavedFileError, match="asks for"):
        datasets.reuters.load_data(path)


def test_pickles_of_a_false_size():
    text = pickle.dumps(np.arange(4, dtype=np.uint8), 2)
    with pytest.raises(SavedFileError, match="damaged"):
        pickles.load(text.replace(b"K\x04\x85", b"K\x09\x85"), "x")
    with pytest.raises(SavedFileError, match="damaged"):
        pickles.load(text[:-8], "x")
