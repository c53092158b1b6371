"""`kcompile profile` and `model.profile`."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.cli import main
from kcompile.errors import ArgumentError, KcompileError

layers = keras.layers


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "m.keras"
    body = [layers.Conv2D(4, 3, activation="relu", name="edges"), layers.Flatten(), layers.Dense(3, name="head")]
    keras.Sequential([keras.Input((6, 6, 1)), *body]).save(path)
    return str(path)


@pytest.fixture
def model():
    made = keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="tanh", name="hidden"), layers.Dense(1)])
    made.compile(optimizer="adam", loss="mse")
    return made


def test_the_command_prints_every_layer(saved, capsys):
    assert main(["profile", saved, "--batch", "3", "--threads", "1"]) == 0
    text = capsys.readouterr().out
    assert "batch=3" in text and "threads: 1" in text and "edges" in text and "head" in text


def test_the_command_writes_a_page(saved, tmp_path, capsys):
    page = tmp_path / "p.html"
    assert main(["profile", saved, "--batch", "2", "--threads", "1", "--by-time", "--html", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    assert "<svg" in page.read_text(encoding="utf-8") and "edges" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("wrong", [["--batch", "0"], ["--threads", "0"], ["--threads", "-3"]])
def test_numbers_below_one_are_refused(saved, wrong, capsys):
    assert main(["profile", saved, *wrong]) == 1
    assert "at least 1" in capsys.readouterr().err


def test_open_sizes_are_asked_for(tmp_path, capsys):
    path = str(tmp_path / "open.keras")
    keras.Sequential([keras.Input((None, 4)), layers.Dense(2)]).save(path)
    assert main(["profile", path]) == 1
    complaint = capsys.readouterr().err
    (name,) = [w.rstrip(":") for w in complaint.split() if w.endswith("_1:")]
    assert main(["profile", path, "--size", f"{name}=7", "--batch", "2", "--threads", "1"]) == 0
    assert f"{name}=7" in capsys.readouterr().out
    assert main(["profile", path, "--size", name]) == 1


def test_a_training_step_changes_nothing(model):
    draw = np.random.default_rng(0)
    x, y = draw.standard_normal((9, 5), "float32"), draw.standard_normal((9, 1), "float32")
    model.fit(x, y, verbose=0)
    weights, slots = model.get_weights(), [v.numpy() for v in model.optimizer.variables]
    found = model.profile(x, y, batch_size=4)
    assert found.sizes == {"batch": 4}
    assert any("hidden/grad" in r.layers for r in found.records)
    for before, after in zip(weights, model.get_weights()):
        np.testing.assert_array_equal(before, after)
    for before, after in zip(slots, model.optimizer.variables):
        np.testing.assert_array_equal(before, after.numpy())


def test_without_targets_it_is_prediction(model):
    found = model.profile(np.zeros((3, 5), "float32"))
    assert found.sizes == {"batch": 3} and not any("/grad" in n for r in found.records for n in r.layers)


def test_layers_on_strings_run_before():
    lookup = layers.StringLookup(vocabulary=["a", "b"])
    made = keras.Sequential([keras.Input((), dtype="string"), lookup, layers.Embedding(3, 4, name="rows")])
    made.compile("sgd", "mse")
    words = np.array(["a", "b", "c"], object)
    for targets in ((), (np.zeros((3, 4), "float32"),)):
        assert any("rows" in r.layers for r in made.profile(words, *targets).records)


def test_what_is_refused(model):
    x = np.zeros((3, 5), "float32")
    with pytest.raises(ArgumentError, match="batch_size"):
        model.profile(x, batch_size=0)
    plain = keras.Sequential([keras.Input((5,)), layers.Dense(1)])
    with pytest.raises(KcompileError, match="compile"):
        plain.profile(x, np.zeros((3, 1), "float32"))


def test_layers_computed_inside_a_kernel_are_named():
    body = [layers.Dense(4, name="hidden"), layers.Activation("relu", name="kink"), layers.Dense(2, name="head")]
    made = keras.Sequential([keras.Input((5,)), *body])
    found = made.profile(np.zeros((3, 5), "float32"))
    (record,) = [r for r in found.records if "kink" in r.layers]
    assert {"hidden", "kink"} <= set(record.layers) or {"kink", "head"} <= set(record.layers)
    assert "relu" in record.what and "contract" in record.what
